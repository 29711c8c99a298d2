"""Embedders: frozen networks that turn samples into features, for metrics and perceptual losses."""
