"""`metrics.json` of a checkpoint: what was measured, and how the checkpoint came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ganzoo.card import TrainingFacts
from ganzoo.errors import CheckpointError
from ganzoo.files import read_json, write_text
from ganzoo.metrics.evaluate import MetricResult
from ganzoo.validation import explain

METRICS_FILE = "metrics.json"


class Measured(BaseModel):
    """The content of `metrics.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: list[MetricResult] = []
    training: TrainingFacts | None = None


def read_measured(path: Path) -> Measured:
    """Reads `metrics.json`.

    Raises:
        CheckpointError: It is damaged, or its records are no metric results.
    """
    try:
        return Measured.model_validate(read_json(path))
    except ValidationError as error:
        raise CheckpointError(f"{path}: {explain(error, Measured)}") from None


def write_measured(path: Path, metrics: Sequence[Mapping[str, Any]], training: Mapping[str, Any] | None) -> None:
    """Writes `metrics.json`."""
    write_text(path, json.dumps({"metrics": metrics, "training": training}, indent=2) + "\n")
