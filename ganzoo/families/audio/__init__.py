"""Audio families."""
