"""The files of a checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch

CONFIG_FILE = "config.json"
MODEL_TYPE = "ganzoo"
DISCRIMINATOR_FOLDER = "discriminator"
GOLDEN_FILE = "test/golden.safetensors"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
METRICS_FILE = "metrics.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
PROCESSOR_FILE = "processor_config.json"
RECIPE_FILE = "recipe.yaml"
# What a checkpoint need not have, as it is asked for.
OPTIONAL_FILES = (f"{DISCRIMINATOR_FOLDER}/{CONFIG_FILE}", RECIPE_FILE, METRICS_FILE)
# Every file that saving may write, as patterns. Others are a person's own, and so is the text of the card.
OWN_FILES = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    f"{DISCRIMINATOR_FOLDER}/{CONFIG_FILE}",
    f"{DISCRIMINATOR_FOLDER}/{WEIGHTS_FILE}",
    PROCESSOR_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    RECIPE_FILE,
    METRICS_FILE,
    GOLDEN_FILE,
    "samples/grid.*",
    "samples/pairs.*",
    "samples/samples.*",
    "samples/originals.wav",
    "samples/prompts.txt",
)


def stale_files(present: Iterable[str], written: Iterable[str]) -> list[str]:
    """Returns what is left of a former checkpoint where another was written: its files, and nobody else's.

    Args:
        present: The files that are there, by their paths in the folder or repository, with slashes.
        written: Those of the new checkpoint.
    """
    left = set(present) - set(written)
    return sorted(name for name in left if any(fnmatch(name, pattern) for pattern in OWN_FILES))
