"""The architectures: one file a family, `families/<modality>/<name>.py`. The registry finds them by their file names."""
