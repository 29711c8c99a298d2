"""What an adversarial loss is helped by: penalties on the discriminator, weight clipping. Another penalty is a record in
`PENALTIES`, or `PENALTY` in a file of its own.

Pure functions of networks' outputs and samples, in float32 whatever dtype comes in, as in `ganzoo.losses.adversarial`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.losses import kinds
from ganzoo.losses.outputs import average_over_outputs, check_same_shape
from ganzoo.recipe.section import Positive, TypedSection
from ganzoo.utils.finding import Kind
from ganzoo.utils.precision import widen

if TYPE_CHECKING:
    from ganzoo.networks.base import DiscriminatorOutput

    DiscriminatorFunction = Callable[[Tensor, Tensor | None], Sequence[DiscriminatorOutput]]


def _input_gradients(discriminator: DiscriminatorFunction, samples: Tensor, labels: Tensor | None) -> Tensor:
    """Differentiates the sum of all the discriminator's logits by its input, keeping the graph for a second backward.

    Args:
        samples: (B, ...); detached here, so that the caller's tensor never receives a gradient.

    Returns:
        One gradient a row, (B, elements of a sample), in float32 also inside autocast: squares of bfloat16 gradients
        are too coarse, and those of float16 overflow.
    """
    with torch.autocast(samples.device.type, enabled=False):
        samples = widen(samples.detach()).requires_grad_()
        return _gradients(discriminator(samples, labels), samples)


def _gradients(outputs: Sequence[DiscriminatorOutput], samples: Tensor) -> Tensor:
    logits = torch.stack([widen(output.logits).sum() for output in outputs]).sum()
    (gradients,) = torch.autograd.grad(logits, samples, create_graph=True)
    return widen(gradients).reshape(len(gradients), -1)


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
    check_same_shape("The gradient penalty", real, fake)
    if target <= 0.0:
        raise UserError(f"The gradient penalty's target norm must be above 0, got {target}.")
    real, fake = widen(real), widen(fake)
    place_shape = (len(real),) + (1,) * (real.ndim - 1)
    places = torch.rand(place_shape, generator=generator, device=real.device, dtype=real.dtype)
    gradients = _input_gradients(discriminator, torch.lerp(fake, real, places), labels)
    return _distance_of_norms(gradients, target) / target**2


def dragan_penalty(
    discriminator: DiscriminatorFunction,
    real: Tensor,
    labels: Tensor | None = None,
    target: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pulls the norm of the discriminator's input gradient to `target` around real samples alone.

    E[(|grad D(x + d)| - target)^2]: Kodali et al. 2017, equation 4, where d ~ N(0, c I). What they ran, and what is
    computed here, is the d of their reference code: 0.5 std u v, with std that of all the batch's numbers, u uniform on
    [0, 1) for each number, and v uniform on [0, 1) for each sample. The weight (lambda, 10 there) is the caller's.

    Args:
        discriminator: Called with (samples, labels); a list of outputs whose logits are added up.
        real: (B, ...), any rank.
        labels: (B,) or None.
        target: The wanted gradient norm (k), above 0.
        generator: Draws the disturbances; the global one of the device when None.

    Returns:
        A float32 scalar, differentiable by the discriminator's parameters.

    Raises:
        UserError: A target that is not positive.
    """
    if target <= 0.0:
        raise UserError(f"The DRAGAN penalty's target norm must be above 0, got {target}.")
    real = widen(real.detach())
    options = {"generator": generator, "device": real.device, "dtype": real.dtype}
    extents = torch.rand((len(real),) + (1,) * (real.ndim - 1), **options)
    disturbances = 0.5 * real.std(correction=0) * torch.rand(real.shape, **options)
    return _distance_of_norms(_input_gradients(discriminator, real + extents * disturbances, labels), target)


def _distance_of_norms(gradients: Tensor, target: float) -> Tensor:
    # vector_norm, not the root of a sum: its derivative at a zero gradient is 0 and not NaN.
    return (torch.linalg.vector_norm(gradients, dim=1) - target).square().mean()


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
    return _half_square(_input_gradients(discriminator, samples, labels))


def zero_centred_penalty_of(outputs: Sequence[DiscriminatorOutput], samples: Tensor) -> Tensor:
    """`zero_centred_penalty` of samples that are judged already: no second pass through the discriminator.

    Args:
        outputs: The discriminator's, of these samples and with a graph, in the precision that they were computed in.
        samples: (B, ...), a leaf that requires its gradient, which is left alone.
    """
    return _half_square(_gradients(outputs, samples))


