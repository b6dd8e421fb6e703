"""Policies: which tokens' KV stays in the cache. One file a method."""
