"""Numbers of points in space."""
