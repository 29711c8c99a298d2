"""The pipeline of classifiers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.hub.metadata import PIPELINE_TAGS
from ganzoo.hub.words import CardWords
from ganzoo.pipelines.base import Pipeline
from ganzoo.processors import Processor


@dataclass
class ClassifierResult:
    """Judgement of samples.

    Attributes:
        labels: (B,) int64, the most probable class of each.
        probabilities: (B, num_classes).
        features: (B, feature_dim), the layer before the logits.
        class_names: The classes by label, where the training data named them.
    """

    labels: Tensor
    probabilities: Tensor
    features: Tensor
    class_names: tuple[str, ...] | None = None

    @property
    def names(self) -> list[str] | None:
        """The names of `labels`; None where the classes have none."""
        return None if self.class_names is None else [self.class_names[label] for label in self.labels.tolist()]


class ClassifierPipeline(Pipeline):
    """Judges pictures or recordings with a classifier.

    Example:
        >>> classifier = ganzoo.from_pretrained("digit-classifier")
        >>> classifier("three.png").labels
        >>> classifier("cat.png").names
    """

    @classmethod
    def card_words(cls, processor: Processor | type[Processor]) -> CardWords:
        words, hub_task = processor.words, f"{processor.modality}-classification"
        return replace(
            super().card_words(processor),
            tag="classifier",
            hub_task=hub_task if hub_task in PIPELINE_TAGS else None,
            tags=words.tags,
            usage=(
                'classifier = ganzoo.from_pretrained("{source}")',
                f"classes = classifier({words.given}).labels",
            ),
        )

    @torch.inference_mode()
    def __call__(self, samples: Any, *, batch_size: int = 64) -> ClassifierResult:
        """Classifies samples.

        Args:
            samples: One or a list: anything the processor's `encode` reads, such as paths, pictures of PIL, or recordings.
                Of a recording that is longer than what the classifier hears, so much counts from where its sound begins;
                from the file's beginning where the classifier was trained so (its processor's `trim_db` is None).
            batch_size: Samples judged at once.

        Raises:
            UserError: A sample cannot be read.
        """
        # A `Recording` is a tuple too, but one sample.
        listed = samples if isinstance(samples, list) or type(samples) is tuple else [samples]
        if not listed:
            raise UserError(f"there is no {self.processor.words.noun} to classify")
        stored = torch.from_numpy(np.stack([self.processor.encode(sample) for sample in listed]))
        outputs = [
            self.network(self.processor.normalize(part.to(self.device)).to(self.network.dtype))
            for part in stored.split(batch_size)
        ]
        probabilities = torch.cat([output.logits for output in outputs]).float().softmax(dim=1).cpu()
        features = torch.cat([output.features for output in outputs]).float().cpu()
        return ClassifierResult(
            probabilities.argmax(dim=1), probabilities, features, class_names=self.processor.class_names
        )


PIPELINE = ClassifierPipeline
