"""`metrics.json` of a checkpoint: what was measured, and how the checkpoint came about."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ganzoo.errors import CheckpointError
from ganzoo.utils.files import read_json, write_text
from ganzoo.utils.validation import explain


class TrainingFacts(BaseModel):
    """How the checkpoint came about."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    steps: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    minutes: float | None = Field(None, ge=0)
    machine: str | None = None


@dataclass(frozen=True)
class MetricResult:
    """A number with its protocol.

    Attributes:
        name: One of `METRICS`.
        value: The number.
        num_real: Real samples it was measured against; 0 when the metric looks at generated samples only.
        num_generated: Generated samples.
        embedder: Name of the embedder.
        dataset: Where the real samples are from.
        split: Which part of it.
        seed: Of the samples and of the metric's own random choices.
        parameters: Settings of the metric, e.g. `{"k": 3}`.
        details: What else it found, e.g. `{"standard_error": 0.0001}`.
        floor: What real samples get in place of the generated ones; of a distance, two sets of real samples.
        ganzoo_version: Software that measured it.
        torch_version: Likewise.
    """

    name: str
    value: float
    num_real: int
    num_generated: int
    embedder: str
    dataset: str | None
    split: str | None
    seed: int
    parameters: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    floor: float | None = None
    ganzoo_version: str = ""
    torch_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record that `metrics.json` holds; `MetricResult(**record)` is its inverse."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        context = [] if self.floor is None else [f"floor {_short(self.floor)}"]
        context += [f"Griffin-Lim {_short(self.details['griffin_lim'])}"] if "griffin_lim" in self.details else []
        if "min_share" in self.details:
            shares = f"{self.details['min_share']:.1%} to {self.details['max_share']:.1%}"
            context.append(f"KL to uniform; a class has {shares} of the samples")
        context += [f"{self.num_generated:,} generated{self._against()}", f"embedder {self.embedder}"]
        context += [f"temperature {self.parameters['temperature']:g}"] if "temperature" in self.parameters else []
        context.append(f"seed {self.seed}")
        spread = self.details.get("standard_error", self.details.get("standard_deviation"))
        value = _short(self.value) if spread is None else f"{_short(self.value)} ± {_short(spread)}"
        return f"{self.name} {value}  ({'; '.join(context)})"

    def _against(self) -> str:
        if not self.num_real:
            return ""
        split = f"[{self.split}]" if self.split else ""
        return f" vs {self.num_real:,} real {self.dataset or ''}{split}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
