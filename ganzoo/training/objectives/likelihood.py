"""Maximum likelihood of a language model, alone or as a term of the adversarial text objectives."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ganzoo.language import split_prompts, trimmed
from ganzoo.training.objective_sections import LikelihoodConfig
from ganzoo.training.objectives.base import Batch, Loss, Networks, Objective, StepContext
from ganzoo.training.sections import TrainingConfig


class LikelihoodObjective(Objective):
    """Teacher forcing: the mean negative log-likelihood of a token, in nats, end of sentence included."""

    config: LikelihoodConfig

    def updates(self, training: TrainingConfig) -> dict[str, int]:
        return {"generator": 1}

    def generator_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Loss:
        loss = likelihood(networks["generator"], batch, context, self.config.label_smoothing)
        return Loss({"likelihood": loss}, {"perplexity": loss.detach().exp()})

    def validation_loss(self, networks: Networks, batch: Batch, context: StepContext) -> Tensor:
        return likelihood(networks["generator"], batch, context)


def likelihood(generator: Any, batch: Batch, context: StepContext, label_smoothing: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the batch's tokens in nats: a 0-dim tensor with its graph."""
    tokens, prompts = split_prompts(batch.samples, generator.config)
    tokens, mask = trimmed(tokens, generator.config)
    with context.autocast():
        if label_smoothing:
            logits = generator.predict_where(mask, tokens, batch.labels, prompts)
            return F.cross_entropy(logits.float(), tokens[mask], label_smoothing=label_smoothing)
        count = mask.sum()
        total, _ = generator.weighted_nll(mask, tokens, (1 / count).expand(count), batch.labels, prompts)
        return total
