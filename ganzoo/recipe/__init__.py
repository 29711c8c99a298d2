"""A training run's recipe: its sections, and how it is read."""
