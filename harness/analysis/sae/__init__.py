"""Sparse autoencoders on an agent's activations: storing activations, training, evaluation."""
