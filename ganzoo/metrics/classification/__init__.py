"""Numbers of classifiers."""
