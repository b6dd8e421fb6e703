"""Source code as a graph: what files define, which files use it, and what follows for reading them."""
