"""The oracle against an independent cell in numpy, the published figures, and files that are no oracle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

import ganzoo
from ganzoo.data.sets.oracle import Oracle
from ganzoo.errors import CheckpointError, UserError

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "seqgan-oracle" / "oracle.safetensors"
published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published oracle is not here")


def random_arrays(vocab_size: int = 50, hidden: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    source = np.random.default_rng(seed)
    shapes = {"embedding": (vocab_size, hidden), "Wo": (hidden, vocab_size), "bo": (vocab_size,)}
    for gate in ("i", "f", "og", "c"):
        shapes |= {f"W{gate}": (hidden, hidden), f"U{gate}": (hidden, hidden), f"b{gate}": (hidden,)}
    return {name: source.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def plain_nll(arrays: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """The cell's equations as the reference writes them, in float64."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    h = c = np.zeros((len(tokens), a["Wi"].shape[0]))
    x, total = np.repeat(a["embedding"][:1], len(tokens), axis=0), np.zeros(len(tokens))
    for column in tokens.T:
        i, f, o = (sigmoid(x @ a[f"W{g}"] + h @ a[f"U{g}"] + a[f"b{g}"]) for g in ("i", "f", "og"))
        c = f * c + i * np.tanh(x @ a["Wc"] + h @ a["Uc"] + a["bc"])
        h = o * np.tanh(c)
        logits = h @ a["Wo"] + a["bo"]
        top = logits.max(axis=1, keepdims=True)
        total -= logits[np.arange(len(tokens)), column] - (top[:, 0] + np.log(np.exp(logits - top).sum(axis=1)))
        x = a["embedding"][column]
    return total / tokens.shape[1]


def uniform_tokens(number: int, vocab_size: int = 5000) -> Tensor:
    return torch.randint(vocab_size, (number, 20), generator=torch.Generator().manual_seed(0))


def test_the_cell_is_the_reference_one(tmp_path):
    arrays = random_arrays()
    save_file(arrays, tmp_path / "oracle.safetensors")
    oracle = Oracle.from_file(tmp_path / "oracle.safetensors", max_length=20)
    tokens = oracle.sample(300, 0)
    np.testing.assert_allclose(oracle.nll(tokens).numpy(), plain_nll(arrays, tokens.numpy()), atol=1e-5)
    others = uniform_tokens(100, 50)
    np.testing.assert_allclose(oracle.nll(others).numpy(), plain_nll(arrays, others.numpy()), atol=1e-5)
    assert oracle.nll(tokens).mean() < oracle.nll(others).mean() - 1


def test_a_fresh_oracle_follows_from_its_seed():
    oracle, again, other = Oracle.from_seed(3), Oracle.from_seed(3), Oracle.from_seed(4)
    assert sum(parameter.numel() for parameter in oracle.parameters()) == 333_320
    for name, parameter in oracle.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
        assert not torch.equal(parameter, other.get_parameter(name))
        assert not parameter.requires_grad
    numbers = torch.cat([parameter.flatten() for parameter in oracle.parameters()])
    assert numbers.mean().item() == pytest.approx(0, abs=0.01) and numbers.std().item() == pytest.approx(1, abs=0.01)
    # The reference's six fresh oracles: entropy 5.88 to 6.09, random tokens 11.02 to 11.24; the published: 5.76, 11.44.
    assert 5.6 < oracle.nll(oracle.sample(500, 0)).mean() < 6.3
    assert 10.8 < oracle.nll(uniform_tokens(200)).mean() < 11.6


def test_samples():
    oracle = Oracle.from_seed(0, vocab_size=40, hidden_dim=8, max_length=7)
    before = torch.get_rng_state()
    samples = oracle.sample(30, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert samples.shape == (30, 7) and samples.dtype == torch.int64
    assert samples.min() >= 0 and samples.max() < 40
    assert torch.equal(oracle.sample(10, seed=1), samples[:10])
    assert not torch.equal(oracle.sample(30, seed=2), samples)
    assert oracle.sample(0, seed=1).shape == (0, 7)
    cold, hot = (oracle.nll(oracle.sample(500, 0, temperature=t)).mean() for t in (0.5, 2.0))
    assert cold < hot - 1


def test_the_oracle_refuses_what_it_does_not_know():
    oracle = Oracle.from_seed(0, vocab_size=40, hidden_dim=8, max_length=7)
    for token in (-1, 40):
        with pytest.raises(UserError, match="knows the tokens 0 to 39 only"):
            oracle.nll(torch.full((2, 7), token))
    with pytest.raises(UserError, match="max_length from 1 to 4096"):
        Oracle.from_seed(0, max_length=0)


# ---------------------------------------------------------------------------------------------------------- published figures


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle.from_file(PUBLISHED)


@published
def test_entropy(oracle):
    """5.756 +- 0.004 over 20,000 sentences (reference, section 2); 4,000 here: standard error 0.009."""
    samples = oracle.sample(4000, 0)
    nll = oracle.nll(samples)
    assert nll.mean().item() == pytest.approx(5.756, abs=0.027)
    assert len(samples.unique(dim=0)) == 4000
    np.testing.assert_allclose(nll[:200].numpy(), plain_nll(load_file(PUBLISHED), samples[:200].numpy()), atol=1e-5)


@published
@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 3.308), (0.7, 4.213), (1.3, 6.946)])
def test_temperatures(oracle, temperature, expected):
    nll = oracle.nll(oracle.sample(1000, 0, temperature=temperature))
    standard_error = nll.std().item() * (1 / 1000 + 1 / 5000) ** 0.5
    assert nll.mean().item() == pytest.approx(expected, abs=3.5 * standard_error)


