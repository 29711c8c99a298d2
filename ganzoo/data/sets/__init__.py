"""Data sets known by name: they come with Python or a dependency, are computed, or are files on the web."""
