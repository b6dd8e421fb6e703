"""What stays in a prompt: compressors that keep pieces of texts, by what a model's probabilities say of them."""
