"""Adversarial losses and penalties: pure functions of logits, features and samples.

Nothing here holds state, steps an optimiser or knows a network's architecture. Everything is computed in float32,
whatever dtype comes in (only float64 stays as it is, so that gradients can be checked), and every mean is over all
elements, so that logits may have any shape with the batch first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ganzoo.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ganzoo.modeling import DiscriminatorOutput

    DiscriminatorFunction = Callable[[Tensor, Tensor | None], Sequence[DiscriminatorOutput]]

LossValue = TypeVar("LossValue", Tensor, dict[str, Tensor])


def _widen(tensor: Tensor) -> Tensor:
    """Casts to float32, unless the tensor is wider already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check_same_shape(what: str, real: Tensor, fake: Tensor) -> None:
    # Broadcasting (B,) against (B, 1) would quietly compare every sample with every other one.
    if real.shape != fake.shape:
        raise UserError(
            f"{what} needs real and generated tensors of one shape, got {tuple(real.shape)} and {tuple(fake.shape)}."
        )


# ----------------------------------------------------------------------------------------------- adversarial losses


@dataclass(frozen=True)
class AdversarialLoss:
    """An adversarial loss: what the discriminator and what the generator minimise.

    The two fields `discriminator_terms` and `generator_term` hold the bare mathematics; call `discriminator` and
    `generator`, which widen the logits and check the arguments first.

    Attributes:
        name: Its key in `ADVERSARIAL_LOSSES`.
        discriminator_terms: Maps (real logits, fake logits, label smoothing) to named scalars.
        generator_term: Maps (fake logits, real logits or None) to a scalar.
        needs_real: Whether the generator's loss compares with real logits, so that its step needs a real batch.
        has_target: Whether the loss pulls real logits towards a target that label smoothing can lower.
    """

    name: str
    discriminator_terms: Callable[[Tensor, Tensor, float], dict[str, Tensor]]
    generator_term: Callable[[Tensor, Tensor | None], Tensor]
    needs_real: bool = False
    has_target: bool = False

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
            smoothable = ", ".join(loss.name for loss in ADVERSARIAL_LOSSES.values() if loss.has_target)
            raise UserError(
                f"The loss '{self.name}' has no target to smooth: set label_smoothing to 0, or use {smoothable}."
            )
        return self.discriminator_terms(_widen(real_logits), _widen(fake_logits), label_smoothing)

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
            return self.generator_term(_widen(fake_logits), None)
        if real_logits is None:
            raise UserError(
                f"The loss '{self.name}' compares with real samples: give the generator's loss real_logits."
            )
        return self.generator_term(_widen(fake_logits), _widen(real_logits))


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
    _check_same_shape("The relativistic loss", real, fake)
    return {"pair": F.softplus(fake - real).mean()}


def _relativistic_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    _check_same_shape("The relativistic loss", real, fake)
    return F.softplus(real - fake).mean()


ADVERSARIAL_LOSSES: dict[str, AdversarialLoss] = {
    loss.name: loss
    for loss in (
        # Goodfellow et al. 2014, equation 1: the generator minimises log(1 - sigmoid(D)), flat where it loses badly.
        AdversarialLoss("minimax", _logistic_discriminator, _minimax_generator, has_target=True),
        # The same paper, end of section 3: the generator maximises log sigmoid(D), steep where it loses badly.
        AdversarialLoss("non-saturating", _logistic_discriminator, _non_saturating_generator, has_target=True),
        # Mao et al. 2017, equation 9 (targets 0 and 1).
        AdversarialLoss("least-squares", _least_squares_discriminator, _least_squares_generator, has_target=True),
        # Lim and Ye 2017; Miyato et al. 2018, equations 16 and 17.
        AdversarialLoss("hinge", _hinge_discriminator, _raise_fake_generator),
        # Arjovsky et al. 2017, equation 2; needs weight clipping or a gradient penalty.
        AdversarialLoss("wasserstein", _wasserstein_discriminator, _raise_fake_generator),
        # Jolicoeur-Martineau 2018, section 4.1; with R1 and R2, the loss of R3GAN (Huang et al. 2024).
        AdversarialLoss("relativistic", _relativistic_discriminator, _relativistic_generator, needs_real=True),
    )
}


def adversarial_loss(name: str) -> AdversarialLoss:
    """Looks an adversarial loss up.

    Args:
        name: A key of `ADVERSARIAL_LOSSES`.

    Raises:
        UserError: No loss has that name; the message lists those that exist.
    """
    if name not in ADVERSARIAL_LOSSES:
        raise UserError(
            f"There is no adversarial loss '{name}'.{did_you_mean(name, ADVERSARIAL_LOSSES)} "
            f"The losses are: {', '.join(ADVERSARIAL_LOSSES)}."
        )
    return ADVERSARIAL_LOSSES[name]


def average_over_outputs(loss: Callable[..., LossValue], *outputs: Sequence[DiscriminatorOutput]) -> LossValue:
    """Applies a loss of logits to every output of a discriminator, and averages.

    With `loss = adversarial_loss(name)`, `average_over_outputs(loss.discriminator, real_outputs, fake_outputs)` and
    `average_over_outputs(loss.generator, fake_outputs)`.

    Args:
        loss: Takes one logits tensor per list in `outputs`, in that order; returns a scalar or a dict of scalars.
        *outputs: What the discriminator returned for one or several batches, each a list of the same length.

    Returns:
        The mean of the loss over the outputs; for a dict, of each of its terms.
    """
    values = [loss(*(output.logits for output in group)) for group in zip(*outputs, strict=True)]
    if isinstance(values[0], dict):
        return {term: torch.stack([value[term] for value in values]).mean() for term in values[0]}
    return torch.stack(values).mean()


