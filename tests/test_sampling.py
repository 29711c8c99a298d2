"""Draws against their distributions, sequences against a loop of single steps, rollouts against their prefixes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import ganzoo
import ganzoo.networks.sequences
from ganzoo.errors import UserError
from ganzoo.networks.sequences import continue_sequences, rollouts
from ganzoo.networks.text import TextGANConfig, TextGenerator
from ganzoo.nn.draws import draw_tokens, inverse_cdf


def random_numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Chain(TextGenerator):
    """A Markov chain: the next token's logits are the row of the last one. The state counts the steps."""

    def __init__(self, logits: Tensor, length: int, *, ends: bool = False) -> None:
        special = {"eos_token_id": 1, "pad_token_id": 2} if ends else {}
        super().__init__(TextGANConfig(vocab_size=len(logits), max_length=length, **special))
        self.logits = torch.nn.Parameter(logits)
        self.rows_read = 0

    def begin(
        self, batch_size: int, labels: Tensor | None = None, prompts: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        return (torch.zeros(batch_size, 1),)

    def step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.rows_read += len(tokens)
        return self.logits[tokens], (state[0] + 1,)


# ------------------------------------------------------------------------------------------------------------------ one token


@pytest.mark.parametrize("vocab_size", [2, 5, 16, 17, 1000, 5000])
def test_draws_are_the_inverse_of_the_distribution_function(vocab_size):
    """Beside numpy's search of the whole float64 function; a target within rounding of a step may fall on either side."""
    logits = 3 * random_logits(200, vocab_size)
    uniforms = random_numbers(200, seed=1)
    cdf = logits.double().softmax(dim=1).cumsum(dim=1).numpy()
    expected = [np.searchsorted(row, u) for row, u in zip(cdf, uniforms.double().numpy(), strict=True)]
    drawn = draw_tokens(logits, uniforms)
    for row, (token, right, u) in enumerate(zip(drawn.tolist(), expected, uniforms.tolist(), strict=True)):
        assert token == right or abs(cdf[row, min(token, right)] - u) < 1e-6
    assert (drawn.numpy() == np.array(expected)).mean() > 0.98
    assert torch.equal(inverse_cdf(logits.softmax(dim=1), uniforms), drawn) or vocab_size == 5000


def test_chi_square_of_200_000_draws():
    """z of chi2 on 4,999 degrees of freedom; a bias of 1 % in half the tokens would give z = 11."""
    logits = random_logits(5000)
    probabilities = logits.double().softmax(dim=0)
    draws = torch.cat(
        [draw_tokens(logits.expand(100, -1), random_numbers(100, 200, seed=seed)).flatten() for seed in range(10)]
    )
    counts = draws.bincount(minlength=5000).double()
    chi2 = ((counts - len(draws) * probabilities) ** 2 / (len(draws) * probabilities)).sum().item()
    assert abs(chi2 - 4999) / (2 * 4999) ** 0.5 < 4


def test_evenly_spaced_uniforms_reproduce_the_probabilities():
    """With 2**20 of them every token's count is exact to the two ends of its stretch, also of very improbable tokens."""
    logits = 4 * random_logits(1, 300)
    number = 1 << 20
    spaced = ((torch.arange(number, dtype=torch.float64) + 0.5) / number)[None]
    counts = draw_tokens(logits, spaced)[0].bincount(minlength=300)
    expected = number * logits.double().softmax(dim=1)[0]
    assert (counts - expected).abs().max() < 2


def test_draws_are_monotone_in_the_uniforms():
    logits = random_logits(3, 777)
    uniforms = random_numbers(3, 4000).sort(dim=1).values
    drawn = draw_tokens(logits, uniforms)
    assert (drawn.diff(dim=1) >= 0).all() and drawn.unique().numel() > 500


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_at_the_ends(dtype):
    below_one = torch.nextafter(torch.ones((), dtype=dtype), torch.zeros((), dtype=dtype))
    ends = torch.stack([torch.zeros((), dtype=dtype), torch.full((), 1e-30, dtype=dtype), below_one])
    logits = random_logits(50, 1000)
    logits[:, [0, 1, 2, 990, 998, 999]] = -torch.inf
    drawn = draw_tokens(logits, ends.expand(50, 3))
    assert (drawn[:, :2] == 3).all()
    assert (drawn[:, 2] == 997).all()


@pytest.mark.parametrize("vocab_size", [3, 20, 130, 5000])
def test_tokens_without_probability_are_never_drawn(vocab_size):
    """Whole blocks of weight 0, a single token with all of it, and weights that differ by 30 orders of magnitude."""
    rows = 64
    allowed = random_numbers(rows, vocab_size) < 0.02
    allowed[torch.arange(rows), torch.arange(rows) % vocab_size] = True
    weights = allowed * 10 ** (30 * random_numbers(rows, vocab_size, seed=1) - 30)
    uniforms = torch.cat(
        [random_numbers(rows, 200, seed=2), torch.zeros(rows, 1), torch.ones(rows, 1) - 2**-24], dim=1
    )
    for drawn in (inverse_cdf(weights, uniforms), draw_tokens(weights.log(), uniforms)):
        assert allowed.gather(1, drawn).all()


@pytest.mark.parametrize("offset", [-1e4, -200.0, -90.0, 85.0, 300.0, 1e4])
def test_logits_of_any_size(offset):
    """Adding a number to all logits changes no probability; float32's exponentials end at -104 and 88."""
    logits, uniforms = (8 * random_logits(40, 600)).round(), random_numbers(40, seed=1)
    shifted = logits.clone()
    shifted[7] += offset
    assert torch.equal(draw_tokens(shifted, uniforms), draw_tokens(logits, uniforms))


def test_a_row_does_not_depend_on_its_neighbours():
    logits, uniforms = random_logits(700, 5000), random_numbers(700)
    together = draw_tokens(logits, uniforms)
    assert torch.equal(
        together, torch.cat([draw_tokens(logits[i : i + 7], uniforms[i : i + 7]) for i in range(0, 700, 7)])
    )


def test_drawing_leaves_the_logits_alone():
    """Also where gradients are on, as in a training step."""
    logits = random_logits(5, 100).requires_grad_()
    before = logits.detach().clone()
    draw_tokens(logits, random_numbers(5))
    assert torch.equal(logits, before)


def test_temperature_top_k_and_top_p():
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.3, 0.2]])).expand(1, -1)
    spaced = ((torch.arange(10_000) + 0.5) / 10_000)[None]

    def shares(**how: float) -> list[float]:
        return (draw_tokens(logits, spaced, **how).flatten().bincount(minlength=4) / 10_000).tolist()

    squares = np.array([0.01, 0.16, 0.09, 0.04]) / 0.3
    assert shares() == pytest.approx([0.1, 0.4, 0.3, 0.2], abs=2e-4)
    assert shares(temperature=0.5) == pytest.approx(squares.tolist(), abs=2e-4)
    assert shares(temperature=0) == [0, 1, 0, 0]
    assert shares(top_k=2) == pytest.approx([0, 4 / 7, 3 / 7, 0], abs=2e-4)
    assert shares(top_p=0.69) == pytest.approx([0, 4 / 7, 3 / 7, 0], abs=2e-4)
    assert shares(top_p=0.71) == pytest.approx([0, 4 / 9, 3 / 9, 2 / 9], abs=2e-4)
    assert shares(top_p=0.1) == [0, 1, 0, 0]
    assert shares(top_k=9, top_p=1.0) == shares()


