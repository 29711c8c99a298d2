"""Losses: pure functions of logits, features and gradients; nothing here holds state or steps an optimiser."""

from ganzoo.losses.adversarial import AdversarialLoss, adversarial_loss, top_logits
from ganzoo.losses.kinds import ADVERSARIAL_LOSSES, MATCHINGS, PENALTIES
from ganzoo.losses.matching import feature_matching, mean_feature_matching
from ganzoo.losses.outputs import average_over_outputs
from ganzoo.losses.penalties import (
    Penalty,
    PenaltyConfig,
    clip_weights_,
    dragan_penalty,
    drift_penalty,
    gradient_penalty,
    zero_centred_penalty,
    zero_centred_penalty_of,
)

__all__ = [
    "ADVERSARIAL_LOSSES",
    "MATCHINGS",
    "PENALTIES",
    "AdversarialLoss",
    "Penalty",
    "PenaltyConfig",
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