# -------------------------------------------------------------------------------------------------------- penalties


def _input_gradients(discriminator: DiscriminatorFunction, samples: Tensor, labels: Tensor | None) -> Tensor:
    """Differentiates the sum of all the discriminator's logits by its input, keeping the graph for a second backward.

    Args:
        samples: (B, ...); detached here, so that the caller's tensor never receives a gradient.

    Returns:
        One gradient a row, (B, elements of a sample), in float32 also inside autocast: squares of bfloat16 gradients
        are too coarse, and those of float16 overflow.
    """
    with torch.autocast(samples.device.type, enabled=False):
        samples = _widen(samples.detach()).requires_grad_()
        logits = torch.stack([_widen(output.logits).sum() for output in discriminator(samples, labels)]).sum()
        (gradients,) = torch.autograd.grad(logits, samples, create_graph=True)
        return gradients.reshape(len(gradients), -1)


def gradient_penalty(
    discriminator: DiscriminatorFunction,
    real: Tensor,
    fake: Tensor,
    labels: Tensor | None = None,
    target: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pulls the norm of the discriminator's input gradient to `target` between real and generated samples.

    E[(|grad D(x)| - target)^2] / target^2, with x on the segment between a real and a generated sample, at a place
    drawn per pair: Gulrajani et al. 2017, equation 3 and algorithm 1; a target other than 1 is from Karras et al. 2018
    (750 for CIFAR-10). The weight (lambda, 10 in both papers) is the caller's.

    Args:
        discriminator: Called with (samples, labels); a list of outputs whose logits are added up.
        real: (B, ...), any rank.
        fake: The same shape; no gradient flows to the generator.
        labels: (B,) or None.
        target: The wanted gradient norm, above 0.
        generator: Draws the places; the global one of the device when None.

    Returns:
        A float32 scalar, differentiable by the discriminator's parameters.

    Raises:
        UserError: Unequal shapes, or a target that is not positive.
    """
    _check_same_shape("The gradient penalty", real, fake)
    if target <= 0.0:
        raise UserError(f"The gradient penalty's target norm must be above 0, got {target}.")
    real, fake = _widen(real), _widen(fake)
    place_shape = (len(real),) + (1,) * (real.ndim - 1)
    places = torch.rand(place_shape, generator=generator, device=real.device, dtype=real.dtype)
    gradients = _input_gradients(discriminator, torch.lerp(fake, real, places), labels)
    # vector_norm, not the root of a sum: its derivative at a zero gradient is 0 and not NaN.
    norms = torch.linalg.vector_norm(gradients, dim=1)
    return (norms - target).square().mean() / target**2


def zero_centred_penalty(
    discriminator: DiscriminatorFunction, samples: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Pulls the discriminator's input gradient to zero: 1/2 E[|grad D(x)|^2].

    R1 (Mescheder et al. 2018, equation 9) when `samples` are real, R2 (its twin there) when they are generated. The
    weight (gamma) is the caller's.

    Args:
        discriminator: Called with (samples, labels); a list of outputs whose logits are added up.
        samples: (B, ...), any rank; no gradient flows back through them.
        labels: (B,) or None.

    Returns:
        A float32 scalar, differentiable by the discriminator's parameters.
    """
    return 0.5 * _input_gradients(discriminator, samples, labels).square().sum(dim=1).mean()


def drift_penalty(real_logits: Tensor) -> Tensor:
    """Keeps real logits near zero, where a Wasserstein loss alone leaves them free: E[D(x)^2].

    Karras et al. 2018, appendix A.1; the weight (0.001 there) is the caller's.

    Args:
        real_logits: Logits of real samples, any shape. For several outputs use `average_over_outputs`.
    """
    return _widen(real_logits).square().mean()


def feature_matching(
    real_outputs: Sequence[DiscriminatorOutput], fake_outputs: Sequence[DiscriminatorOutput]
) -> Tensor:
    """Compares the discriminator's features of paired real and generated samples, for the generator.

    The mean absolute difference of each layer, added up over an output's layers (Larsen et al. 2016 in L1; Wang et al.
    2018, equation 4; Kumar et al. 2019, equation 3) and averaged over the outputs, as the adversarial losses are.

    Args:
        real_outputs: The discriminator's outputs for real samples; they receive no gradient.
        fake_outputs: Its outputs for generated samples.

    Returns:
        A scalar.

    Raises:
        UserError: The outputs hold no features, or features of unequal shapes.
    """
    return torch.stack(
        [_layer_distances(real.features, fake.features) for real, fake in zip(real_outputs, fake_outputs, strict=True)]
    ).mean()


def _layer_distances(real_features: Sequence[Tensor], fake_features: Sequence[Tensor]) -> Tensor:
    if not real_features:
        raise UserError("Feature matching needs a discriminator that returns features, this one returns none.")
    distances = []
    for real, fake in zip(real_features, fake_features, strict=True):
        _check_same_shape("Feature matching", real, fake)
        distances.append((_widen(fake) - _widen(real.detach())).abs().mean())
    return torch.stack(distances).sum()


def clip_weights_(parameters: Iterable[Tensor], limit: float) -> None:
    """Clamps every parameter into [-limit, limit] in place (Arjovsky et al. 2017, algorithm 1; c = 0.01 there).

    Args:
        parameters: The discriminator's parameters.
        limit: The largest absolute value left, above 0.

    Raises:
        UserError: The limit is not positive.
    """
    if limit <= 0.0:
        raise UserError(f"The weights' clipping limit must be above 0, got {limit}.")
    parameters = list(parameters)
    with torch.no_grad():
        torch._foreach_clamp_min_(parameters, -limit)
        torch._foreach_clamp_max_(parameters, limit)
