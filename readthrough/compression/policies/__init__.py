"""Attention patterns: which keys the queries of a long prompt attend to. One file a method."""
