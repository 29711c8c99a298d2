"""Readers: a file for each kind of file that data may be."""
