"""Numbers of copy synthesis: what a vocoder makes of real sound."""
