"""A loss: half of the non-saturating one's pull."""

from __future__ import annotations

from torch.nn import functional as F

from ganzoo.losses import AdversarialLoss

LOSS = AdversarialLoss(
    lambda real, fake, smoothing: {"real": F.softplus(-real).mean() / 2, "fake": F.softplus(fake).mean() / 2},
    lambda fake, real: F.softplus(-fake).mean() / 2,
)
