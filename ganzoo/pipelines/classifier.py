"""The pipeline of classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.golden import GOLDEN_FILE, save_golden
from ganzoo.pipelines.base import Pipeline


@dataclass
class ClassifierResult:
    """Judgement of pictures: `labels` (B,) int64, `probabilities` (B, num_classes), `features` (B, feature_dim)."""

    labels: Tensor
    probabilities: Tensor
    features: Tensor


class ClassifierPipeline(Pipeline):
    """Judges pictures with a classifier."""

    @torch.inference_mode()
    def __call__(self, samples: Any, *, batch_size: int = 64) -> ClassifierResult:
        """Classifies pictures.

        Args:
            samples: A picture or a list of pictures: anything the processor's `encode` reads (PIL, arrays, paths).
            batch_size: Pictures judged at once.

        Raises:
            UserError: A picture cannot be read.
        """
        listed = samples if isinstance(samples, (list, tuple)) else [samples]
        if not listed:
            raise UserError("there is no picture to classify")
        stored = torch.from_numpy(np.stack([self.processor.encode(sample) for sample in listed]))
        outputs = [
            self.network(self.processor.normalize(part.to(self.device)).to(self.network.dtype))
            for part in stored.split(batch_size)
        ]
        probabilities = torch.cat([output.logits for output in outputs]).float().softmax(dim=1).cpu()
        features = torch.cat([output.features for output in outputs]).float().cpu()
        return ClassifierResult(probabilities.argmax(dim=1), probabilities, features)

    def _save_examples(self, folder: Path) -> dict[str, Any]:
        save_golden(self.network, folder / GOLDEN_FILE)
        return {}
