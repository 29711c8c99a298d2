"""RelGAN: the memory against a slow computation, one step at a time against teacher forcing, many representations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from network_helpers import EOS, PAD, WITH_END, count, labels_for, random_tokens, stepped, tiny_networks

import ganzoo
from ganzoo.errors import UserError
from ganzoo.nn.memory import RelationalMemory, TokenMemory
from ganzoo.registry import get_family

CASES = [
    pytest.param({"generator": core, "num_classes": classes}, id=f"{core}-{classes or 'no'}-classes")
    for core in ("memory", "lstm")
    for classes in (None, 3)
]


def build(**changes):
    return tiny_networks("relgan", **changes)


# ---------------------------------------------------------------------------------------------------------- the memory


def linear(layer, vector):
    """W x + b, one number at a time."""
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [
        sum(weight * value for weight, value in zip(row, vector, strict=True)) + shift
        for row, shift in zip(layer.weight.tolist(), bias, strict=True)
    ]


def normalised(layer, vector):
    mean = sum(vector) / len(vector)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in vector) / len(vector) + layer.eps)
    return [
        (value - mean) / deviation * weight + bias
        for value, weight, bias in zip(vector, layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def slow_memory_step(core, inputs, memory):
    """One step of one sample as the docstring's equations have it, in loops over slots, heads and numbers."""
    size, width = core.size, core.head_size
    entered = linear(core.enter, inputs)
    rows = [normalised(core.project_norm, linear(core.project, row)) for row in [*memory, entered]]
    after = []
    for slot, own in enumerate(memory):
        attended = []
        for head in range(core.heads):
            at = head * width
            query = rows[slot][at : at + width]
            keys = [row[size + at : size + at + width] for row in rows]
            scores = [sum(q * k for q, k in zip(query, key, strict=True)) / math.sqrt(width) for key in keys]
            total = sum(math.exp(score) for score in scores)
            for number in range(width):
                value = 2 * size + at + number
                attended.append(sum(math.exp(s) / total * row[value] for s, row in zip(scores, rows, strict=True)))
        skipped = normalised(core.attended_norm, [a + b for a, b in zip(own, attended, strict=True)])
        hidden = [max(0.0, value) for value in linear(core.mlp[0], skipped)]
        changed = [a + b for a, b in zip(skipped, linear(core.mlp[2], hidden), strict=True)]
        candidate = normalised(core.mlp_norm, changed)
        gates = [
            a + b
            for a, b in zip(
                linear(core.input_gates, entered),
                linear(core.memory_gates, [math.tanh(value) for value in own]),
                strict=True,
            )
        ]
        after.append(
            [sigmoid(gates[i]) * math.tanh(candidate[i]) + sigmoid(gates[size + i] + 1) * own[i] for i in range(size)]
        )
    return after


