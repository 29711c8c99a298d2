"""ScratchGAN: one step at a time against teacher forcing, a judgement for every prefix, the sizes of the released code."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from network_helpers import BOS, EOS, PAD, WITH_END, count, labels_for, random_tokens, stepped, tiny_networks
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.text.scratchgan import NormalisedLSTM, position_waves
from ganzoo.registry import get_family

CASES = [pytest.param({"num_classes": classes}, id=f"{classes or 'no'}-classes") for classes in (None, 3)]


def build(**changes):
    return tiny_networks("scratchgan", **changes)


# -------------------------------------------------------------------------------------------------------- the generator


@pytest.mark.parametrize("changes", CASES)
@pytest.mark.parametrize("layers", [1, 3])
def test_steps_equal_teacher_forcing(changes, layers):
    generator, _ = build(**changes, num_layers=layers)
    tokens, labels = random_tokens(generator.config), labels_for(generator.config)
    predicted = generator.predict(tokens, labels)
    torch.testing.assert_close(stepped(generator, tokens, labels), predicted, rtol=0, atol=1e-5)
    with torch.no_grad():
        fast = stepped(generator, tokens, labels)
    torch.testing.assert_close(fast, predicted, rtol=0, atol=1e-5)


def test_predictions_equal_cells_written_out():
    """Against `nn.LSTMCell`: each layer reads the token and the layer below, all layers predict, with the embedding."""
    generator, _ = build(num_layers=2)
    cells = []
    for layer in generator.layers:
        cell = nn.LSTMCell(layer.input_size, layer.hidden_size)
        cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
        cells.append(cell)
    tokens = random_tokens(generator.config)
    predicted = generator.predict(tokens)
    states, last = [None, None], torch.full((5,), BOS)
    for position, column in enumerate(tokens.unbind(dim=1)):
        entered = generator.embedding.weight[last] @ generator.enter.weight.T
        states[0] = cells[0](entered, states[0])
        states[1] = cells[1](torch.cat([entered, states[0][0]], dim=1), states[1])
        left = torch.cat([states[0][0], states[1][0]], dim=1) @ generator.leave.weight.T
        logits = left @ generator.embedding.weight.T + generator.bias
        torch.testing.assert_close(predicted[:, position], logits, rtol=0, atol=1e-5)
        last = column


@pytest.mark.parametrize("changes", CASES)
def test_predictions_depend_on_earlier_tokens_alone(changes):
    generator, _ = build(**changes)
    tokens, labels = random_tokens(generator.config), labels_for(generator.config)
    before = generator.predict(tokens, labels)
    for position in range(generator.config.max_length):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % generator.config.vocab_size
        after = generator.predict(changed, labels)
        assert torch.equal(after[:, : position + 1], before[:, : position + 1])
        assert ((after - before)[:, position + 1 :].abs().amax(dim=2) > 0).all(), "what was read is remembered"


@pytest.mark.parametrize("changes", CASES)
def test_state_rows_can_be_chosen_and_repeated(changes):
    generator, _ = build(**changes)
    tokens, labels = random_tokens(generator.config), labels_for(generator.config)
    state = generator.begin(5, labels)
    for column in tokens[:, :3].unbind(dim=1):
        _, state = generator.step(column, state)
    assert isinstance(state, tuple) and [part.shape for part in state] == [(5, 8)] * 4
    rows = torch.tensor([4, 0, 0, 2])
    logits, after = generator.step(tokens[:, 3], state)
    some_logits, some_after = generator.step(tokens[rows, 3], tuple(part[rows] for part in state))
    torch.testing.assert_close(some_logits, logits[rows])
    for some, part in zip(some_after, after, strict=True):
        torch.testing.assert_close(some, part[rows])
    many, _ = generator.step(tokens[:, 3].repeat(2), tuple(part.repeat(2, 1) for part in state))
    torch.testing.assert_close(many, logits.repeat(2, 1))


@pytest.mark.parametrize("changes", CASES)
def test_sequences_end_with_eos_and_padding(changes):
    generator, _ = build(**changes, **WITH_END)
    labels = labels_for(generator.config, 60)
    tokens = generator(torch.rand(60, 6, generator=torch.Generator().manual_seed(0)), labels)
    assert tokens.shape == (60, 6) and tokens.dtype == torch.int64
    ended = tokens == EOS
    assert ended.any() and not ended.all()
    for row in tokens.tolist():
        if EOS in row:
            assert all(token == PAD for token in row[row.index(EOS) + 1 :])
    log_probs = generator.log_probs(tokens, labels)
    after_the_end = ended.cumsum(dim=1) - ended.long() > 0
    assert after_the_end.any() and not log_probs[after_the_end].any() and (log_probs[~after_the_end] < 0).all()


def test_generator_learns():
    generator, _ = build()
    tokens = random_tokens(generator.config, 4)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.05)
    first = -generator.log_probs(tokens).mean().item()
    for _ in range(12):
        loss = -generator.log_probs(tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first == pytest.approx(math.log(20), abs=0.3)
    assert loss < 0.8 * first


def test_dropout_acts_in_training_alone():
    generator, discriminator = build(dropout=0.5, discriminator_dropout=0.5)
    tokens = random_tokens(generator.config)
    assert torch.equal(generator.predict(tokens), generator.predict(tokens))
    assert torch.equal(discriminator(tokens)[0].logits, discriminator(tokens)[0].logits)
    generator.train(), discriminator.train()
    assert not torch.allclose(generator.predict(tokens), generator.predict(tokens))
    assert not torch.allclose(discriminator(tokens)[0].logits, discriminator(tokens)[0].logits)


# ---------------------------------------------------------------------------------------------------- the discriminator


@pytest.mark.parametrize("changes", CASES)
def test_ids_and_one_hot_vectors_are_judged_alike(changes):
    _, discriminator = build(**changes)
    tokens, labels = random_tokens(discriminator.config), labels_for(discriminator.config)
    relaxed = F.one_hot(tokens, 20).float().requires_grad_()
    (given,), (soft,) = discriminator(tokens, labels), discriminator(relaxed, labels)
    assert given.logits.shape == (5, 6) and given.features[0].shape == (5, 6, 8)
    torch.testing.assert_close(soft.logits, given.logits, rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(soft.logits.sum(), relaxed)
    assert gradient.isfinite().all() and gradient.any(dim=2).all()


@pytest.mark.parametrize("changes", CASES)
def test_judgements_depend_on_the_prefix_alone(changes):
    """So what stands after the end of a sentence changes no judgement that counts."""
    _, discriminator = build(**changes)
    tokens, labels = random_tokens(discriminator.config), labels_for(discriminator.config)
    before = discriminator(tokens, labels)[0].logits
    for position in range(6):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % 20
        after = discriminator(changed, labels)[0].logits
        torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-6)
        assert ((after - before)[:, position:].abs() > 1e-7).all()
    for length in range(1, 6):
        shorter = discriminator(tokens[:, :length], labels)[0].logits
        torch.testing.assert_close(shorter, before[:, :length], rtol=0, atol=1e-6)


def test_judgement_knows_the_position():
    _, discriminator = build()
    embedded = []
    handle = discriminator.enter.register_forward_hook(lambda module, given, result: embedded.append(given[0]))
    discriminator(torch.full((1, 6), 7))
    handle.remove()
    assert torch.equal(embedded[0][0, :, :8], discriminator.embedding.weight[7].expand(6, 8))
    assert torch.equal(embedded[0][0, :, 8:], position_waves(6, 4))


@pytest.mark.parametrize("length", [1, 2, 20, 52])
def test_position_waves(length):
    """Half periods from 2 tokens to the length; every position has a code of its own."""
    waves = position_waves(length, 8)
    assert waves.shape == (length, 8) and waves.abs().max() <= 1
    for position in range(length):
        for wave in range(8):
            half_period = 2 * (max(length, 2) / 2) ** (wave / 7)
            expected = math.cos(math.pi * (position / half_period + 2 * wave / 7))
            assert waves[position, wave].item() == pytest.approx(expected, abs=1e-4)
    if length > 1:
        assert torch.pdist(waves).min() > 0.05


def test_normalised_lstm_equals_the_equations():
    torch.manual_seed(0)
    layer = NormalisedLSTM(3, 4).double()
    with torch.no_grad():
        for parameter in layer.norm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    inputs = torch.randn(2, 5, 3).double()
    hidden, cell = torch.randn(2, 4).double(), torch.randn(2, 4).double()
    found = layer(inputs, hidden, cell)
    for row in range(2):
        h, c = hidden[row], cell[row]
        for position in range(5):
            gates = layer.inputs.weight @ inputs[row, position] + layer.recurrent.weight @ h
            gates = (gates - gates.mean()) / (gates.var(correction=0) + 1e-5).sqrt()
            gates = gates * layer.norm.weight + layer.norm.bias
            i, f, o = (1 / (1 + (-gates[4 * k : 4 * k + 4]).exp()) for k in (0, 1, 3))
            c = f * c + i * gates[8:12].tanh()
            h = o * c.tanh()
            torch.testing.assert_close(found[row, position], h, rtol=0, atol=1e-12)


def test_forget_gates_begin_open():
    generator, discriminator = build()
    assert discriminator.reader.norm.bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    for layer in generator.layers:
        bias = layer.bias_ih_l0.unflatten(0, (4, 8)).mean(dim=1)
        assert bias[1] > 0.7 and bias[[0, 2, 3]].abs().max() < 0.3


@pytest.mark.parametrize("changes", CASES)
def test_completed_prefixes_are_judged_at_their_ends(changes):
    _, discriminator = build(**changes, **WITH_END)
    tokens, labels = random_tokens(discriminator.config, 7), labels_for(discriminator.config, 7)
    continuations = torch.randint(20, (5, 4, 7, 6), generator=torch.Generator().manual_seed(3))
    continuations[1, 2, 3, 2] = EOS
    found = discriminator.judge_continuations(tokens, continuations, labels)
    assert found.shape == (5, 4, 7)
    ends = []
    for place in [(p, n, b) for p in range(5) for n in range(4) for b in range(7)]:
        row = continuations[place]
        end = row.tolist().index(EOS) if EOS in row else 5
        label = None if labels is None else labels[place[2]][None]
        logits = discriminator(row[None, : end + 1], label)[0].logits
        torch.testing.assert_close(found[place], logits[0, -1], rtol=0, atol=1e-5)
        ends.append(end)
    assert min(ends) < 3 and max(ends) == 5


def test_labels_change_both_networks():
    generator, discriminator = build(num_classes=3)
    tokens = random_tokens(generator.config)
    zeros, ones = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    assert (generator.predict(tokens, zeros) - generator.predict(tokens, ones)).abs().amax(dim=2).min() > 1e-4
    assert (discriminator(tokens, zeros)[0].logits - discriminator(tokens, ones)[0].logits).abs().min() > 1e-5
    for network in (generator.predict, discriminator):
        with pytest.raises(UserError, match="class-conditional: pass labels"):
            network(tokens)


# ------------------------------------------------------------------------------------------------------ sizes and errors


def test_parameter_counts_of_the_default():
    vocab, embedding, hidden = 5000, 64, 512
    with torch.device("meta"):
        generator, discriminator = ganzoo.create("scratchgan", vocab_size=vocab, max_length=52)
    first = 4 * hidden * (hidden + hidden) + 2 * 4 * hidden
    second = 4 * hidden * (2 * hidden + hidden) + 2 * 4 * hidden
    around = embedding * hidden + 2 * hidden * embedding
    assert count(generator) == vocab * embedding + vocab + around + first + second == 5_674_376
    enter = (embedding + 8) * hidden + hidden
    reader = 2 * 4 * hidden * hidden + 2 * 4 * hidden
    assert count(discriminator) == vocab * embedding + enter + reader + hidden + 1 == 2_459_137


def test_labels_add_their_initial_states_alone():
    with torch.device("meta"):
        plain = ganzoo.create("scratchgan", vocab_size=50, max_length=20)
        conditional = ganzoo.create("scratchgan", vocab_size=50, max_length=20, num_classes=7)
    added = [count(more) - count(less) for more, less in zip(conditional, plain, strict=True)]
    assert added == [7 * 2 * 2 * 512, 7 * 2 * 512]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_prompt_length": 4}, "scratchgan reads no separate prompt"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"hidden_dim": 10**9}, "hidden_dim=1000000000"),
        ({"discriminator_dropout": 1.0}, "discriminator_dropout=1.0"),
        ({"eos_token_id": 1}, "eos_token_id and pad_token_id go together"),
        ({"bos_token_id": 20}, "bos_token_id=20 is not in a vocabulary of 20 tokens"),
        ({"hidden_size": 8}, "unknown key 'hidden_size'"),
    ],
)
def test_bad_configs_are_one_clear_error(changes, message):
    with pytest.raises(UserError) as error:
        get_family("scratchgan").tiny_config(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)
