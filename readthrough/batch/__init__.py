"""Folders in batch: a table of documents and answers that survives kills, and the workers that fill it."""
