"""Files, YAML, the terminal, validation, precision, names of files."""
