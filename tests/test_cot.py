"""Cooperative training's networks: two language models, and their likelihoods by hand."""

from __future__ import annotations

import math

import pytest
import torch
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.text.cot import CoTConfig
from ganzoo.networks.text import token_mask
from ganzoo.registry import get_family

BATCH = 7
VARIANTS = [
    pytest.param({}, id="plain"),
    pytest.param({"num_classes": 3, "num_layers": 2, "mediator_num_layers": 2}, id="conditional-deep"),
    pytest.param({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}, id="variable-length"),
]


def tiny(**changes):
    """Both networks with weights far from their start, so that every part matters."""
    torch.manual_seed(0)
    networks = ganzoo.create("cot", **{**get_family("cot").tiny, **changes})
    with torch.no_grad():
        for network in networks:
            for parameter in network.eval().parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return networks


def draw(config: CoTConfig, batch: int = BATCH):
    torch.manual_seed(1)
    labels = None if config.num_classes is None else torch.arange(batch) % config.num_classes
    return torch.randint(config.vocab_size, (batch, config.max_length)), labels


def plain_log_probs(network: nn.Module, tokens: torch.Tensor) -> list[list[float]]:
    """Log-probability of every token of an unconditional one-layer model, by the LSTM's equations on plain numbers."""
    state = {name: tensor.double().tolist() for name, tensor in network.model.state_dict().items()}
    embedding, bias = state["embedding.weight"], state["bias_ih_l0"]
    hidden_dim = len(bias) // 4

    def times(matrix: list[list[float]], vector: list[float]) -> list[float]:
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    result = []
    for sentence in tokens.tolist():
        h, c, last, scores = [0.0] * hidden_dim, [0.0] * hidden_dim, network.config.bos_token_id, []
        for token in sentence:
            parts = zip(
                times(state["weight_ih_l0"], embedding[last]), times(state["weight_hh_l0"], h), bias, strict=True
            )
            gates = [sum(part) for part in parts]
            i, f, g, o = (gates[k * hidden_dim : (k + 1) * hidden_dim] for k in range(4))
            c = [sigmoid(f[u]) * c[u] + sigmoid(i[u]) * math.tanh(g[u]) for u in range(hidden_dim)]
            h = [sigmoid(o[u]) * math.tanh(c[u]) for u in range(hidden_dim)]
            logits = [a + b for a, b in zip(times(state["output.weight"], h), state["output.bias"], strict=True)]
            scores.append(logits[token] - math.log(sum(math.exp(value) for value in logits)))
            last = token
        result.append(scores)
    return result


