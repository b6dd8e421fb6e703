"""What is known of each programming language: its grammar, and queries for what its files define, use and import."""
