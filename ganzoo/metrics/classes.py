"""How evenly a set of samples covers the classes that a classifier sees in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.metrics.metric import Choices, Measurement, Metric
from ganzoo.metrics.validation import check_probabilities


@dataclass(frozen=True)
class ClassBalance:
    """The histogram of predicted classes.

    Attributes:
        counts: Samples per class.
        shares: The same as shares of all samples; they sum to 1.
        min_share: Of the rarest class, 0 when one is missing.
        max_share: Of the most frequent class.
        entropy: Of the shares, in nats; at most log K.
        kl_to_uniform: KL(shares || uniform) = log K - entropy, in nats; 0 when all classes are equally frequent.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    min_share: float
    max_share: float
    entropy: float
    kl_to_uniform: float


def class_balance(probabilities: Tensor) -> ClassBalance:
    """Counts the most probable class of each sample.

    Even perfect samples do not reach a divergence of 0: with N samples of K equally frequent classes its expected
    value is about `(K - 1) / (2 N)`.

    Args:
        probabilities: `(N, K)`, rows that sum to 1.

    Raises:
        UserError: Rows that are no distributions, or no samples.
    """
    probabilities = check_probabilities(probabilities)
    num_classes = probabilities.shape[1]
    counts = torch.bincount(probabilities.argmax(dim=1), minlength=num_classes)
    shares = counts.double() / len(probabilities)
    entropy = float(torch.special.entr(shares).sum())
    return ClassBalance(
        counts=tuple(counts.tolist()),
        shares=tuple(shares.tolist()),
        min_share=float(shares.min()),
        max_share=float(shares.max()),
        entropy=entropy,
        kl_to_uniform=max(math.log(num_classes) - entropy, 0.0),
    )


def _class_balance(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    found = class_balance(generated.probabilities)
    details = {name: getattr(found, name) for name in ("min_share", "max_share", "entropy")}
    return {"class_balance": Measurement(found.kl_to_uniform, {}, {"counts": list(found.counts), **details})}


def _label_accuracy(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    wanted, probabilities = generated.labels, generated.probabilities
    if probabilities.shape[1] <= int(wanted.max()):
        raise UserError(
            f"label_accuracy: the embedder knows {probabilities.shape[1]} classes, the model has {int(wanted.max()) + 1}"
        )
    correct = (probabilities.argmax(dim=1) == wanted).double()
    by_class = [float(correct[wanted == label].mean()) for label in wanted.unique()]
    return {"label_accuracy": Measurement(float(correct.mean()), {"labels": "in turn"}, {"by_class": by_class})}


METRICS = {
    "class_balance": Metric(_class_balance, higher_is_better=False, needs="probabilities", compares=False),
    "label_accuracy": Metric(_label_accuracy, higher_is_better=True, needs="labels", compares=False),
}
