"""Trees of summaries over documents: what is summarised together, how a model writes them, how they are kept."""
