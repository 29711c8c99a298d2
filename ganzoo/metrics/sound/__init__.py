"""Numbers of generated sound, beside those of its embeddings."""