def test_no_rows():
    assert draw_tokens(torch.empty(0, 10), torch.empty(0)).shape == (0,)


# ------------------------------------------------------------------------------------------------------------------ sequences


def one_by_one(chain: Chain, last: int, uniforms: list[float]) -> list[int]:
    """What a sequence is, by the definition: numpy, one token at a time."""
    tokens = []
    for uniform in uniforms:
        over = chain.config.eos_token_id is not None and (
            last in (chain.config.eos_token_id, chain.config.pad_token_id)
        )
        if not over:
            cdf = chain.logits[last].detach().double().softmax(dim=0).cumsum(dim=0).numpy()
            last = int(np.searchsorted(cdf, uniform))
        else:
            last = chain.config.pad_token_id
        tokens.append(last)
    return tokens


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_sequences(ends, at_a_time, monkeypatch):
    """At 16 rows a block (the fewest), or all at once. Token 2 is PAD, which an ended sequence alone has."""
    monkeypatch.setattr(ganzoo.nn.draws, "_LOGITS_IN_CACHE", at_a_time)
    logits = random_logits(12, 12)
    logits[:, 2] = -torch.inf
    chain = Chain(logits, 9, ends=ends)
    uniforms = random_numbers(50, 9)
    last = torch.arange(50) % 12
    last[last == 2] = 0
    ended = (last == 1) if ends else None
    drawn = continue_sequences(chain, chain.begin(50), last, uniforms, ended=ended)
    expected = [one_by_one(chain, token, row) for token, row in zip(last.tolist(), uniforms.tolist(), strict=True)]
    assert drawn.tolist() == expected
    if ends:
        assert 0 < (drawn == 2).sum() < drawn.numel() / 2
        assert chain.rows_read == (drawn != 2).sum(), "what is over is not read on"


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_rollouts(ends, at_a_time, monkeypatch):
    """Every completion begins with its prefix, goes on as single steps do, and stays what it is after the end."""
    monkeypatch.setattr(ganzoo.nn.draws, "_LOGITS_IN_CACHE", at_a_time)
    logits = random_logits(12, 12)
    logits[:, 2] = -torch.inf
    chain, length, number = Chain(logits, 7, ends=ends), 7, 3
    tokens = chain(random_numbers(11, length))
    uniforms = random_numbers(length - 1, number, 11, length, seed=1)
    completed = rollouts(chain, tokens, number, uniforms=uniforms)
    assert completed.shape == (length - 1, number, 11, length) and completed.dtype == torch.int64
    for p in range(length - 1):
        for n in range(number):
            for b in range(11):
                prefix = tokens[b, : p + 1].tolist()
                rest = one_by_one(chain, prefix[-1], uniforms[p, n, b, p + 1 :].tolist())
                assert completed[p, n, b].tolist() == prefix + rest
    flat = rollouts(chain, tokens, number, uniforms=uniforms.view(-1, length))
    assert torch.equal(flat, completed)


