"""Sequences of token ids drawn from an oracle: a fixed language model whose likelihood of any sequence is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, hash_files, no_split
from ganzoo.errors import CheckpointError, UserError
from ganzoo.networks.text import CoreGenerator, TextGANConfig
from ganzoo.nn.text import TokenLSTM
from ganzoo.recipe.data import DataConfig
from ganzoo.utils.files import TensorFile

if TYPE_CHECKING:
    pass

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
        return Oracle.from_seed(int(name))

    return _open(build, f"oracle {name}", f"oracle:seed-{name}", split)


def open_oracle_file(config: DataConfig, description: str, path: Path, split: str) -> Source:
    """The sequences of an oracle that a `.safetensors` file holds."""

    def build() -> Oracle:
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


# The file's names of a gate's input weights, recurrent weights and bias, in nn.LSTM's order: input, forget, cell, output.
_GATES = (("Wi", "Ui", "bi"), ("Wf", "Uf", "bf"), ("Wc", "Uc", "bc"), ("Wog", "Uog", "bog"))


_MAX_LENGTH = 4096


# Far more than the 333,320 numbers of the published oracle, far less than hurts.
_MAX_NUMBERS = 100_000_000


_LOGITS_AT_A_TIME = 1 << 22


class Oracle(CoreGenerator):
    """An LSTM over ids, its weights frozen: no end token, every sentence `max_length` tokens, the first input is token 0.

    Args:
        vocab_size: Tokens.
        hidden_dim: Size of the state and of the token vectors.
        max_length: Tokens of a sentence.
    """

    def __init__(self, vocab_size: int, hidden_dim: int, max_length: int) -> None:
        if not (vocab_size >= 2 and hidden_dim >= 1 and 1 <= max_length <= _MAX_LENGTH):
            raise UserError(
                f"an oracle needs vocab_size >= 2, hidden_dim >= 1 and max_length from 1 to {_MAX_LENGTH}, "
                f"not {vocab_size}, {hidden_dim} and {max_length}"
            )
        super().__init__(TextGANConfig(vocab_size=vocab_size, max_length=max_length))
        self.model = TokenLSTM(vocab_size, hidden_dim, hidden_dim)
        self.eval().requires_grad_(False)

    @classmethod
    def from_seed(cls, seed: int, *, vocab_size: int = 5000, hidden_dim: int = 32, max_length: int = 20) -> Oracle:
        """A fresh oracle, all weights N(0, 1). Another seed is another benchmark: entropies differ by 0.2 nats.

        Raises:
            UserError: A size out of bounds.
        """
        oracle = cls(vocab_size, hidden_dim, max_length)
        source = torch.Generator().manual_seed(seed)
        for parameter in oracle.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
        return oracle

    @classmethod
    def from_file(cls, path: str | Path, *, max_length: int = 20) -> Oracle:
        """Reads an oracle in the reference code's arrays, as safetensors.

        Fifteen float arrays, for row vectors (x @ W): `embedding` (V, H), `Wi`, `Ui` (H, H) and `bi` (H,) of the input gate,
        the same with `f`, `og` and `c` of the forget gate, the output gate and the candidate, `Wo` (H, V) and `bo` (V,).

        Raises:
            CheckpointError: The file is missing or damaged, or it holds other arrays.
        """
        file = TensorFile(Path(path))
        vocab_size, hidden_dim = _check_arrays(file)
        arrays = {name: tensor.float() for name, tensor in file.load().items()}
        if not all(tensor.isfinite().all() for tensor in arrays.values()):
            raise CheckpointError(f"{file.path} is no oracle: it holds numbers that are not finite")
        oracle = cls(vocab_size, hidden_dim, max_length)
        weights, recurrent, biases = (
            torch.cat([arrays[name] for name in names], dim=-1) for names in zip(*_GATES, strict=True)
        )
        oracle.model.load_state_dict(
            {
                "embedding.weight": arrays["embedding"],
                "weight_ih_l0": weights.T,
                "weight_hh_l0": recurrent.T,
                "bias_ih_l0": biases,
                "output.weight": arrays["Wo"].T,
                "output.bias": arrays["bo"],
            }
        )
        return oracle

    def sample(self, num_samples: int, seed: int, *, temperature: float = 1.0) -> Tensor:
        """Draws sentences, (num_samples, max_length) int64; sentence i depends on the seed and i alone."""
        latents = self.sample_latents(num_samples, generator=torch.Generator().manual_seed(seed))
        return self(latents, temperature=temperature)

    @torch.no_grad()
    def nll(self, tokens: Tensor) -> Tensor:
        """NLL_oracle of each sentence, (B, T) ids -> (B,): the mean of -ln p over its tokens, in nats a token.

        Raises:
            UserError: Ids that are not in the vocabulary.
        """
        if tokens.numel() and not (tokens.min() >= 0 and tokens.max() < self.config.vocab_size):
            raise UserError(f"the oracle knows the tokens 0 to {self.config.vocab_size - 1} only")
        at_a_time = max(1, _LOGITS_AT_A_TIME // (self.config.vocab_size * max(1, tokens.shape[1])))
        parts = tokens.to(self.device, torch.int64).split(at_a_time)
        return torch.cat([-self.log_probs(part).mean(dim=1) for part in parts])


def _check_arrays(file: TensorFile) -> tuple[int, int]:
    """The sizes (V, H) of an oracle's file.

    Raises:
        CheckpointError: What is missing, superfluous, or of another shape or type.
    """
    embedding = file.shapes.get("embedding", ())
    vocab_size, hidden_dim = embedding if len(embedding) == 2 else (0, 0)
    expected = {"embedding": (vocab_size, hidden_dim), "Wo": (hidden_dim, vocab_size), "bo": (vocab_size,)}
    for weights, recurrent, bias in _GATES:
        expected |= {weights: (hidden_dim,) * 2, recurrent: (hidden_dim,) * 2, bias: (hidden_dim,)}
    if unlike := sorted(expected.keys() ^ file.shapes.keys()):
        raise CheckpointError(
            f"{file.path} is no oracle: it must hold the arrays {', '.join(sorted(expected))} and no others; "
            f"{', '.join(unlike[:5])} {'is' if len(unlike) == 1 else 'are'} missing or too many"
        )
    if len(embedding) != 2 or vocab_size < 2 or hidden_dim < 1:
        raise CheckpointError(f"{file.path} is no oracle: its embedding has the shape {embedding}, not (V, H)")
    for name, shape in expected.items():
        if file.shapes[name] != shape:
            raise CheckpointError(
                f"{file.path} is no oracle: {name} has the shape {file.shapes[name]}, not {shape} as its embedding implies"
            )
        if file.dtypes[name] not in ("F16", "BF16", "F32", "F64"):
            raise CheckpointError(f"{file.path} is no oracle: {name} holds {file.dtypes[name]}, not floats")
    if 2 * vocab_size * hidden_dim + 8 * hidden_dim**2 > _MAX_NUMBERS:
        raise CheckpointError(f"{file.path} is too large for an oracle: V = {vocab_size:,}, H = {hidden_dim:,}")
    return vocab_size, hidden_dim


DATASET = DataSet(open_oracle)
