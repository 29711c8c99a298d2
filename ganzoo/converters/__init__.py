"""Converters: other libraries' checkpoints from and to ours."""
