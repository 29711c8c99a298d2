"""The bases that families build on: config, networks, what they return; one file a modality."""