def test_rollouts_follow_the_state_of_their_own_sentence():
    """An LSTM with labels: the completion of a prefix is the sentence that begins with it, by the plain loop."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create("seqgan", **TINY, num_classes=3, num_layers=2)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, 0.0, 1.0)
    labels = torch.arange(5) % 3
    tokens = generator(random_numbers(5, 6), labels)
    uniforms = random_numbers(5, 2, 5, 6, seed=1)
    completed = rollouts(generator, tokens, 2, labels=labels, uniforms=uniforms)
    for p in range(5):
        for n in range(2):
            expected = generator(uniforms[p, n, :, p + 1 :], labels, prefix=tokens[:, : p + 1])
            assert torch.equal(completed[p, n], expected)


TINY = {"vocab_size": 20, "max_length": 6, "embedding_dim": 8, "hidden_dim": 8}


@pytest.mark.parametrize("bias", [0.0, 200.0, -200.0])
@pytest.mark.parametrize("scale", [1.0, 60.0])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.7}])
def test_a_linear_head_draws_what_whole_logits_draw(bias, scale, how, monkeypatch):
    """Also where exponentials overflow or vanish, in some rows or in all; and it runs inside autocast."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create("seqgan", **{**TINY, "vocab_size": 333, "num_classes": 100})
    torch.nn.init.normal_(generator.model.weight_hh_l0, 0.0, 2.0)
    torch.nn.init.normal_(generator.model.embedding.weight, 0.0, 2.0)
    torch.nn.init.normal_(generator.model.output.weight, 0.0, scale)
    with torch.no_grad():
        generator.model.output.bias += bias
        generator.model.initial.weight *= 20
    latents, labels = random_numbers(3000, 6), torch.arange(3000) % 100
    drawn = generator(latents, labels, **how)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert generator(latents, labels, **how).shape == drawn.shape
    monkeypatch.setattr(type(generator), "projection", None)
    # Logits near 200 are rounded at the fifth place, so that some draws fall on the other side of a boundary.
    assert (drawn == generator(latents, labels, **how)).all(dim=1).float().mean() > 0.99
    assert len(drawn.unique()) > 50


def test_broken_weights_still_draw_tokens():
    """So that a run whose weights are not numbers any more ends with the trainer's sentence, not with an index error."""
    generator, _ = ganzoo.create("seqgan", **TINY)
    torch.nn.init.constant_(generator.model.output.weight, torch.nan)
    drawn = generator(random_numbers(5, 6))
    assert drawn.min() >= 0 and drawn.max() < 20
    assert draw_tokens(torch.full((3, 7), torch.nan), random_numbers(3)).max() < 7


def test_rollouts_are_reproducible_and_do_not_touch_the_global_source():
    generator = Chain(random_logits(12, 12), 6)
    tokens = generator(random_numbers(4, 6))
    before = torch.get_rng_state()
    first, again = (rollouts(generator, tokens, 2, rng=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, rollouts(generator, tokens, 2, rng=torch.Generator().manual_seed(6)))


def test_rollouts_of_one_token_have_no_prefix():
    generator = Chain(random_logits(12, 12), 1)
    assert rollouts(generator, torch.zeros(4, 1, dtype=torch.long), 2).shape == (0, 2, 4, 1)


def test_rollouts_refuse_uniforms_of_another_shape():
    generator = Chain(random_logits(12, 12), 6)
    with pytest.raises(UserError, match=r"uniforms must be of shape \(5, 2, 4, 6\), not \(5, 2, 4, 5\)"):
        rollouts(generator, torch.zeros(4, 6, dtype=torch.long), 2, uniforms=random_numbers(5, 2, 4, 5))
