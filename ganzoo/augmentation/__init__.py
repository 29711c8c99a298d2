"""Changes made to a training batch."""
