"""Prompted response: attention by hand, prompts of any padding, prefixes judged left to right, replies drawn alone."""

from __future__ import annotations

import math

import pytest
import torch
from network_helpers import count
from torch import nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.text.seq2seq import Attention, Seq2SeqConfig, prompt_lengths
from ganzoo.networks.text import token_mask
from ganzoo.registry import get_family

BATCH = 7
VARIANTS = [
    pytest.param({"cell": cell, "bidirectional": bidirectional, "num_classes": classes}, id=f"{cell}-{name}-{classes}")
    for cell, bidirectional, name, classes in [
        ("lstm", True, "both", None),
        ("lstm", False, "forward", 3),
        ("gru", True, "both", 3),
        ("gru", False, "forward", None),
    ]
]


def tiny(**changes):
    """Both networks with weights far from their start, so that every part matters."""
    torch.manual_seed(0)
    networks = ganzoo.create("seq2seq", **{**get_family("seq2seq").tiny, **changes})
    with torch.no_grad():
        for network in networks:
            for parameter in network.eval().parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return networks


def draw(config: Seq2SeqConfig, batch: int = BATCH):
    """Prompts of lengths 1, 2, ..., EOS-ended and padded; replies likewise; labels."""
    torch.manual_seed(1)

    def sentences(width: int) -> torch.Tensor:
        tokens = torch.randint(3, config.vocab_size, (batch, width))
        if config.eos_token_id is not None:
            for row, end in enumerate(torch.arange(batch) % width):
                tokens[row, end] = config.eos_token_id
                tokens[row, end + 1 :] = config.pad_token_id
        return tokens

    labels = None if config.num_classes is None else torch.arange(batch) % config.num_classes
    return sentences(config.max_prompt_length), sentences(config.max_length), labels


def one_hot(tokens: torch.Tensor, size: int) -> torch.Tensor:
    return nn.functional.one_hot(tokens, size).float()


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_by_step_equals_predict(variant):
    generator, _ = tiny(**variant)
    prompts, replies, labels = draw(generator.config)
    expected = generator.predict(replies, labels, prompts)
    assert expected.shape == (BATCH, 6, 24)
    state = generator.begin(BATCH, labels, prompts)
    last = torch.full((BATCH,), generator.config.bos_token_id)
    for position in range(replies.shape[1]):
        logits, state = generator.step(last, state)
        torch.testing.assert_close(logits, expected[:, position], rtol=0, atol=1e-5)
        last = replies[:, position]


@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_and_judgements_never_look_ahead(variant):
    generator, discriminator = tiny(**variant)
    prompts, replies, labels = draw(generator.config)
    logits = generator.predict(replies, labels, prompts)
    judged = discriminator(replies, labels, prompts)[0].logits
    assert judged.shape == (BATCH, 6)
    for position in range(6):
        changed = replies.clone()
        changed[:, position] = (changed[:, position] + 1) % 24
        differs = (generator.predict(changed, labels, prompts) - logits).abs().amax(dim=2) > 1e-6
        # The prediction of a token does not see that token; the judgement of a prefix sees its last one.
        assert not differs[:, : position + 1].any() and differs[:, position + 1 :].all()
        differs = (discriminator(changed, labels, prompts)[0].logits - judged).abs() > 1e-6
        assert not differs[:, :position].any() and differs[:, position:].all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_of_the_prompt_does_not_matter(variant):
    generator, discriminator = tiny(**variant, max_prompt_length=12)
    prompts, replies, labels = draw(generator.config, batch=5)
    prompts = prompts[:, :5]
    longer = torch.cat([prompts, torch.zeros(5, 7, dtype=torch.long)], dim=1)
    after_the_end = longer.clone()
    after_the_end[0, 1:] = 9  # row 0 is an EOS alone: what follows it is not read
    for prompt in (longer, after_the_end):
        torch.testing.assert_close(
            generator.predict(replies, labels, prompt), generator.predict(replies, labels, prompts), rtol=0, atol=1e-6
        )
        torch.testing.assert_close(
            discriminator(replies, labels, prompt)[0].logits,
            discriminator(replies, labels, prompts)[0].logits,
            rtol=0,
            atol=1e-6,
        )