@published
def test_greedy_uniform_and_untrained(oracle):
    assert oracle.nll(oracle.sample(1, 0, temperature=0)).item() == pytest.approx(2.756, abs=1e-3)
    uniform = oracle.nll(uniform_tokens(4000))
    assert uniform.mean().item() == pytest.approx(11.436, abs=0.03)
    torch.manual_seed(0)
    generator, _ = ganzoo.create("seqgan", vocab_size=5000, max_length=20, filter_widths=[1], filter_counts=[1])
    own = generator(generator.sample_latents(2000, generator=torch.Generator().manual_seed(0)))
    assert oracle.nll(own).mean().item() == pytest.approx(11.435, abs=0.05)


@published
def test_the_start_token_is_0(oracle):
    """Other start tokens make the oracle's own sentences less probable: 6.40 / 6.33 / 6.49 nats."""
    samples = oracle.sample(1000, 0)
    try:
        for start, expected in ((1, 6.40), (2, 6.33), (100, 6.49)):
            oracle.model.bos_token_id = start
            assert oracle.nll(samples).mean().item() == pytest.approx(expected, abs=0.06)
    finally:
        oracle.model.bos_token_id = 0


# ------------------------------------------------------------------------------------------------------ files that are no oracle


def changed(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    arrays = {**random_arrays(), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "it must hold the arrays"),
        (changed(Ui=None), "Ui is missing or too many"),
        (changed(extra=np.zeros(3, np.float32)), "extra is missing or too many"),
        (changed(Wi=np.zeros((6, 5), np.float32)), r"Wi has the shape \(6, 5\), not \(6, 6\)"),
        (changed(Wo=np.zeros((50, 6), np.float32)), r"Wo has the shape \(50, 6\), not \(6, 50\)"),
        (changed(bo=np.zeros((50, 1), np.float32)), r"bo has the shape \(50, 1\), not \(50,\)"),
        (changed(embedding=np.zeros(300, np.float32)), r"its embedding has the shape \(300,\), not \(V, H\)"),
        (changed(embedding=np.zeros((1, 6), np.float32)), r"embedding has the shape \(1, 6\)"),
        (changed(embedding=np.zeros((0, 0), np.float32)), r"embedding has the shape \(0, 0\)"),
        (changed(bi=np.zeros(6, np.int64)), "bi holds I64, not floats"),
        (changed(bi=np.full(6, np.nan, np.float32)), "not finite"),
    ],
)
def test_other_arrays(arrays, message, tmp_path):
    save_file(arrays, tmp_path / "oracle.safetensors")
    with pytest.raises(CheckpointError, match=message):
        Oracle.from_file(tmp_path / "oracle.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"\xff" * 100, b"{}", b"\x80\x02]q\x00.", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
)
def test_other_files(content, tmp_path):
    path = tmp_path / "oracle.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="oracle.safetensors"):
        Oracle.from_file(path)


def test_cut_and_missing_files(tmp_path):
    path = tmp_path / "oracle.safetensors"
    with pytest.raises(CheckpointError, match="is missing"):
        Oracle.from_file(path)
    save_file(random_arrays(), path)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="oracle.safetensors"):
            Oracle.from_file(path)


def test_a_claim_of_terabytes_is_refused_before_anything_is_allocated(tmp_path):
    header = {"embedding": {"dtype": "F32", "shape": [1 << 40, 32], "data_offsets": [0, 1 << 47]}}
    content = json.dumps(header).encode()
    path = tmp_path / "oracle.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(CheckpointError, match="oracle.safetensors"):
        Oracle.from_file(path)