def test_log_probabilities_by_hand():
    """Both are language models: the mediator's logits, the generator's `log_probs`."""
    generator, mediator = tiny()
    tokens, _ = draw(generator.config, batch=3)
    expected = torch.tensor(plain_log_probs(mediator, tokens))
    torch.testing.assert_close(mediator(tokens)[0].logits, expected, rtol=0, atol=1e-5)
    expected = torch.tensor(plain_log_probs(generator, tokens))
    torch.testing.assert_close(generator.log_probs(tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_by_step_equals_predict(variant):
    generator, _ = tiny(**variant)
    tokens, labels = draw(generator.config)
    expected = generator.predict(tokens, labels)
    state = generator.begin(BATCH, labels)
    last = torch.full((BATCH,), generator.config.bos_token_id)
    for position in range(6):
        logits, state = generator.step(last, state)
        torch.testing.assert_close(logits, expected[:, position], rtol=0, atol=1e-5)
        last = tokens[:, position]


@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_never_look_ahead(variant):
    for network in tiny(**variant):
        tokens, labels = draw(network.config)
        logits = network.predict(tokens, labels)
        assert logits.shape == (BATCH, 6, 20)
        for position in range(6):
            changed = tokens.clone()
            changed[:, position] = (changed[:, position] + 1) % 20
            differs = (network.predict(changed, labels) - logits).abs().amax(dim=2) > 1e-6
            assert not differs[:, : position + 1].any() and differs[:, position + 1 :].all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_mediators_logits_are_log_probabilities(variant):
    _, mediator = tiny(**variant)
    tokens, labels = draw(mediator.config)
    (output,) = mediator(tokens, labels)
    expected = mediator.predict(tokens, labels).log_softmax(dim=2)
    torch.testing.assert_close(expected.exp().sum(dim=2), torch.ones(BATCH, 6))
    for row in range(BATCH):
        for position in range(6):
            chosen = expected[row, position, tokens[row, position]].item()
            assert output.logits[row, position].item() == pytest.approx(chosen, abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ids_and_exact_one_hots_are_judged_alike(variant):
    _, mediator = tiny(**variant)
    tokens, labels = draw(mediator.config)
    relaxed = nn.functional.one_hot(tokens, 20).float().requires_grad_()
    torch.testing.assert_close(mediator.predict(relaxed, labels), mediator.predict(tokens, labels), rtol=0, atol=1e-5)
    logits = mediator(relaxed, labels)[0].logits
    torch.testing.assert_close(logits, mediator(tokens, labels)[0].logits, rtol=0, atol=1e-5)
    # A token counts through its own probability and through those of the tokens after it.
    (own,) = torch.autograd.grad(logits[:, -1].sum(), relaxed, retain_graph=True)
    assert own.abs().amax(dim=2).gt(0).all()


def test_a_relaxed_token_scores_the_mean_of_its_parts():
    """At the last position, where nothing follows, the score is linear in the token."""
    _, mediator = tiny()
    first, _ = draw(mediator.config)
    second = first.clone()
    second[:, -1] = (first[:, -1] + 7) % 20
    mixed = 0.25 * nn.functional.one_hot(first, 20) + 0.75 * nn.functional.one_hot(second, 20)
    expected = 0.25 * mediator(first)[0].logits + 0.75 * mediator(second)[0].logits
    torch.testing.assert_close(mediator(mixed)[0].logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_state_can_be_chosen_and_repeated(variant):
    generator, _ = tiny(**variant)
    tokens, labels = draw(generator.config)
    _, state = generator.step(tokens[:, 0], generator.begin(BATCH, labels))
    assert all(len(tensor) == BATCH for tensor in state)
    whole, _ = generator.step(tokens[:, 1], state)
    rows = torch.tensor([3, 3, 0, 6])
    chosen, _ = generator.step(tokens[rows, 1], tuple(tensor[rows] for tensor in state))
    torch.testing.assert_close(chosen, whole[rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_drawn_sentence_depends_on_its_own_row_alone(variant):
    generator, _ = tiny(**variant)
    _, labels = draw(generator.config, batch=60)
    latents = generator.sample_latents(60, generator=torch.Generator().manual_seed(0))
    together = generator(latents, labels)
    for row in range(60):
        alone = generator(latents[[row]], None if labels is None else labels[[row]])
        assert torch.equal(alone[0], together[row])
    if generator.config.eos_token_id is not None:
        mask = token_mask(together, generator.config)
        ended = (together == 2).any(dim=1)
        assert ended.any() and not ended.all()
        assert (together[~mask] == 0).all() and ((together == 2) & mask).sum() == ended.sum()


def test_labels_change_the_outputs():
    for network in tiny(num_classes=3):
        tokens, labels = draw(network.config)
        change = network.predict(tokens, (labels + 1) % 3) - network.predict(tokens, labels)
        assert (change.abs().flatten(1).amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize("layers", [1, 2])
def test_parameter_counts(classes, layers):
    def language_model(vocab: int, embedding: int, hidden: int) -> int:
        gates = sum(4 * hidden * (inputs + hidden + 1) for inputs in [embedding, hidden][:layers])
        return vocab * embedding + gates + (hidden + 1) * vocab + (classes or 0) * 2 * layers * hidden

    with torch.device("meta"):
        generator, mediator = ganzoo.create(
            "cot",
            vocab_size=5000,
            max_length=20,
            num_classes=classes,
            num_layers=layers,
            mediator_num_layers=layers,
        )
    assert count(generator) == language_model(5000, 32, 32)
    assert count(mediator) == language_model(5000, 64, 64)
    if layers == 1 and classes is None:
        assert count(generator) == 333_320  # SeqGAN's generator, as in the paper's comparison


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 1}, "vocab_size=1: input should be greater than or equal to 2"),
        ({"mediator_dropout": 1.0}, "mediator_dropout=1.0: input should be less than 1"),
        ({"mediator_hidden_dim": 100_000}, "mediator_hidden_dim=100000: input should be less than or equal to 4096"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"bos_token_id": 20}, "bos_token_id=20 is not in a vocabulary of 20 tokens"),
        ({"mediator_hiden_dim": 8}, "unknown key 'mediator_hiden_dim'. Did you mean 'mediator_hidden_dim'"),
    ],
)
def test_impossible_configs_are_one_clear_error(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        ganzoo.create("cot", **{**get_family("cot").tiny, **changes})
    assert len(str(caught.value).splitlines()) == 1


def test_labels_are_asked_for_or_refused():
    for classes, wrong in ((None, torch.zeros(BATCH, dtype=torch.long)), (3, None)):
        for network in tiny(num_classes=classes):
            tokens, _ = draw(network.config)
            with pytest.raises(UserError, match="labels"):
                network.predict(tokens, wrong)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_also_in_reduced_precision(variant):
    for reduced in (False, True):
        for network in tiny(**variant, dropout=0.1):
            tokens, labels = draw(network.config, batch=32)
            network.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                logits = network.predict(tokens, labels)
            (logits.float() * torch.randn(logits.shape)).sum().backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_a_generator_that_equals_the_mediator_has_no_cooperative_gradient():
    """The fixed point of the paper: KL(G || M) of every prediction is 0, and so is its gradient."""
    generator, mediator = tiny(mediator_embedding_dim=6, mediator_hidden_dim=8)
    mediator.load_state_dict(generator.state_dict())
    tokens, _ = draw(generator.config)
    log_g, log_m = generator.predict(tokens).log_softmax(dim=2), mediator.predict(tokens).log_softmax(dim=2)
    divergence = (log_g.exp() * (log_g - log_m.detach())).sum(dim=2)
    assert divergence.abs().max() < 1e-6
    divergence.sum().backward()
    assert max(parameter.grad.abs().max() for parameter in generator.parameters()) < 1e-5
