"""An oracle's weights in a `.safetensors` file: the sequences that it draws."""

from __future__ import annotations

from pathlib import Path

from ganzoo.data.readers.base import Reader
from ganzoo.data.source import Source, ending
from ganzoo.recipe.data import DataConfig


def open_oracle(config: DataConfig, description: str, file: Path, split: str) -> Source:
    """The sequences of one split."""
    from ganzoo.data.sets.oracle import open_oracle_file  # a network, which needs torch

    return open_oracle_file(config, description, file, split)


READER = Reader(
    files="the weights of an oracle (.safetensors)",
    knows=lambda file: ending(file) == ".safetensors",
    open_file=open_oracle,
)
