"""Agent graphs in YAML: options of a built-in workflow, or a graph of nodes, edges and branches."""
