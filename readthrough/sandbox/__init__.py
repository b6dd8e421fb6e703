"""Processes that can be lost: parsers of risky files, and programs that a model wrote, which may do next to nothing."""
