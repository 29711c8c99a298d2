"""The inception score (Salimans et al., 2016) of a classifier's probabilities, whichever classifier that is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.metrics.metric import Choices, Measurement, Metric
from ganzoo.metrics.validation import check_probabilities


class InceptionScore(NamedTuple):
    """An inception score.

    Attributes:
        mean: Over the splits; between 1 and the number of classes.
        standard_deviation: Over the splits; None for a single one.
    """

    mean: float
    standard_deviation: float | None


def inception_score(probabilities: Tensor, *, splits: int = 10, seed: int | None = 0) -> InceptionScore:
    """`exp(E KL(p(y|x) || p(y)))` per split (Salimans et al., 2016, section 4).

    Args:
        probabilities: `(N, K)`, rows that sum to 1.
        splits: The samples are divided into this many parts, as in the paper; the score of each has its own p(y).
        seed: Shuffles the samples first, because samples that are ordered by class make every split poor in classes;
            None keeps their order.

    Raises:
        UserError: Rows that are no distributions, or fewer samples than splits.
    """
    if splits < 1:
        raise UserError(f"the inception score needs at least 1 split, not {splits}")
    probabilities = check_probabilities(probabilities, minimum=splits)
    if seed is not None:
        order = torch.randperm(len(probabilities), generator=torch.Generator().manual_seed(seed))
        probabilities = probabilities[order.to(probabilities.device)]
    scores = torch.stack([_score(part) for part in probabilities.tensor_split(splits)])
    return InceptionScore(float(scores.mean()), float(scores.std()) if splits > 1 else None)


def _score(probabilities: Tensor) -> Tensor:
    # The mean divergence from p(y) is the entropy of p(y) less the mean entropy of p(y|x); `entr` is 0 at 0.
    marginal_entropy = torch.special.entr(probabilities.mean(dim=0)).sum()
    return (marginal_entropy - torch.special.entr(probabilities).sum(dim=1).mean()).exp()


def _inception_score(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    score = inception_score(generated.probabilities, splits=choices.splits, seed=choices.seed)
    details = {} if score.standard_deviation is None else {"standard_deviation": score.standard_deviation}
    return {"inception_score": Measurement(score.mean, {"splits": choices.splits}, details)}


METRICS = {
    "inception_score": Metric(_inception_score, higher_is_better=True, needs="probabilities", compares=False),
}
