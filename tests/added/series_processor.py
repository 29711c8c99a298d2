"""Series of numbers: a modality that ganzoo does not have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from ganzoo.processors.base import Processor
from ganzoo.processors.words import Words
from ganzoo.utils.files import write_text


@dataclass
class SeriesOutput:
    """What a pipeline of series returns: (B, length) numbers."""

    series: Any
    labels: Any
    latents: Any


class SeriesProcessor(Processor):
    """Series: float32 (length,) in storage and in the networks."""

    processor_type: ClassVar[str] = "series"
    modality: ClassVar[str] = "series"
    storage_dtype: ClassVar[str] = "float32"
    sample_file: ClassVar[str | None] = ".csv"
    written: ClassVar[tuple[str, str]] = ("series are", ".csv")
    output_types: ClassVar[tuple[str, ...]] = ("np", "pt")
    words: ClassVar[Words] = Words(
        noun="series", given="series", drawn=("series = pipe(num_samples=4, seed=0).series",)
    )

    length: int = Field(ge=2, le=4096, description="Numbers of a series.")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.length,)

    def encode(self, raw: Any) -> np.ndarray:
        text = raw.read_text() if isinstance(raw, Path) else raw
        numbers = [float(part) for part in text.split()] if isinstance(text, str) else text
        return np.asarray(numbers, dtype=np.float32)[: self.length]

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        return stored.float()

    def to_stored(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.float()

    def decode(self, samples: torch.Tensor, output_type: str = "np") -> Any:
        self.check_output_type(output_type)
        return samples if output_type == "pt" else samples.cpu().numpy()

    def output(self, samples: torch.Tensor, output_type: str, *, labels: Any, latents: Any) -> SeriesOutput:
        return SeriesOutput(self.decode(samples, output_type), labels, latents)

    def save_preview(self, samples: torch.Tensor, folder: Path, name: str) -> list[str]:
        return [path.name for path in self.save_samples(samples, folder / f"{name}.csv")]

    def save_samples(self, samples: torch.Tensor, target: Path) -> list[Path]:
        target = target if self.names_a_file(target) else target / "samples.csv"
        write_text(target, self.show(samples) + "\n")
        return [target]

    def show(self, samples: torch.Tensor) -> str:
        return "\n".join(",".join(f"{value:.4f}" for value in row) for row in samples.tolist())


PROCESSOR = SeriesProcessor
