"""Checkpoints: from a name to files, from files to tensors."""
