"""Losses: pure functions of logits, features and gradients; nothing here holds state or steps an optimiser."""

from ganzoo.losses.adversarial import (
    ADVERSARIAL_LOSSES,
    AdversarialLoss,
    adversarial_loss,
    average_over_outputs,
    top_logits,
)
from ganzoo.losses.matching import feature_matching, mean_feature_matching
from ganzoo.losses.penalties import (
    clip_weights_,
    dragan_penalty,
    drift_penalty,
    gradient_penalty,
    zero_centred_penalty,
    zero_centred_penalty_of,
)

__all__ = [
    "ADVERSARIAL_LOSSES",
    "AdversarialLoss",
    "adversarial_loss",
    "average_over_outputs",
    "clip_weights_",
    "dragan_penalty",
    "drift_penalty",
    "feature_matching",
    "gradient_penalty",
    "mean_feature_matching",
    "top_logits",
    "zero_centred_penalty",
    "zero_centred_penalty_of",
]
