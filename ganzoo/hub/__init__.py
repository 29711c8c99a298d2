"""Sharing checkpoints: push, pull, the card and its metadata, verification, the catalogue's writing."""
