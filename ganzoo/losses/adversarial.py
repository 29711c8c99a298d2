"""Adversarial losses: pure functions of logits. Another one is a record in `LOSSES`, or `LOSS` in a file of its own.

Nothing here holds state, steps an optimiser or knows a network's architecture. Everything is computed in float32,
whatever dtype comes in (only float64 stays as it is, so that gradients can be checked), and every mean is over all
elements, so that logits may have any shape with the batch first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ganzoo.errors import UserError
from ganzoo.losses.kinds import ADVERSARIAL_LOSSES
from ganzoo.losses.outputs import check_same_shape
from ganzoo.utils.precision import widen


@dataclass(frozen=True)
class AdversarialLoss:
    """An adversarial loss: what the discriminator and what the generator minimise.

    The two fields `discriminator_terms` and `generator_term` hold the bare mathematics; call `discriminator` and
    `generator`, which widen the logits and check the arguments first.

    Attributes:
        discriminator_terms: Maps (real logits, fake logits, label smoothing) to named scalars.
        generator_term: Maps (fake logits, real logits or None) to a scalar.
        needs_real: Whether the generator's loss compares with real logits, so that its step needs a real batch.
        has_target: Whether the loss pulls real logits towards a target that label smoothing can lower.
        boundary: The logit above which the discriminator says "real"; None of a loss that leaves logits free.
    """

    discriminator_terms: Callable[[Tensor, Tensor, float], dict[str, Tensor]]
    generator_term: Callable[[Tensor, Tensor | None], Tensor]
    needs_real: bool = False
    has_target: bool = False
    boundary: float | None = 0.0

    def discriminator(
        self, real_logits: Tensor, fake_logits: Tensor, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """Computes the discriminator's loss.

        Args:
            real_logits: Logits of real samples, any shape with the batch first.
            fake_logits: Logits of generated samples; the same shape as `real_logits` if the loss pairs them.
            label_smoothing: How far the target of real samples is lowered below 1, in [0, 1): one-sided label
                smoothing (Salimans et al. 2016, section 3.4).

        Returns:
            Scalars to be added up: `{"real", "fake"}`, or `{"pair"}` for a loss that compares the two.

        Raises:
            UserError: Label smoothing outside [0, 1), or asked of a loss without a target; pairs of unequal shapes.
        """
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
        if label_smoothing and not self.has_target:
            smoothable = ", ".join(name for name, loss in ADVERSARIAL_LOSSES.all().items() if loss.has_target)
            raise UserError(f"The loss has no target to smooth: set label_smoothing to 0, or use {smoothable}.")
        return self.discriminator_terms(widen(real_logits), widen(fake_logits), label_smoothing)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Computes the generator's loss.

        Args:
            fake_logits: Logits of generated samples, any shape with the batch first.
            real_logits: Logits of as many real samples; needed if `needs_real`, ignored otherwise.

        Returns:
            A scalar.

        Raises:
            UserError: `real_logits` is missing, or its shape differs from that of `fake_logits`.
        """
        if not self.needs_real:
            return self.generator_term(widen(fake_logits), None)
        if real_logits is None:
            raise UserError("The loss compares with real samples: give the generator's loss real_logits.")
        return self.generator_term(widen(fake_logits), widen(real_logits))


def _logistic_discriminator(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    # Cross-entropy of sigmoid(x) with target 1 - s is softplus(-x) + s x: no sigmoid, hence no logarithm of zero.
    return {"real": (F.softplus(-real) + smoothing * real).mean(), "fake": F.softplus(fake).mean()}


def _minimax_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    return -F.softplus(fake).mean()


def _non_saturating_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    return F.softplus(-fake).mean()


def _least_squares_discriminator(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    return {"real": 0.5 * (real - (1.0 - smoothing)).square().mean(), "fake": 0.5 * fake.square().mean()}


def _least_squares_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    return 0.5 * (fake - 1.0).square().mean()


def _hinge_discriminator(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    return {"real": F.relu(1.0 - real).mean(), "fake": F.relu(1.0 + fake).mean()}


def _wasserstein_discriminator(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    return {"real": -real.mean(), "fake": fake.mean()}


def _raise_fake_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    return -fake.mean()


def _relativistic_discriminator(real: Tensor, fake: Tensor, smoothing: float) -> dict[str, Tensor]:
    check_same_shape("The relativistic loss", real, fake)
    return {"pair": F.softplus(fake - real).mean()}


def _relativistic_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    check_same_shape("The relativistic loss", real, fake)
    return F.softplus(real - fake).mean()


LOSSES = {
    # Goodfellow et al. 2014, equation 1: the generator minimises log(1 - sigmoid(D)), flat where it loses badly.
    "minimax": AdversarialLoss(_logistic_discriminator, _minimax_generator, has_target=True),
    # The same paper, end of section 3: the generator maximises log sigmoid(D), steep where it loses badly.
    "non-saturating": AdversarialLoss(_logistic_discriminator, _non_saturating_generator, has_target=True),
    # Mao et al. 2017, equation 9 (targets 0 and 1, so that "real" begins halfway).
    "least-squares": AdversarialLoss(
        _least_squares_discriminator, _least_squares_generator, has_target=True, boundary=0.5
    ),
    # Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
    "hinge": AdversarialLoss(_hinge_discriminator, _raise_fake_generator),
    # Arjovsky et al. 2017, equation 2; needs weight clipping or a gradient penalty.
    "wasserstein": AdversarialLoss(_wasserstein_discriminator, _raise_fake_generator, boundary=None),
    # Jolicoeur-Martineau 2018, section 4.1; with R1 and R2, the loss of R3GAN (Huang et al. 2024).
    "relativistic": AdversarialLoss(
        _relativistic_discriminator, _relativistic_generator, needs_real=True, boundary=None
    ),
}


def adversarial_loss(name: str) -> AdversarialLoss:
    """Looks an adversarial loss up.

    Args:
        name: One of `ADVERSARIAL_LOSSES.names()`.

    Raises:
        NotFoundError: No loss has that name; the message lists those that exist.
    """
    return ADVERSARIAL_LOSSES.get(name)


def top_logits(logits: Tensor, share: float) -> Tensor:
    """Keeps the samples that the discriminator finds most real, for a generator that learns from them alone.

    Sinha et al. 2020, algorithm 1: the gradients of samples that are judged worst point away from the data; k falls as
    training goes on.

    Args:
        logits: (B, ...); of a discriminator that judges patches, samples are ordered by their mean.
        share: Of the batch that is kept, in (0, 1].

    Returns:
        (k, ...) with k = ceil(share * B), in no particular order; the logits themselves if that is all of them.

    Raises:
        UserError: A share outside (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise UserError(f"The share of samples that the generator learns from must be in (0, 1], got {share}.")
    # Of 0.7 * 10 = 7.000000000000001 samples, seven.
    count = math.ceil(share * len(logits) - 1e-9)
    if count == len(logits):
        return logits
    scores = widen(logits.detach()).reshape(len(logits), -1).mean(dim=1)
    return logits[scores.topk(count, sorted=False).indices]
