"""Points of a space of few dimensions: the smallest data a GAN can learn, where everything can be counted."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from ganzoo.errors import UserError
from ganzoo.processors.base import Processor
from ganzoo.processors.words import Words
from ganzoo.utils.files import write_bytes, write_text

if TYPE_CHECKING:
    import torch

PICTURE_SIZE = 384
DRAWN_RANGE = 1.25  # in the networks' space; what lies outside is not drawn


@dataclass
class PointsOutput:
    """What a pipeline of points returns.

    Attributes:
        points: By `output_type`: float32 (B, dimensions) array or tensor, in the data's units.
        labels: (B,) classes of a conditional model, else None.
        latents: (B, latent_dim), with which each point can be made again.
    """

    points: Any
    labels: torch.Tensor | None
    latents: torch.Tensor


class PointsProcessor(Processor):
    """Points: float32 (D,) in storage, divided by `scale` in the networks."""

    processor_type: ClassVar[str] = "points"
    modality: ClassVar[str] = "points"
    storage_dtype: ClassVar[str] = "float32"
    sample_file: ClassVar[str | None] = ".csv"
    written: ClassVar[tuple[str, str]] = ("points are", ".csv")
    output_types: ClassVar[tuple[str, ...]] = ("np", "pt")
    words: ClassVar[Words] = Words(
        noun="point",
        given="points",
        drawn=("points = pipe(num_samples=2500, seed=0).points",),
        floor="Real points",
        floor_note="Real points are as many of the data's own, counted alike.",
    )

    dimensions: int = Field(2, ge=1, le=4096, description="Coordinates of a point.")
    scale: float = Field(
        1.0, gt=0, le=1e9, description="What the coordinates are divided by, to lie in [-1, 1] or so."
    )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.dimensions,)

    def encode(self, raw: Any) -> np.ndarray:
        """Turns numbers into float32 (dimensions,).

        Raises:
            UserError: They are not so many finite numbers.
        """
        try:
            point = np.asarray(raw, dtype=np.float32)
        except (TypeError, ValueError):
            raise UserError(f"a point is a list of {self.dimensions} numbers, not {type(raw).__name__}") from None
        if point.shape != self.sample_shape or not np.isfinite(point).all():
            raise UserError(f"a point has {self.dimensions} finite coordinates; got an array of shape {point.shape}")
        return point

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        return stored.float() / self.scale

    def to_stored(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.float() * self.scale

    def decode(self, samples: torch.Tensor, output_type: str = "np") -> Any:
        """Turns generated points into the data's units.

        Args:
            output_type: `"np"` or `"pt"`: float32 (B, dimensions).

        Raises:
            UserError: Unknown output type.
        """
        self.check_output_type(output_type)
        points = self.to_stored(samples)
        return points if output_type == "pt" else points.cpu().numpy()

    def output(self, samples: torch.Tensor, output_type: str, *, labels: Any, latents: Any) -> PointsOutput:
        return PointsOutput(self.decode(samples, output_type), labels, latents)

    def save_preview(self, samples: torch.Tensor, folder: Path, name: str) -> list[str]:
        """Writes a picture of the first two coordinates."""
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(self._drawn(samples, PICTURE_SIZE, 2)).save(buffer, format="PNG", optimize=True)
        write_bytes(folder / f"{name}.png", buffer.getvalue())
        return [f"{name}.png"]

    def save_samples(self, samples: torch.Tensor, target: Path) -> list[Path]:
        """Writes a line a point, its coordinates separated by commas, to `target` if it names a .csv file, else to
        `samples.csv` in the folder `target`.

        Raises:
            UserError: The file name has another ending than .csv.
        """
        if not self.names_a_file(target):
            target = target / "samples.csv"
        lines = [",".join(f"{value:.6g}" for value in point) for point in self.to_stored(samples).tolist()]
        write_text(target, "\n".join(lines) + "\n")
        return [target]

    def show(self, samples: torch.Tensor) -> str:
        from PIL import Image

        from ganzoo.utils.terminal import draw

        return draw(Image.fromarray(self._drawn(samples, 64, 0)).convert("RGB"))

    def _drawn(self, samples: torch.Tensor, size: int, thickness: int) -> np.ndarray:
        """uint8 (size, size): every point a bright dot, the first coordinate to the right, the second up."""
        points = samples.float().cpu().numpy()
        plane = points[:, :2] if self.dimensions > 1 else np.stack([points[:, 0], 0 * points[:, 0]], axis=1)
        places = np.rint((plane / DRAWN_RANGE + 1) / 2 * (size - 1))
        places = places[np.isfinite(places).all(axis=1) & (places >= 0).all(axis=1) & (places < size).all(axis=1)]
        picture = np.zeros((size, size), dtype=np.uint8)
        for right, up in places.astype(int):
            top, left = size - 1 - up, right
            picture[max(top - thickness, 0) : top + thickness + 1, max(left - thickness, 0) : left + thickness + 1] = (
                255
            )
        return picture


PROCESSOR = PointsProcessor