def _half_square(gradients: Tensor) -> Tensor:
    return 0.5 * gradients.square().sum(dim=1).mean()


def drift_penalty(real_logits: Tensor) -> Tensor:
    """Keeps real logits near zero, where a Wasserstein loss alone leaves them free: E[D(x)^2].

    Karras et al. 2018, appendix A.1; the weight (0.001 there) is the caller's.

    Args:
        real_logits: Logits of real samples, any shape. For several outputs use `average_over_outputs`.
    """
    return widen(real_logits).square().mean()


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


class PenaltyConfig(TypedSection):
    """A term added to the discriminator's loss."""

    kind: ClassVar[Kind] = kinds.PENALTIES

    type: str = Field(
        description="gradient-penalty: to a norm on the line between real and generated; dragan: to a norm around real samples; "
        "r1, r2: to zero at real, generated samples; drift: to small logits."
    )
    weight: float = Field(gt=0, le=1e6, description="Factor (lambda; gamma of r1 and r2, whose formula has the 1/2).")
    interval: Positive = Field(
        1, description="Compute it every so many steps, with weight x interval (lazy regularisation)."
    )
    final_weight: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Factor at the end of the run, reached along half a cosine; null for a constant one.",
    )
    precision: Literal["fp32", "training"] = Field(
        "fp32",
        description="Arithmetic of its gradients: fp32, or what the training uses, which in bf16 is rougher and much faster.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_another(cls, values: Any) -> Any:
        """Recipes that were saved when all penalties had one class say a target of 1.0 also where there is none."""
        if isinstance(values, Mapping) and "target" not in cls.model_fields and values.get("target") == 1.0:
            return {key: value for key, value in values.items() if key != "target"}
        return values

    @property
    def own(self) -> dict[str, Any]:
        """What only this penalty's section says: its function's arguments."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name not in PenaltyConfig.model_fields
        }

    def weight_at(self, progress: float) -> float:
        """The factor at a share of the run."""
        if self.final_weight is None:
            return self.weight
        return self.final_weight + (self.weight - self.final_weight) * 0.5 * (1 + math.cos(math.pi * progress))


class NormPenaltyConfig(PenaltyConfig):
    """A penalty on the distance of a gradient's norm from a target."""

    target: float = Field(1.0, gt=0, description="Target norm of the gradient.")


@dataclass(frozen=True)
class Penalty:
    """A penalty on the discriminator: what it computes, of what.

    Attributes:
        compute: Called by keyword with what it needs and its section's own fields; returns a scalar without the weight.
        needs: Of `discriminator` (called with samples and labels), `real` and `fake` samples, `labels`, `real_outputs` and
            `fake_outputs` of the discriminator, those that `compute` takes.
        config_class: Of its section of a recipe.
        at: "real" or "fake": its gradient is taken at these samples alone, so that the losses' own pass may serve.
        of_outputs: Then the same from that pass: of the outputs with their graph, and the samples, a leaf.
    """

    compute: Callable[..., Tensor]
    needs: tuple[str, ...]
    config_class: type[PenaltyConfig] = PenaltyConfig
    at: Literal["real", "fake"] | None = None
    of_outputs: Callable[[Sequence[DiscriminatorOutput], Tensor], Tensor] | None = None

    @property
    def differentiates(self) -> bool:
        """Whether it takes a derivative by samples, which token ids do not have."""
        return not {"real", "fake"}.isdisjoint(self.needs)


def _r1(discriminator: DiscriminatorFunction, real: Tensor, labels: Tensor | None) -> Tensor:
    return zero_centred_penalty(discriminator, real, labels)


def _r2(discriminator: DiscriminatorFunction, fake: Tensor, labels: Tensor | None) -> Tensor:
    return zero_centred_penalty(discriminator, fake, labels)


def _drift(real_outputs: Sequence[DiscriminatorOutput]) -> Tensor:
    return average_over_outputs(drift_penalty, real_outputs)


PENALTIES = {
    "gradient-penalty": Penalty(
        gradient_penalty,
        ("discriminator", "real", "fake", "labels"),
        NormPenaltyConfig,
    ),
    "dragan": Penalty(dragan_penalty, ("discriminator", "real", "labels"), NormPenaltyConfig),
    "r1": Penalty(
        _r1,
        ("discriminator", "real", "labels"),
        at="real",
        of_outputs=zero_centred_penalty_of,
    ),
    "r2": Penalty(
        _r2,
        ("discriminator", "fake", "labels"),
        at="fake",
        of_outputs=zero_centred_penalty_of,
    ),
    "drift": Penalty(_drift, ("real_outputs",)),
}
