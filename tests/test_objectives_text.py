"""The text objectives against closed forms, sums over all sentences, and discriminators that betray what they were shown."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.text import TextDiscriminator, TextGenerator, token_mask
from ganzoo.objectives import Batch, StepContext, build_objective
from ganzoo.objectives.cooperative import CooperativeConfig, divergence
from ganzoo.objectives.gumbel import GumbelConfig, relaxed_sequences
from ganzoo.objectives.likelihood import LikelihoodConfig
from ganzoo.objectives.policy_gradient import PolicyGradientConfig
from ganzoo.objectives.rewards import MovingAverage, discounted, masked_mean, token_rewards

VOCABULARY, LENGTH = 4, 3
PAD, BOS, EOS = 0, 1, 2


def networks(eos: bool = True, **config: object) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    ids = {"eos_token_id": EOS, "pad_token_id": PAD} if eos else {}
    generator, discriminator = ganzoo.create(
        "seqgan",
        **{
            "vocab_size": VOCABULARY,
            "max_length": LENGTH,
            "bos_token_id": BOS,
            "embedding_dim": 3,
            "hidden_dim": 5,
            "filter_widths": [1, 2],
            "filter_counts": [3, 3],
            "discriminator_dropout": 0.0,
            **ids,
            **config,
        },
    )
    return {"generator": generator, "discriminator": discriminator}


def context(seed: int = 0, **values: object) -> StepContext:
    from contextlib import nullcontext

    source = torch.Generator().manual_seed(seed)

    def draw_latents(network: TextGenerator, count: int, *key: object) -> Tensor:
        return network.sample_latents(count, generator=source)

    return StepContext(step=0, progress=0.0, draw_latents=draw_latents, autocast=nullcontext, **values)


def all_sentences() -> Tensor:
    """Every sequence in stored form: nothing but PAD after EOS."""
    found = []
    for tokens in itertools.product(range(VOCABULARY), repeat=LENGTH):
        ended, valid = False, True
        for token in tokens:
            valid = valid and (token == PAD if ended else True)
            ended = ended or token == EOS
        if valid:
            found.append(tokens)
    return torch.tensor(found)


class Marked(TextDiscriminator):
    """Its logit is a mark of the sentence it was shown, so that a reward tells where it came from."""

    def __init__(self, config: object) -> None:
        super().__init__(config)
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, samples, labels=None, condition=None):
        place = torch.tensor([VOCABULARY**p for p in range(samples.shape[1])])
        return [DiscriminatorOutput((samples * place).sum(dim=1).float(), [])]


class MarkedTokens(Marked):
    def forward(self, samples, labels=None, condition=None):
        return [DiscriminatorOutput(samples.float() + 10 * torch.arange(samples.shape[1]), [])]


# ----------------------------------------------------------------------------------------------------- likelihood


def test_likelihood_is_the_mean_over_tokens_that_count():
    pair = networks()
    tokens = torch.tensor([[3, EOS, PAD], [3, 1, 3], [EOS, PAD, PAD]])
    loss = build_objective(LikelihoodConfig()).generator_loss(pair, Batch(tokens, None), context())
    logits = pair["generator"].predict(tokens)
    total, count = 0.0, 0
    for row, length in enumerate((2, 3, 1)):
        for position in range(length):
            total -= logits[row, position].log_softmax(0)[tokens[row, position]].item()
            count += 1
    assert loss.terms["likelihood"].item() == pytest.approx(total / count, abs=1e-6)
    assert loss.stats["perplexity"].item() == pytest.approx(math.exp(total / count), rel=1e-5)


def test_validation_is_the_likelihood_without_smoothing():
    pair = networks()
    tokens = torch.tensor([[3, EOS, PAD], [3, 1, 3]])
    smooth = build_objective(LikelihoodConfig(label_smoothing=0.3))
    plain = build_objective(LikelihoodConfig())
    batch = Batch(tokens, None)
    assert (
        smooth.validation_loss(pair, batch, context())
        == plain.generator_loss(pair, batch, context()).terms["likelihood"]
    )
    assert smooth.generator_loss(pair, batch, context()).terms["likelihood"] != smooth.validation_loss(
        pair, batch, context()
    )


# -------------------------------------------------------------------------------------------------------- rewards


def test_rollout_rewards_reach_their_token_and_sentence():
    """The mean over rollouts of a mark, against the expectation over all completions, for each sentence and position."""
    pair = networks(eos=False)
    generator, marked = pair["generator"], Marked(pair["generator"].config)
    tokens = torch.tensor([[0, 1, 2], [3, 3, 3], [2, 0, 1], [1, 2, 0]])
    config = PolicyGradientConfig(reward="rollout", num_rollouts=1000, scale="logit")
    uniforms = torch.Generator().manual_seed(1)
    rewards = token_rewards(
        config,
        generator,
        marked,
        Batch(tokens, None),
        torch.ones_like(tokens, dtype=torch.bool),
        draw_uniforms=lambda count: torch.rand(count, LENGTH, generator=uniforms),
    )
    sentences = torch.tensor(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))
    marks = marked(sentences)[0].logits
    likelihood = generator.log_probs(sentences).sum(dim=1).exp().detach()
    for row, position in itertools.product(range(len(tokens)), range(LENGTH)):
        agree = (sentences[:, : position + 1] == tokens[row, : position + 1]).all(dim=1)
        expected = (likelihood * marks)[agree].sum() / likelihood[agree].sum()
        assert rewards[row, position].item() == pytest.approx(expected.item(), abs=2.5), (row, position)
    assert torch.equal(rewards[:, -1], marked(tokens)[0].logits)


def test_rollouts_leave_ended_sentences_as_they_are():
    pair = networks()
    marked = Marked(pair["generator"].config)
    tokens = torch.tensor([[EOS, PAD, PAD], [3, EOS, PAD]])
    mask = token_mask(tokens, pair["generator"].config)
    config = PolicyGradientConfig(reward="rollout", num_rollouts=3, scale="logit")
    rewards = token_rewards(
        config,
        pair["generator"],
        marked,
        Batch(tokens, None),
        mask,
        draw_uniforms=lambda n: torch.rand(n, LENGTH),
    )
    marks = marked(tokens)[0].logits
    assert rewards[0].tolist() == [marks[0], 0, 0]
    assert rewards[1, 1] == marks[1] and rewards[1, 2] == 0


@pytest.mark.parametrize(
    "reward, expected",
    [("constant", [[0.5, 0.5, 0.0]]), ("sentence", [[11.0, 11.0, 0.0]]), ("token", [[3.0, 12.0, 0.0]])],
)
def test_other_rewards(reward, expected):
    pair = networks()
    kind = MarkedTokens if reward == "token" else Marked
    tokens = torch.tensor([[3, EOS, PAD]])
    rewards = token_rewards(
        PolicyGradientConfig(reward=reward, scale="logit"),
        pair["generator"],
        kind(pair["generator"].config),
        Batch(tokens, None),
        token_mask(tokens, pair["generator"].config),
        draw_uniforms=None,
    )
    assert rewards.tolist() == expected


@pytest.mark.parametrize("scale, expected", [("probability", 0.75), ("centred", 0.5), ("logit", math.log(3))])
def test_scales_of_a_judgement(scale, expected):
    from ganzoo.objectives.rewards import SCALES

    assert SCALES[scale](torch.tensor(math.log(3))).item() == pytest.approx(expected, abs=1e-6)


def test_discounted_returns():
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    assert discounted(rewards, 0.0).tolist() == [[1, 2, 4]]
    assert discounted(rewards, 0.5).tolist() == [[1 + 1 + 1, 2 + 2, 4]]
    assert discounted(rewards, 1.0).tolist() == [[7, 6, 4]]


def test_the_moving_average_has_no_bias_of_its_start():
    average, ones = MovingAverage(0.9), torch.ones(2, 2, dtype=torch.bool)
    values = [3.0, 5.0, -1.0]
    weights, before = [], []
    for value in values:
        before.append(average.baseline(torch.full((2, 2), value), ones).item())
        weights = [w * 0.9 for w in weights] + [0.1]
    assert before[0] == 3.0  # of itself: there is nothing before
    assert before[1] == pytest.approx(3.0)
    assert before[2] == pytest.approx((0.09 * 3 + 0.1 * 5) / 0.19)


# -------------------------------------------------------------------------------------------------- policy gradient


def exact_gradient(generator: TextGenerator, value: Tensor, sentences: Tensor) -> list[Tensor]:
    """The gradient of the expected reward, as a sum over all sentences."""
    likelihood = generator.log_probs(sentences).sum(dim=1).exp()
    assert likelihood.sum().item() == pytest.approx(1.0, abs=1e-5)
    return list(torch.autograd.grad((likelihood * value).sum(), list(generator.parameters()), allow_unused=True))


@pytest.mark.parametrize("baseline", ["none", "batch", "ewma", "critic"])
def test_the_policy_gradient_is_that_of_the_expected_reward(baseline):
    """REINFORCE with sentence rewards, averaged over many samples, against the sum over all sentences."""
    pair = networks()
    generator = pair["generator"]
    marked = Marked(generator.config)
    sentences = all_sentences()
    value = marked(sentences)[0].logits
    expected = exact_gradient(generator, value, sentences)
    config = PolicyGradientConfig(reward="sentence", scale="logit", baseline=baseline, reduction="sum")
    objective = build_objective(config)
    objective.prepare(pair)
    count = 40_000
    loss = objective.generator_loss(
        {"generator": generator, "discriminator": marked},
        Batch(torch.zeros(count, LENGTH, dtype=torch.long), None),
        context(),
    )
    found = torch.autograd.grad(-loss.terms["policy"] / count, list(generator.parameters()), allow_unused=True)
    flat = [torch.cat([g.flatten() for g in gradients if g is not None]) for gradients in (found, expected)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.99
    assert flat[0].norm() / flat[1].norm() == pytest.approx(1.0, abs=0.1)


def test_a_constant_reward_without_baseline_raises_the_likelihood_of_own_samples():
    pair = networks()
    objective = build_objective(PolicyGradientConfig(reward="constant"))
    loss = objective.generator_loss(pair, Batch(torch.zeros(8, LENGTH, dtype=torch.long), None), context())
    drawn = pair["generator"](context().draw_latents(pair["generator"], 8))
    mask = token_mask(drawn, pair["generator"].config)
    expected = -0.5 * pair["generator"].log_probs(drawn).sum() / mask.sum()
    assert loss.terms["policy"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_likelihood_and_entropy_are_added():
    pair = networks()
    real = torch.tensor([[3, EOS, PAD]])
    objective = build_objective(PolicyGradientConfig(reward="constant", likelihood_weight=2.0, entropy_weight=3.0))
    loss = objective.generator_loss(pair, Batch(real, None), context())
    nll = build_objective(LikelihoodConfig()).generator_loss(pair, Batch(real, None), context()).terms["likelihood"]
    assert loss.terms["likelihood"].item() == pytest.approx(2 * nll.item(), rel=1e-6)
    drawn = pair["generator"](context().draw_latents(pair["generator"], 1))
    p = pair["generator"].predict(drawn).softmax(2)
    entropy = masked_mean(-(p * p.log()).sum(2), token_mask(drawn, pair["generator"].config))
    assert loss.terms["entropy"].item() == pytest.approx(-3 * entropy.item(), rel=1e-5)


@pytest.mark.parametrize("per_token", [False, True])
def test_the_discriminators_loss(per_token):
    pair = networks()
    kind = MarkedTokens if per_token else Marked
    pair["discriminator"] = kind(pair["generator"].config)
    real = torch.tensor([[3, EOS, PAD], [1, 3, 3]])
    objective = build_objective(PolicyGradientConfig(label_smoothing=0.1))
    loss = objective.discriminator_loss(pair, Batch(real, None), context())
    logits = pair["discriminator"](real)[0].logits
    counted = logits[token_mask(real, pair["generator"].config)] if per_token else logits
    log_real, log_fake = (torch.nn.functional.logsigmoid(sign * counted.double()) for sign in (1, -1))
    expected = -(0.9 * log_real + 0.1 * log_fake).mean()
    assert loss.terms["real"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert loss.stats["real_accuracy"].item() == pytest.approx((counted > 0).float().mean().item())


def test_negatives_come_from_a_pool_that_is_a_function_of_the_step():
    pair = networks()
    shown = []

    class Watching(Marked):
        def forward(self, samples, labels=None, condition=None):
            shown.append(samples)
            return super().forward(samples)

    pair["discriminator"] = Watching(pair["generator"].config)
    real = torch.zeros(5, LENGTH, dtype=torch.long)
    objective = build_objective(PolicyGradientConfig(negatives_every=4, negatives_pool=2))
    moment = context()
    for repeat in range(8):
        moment.repeat = repeat
        objective.discriminator_loss(pair, Batch(real, None), moment)
    fakes = shown[1::2]
    assert torch.equal(fakes[0], fakes[2]) and torch.equal(fakes[1], fakes[3])
    assert not torch.equal(fakes[0], fakes[1])
    assert not torch.equal(fakes[0], fakes[4])  # the next pool
    assert torch.equal(fakes[5], fakes[7])


# ------------------------------------------------------------------------------------------- relaxed and cooperative


def test_relaxed_samples_become_one_hot_and_carry_gradients():
    pair = networks()
    torch.manual_seed(1)
    soft = relaxed_sequences(pair["generator"], 64, 1.0)
    torch.manual_seed(1)
    hard = relaxed_sequences(pair["generator"], 64, 1e6)
    assert soft.shape == (64, LENGTH, VOCABULARY)
    torch.testing.assert_close(soft.sum(dim=2), torch.ones(64, LENGTH))
    assert ((hard - hard.round()).abs() < 1e-3).float().mean() > 0.99
    ended = (hard.argmax(2) == EOS).cumsum(1) - (hard.argmax(2) == EOS).long() > 0
    assert (hard.argmax(2)[ended] == PAD).all() and (soft.argmax(2)[ended] == PAD).all()
    soft[:, -1].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pair["generator"].parameters())


def test_relaxed_samples_have_the_generators_distribution():
    pair = networks()
    torch.manual_seed(2)
    with torch.no_grad():
        drawn = relaxed_sequences(pair["generator"], 40_000, 1.0)
    first = drawn.new_zeros(VOCABULARY)
    torch.manual_seed(2)
    with torch.no_grad():
        first = relaxed_sequences(pair["generator"], 40_000, 1e6)[:, 0].mean(dim=0)
    expected = pair["generator"].predict(torch.zeros(1, LENGTH, dtype=torch.long))[0, 0].softmax(0)
    torch.testing.assert_close(first, expected, atol=0.01, rtol=0)


def test_the_inverse_temperature_grows_over_the_phase():
    objective = build_objective(GumbelConfig(inverse_temperature=100.0))
    found = [objective._inverse_temperature(context(phase_progress=p)) for p in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([1, 10, 100])


def test_gumbel_updates_both_networks_through_the_discriminator():
    pair = networks()
    objective = build_objective(GumbelConfig())
    batch = Batch(torch.tensor([[3, EOS, PAD], [1, 3, 3]]), None)
    moment = context(is_logged=True)
    loss = objective.discriminator_loss(pair, batch, moment)
    sum(loss.terms.values()).backward()
    assert all(p.grad is not None for p in pair["discriminator"].parameters())
    loss = objective.generator_loss(pair, batch, moment)
    sum(loss.terms.values()).backward()
    assert all(p.grad is not None for p in pair["generator"].parameters())
    assert loss.stats["inverse_temperature"] == 1.0


@pytest.mark.parametrize(
    "bad", [{"augment": ["color"]}, {"instance_noise": 0.1}, {"penalties": [{"type": "r1", "weight": 1.0}]}]
)
def test_gumbel_refuses_what_only_pictures_have(bad):
    with pytest.raises(ValueError):
        GumbelConfig.model_validate(bad)


def test_divergence_of_known_distributions():
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert divergence(p.log() + 3, q.log() - 2).item() == pytest.approx(expected, abs=1e-6)
    assert divergence(p.log(), p.log()).item() == pytest.approx(0, abs=1e-7)


def test_cooperative_training_follows_the_mediator():
    torch.manual_seed(0)
    generator, mediator = ganzoo.create("cot", vocab_size=VOCABULARY, max_length=LENGTH, embedding_dim=4, hidden_dim=6)
    pair = {"generator": generator, "discriminator": mediator}
    objective = build_objective(CooperativeConfig())
    batch = Batch(torch.tensor([[3, 3, 1]]).repeat(64, 1), None)
    optimizers = [torch.optim.Adam(network.parameters(), lr=0.02) for network in (mediator, generator)]
    before = generator.log_probs(batch.samples[:1]).sum().item()
    for seed in range(60):
        for role, optimizer in zip(("discriminator", "generator"), optimizers, strict=True):
            loss = getattr(objective, f"{role}_loss")(pair, batch, context(seed))
            optimizer.zero_grad()
            sum(loss.terms.values()).backward()
            optimizer.step()
    assert generator.log_probs(batch.samples[:1]).sum().item() > before + 1
