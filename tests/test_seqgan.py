"""SeqGAN against its paper: sizes, initialisation, equations, and the fast judgement of rollouts against the plain one."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from network_helpers import count
from torch import Tensor, nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.text.seqgan import SeqGANConfig
from ganzoo.networks.text import TextDiscriminator
from ganzoo.nn.text import Highway, TextCNN, TokenLSTM, unfold_windows
from ganzoo.training.ema import EMA

SMALL = {"filter_widths": [1, 2, 3, 4, 5], "filter_counts": [64] * 5}
TINY = {
    "vocab_size": 20,
    "max_length": 6,
    "embedding_dim": 8,
    "hidden_dim": 8,
    "discriminator_embedding_dim": 8,
    "filter_widths": [1, 2, 3, 6],
    "filter_counts": [4, 5, 6, 7],
}


def create(**config):
    torch.manual_seed(0)
    networks = ganzoo.create("seqgan", **{**TINY, **config})
    return tuple(network.eval() for network in networks)


def random_tokens(*shape: int, vocab_size: int = 20, seed: int = 0) -> Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------------------------- the paper's networks


@pytest.mark.parametrize(("config", "size"), [({}, 7_045_402), (SMALL, 587_842)])
def test_parameter_counts(config, size):
    generator, discriminator = create(
        vocab_size=5000, max_length=20, embedding_dim=32, hidden_dim=32, discriminator_embedding_dim=64,
        **({"filter_widths": None, "filter_counts": None} | config),
    )  # fmt: skip
    assert (count(generator), count(discriminator)) == (333_320, size)


def test_defaults_are_the_papers():
    generator, discriminator = ganzoo.create("seqgan", vocab_size=5000, max_length=20)
    assert (count(generator), count(discriminator)) == (333_320, 7_045_402)
    assert discriminator.dropout.p == 0.25


def test_initialisation():
    """Means and deviations within five standard errors of N(0, 0.1) and U(-1, 1)."""
    generator, discriminator = create(vocab_size=5000, num_classes=200)
    for name, parameter in generator.named_parameters():
        number = parameter.numel()
        assert parameter.mean().item() == pytest.approx(0, abs=5 * 0.1 / number**0.5), name
        assert parameter.std().item() == pytest.approx(0.1, abs=5 * 0.1 / (2 * number) ** 0.5), name
    embedding = discriminator.embedding.weight
    assert embedding.abs().max() <= 1
    assert embedding.std().item() == pytest.approx(3**-0.5, rel=0.01)
    assert not discriminator.highway.gate.bias.any()


def test_an_untrained_generator_is_almost_uniform():
    generator, _ = create(vocab_size=5000)
    tokens = random_tokens(16, 6, vocab_size=5000)
    assert generator.log_probs(tokens).mean().item() == pytest.approx(-math.log(5000), abs=0.05)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"filter_widths": [1, 7], "filter_counts": [2, 2]}, "a window of 7 tokens, longer than max_length=6"),
        ({"filter_widths": [1, 2], "filter_counts": [2]}, "give one count for every width"),
        ({"filter_widths": [1], "filter_counts": None}, "give one count for every width"),
        ({"filter_widths": [0], "filter_counts": [1]}, "filter_widths"),
        ({"filter_width": [1]}, "filter_widths"),
        ({"pad_token_id": 3}, "go together"),
    ],
)
def test_impossible_configs_are_explained(config, message):
    with pytest.raises(UserError, match=message):
        create(**config)


def test_the_papers_windows_are_cut_to_the_length():
    assert [width for width, _ in SeqGANConfig(vocab_size=9, max_length=12).windows] == list(range(1, 11))
    assert SeqGANConfig(vocab_size=9, max_length=20).windows[-1] == (20, 160)
    _, discriminator = create(filter_widths=None, filter_counts=None, max_length=1)
    assert discriminator(random_tokens(3, 1))[0].logits.shape == (3,)


# -------------------------------------------------------------------------------------------------------------- the generator


@pytest.mark.parametrize("config", [{}, {"num_layers": 3}, {"num_classes": 3, "num_layers": 2}])
def test_steps_and_teacher_forcing_agree(config):
    generator, _ = create(**config)
    tokens, labels = random_tokens(5, 6), (torch.arange(5) % 3 if "num_classes" in config else None)
    predicted = generator.predict(tokens, labels)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            state, last = generator.begin(5, labels), torch.zeros(5, dtype=torch.long)
            for position in range(6):
                logits, state = generator.step(last, state)
                assert logits.requires_grad == gradients
                torch.testing.assert_close(logits, predicted[:, position], rtol=0, atol=1e-6)
                last = tokens[:, position]
            assert all(len(part) == 5 for part in state)


def test_the_lstm_is_torchs_with_one_bias():
    generator, _ = create(num_layers=2)
    model = generator.model
    reference = nn.LSTM(8, 8, num_layers=2, batch_first=True)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.copy_(own.get(name, torch.zeros_like(parameter)))
    tokens = random_tokens(5, 6)
    before = torch.cat([torch.zeros(5, 1, dtype=torch.long), tokens[:, :-1]], dim=1)
    expected = model.output(reference(model.embedding(before))[0])
    torch.testing.assert_close(generator.predict(tokens), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("vocab_size", [20, 100_000])
def test_weighted_likelihoods_and_their_gradients(vocab_size):
    """Beside autograd through whole logits, in float64; at 100,000 tokens in several parts.

    Gradients are sums in which much cancels: what rounding adds to them goes by the largest, and differs between processors.
    """
    generator, _ = create(vocab_size=vocab_size, num_classes=3)
    exact = copy.deepcopy(generator).double()
    tokens, labels = random_tokens(8, 6, vocab_size=vocab_size), torch.arange(8) % 3
    mask = random_tokens(8, 6, vocab_size=2, seed=1).bool()
    weights = torch.randn(int(mask.sum()))
    values = -exact.predict(tokens, labels).log_softmax(dim=2).gather(2, tokens[..., None])[..., 0][mask]
    total, nll = generator.model.weighted_nll(mask, tokens, weights, labels)
    torch.testing.assert_close(nll.double(), values.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total.double(), (values * weights).sum(), rtol=1e-5, atol=1e-4)
    expected = torch.autograd.grad((values * weights).sum() * 3, tuple(exact.parameters()))
    gradients = torch.autograd.grad(total * 3, tuple(generator.parameters()))
    for name, ours, theirs in zip(dict(generator.named_parameters()), gradients, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=5e-5 * theirs.abs().max().item(), msg=name)
    with torch.no_grad():
        assert torch.equal(generator.model.weighted_nll(mask, tokens, weights, labels)[1], nll)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = generator.model.weighted_nll(mask, tokens, weights, labels)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, total, rtol=0.02, atol=0.02)


def test_every_change_of_the_weights_counts_at_once():
    """Fast ways of stepping must never remember weights: an optimiser (fused ones leave no trace in a tensor's version),
    EMA, loading, and other types."""
    generator, _ = create()
    tokens, state = random_tokens(64), generator.begin(64)

    def logits(network=generator) -> Tensor:
        with torch.no_grad():
            return network.step(tokens, network.begin(64))[0]

    def explicit(network=generator) -> Tensor:
        model = network.model
        with torch.no_grad():
            hidden, _ = torch.lstm_cell(model.embedding(tokens), state, *model._weights(0))
            return model.output(hidden)

    seen = [logits()]
    for optimizer in (
        torch.optim.Adam(generator.parameters(), fused=True),
        torch.optim.SGD(generator.parameters(), 1.0),
    ):
        generator.predict(random_tokens(4, 6)).square().mean().backward()
        optimizer.step()
        seen.append(logits())
    ema = EMA(generator, half_life=1.0, rampup=1.0)
    generator.load_state_dict({name: 2 * value for name, value in generator.state_dict().items()})
    seen.append(logits())
    torch.testing.assert_close(seen[-1], explicit(), rtol=0, atol=1e-6)
    before = logits(ema.average)
    ema.update(1, 1)
    assert not torch.allclose(logits(ema.average), before)
    torch.testing.assert_close(logits(ema.average), explicit(ema.average), rtol=0, atol=1e-6)
    for parameter in generator.parameters():
        parameter.data.mul_(2)
    seen.append(logits())
    assert all(not torch.allclose(one, other) for one, other in zip(seen, seen[1:], strict=False))
    rounded = generator.bfloat16()
    assert logits(rounded).dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float().step(tokens, state)[0], explicit(rounded), rtol=0, atol=1e-6)


def test_dropout_is_of_training_only():
    generator, discriminator = create(dropout=0.5)
    tokens = random_tokens(8, 6)
    assert torch.equal(generator.predict(tokens), generator.predict(tokens))
    generator.train()
    assert not torch.equal(generator.predict(tokens), generator.predict(tokens))
    state = generator.begin(8)
    assert not torch.equal(generator.step(tokens[:, 0], state)[0], generator.step(tokens[:, 0], state)[0])
    discriminator.train()
    assert not torch.equal(discriminator(tokens)[0].logits, discriminator(tokens)[0].logits)


def test_labels_steer_both_networks():
    generator, discriminator = create(num_classes=4)
    tokens = random_tokens(1, 6).expand(4, -1)
    labels = torch.arange(4)
    assert len(generator.predict(tokens, labels)[:, 0, 0].unique()) == 4
    assert len(discriminator(tokens, labels)[0].logits.unique()) == 4
    with pytest.raises(UserError, match="class-conditional"):
        generator(torch.rand(2, 6))
    with pytest.raises(UserError, match="class-conditional"):
        discriminator(tokens)
    with pytest.raises(UserError, match="class-conditional"):
        discriminator.judge_continuations(tokens, tokens.expand(5, 2, 4, 6))


# ---------------------------------------------------------------------------------------------------------- the discriminator


def plain_features(encoder: TextCNN, embedded: Tensor) -> Tensor:
    """Kim's definition by convolutions: bias, ReLU, then the maximum over time."""
    features = []
    for width, filters in zip(encoder.widths, encoder.filters, strict=True):
        kernel = filters.weight.view(len(filters.weight), width, -1).transpose(1, 2)
        features.append(nn.functional.conv1d(embedded.transpose(1, 2), kernel, filters.bias).relu().amax(dim=2))
    return torch.cat(features, dim=1)


def test_the_encoder_is_convolutions_and_maxima():
    _, discriminator = create()
    embedded = torch.randn(7, 6, 8, requires_grad=True)
    expected = plain_features(discriminator.encoder, embedded)
    features = discriminator.encoder(embedded)
    torch.testing.assert_close(features, expected)
    weight = torch.randn_like(features)
    ours, theirs = (torch.autograd.grad((x * weight).sum(), embedded)[0] for x in (features, expected))
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(discriminator.encoder(embedded), expected)


def test_windows():
    embedded = torch.arange(24.0).view(2, 4, 3)
    expected = torch.stack([embedded[:, start : start + 2].flatten(1) for start in range(3)], dim=1)
    assert torch.equal(unfold_windows(embedded, 2), expected)
    assert torch.equal(unfold_windows(embedded.clone().requires_grad_(), 2), expected)


def test_highway():
    layer, inputs = Highway(5), torch.randn(3, 5)
    gate = torch.sigmoid(layer.gate(inputs))
    torch.testing.assert_close(layer(inputs), gate * layer.transform(inputs).relu() + (1 - gate) * inputs)


def test_ids_and_one_hot_vectors_are_judged_alike():
    _, discriminator = create(num_classes=3)
    tokens, labels = random_tokens(5, 6), torch.arange(5) % 3
    relaxed = nn.functional.one_hot(tokens, 20).float().requires_grad_()
    (ids,), (vectors,) = discriminator(tokens, labels), discriminator(relaxed, labels)
    torch.testing.assert_close(ids.logits, vectors.logits)
    vectors.logits.sum().backward()
    assert relaxed.grad.abs().sum() > 0
    assert ids.features[0].shape == (5, 22)


def test_the_logit_is_that_of_the_softmax():
    _, discriminator = create()
    tokens = random_tokens(5, 6)
    features = discriminator.encoder(discriminator.embedding(tokens))
    both = discriminator.output(discriminator.highway(features)).softmax(dim=1)
    torch.testing.assert_close(discriminator(tokens)[0].logits.sigmoid(), both[:, 1])


@pytest.mark.parametrize("vocab_size", [20, 3000])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_classes": 3},
        {"eos_token_id": 1, "pad_token_id": 2},
        {"max_length": 20, "filter_widths": None, "filter_counts": None},
        {"max_length": 2, "filter_widths": [1, 2], "filter_counts": [3, 3]},
    ],
)
def test_continuations_are_judged_as_whole_sentences_are(config, vocab_size):
    """Completions with nothing in common but the prefix: every window beyond it counts, and lands on its own sentence.

    With 3,000 tokens some windows are matrix products, with 20 all are sums of rows.
    """
    generator, discriminator = create(**config, vocab_size=vocab_size)
    length, labels = generator.config.max_length, (torch.arange(9) % 3 if "num_classes" in config else None)
    tokens = generator(torch.rand(9, length, generator=torch.Generator().manual_seed(0)), labels)
    source = torch.Generator().manual_seed(1)
    completed = ganzoo.networks.sequences.rollouts(generator, tokens, 40, labels=labels, rng=source)
    with torch.no_grad():
        plain = TextDiscriminator.judge_continuations(discriminator, tokens, completed, labels)
        fast = discriminator.judge_continuations(tokens, completed, labels)
    assert fast.shape == (length - 1, 40, 9)
    assert (plain.std(dim=1) > 0).any()
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_no_prefix_no_judgement():
    _, discriminator = create(max_length=1, filter_widths=[1], filter_counts=[3])
    tokens = random_tokens(4, 1)
    assert discriminator.judge_continuations(tokens, tokens.expand(1, 2, 4, 1)[:0]).shape == (0, 2, 4)


def test_token_lstm_has_no_bias_to_spare():
    assert count(TokenLSTM(5000, 32, 32)) == 333_320
