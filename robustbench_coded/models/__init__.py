"""Trained networks: architectures, reading checkpoints, and the normalisation that belongs to them."""
