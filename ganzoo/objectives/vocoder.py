"""The objective of mel vocoders (Kong et al., 2020): least squares, feature matching, and the spectrogram's distance."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganzoo import losses
from ganzoo.networks.audio import Vocoder
from ganzoo.networks.base import Discriminator
from ganzoo.objectives.adversarial import share_of_outputs
from ganzoo.objectives.base import Batch, Loss, Networks, Objective, StepContext, Trained, generate
from ganzoo.recipe.objective import ObjectiveConfig
from ganzoo.recipe.sections import TrainingConfig
from ganzoo.sound.spectral import log_mel

_LEAST_SQUARES = losses.adversarial_loss("least-squares")


class VocoderConfig(ObjectiveConfig):
    """Objective of a mel vocoder (Kong et al., 2020): least squares, feature matching, distance of the spectrograms."""

    type: Literal["vocoder"] = Field("vocoder", description="Which objective.")
    adversarial: bool = Field(
        True, description="With the discriminator; false for the spectrograms' distance alone, as a first phase."
    )
    feature_matching: float = Field(2.0, ge=0, le=1e6, description="Weight of the discriminators' features' distance.")
    mel_weight: float = Field(45.0, gt=0, le=1e6, description="Weight of the log-mel spectrograms' distance.")


class VocoderObjective(Objective):
    """A generator that makes waveforms again from their spectrograms, against several discriminators.

    The losses are sums over the K sub-discriminators, as in equations 5 and 6, not means, so that the weights of feature
    matching (2) and of the spectrogram (45) mean what they do in the paper.
    """

    config_class = VocoderConfig
    trains = {
        "generator": Trained(Vocoder, "a vocoder, which turns spectrograms into sound"),
        "discriminator": Trained(Discriminator, "a discriminator"),
    }

    config: VocoderConfig

    boundary = _LEAST_SQUARES.boundary

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"discriminator": training.n_critic, "generator": 1} if self.config.adversarial else {"generator": 1}

    def prepare(self, networks: Networks) -> None:
        # Compared up to half the sampling rate, whatever the generator is shown (paper, section 3: 8 kHz in, all out).
        self.mel_config = networks["generator"].mel_config.model_copy(update={"f_max": None})

    def discriminator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        fake = _resynthesise(networks, batch, context, with_graph=context.keep_graph)
        if context.keep_graph:
            context.shared["fake"] = fake  # the generator's step goes on from it: one pass saved
        discriminator = networks["discriminator"]
        with context.autocast():
            real_outputs, fake_outputs = discriminator(_cut(batch.samples, fake)), discriminator(fake.detach())
        # Equation 1 has no 1/2, and equation 6 adds the sub-discriminators up.
        factor = 2 * len(real_outputs)
        terms = losses.average_over_outputs(_LEAST_SQUARES.discriminator, real_outputs, fake_outputs)
        stats = {
            "real_accuracy": share_of_outputs(real_outputs, lambda logits: logits > self.boundary),
            "fake_accuracy": share_of_outputs(fake_outputs, lambda logits: logits < self.boundary),
        }
        return Loss({name: factor * term for name, term in terms.items()}, stats)

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        fake = context.shared.pop("fake", None)
        if fake is None:
            fake = _resynthesise(networks, batch, context, with_graph=True)
        real = _cut(batch.samples, fake)
        error = self._mel_error(real, fake)
        terms = {"mel": self.config.mel_weight * error}
        if self.config.adversarial:
            with context.autocast():
                fake_outputs = networks["discriminator"](fake)
                with torch.no_grad():
                    real_outputs = networks["discriminator"](real)
            number = len(fake_outputs)
            adversarial = losses.average_over_outputs(_LEAST_SQUARES.generator, fake_outputs)
            terms["adversarial"] = 2 * number * adversarial
            if self.config.feature_matching:
                matching = losses.feature_matching(real_outputs, fake_outputs)
                terms["feature_matching"] = self.config.feature_matching * number * matching
        return Loss(terms, {"mel_error": error.detach()})

    def validation_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Tensor:
        """The mean absolute error of the log-mel spectrogram."""
        fake = _resynthesise(networks, batch, context, with_graph=False)
        return self._mel_error(_cut(batch.samples, fake), fake)

    def validation_stats(self, networks: Networks, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        return {"generator/mel_error": self.validation_loss(networks, batch, context)}

    def _mel_error(self, real: Tensor, fake: Tensor) -> Tensor:
        """Mean |log-mel(real) - log-mel(fake)| (equation 4), in float32."""
        return F.l1_loss(log_mel(fake, self.mel_config), log_mel(real, self.mel_config))


def _resynthesise(networks: Networks, batch: Batch, context: StepContext, *, with_graph: bool) -> Tensor:
    with nullcontext() if with_graph else torch.no_grad(), context.autocast():
        return generate(networks["generator"], batch, context)


def _cut(real: Tensor, fake: Tensor) -> Tensor:
    """What a spectrogram's whole frames do not cover has no counterpart."""
    return real[..., : fake.shape[-1]]


OBJECTIVE = VocoderObjective
