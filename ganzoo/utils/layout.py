"""The files of a checkpoint folder."""

from __future__ import annotations

CONFIG_FILE = "config.json"
MODEL_TYPE = "ganzoo"
GOLDEN_FILE = "test/golden.safetensors"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
METRICS_FILE = "metrics.json"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
PROCESSOR_FILE = "processor_config.json"
RECIPE_FILE = "recipe.yaml"
# What a checkpoint need not have, as it is asked for.
OPTIONAL_FILES = (f"discriminator/{CONFIG_FILE}", RECIPE_FILE, METRICS_FILE)
