"""Sound: files of recordings, spectra, and pictures of both."""
