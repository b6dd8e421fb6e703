"""Answers about texts longer than a model's window."""
__version__ = "0.1.0"
