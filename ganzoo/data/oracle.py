"""Sequences of token ids drawn from an oracle: a fixed language model whose likelihood of any sequence is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganzoo.data.config import DataConfig
from ganzoo.data.source import Source, hash_files, no_split
from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.oracle import Oracle

SEQUENCES = 10_000  # of every split, as in the published protocol (Yu et al., 2017, section 5.1)
# No seeds that anyone would choose: whoever draws held-out sentences by seed 1 must not get the training set, and the numbers
# must not be those that made a fresh oracle's weights.
SEEDS = {"train": 715_225_741, "validation": 715_225_742, "test": 715_225_743}


def open_oracle(config: DataConfig, split: str) -> Source:
    """The built-in `oracle`: a fresh one, drawn by the seed that `data.name` holds (0 by default)."""
    name = config.name or "0"
    if not (name.isascii() and name.isdigit() and len(name) <= 18):
        raise UserError(f"data.name of the built-in data set 'oracle' is its seed, a whole number, not '{name}'.")

    def build() -> Oracle:
        from ganzoo.oracle import Oracle

        return Oracle.from_seed(int(name))

    return _open(build, f"oracle {name}", f"oracle:seed-{name}", split)


def open_oracle_file(config: DataConfig, description: str, path: Path, split: str) -> Source:
    """The sequences of an oracle that a `.safetensors` file holds."""

    def build() -> Oracle:
        from ganzoo.oracle import Oracle

        return Oracle.from_file(path)

    return _open(build, description, f"oracle:{hash_files(path.parent, [path])}", split)


def _open(build: Callable[[], Oracle], description: str, fingerprint: str, split: str) -> Source:
    if split not in SEEDS:
        raise no_split(f"The oracle '{description}'", split, SEEDS)
    oracle = build()

    def iterate() -> Iterator[tuple[np.ndarray[Any, Any], None]]:
        sequences = oracle.sample(SEQUENCES, SEEDS[split]).numpy().astype(np.int32)
        return ((sequence, None) for sequence in sequences)

    return Source(
        description=description,
        split=split,
        fingerprint=f"{fingerprint}:{split}:{SEEDS[split]}:{SEQUENCES}",
        length=SEQUENCES,
        iterate=iterate,
        vocab_size=oracle.config.vocab_size,
    )