@pytest.mark.parametrize(("slots", "heads", "head_size"), [(1, 2, 3), (3, 1, 4), (2, 3, 2)])
def test_memory_equals_the_equations(slots, heads, head_size):
    torch.manual_seed(0)
    core = RelationalMemory(5, slots=slots, heads=heads, head_size=head_size).double()
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    inputs, memory = torch.randn(4, 5).double(), core.begin(4)
    for _ in range(3):
        expected = [slow_memory_step(core, *row) for row in zip(inputs.tolist(), memory.tolist(), strict=True)]
        memory = core(inputs, memory)
        torch.testing.assert_close(memory, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
        inputs = inputs.roll(1, dims=0)


def test_memory_begins_with_slots_that_differ():
    core = RelationalMemory(5, slots=3, heads=2, head_size=4)
    start = core.begin(2)
    assert torch.equal(start, torch.eye(8)[:3].expand(2, 3, 8))
    # With equal slots every slot would stay the same for ever.
    after = core(torch.randn(2, 5), start)
    assert (after[:, 0] - after[:, 1]).abs().max() > 1e-2


def test_memory_reads_many_inputs_at_once():
    core = RelationalMemory(5, slots=2, heads=2, head_size=4)
    inputs, memory = torch.randn(3, 7, 5), core.begin(3)
    readings = core.read(inputs)
    for column in range(7):
        torch.testing.assert_close(core.update(readings[:, column], memory), core(inputs[:, column], memory))


def test_memory_gradients():
    core = RelationalMemory(2, slots=2, heads=2, head_size=1).double()
    inputs, memory = torch.randn(1, 2).double(), torch.randn(1, 2, 2).double()
    assert torch.autograd.gradcheck(core, (inputs.requires_grad_(), memory.requires_grad_()))


# -------------------------------------------------------------------------------------------------------- the generator


@pytest.mark.parametrize("changes", CASES)
def test_steps_equal_teacher_forcing(changes):
    generator, _ = build(**changes)
    tokens, labels = random_tokens(generator.config), labels_for(generator.config)
    torch.testing.assert_close(
        stepped(generator, tokens, labels), generator.predict(tokens, labels), rtol=0, atol=1e-5
    )
    with torch.no_grad():
        fast = stepped(generator, tokens, labels)
    torch.testing.assert_close(fast, generator.predict(tokens, labels), rtol=0, atol=1e-5)


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
        differences = (after - before)[:, position + 1 :].abs().amax(dim=2)
        assert (differences > 0).all(), "what was read is remembered to the end"


@pytest.mark.parametrize("changes", CASES)
def test_state_rows_can_be_chosen_and_repeated(changes):
    generator, _ = build(**changes)
    tokens, labels = random_tokens(generator.config), labels_for(generator.config)
    state = generator.begin(5, labels)
    for column in tokens[:, :3].unbind(dim=1):
        _, state = generator.step(column, state)
    assert isinstance(state, tuple) and all(len(part) == 5 for part in state)
    rows = torch.tensor([4, 0, 0, 2])
    logits, after = generator.step(tokens[:, 3], state)
    some_logits, some_after = generator.step(tokens[rows, 3], tuple(part[rows] for part in state))
    torch.testing.assert_close(some_logits, logits[rows])
    many, _ = generator.step(tokens[:, 3].repeat(2), tuple(torch.cat([part, part]) for part in state))
    torch.testing.assert_close(many, logits.repeat(2, 1))
    for some, part in zip(some_after, after, strict=True):
        torch.testing.assert_close(some, part[rows])


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


def test_same_latents_same_sequence_in_any_batch():
    generator, _ = build()
    latents = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
    together = generator(latents)
    assert torch.equal(torch.cat([generator(latents[:3]), generator(latents[3:])]), together)
    assert len(together.unique(dim=0)) > 4


@pytest.mark.parametrize("core", ["memory", "lstm"])
def test_labels_change_both_networks(core):
    generator, discriminator = build(generator=core, num_classes=3)
    tokens = random_tokens(generator.config)
    zeros, ones = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    assert (generator.predict(tokens, zeros) - generator.predict(tokens, ones)).abs().amax(dim=(1, 2)).min() > 1e-4
    assert (discriminator(tokens, zeros)[0].logits - discriminator(tokens, ones)[0].logits).abs().min() > 1e-4
    for network in (generator.predict, discriminator):
        with pytest.raises(UserError, match="class-conditional: pass labels"):
            network(tokens)


@pytest.mark.parametrize("core", ["memory", "lstm"])
def test_generator_learns(core):
    generator, _ = build(generator=core)
    tokens = random_tokens(generator.config, 4)
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.05)
    first = -generator.log_probs(tokens).mean().item()
    for _ in range(12):
        loss = -generator.log_probs(tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first == pytest.approx(math.log(20), abs=0.5)
    assert loss < 0.8 * first


# ---------------------------------------------------------------------------------------------------- the discriminator


@pytest.mark.parametrize("classes", [None, 3])
def test_ids_and_one_hot_vectors_are_judged_alike(classes):
    _, discriminator = build(num_classes=classes)
    tokens, labels = random_tokens(discriminator.config), labels_for(discriminator.config)
    relaxed = F.one_hot(tokens, 20).float().requires_grad_()
    outputs = discriminator(tokens, labels)
    for given, soft in zip(outputs, discriminator(relaxed, labels), strict=True):
        torch.testing.assert_close(soft.logits, given.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(soft.features, given.features, rtol=0, atol=1e-5)
        (gradient,) = torch.autograd.grad(soft.logits.sum(), relaxed, retain_graph=True)
        assert gradient.isfinite().all() and gradient.flatten(1).any(dim=1).all()


def test_every_representation_judges_its_own_part_of_the_embedding():
    """Against separate convolutions, one representation at a time."""
    _, discriminator = build(discriminator_embedding_dim=12, num_representations=4)
    tokens = random_tokens(discriminator.config)
    outputs = discriminator(tokens)
    assert len(outputs) == 4 and all(output.logits.shape == (5,) for output in outputs)
    for number, output in enumerate(outputs):
        part = discriminator.embedding.weight[:, 3 * number : 3 * number + 3]
        pooled = []
        for (width, filters), layer in zip(discriminator.config.windows, discriminator.encoder.filters, strict=True):
            kernel = layer.weight.view(filters, width, 3).transpose(1, 2)
            responses = F.conv1d(part[tokens].transpose(1, 2), kernel, layer.bias)
            pooled.append(responses.relu().amax(dim=2))
        features = torch.cat(pooled, dim=1)
        torch.testing.assert_close(output.features[0], features, rtol=0, atol=1e-5)
        gate = torch.sigmoid(discriminator.highway.gate(features))
        mixed = gate * discriminator.highway.transform(features).relu() + (1 - gate) * features
        logits = discriminator.output(discriminator.hidden(mixed))[:, 0]
        torch.testing.assert_close(output.logits, logits, rtol=0, atol=1e-5)
    assert torch.stack([output.logits for output in outputs]).std(dim=0).min() > 0


def test_label_weights_the_last_hidden_layer():
    _, discriminator = build(num_classes=3)
    tokens, labels = random_tokens(discriminator.config), torch.tensor([2, 0, 1, 2, 1])
    hidden = []
    handle = discriminator.hidden.register_forward_hook(lambda module, given, result: hidden.append(result))
    outputs = discriminator(tokens, labels)
    handle.remove()
    for number, output in enumerate(outputs):
        for row, label in enumerate(labels.tolist()):
            seen = hidden[0][row, number]
            expected = discriminator.output(seen)[0] + seen @ discriminator.label_embedding.weight[label]
            torch.testing.assert_close(output.logits[row], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("classes", [None, 3])
def test_completed_prefixes_are_judged_by_all_representations(classes):
    _, discriminator = build(num_classes=classes)
    tokens, labels = random_tokens(discriminator.config, 7), labels_for(discriminator.config, 7)
    shape = (5, 4, 7, 6)
    continuations = torch.randint(20, shape, generator=torch.Generator().manual_seed(3))
    found = discriminator.judge_continuations(tokens, continuations, labels)
    assert found.shape == shape[:3]
    for prefix in range(5):
        for repeat in range(4):
            outputs = discriminator(continuations[prefix, repeat], labels)
            expected = torch.stack([output.logits for output in outputs]).mean(dim=0)
            torch.testing.assert_close(found[prefix, repeat], expected, rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ sizes and errors


def test_parameter_counts_of_the_paper():
    vocab, embedding, size = 5000, 32, 2 * 256
    with torch.device("meta"):
        generator, discriminator = ganzoo.create("relgan", vocab_size=vocab, max_length=20)
    memory = (
        embedding * size + size  # the input in the space of a slot
        + size * 3 * size + 2 * 3 * size  # queries, keys, values, and their normalisation
        + 2 * (size * size + size)  # two layers after the attention
        + 2 * 2 * size  # two normalisations
        + 2 * size * 2 * size  # two gates, of the input and of the memory
    )  # fmt: skip
    assert count(generator) == vocab * embedding + memory + size * vocab + vocab == 5_107_336
    features = 4 * 300
    convolutions = sum(width * 1 * 300 + 300 for width in (2, 3, 4, 5))
    highway = 2 * (features * features + features)
    last = features * 100 + 100 + 100 + 1
    assert count(discriminator) == vocab * 64 + convolutions + highway + last == 3_328_001
    assert len(discriminator(torch.zeros(2, 20, dtype=torch.long, device="meta"))) == 64


def test_parameter_count_of_the_lstm():
    with torch.device("meta"):
        generator, _ = ganzoo.create("relgan", vocab_size=5000, max_length=20, generator="lstm")
    assert count(generator) == 5000 * 32 + 4 * (32 * 32 + 32 * 32 + 32) + 32 * 5000 + 5000


def test_labels_add_their_vectors_alone():
    with torch.device("meta"):
        plain = ganzoo.create("relgan", vocab_size=50, max_length=20)
        conditional = ganzoo.create("relgan", vocab_size=50, max_length=20, num_classes=7)
    added = [count(more) - count(less) for more, less in zip(conditional, plain, strict=True)]
    assert added == [7 * 512, 7 * 100]


def test_windows_fit_short_sequences():
    for length, widths in ((1, [1]), (3, [2, 3]), (40, [2, 3, 4, 5])):
        generator, discriminator = build(max_length=length, filter_widths=None)
        assert [width for width, _ in discriminator.config.windows] == widths
        tokens = generator(torch.rand(2, length))
        assert discriminator(tokens)[0].logits.shape == (2,)


def test_initialisation():
    """Token vectors N(0, 1 / tokens), layers N(0, 1 / inputs), filters N(0, 2 / inputs), labels N(0, 1 / numbers)."""
    sizes = {"embedding_dim": 64, "head_size": 32, "discriminator_embedding_dim": 64, "filter_count": 400}
    generator, discriminator = build(vocab_size=900, num_classes=40, **sizes, num_representations=8)
    expected = {
        generator.model.embedding: 1 / 900,
        generator.model.initial: 1 / (2 * 64),
        generator.model.output: 1 / (2 * 64),
        generator.model.memory.enter: 1 / 64,
        generator.model.memory.project: 1 / 64,
        discriminator.embedding: 1 / 900,
        discriminator.label_embedding: 1 / 6,
        discriminator.hidden: 1 / 800,
        discriminator.highway.gate: 1 / 800,
        discriminator.encoder.filters[0]: 2 / (2 * 8),
        discriminator.encoder.filters[1]: 2 / (3 * 8),
    }
    for module, variance in expected.items():
        weight = module.weight / variance**0.5
        assert weight.mean().item() == pytest.approx(0, abs=5 / weight.numel() ** 0.5)
        assert weight.std().item() == pytest.approx(1, abs=5 / (2 * weight.numel()) ** 0.5)
        if getattr(module, "bias", None) is not None:
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_representations": 3}, "discriminator_embedding_dim=8 cannot be split into num_representations=3"),
        ({"filter_widths": [2, 9]}, "filter_widths has a window of 9 tokens, longer than max_length=6"),
        ({"filter_widths": []}, "filter_widths"),
        ({"filter_widths": [0]}, "filter_widths"),
        ({"max_prompt_length": 4}, "relgan reads no separate prompt"),
        ({"generator": "gru"}, "generator='gru'"),
        ({"memory_slots": 0}, "memory_slots=0"),
        ({"head_size": 10**9}, "head_size=1000000000"),
        ({"eos_token_id": 1}, "eos_token_id and pad_token_id go together"),
        ({"hidden_size": 8}, "unknown key 'hidden_size'"),
    ],
)
def test_bad_configs_are_one_clear_error(changes, message):
    with pytest.raises(UserError) as error:
        get_family("relgan").tiny_config(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_token_memory_stands_alone():
    model = TokenMemory(9, 4, slots=2, heads=1, head_size=3, bos_token_id=5)
    tokens = torch.randint(9, (2, 4))
    logits, (memory,) = model.step(torch.full((2,), 5), model.begin(2))
    torch.testing.assert_close(logits, model.predict(tokens)[:, 0])
    assert memory.shape == (2, 2, 3)
