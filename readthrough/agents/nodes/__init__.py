"""Nodes of the graphs that users write: one file a node."""
