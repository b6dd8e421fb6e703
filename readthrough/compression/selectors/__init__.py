"""Selectors: which pages of the KV each token of a reply attends to. One file a method."""