def test_lengths_of_prompts():
    config = get_family("seq2seq").tiny_config()
    prompts = torch.tensor([[5, 6, 2, 0, 0], [2, 0, 0, 0, 0], [5, 6, 7, 8, 9], [5, 6, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert prompt_lengths(prompts, config).tolist() == [3, 1, 5, 2, 1]
    fixed = get_family("seq2seq").tiny_config(eos_token_id=None, pad_token_id=None)
    assert prompt_lengths(prompts, fixed).tolist() == [5] * 5


def test_an_empty_prompt_is_finite():
    generator, discriminator = tiny()
    prompts = torch.zeros(2, 5, dtype=torch.long)
    replies = torch.randint(24, (2, 6))
    assert generator.predict(replies, condition=prompts).isfinite().all()
    assert discriminator(replies, condition=prompts)[0].logits.isfinite().all()


def test_attention_by_hand():
    """Luong et al. (2015), equations 5 and 7, one number at a time."""
    torch.manual_seed(0)
    attention = Attention(hidden=3, memory=4).double()
    hidden, memory = torch.randn(2, 5, 3).double(), torch.randn(2, 6, 4).double()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]], dtype=torch.bool)
    combined, weights = (tensor.detach() for tensor in attention(hidden, memory, mask))
    score, combine = attention.score.weight.detach(), attention.combine.weight.detach()
    for row in range(2):
        for step in range(5):
            scores = []
            for place in range(int(mask[row].sum())):
                pairs = ((i, j) for i in range(4) for j in range(3))
                scores.append(sum(float(memory[row, place, i] * score[i, j] * hidden[row, step, j]) for i, j in pairs))
            total = sum(math.exp(value) for value in scores)
            expected = [math.exp(value) / total for value in scores] + [0.0] * (6 - len(scores))
            assert weights[row, step].tolist() == pytest.approx(expected, abs=1e-12)
            context = [sum(expected[p] * float(memory[row, p, i]) for p in range(6)) for i in range(4)]
            both = [*context, *hidden[row, step].tolist()]
            for unit in range(3):
                value = math.tanh(sum(float(combine[unit, i]) * both[i] for i in range(7)))
                assert float(combined[row, step, unit]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_encoder_reads_each_prompt_alone(cell):
    """Packed in one batch or each sentence by itself, without its padding: the same memory."""
    generator, _ = tiny(cell=cell)
    prompts, _, _ = draw(generator.config)
    memory, mask, *hidden = generator.begin(BATCH, condition=prompts)
    layer, bridges = generator.encoder.recurrent.layer, generator.encoder.bridges
    for row, length in enumerate(prompt_lengths(prompts, generator.config).tolist()):
        outputs, end = layer(generator.embedding(prompts[row : row + 1, :length]))
        torch.testing.assert_close(memory[row, :length], outputs[0], rtol=0, atol=1e-6)
        assert not memory[row, length:].any() and mask[row].tolist() == [True] * length + [False] * (5 - length)
        for vectors, bridge, (forward, backward) in zip(
            hidden, bridges, end if cell == "lstm" else (end,), strict=True
        ):
            expected = torch.tanh(bridge(torch.cat([forward[0], backward[0]])))
            torch.testing.assert_close(vectors[row], expected, rtol=0, atol=1e-6)


def test_prompts_and_labels_change_the_outputs():
    generator, discriminator = tiny(num_classes=3)
    prompts, replies, labels = draw(generator.config)
    other = prompts.clone()
    other[:, 0] = torch.where(prompts[:, 0] == 2, 5, 2)
    for predict in (generator.predict, lambda *inputs: discriminator(*inputs)[0].logits):
        before = predict(replies, labels, prompts).flatten(1)
        assert ((predict(replies, labels, other).flatten(1) - before).abs().amax(dim=1) > 1e-4).all()
        assert ((predict(replies, (labels + 1) % 3, prompts).flatten(1) - before).abs().amax(dim=1) > 1e-4).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_ids_and_exact_one_hots_are_judged_alike(variant):
    _, discriminator = tiny(**variant)
    prompts, replies, labels = draw(discriminator.config)
    relaxed = one_hot(replies, 24).requires_grad_()
    logits = discriminator(relaxed, labels, prompts)[0].logits
    torch.testing.assert_close(logits, discriminator(replies, labels, prompts)[0].logits, rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits.sum(), relaxed)
    assert gradient.abs().amax(dim=2).gt(0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_state_can_be_chosen_and_repeated(variant):
    generator, _ = tiny(**variant)
    prompts, replies, labels = draw(generator.config)
    _, state = generator.step(replies[:, 0], generator.begin(BATCH, labels, prompts))
    assert all(isinstance(tensor, torch.Tensor) and len(tensor) == BATCH for tensor in state)
    rows = torch.tensor([3, 3, 0, 6])
    chosen, _ = generator.step(replies[rows, 1], tuple(tensor[rows] for tensor in state))
    whole, _ = generator.step(replies[:, 1], state)
    torch.testing.assert_close(chosen, whole[rows], rtol=0, atol=1e-6)
    repeated = tuple(tensor.repeat_interleave(2, dim=0) for tensor in state)
    again, _ = generator.step(replies[:, 1].repeat_interleave(2), repeated)
    torch.testing.assert_close(again, whole.repeat_interleave(2, dim=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("classes", [None, 10])
def test_parameter_counts(cell, bidirectional, classes):
    vocab, embedding, hidden, d_embedding, d_hidden = 5000, 128, 256, 96, 192
    with torch.device("meta"):
        generator, discriminator = ganzoo.create(
            "seq2seq",
            vocab_size=vocab,
            max_length=20,
            max_prompt_length=20,
            num_classes=classes,
            cell=cell,
            bidirectional=bidirectional,
            embedding_dim=embedding,
            hidden_dim=hidden,
            discriminator_embedding_dim=d_embedding,
            discriminator_hidden_dim=d_hidden,
        )
    gates, states = (4, 2) if cell == "lstm" else (3, 1)
    directions = 1 + bidirectional

    def common(inputs: int, units: int) -> int:
        """Embedding, labels, encoder, bridges, the reply's recurrent layer."""
        layer = gates * units * (inputs + units + 2)
        bridges = states * (directions * units * units + units)
        return (vocab + (classes or 0)) * inputs + (directions + 1) * layer + bridges

    memory = directions * hidden
    attention = hidden * memory + (memory + hidden) * hidden
    assert count(generator) == common(embedding, hidden) + attention + (hidden + 1) * vocab
    assert count(discriminator) == common(d_embedding, d_hidden) + d_hidden + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_prompt_length": 0}, "max_prompt_length=0: input should be greater than or equal to 1"),
        ({"max_prompt_length": None}, "max_prompt_length=None"),
        ({"max_prompt_length": 5000}, "max_prompt_length=5000: input should be less than or equal to 4096"),
        ({"cell": "lsmt"}, "cell='lsmt'.*'lstm'"),
        ({"hidden_dim": 100_000}, "hidden_dim=100000: input should be less than or equal to 4096"),
        ({"dropout": 1.0}, "dropout=1.0: input should be less than 1"),
        ({"eos_token_id": 24}, "eos_token_id=24 is not in a vocabulary of 24 tokens"),
        ({"hiden_dim": 8}, "unknown key 'hiden_dim'. Did you mean 'hidden_dim'"),
    ],
)
def test_impossible_configs_are_one_clear_error(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        ganzoo.create("seq2seq", **{**get_family("seq2seq").tiny, **changes})
    assert len(str(caught.value).splitlines()) == 1


def test_the_prompt_length_must_be_given():
    config = {key: value for key, value in get_family("seq2seq").tiny.items() if key != "max_prompt_length"}
    with pytest.raises(UserError, match="max_prompt_length"):
        ganzoo.create("seq2seq", **config)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (None, "pass them as condition, 7 rows of at most 5 token ids"),
        (torch.zeros(3, 5, dtype=torch.long), r"7 rows of 1 to 5 token ids, got torch.int64 of shape \(3, 5\)"),
        (torch.zeros(7, 6, dtype=torch.long), r"shape \(7, 6\)"),
        (torch.zeros(7, 0, dtype=torch.long), r"shape \(7, 0\)"),
        (torch.zeros(7, dtype=torch.long), r"shape \(7,\)"),
        (torch.zeros(7, 5), "torch.float32"),
    ],
)
def test_wrong_prompts_are_one_clear_error(prompts, message):
    generator, discriminator = tiny()
    _, replies, _ = draw(generator.config)
    for ask in (
        lambda: generator(generator.sample_latents(7), condition=prompts),
        lambda: discriminator(replies, condition=prompts),
    ):
        with pytest.raises(UserError, match=message):
            ask()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_drawn_reply_depends_on_its_own_row_alone(variant):
    generator, _ = tiny(**variant)
    prompts, _, labels = draw(generator.config, batch=40)
    latents = generator.sample_latents(40, generator=torch.Generator().manual_seed(0))
    together = generator(latents, labels, prompts)
    assert together.shape == (40, 6) and together.dtype == torch.int64
    for row in range(40):
        alone = generator(latents[row : row + 1], None if labels is None else labels[row : row + 1], prompts[[row]])
        assert torch.equal(alone[0], together[row])
    mask = token_mask(together, generator.config)
    ended = (together == 2).any(dim=1)
    assert ended.any() and not ended.all()
    assert (together[~mask] == 0).all()
    assert ((together == 2) & mask).sum(dim=1).tolist() == ended.long().tolist()


def test_draws_follow_the_predicted_distribution():
    """First and second token of 40,000 replies to one prompt against the products of `predict`'s probabilities."""
    generator, _ = tiny(vocab_size=5, max_length=2, eos_token_id=None, pad_token_id=None, bos_token_id=1)
    number = 40_000
    prompts = torch.tensor([[3, 4, 0, 1, 2]])
    latents = generator.sample_latents(number, generator=torch.Generator().manual_seed(0))
    drawn = generator(latents, condition=prompts.expand(number, -1))
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    expected = generator.log_probs(pairs, condition=prompts.expand(25, -1)).sum(dim=1).exp().double()
    assert expected.sum().item() == pytest.approx(1, abs=1e-5)
    found = torch.bincount(drawn[:, 0] * 5 + drawn[:, 1], minlength=25)
    chi_square = ((found - number * expected) ** 2 / (number * expected)).sum().item()
    assert chi_square < 52  # 24 degrees of freedom: exceeded once in a thousand


def test_a_prefix_is_continued():
    generator, _ = tiny()
    prompts, _, _ = draw(generator.config)
    latents = generator.sample_latents(BATCH, generator=torch.Generator().manual_seed(3))
    whole = generator(latents, condition=prompts, temperature=0.5)
    ongoing = token_mask(whole, generator.config)[:, 2] & (whole[:, 1] != 2)
    rest = generator(latents[:, 2:], condition=prompts, prefix=whole[:, :2], temperature=0.5)
    assert ongoing.any() and torch.equal(rest[ongoing], whole[ongoing])


@pytest.mark.parametrize("variant", VARIANTS)
def test_continuations_are_judged_as_whole_replies(variant):
    """Monte-Carlo search: every reply by itself, at the token that ends it."""
    _, discriminator = tiny(**variant)
    config = discriminator.config
    prompts, replies, labels = draw(config, batch=3)
    continuations = torch.stack(
        [torch.stack([draw(config, batch=3)[1].roll(p + n, 0) for n in range(2)]) for p in range(5)]
    )
    found = discriminator.judge_continuations(replies, continuations, labels, prompts)
    assert found.shape == (5, 2, 3)
    for p in range(5):
        for n in range(2):
            for row in range(3):
                reply = continuations[p, n, row]
                end = reply.tolist().index(2)
                label = None if labels is None else labels[[row]]
                logits = discriminator(reply[None], label, prompts[[row]])[0].logits
                assert found[p, n, row].item() == pytest.approx(logits[0, end].item(), abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_also_in_reduced_precision(variant):
    generator, discriminator = (network.train() for network in tiny(**variant, dropout=0.1))
    prompts, replies, labels = draw(generator.config, batch=16)
    for reduced in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            outputs = generator.predict(replies, labels, prompts), discriminator(replies, labels, prompts)[0].logits
            _, state = generator.step(replies[:, 0], generator.begin(16, labels, prompts))
            generator.step(replies[:, 1], state)
        for network, output in zip((generator, discriminator), outputs, strict=True):
            network.zero_grad()
            (output.float() * torch.randn(output.shape)).sum().backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_attention_is_learned():
    """The reply repeats a prompt that the encoder's last state is too small to hold: without attention a quarter is right."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create(
        "seq2seq", vocab_size=12, max_length=8, max_prompt_length=8, embedding_dim=16, hidden_dim=16
    )
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2)
    for _ in range(200):
        tokens = torch.randint(12, (32, 8))
        loss = -generator.log_probs(tokens, condition=tokens).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens = torch.randint(12, (256, 8))
    drawn = generator(generator.sample_latents(256), condition=tokens, temperature=0)
    assert (drawn == tokens).float().mean() > 0.8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_half_precision_weights_predict_alike(variant, dtype):
    exact, reduced = tiny(**variant), tiny(**variant)
    prompts, replies, labels = draw(exact[0].config)
    for network in reduced:
        network.to(dtype)
    with torch.inference_mode():
        assert (reduced[0](reduced[0].sample_latents(BATCH), labels, prompts) < 24).all()
        for ask in (
            lambda networks: networks[0].predict(replies, labels, prompts),
            lambda networks: networks[1](replies, labels, prompts)[0].logits,
        ):
            expected, found = ask(exact), ask(reduced)
            assert found.dtype == dtype
            assert (expected - found.float()).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_discriminator_differentiates_twice(variant):
    """A gradient penalty on relaxed replies reaches its weights."""
    _, discriminator = tiny(**variant)
    prompts, replies, labels = draw(discriminator.config)
    relaxed = one_hot(replies, 24).requires_grad_()
    logits = discriminator(relaxed, labels, prompts)[0].logits
    (gradient,) = torch.autograd.grad(logits.sum(), relaxed, create_graph=True)
    gradient.square().sum().backward()
    weights = [parameter.grad for parameter in discriminator.parameters() if parameter.ndim > 1]
    assert all(grad is not None and grad.isfinite().all() and grad.any() for grad in weights)
