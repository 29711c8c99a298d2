"""What a generated token earns, and what is subtracted from it: pure functions of judgements, and two small learners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.sequences import rollouts
from ganzoo.networks.text import undisturbed
from ganzoo.objectives.base import Batch, judge

# Of a discriminator's logit: D = sigmoid(logit); 2D - 1 (d'Autume et al., 2019, section 3.2); log D/(1 - D).
SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": torch.sigmoid,
    "centred": lambda logits: torch.tanh(logits / 2),
    "logit": lambda logits: logits,
}


class RewardConfig(Protocol):
    """The numbers that a reward depends on; of the recipe's section that has them all."""

    reward: str
    scale: str
    discount: float
    num_rollouts: int


def token_rewards(
    config: RewardConfig,
    generator: Any,
    discriminator: Any,
    text: Batch,
    mask: Tensor,
    *,
    draw_uniforms: Callable[[int], Tensor],
) -> Tensor:
    """The reward (B, T) of every token; 0 after the end.

    Args:
        text: Own samples (B, T), their labels and their prompts.
        mask: (B, T), tokens that count.
        draw_uniforms: `n -> (n, T)` numbers in [0, 1), for rollouts.
    """
    if config.reward == "constant":
        return 0.5 * mask
    with undisturbed(generator), undisturbed(discriminator):
        return _judged(config, generator, discriminator, text, mask, draw_uniforms) * mask


def _judged(
    config: RewardConfig,
    generator: Any,
    discriminator: Any,
    text: Batch,
    mask: Tensor,
    draw_uniforms: Callable[[int], Tensor],
) -> Tensor:
    tokens, scale = text.samples, SCALES[config.scale]
    judgement = scale(mean_logits(judge(discriminator, *text)))
    if config.reward == "token":
        return discounted(judgement * mask, config.discount)
    if config.reward == "sentence" or tokens.shape[1] == 1:
        return judgement[:, None]
    # Yu et al., 2017, equation 4: the mean over N completions of the prefix; the last token has its sentence's.
    uniforms = draw_uniforms((tokens.shape[1] - 1) * config.num_rollouts * len(tokens))
    completed = rollouts(
        generator, tokens, config.num_rollouts, labels=text.labels, condition=text.condition, uniforms=uniforms
    )
    judgements = scale(discriminator.judge_continuations(tokens, completed, text.labels, text.condition).float())
    return torch.cat([judgements.mean(dim=1).T, judgement[:, None]], dim=1)


def mean_logits(outputs: list[DiscriminatorOutput]) -> Tensor:
    """The logits of a list of one; the mean of several discriminators'."""
    return torch.stack([output.logits.float() for output in outputs]).mean(dim=0)


def discounted(rewards: Tensor, discount: float) -> Tensor:
    """Returns R_t = sum over s >= t of discount^(s - t) r_s, (B, T) -> (B, T)."""
    if discount == 0:
        return rewards
    returns, following = [], torch.zeros_like(rewards[:, 0])
    for column in reversed(rewards.unbind(dim=1)):
        following = column + discount * following
        returns.append(following)
    return torch.stack(returns[::-1], dim=1)


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of the values that count."""
    weights = mask.to(values.dtype)
    if dim is None:
        return (values * weights).sum() / weights.sum().clamp(min=1)
    return (values * weights).sum(dim) / weights.sum(dim).clamp(min=1)


class MovingAverage(nn.Module):
    """Exponentially weighted mean of the rewards, without the bias of its start at 0."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def baseline(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """The average of the rewards before these; of these themselves, at the very first call. Then takes them in."""
        mean = masked_mean(rewards, mask)
        before = torch.where(self.weight > 0, self.total / self.weight.clamp(min=1e-12), mean)
        self.total.mul_(self.decay).add_(mean, alpha=1 - self.decay)
        self.weight.mul_(self.decay).add_(1 - self.decay)
        return before


class Critic(nn.Module):
    """Predicts a token's return before it is drawn: the value function of the policy gradient, as a linear model.

    It reads what every language model has, whatever its inside: the position, and of the prediction there the entropy and
    the log-probability of the best token.
    """

    def __init__(self, max_length: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(max_length))
        self.slopes = nn.Linear(2, 1)

    def forward(self, log_probs: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities (N, V) of the predictions where `mask` (B, T) is true -> expected returns (B, T)."""
        log_probs = log_probs.detach()
        entropy = -(log_probs.exp() * log_probs).sum(dim=1)
        features = torch.stack([entropy, log_probs.amax(dim=1)], dim=1)
        expected = torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, self.slopes(features)[:, 0])
        return (self.position[: mask.shape[1]] + expected) * mask

    def loss(self, predicted: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(F.mse_loss(predicted, returns, reduction="none"), mask)
