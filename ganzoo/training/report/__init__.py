"""The report of a run: one page with curves, samples, metrics and the recipe."""
