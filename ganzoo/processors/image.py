"""Pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ganzoo.errors import UserError
from ganzoo.processors.base import Processor
from ganzoo.processors.words import Words
from ganzoo.utils.files import write_bytes
from ganzoo.utils.terminal import PATIENCE, bar

if TYPE_CHECKING:
    import torch
    from PIL import Image

# A picture of more pixels than this is a mistake or an attack (Pillow's own limit is about 179 million).
MAX_PIXELS = 100_000_000


@dataclass
class ImageOutput:
    """What an image pipeline returns.

    Attributes:
        images: By `output_type`: list of PIL images, float32 (B, H, W, C) array, or float32 (B, C, H, W) tensor, the last
            two in [0, 1].
        labels: (B,) classes of a conditional model, else None.
        latents: (B, latent_dim), with which each sample can be made again.
    """

    images: Any
    labels: torch.Tensor | None
    latents: torch.Tensor


class ImageProcessor(Processor):
    """Square pictures: uint8 (C, H, W) in storage, float in [-1, 1] in the networks."""

    processor_type: ClassVar[str] = "image"
    channels_last: ClassVar[bool] = True
    modality: ClassVar[str] = "image"
    sample_file: ClassVar[str | None] = ".png"
    written: ClassVar[tuple[str, str]] = ("pictures are", ".png")
    output_types: ClassVar[tuple[str, ...]] = ("pil", "np", "pt")
    transforms: ClassVar[tuple[str, ...]] = ("flip", "crop_padding")
    words: ClassVar[Words] = Words(
        noun="picture",
        given="pictures",
        drawn=("images = pipe(num_samples=16, seed=0).images",),
        hub_task="unconditional-image-generation",
    )
    when_absent: ClassVar[Mapping[str, Any]] = {"background": None}

    resolution: int = Field(ge=1, le=4096, description="Height and width in pixels.")
    channels: int = Field(3, ge=1, le=64, description="1 grey, 3 RGB, 4 RGBA; other numbers need arrays as input.")
    fit: Literal["crop", "stretch", "pad"] = Field(
        "crop",
        description="How another size becomes square: crop = scale the shorter side and cut the middle; stretch = ignore "
        "the proportions; pad = no scaling, centred on black.",
    )
    background: str | None = Field(
        "white",
        max_length=100,
        description="What a transparent picture lies on: the name of a colour of CSS, or '#rrggbb'. With 4 channels it stays "
        "transparent, and only pixels that nothing is seen of have this colour. null: the colours that a file hides under its "
        "transparent pixels.",
    )
    margin: int = Field(0, ge=0, le=2048, description="Black border in pixels on each side, within the resolution.")

    @field_validator("background")
    @classmethod
    def _is_a_colour(cls, value: str | None) -> str | None:
        if value is not None:
            _rgb(value)
        return value

    @model_validator(mode="after")
    def _margin_leaves_room(self) -> ImageProcessor:
        if 2 * self.margin >= self.resolution:
            raise ValueError(f"margin={self.margin} on both sides leaves nothing of resolution={self.resolution}")
        return self

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.channels, self.resolution, self.resolution)

    def largest(self, transform: str) -> float:
        return self.resolution - 1 if transform == "crop_padding" else super().largest(transform)

    def encode(self, raw: Any) -> np.ndarray:
        """Turns a picture into uint8 (C, H, W).

        Args:
            raw: A PIL image, a uint8 array (H, W) or (H, W, C), the bytes or path of an image file, or the
                `{"bytes", "path"}` record of the `datasets` library.

        Raises:
            UserError: It cannot be read as a picture, or does not fit `resolution` or `channels`.
        """
        if isinstance(raw, np.ndarray) and self.channels not in (1, 3, 4):
            return self._encode_array(raw)
        image = _eight_bit(_open_image(raw))
        if self.channels != 4 and self.background is not None:
            image = _on(self.background, image)
        array = np.array(_fit(image.convert({1: "L", 3: "RGB", 4: "RGBA"}.get(self.channels, "RGB")), self))
        if self.channels not in (1, 3, 4):
            raise UserError(
                f"a picture file has 1, 3 or 4 channels, not {self.channels}; pass arrays (H, W, {self.channels})"
            )
        if self.channels == 4 and self.background is not None:
            array[array[..., 3] == 0, :3] = _rgb(self.background)
        return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))

    def _encode_array(self, raw: np.ndarray) -> np.ndarray:
        expected = (self.resolution, self.resolution, self.channels)
        if raw.dtype != np.uint8 or raw.shape != expected:
            raise UserError(f"expected a uint8 array of shape {expected}, got {raw.dtype} {raw.shape}")
        return np.ascontiguousarray(raw.transpose(2, 0, 1))

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        """uint8 [0, 255] -> float32 [-1, 1]."""
        return stored.float().div_(127.5).sub_(1.0)

    def to_stored(self, samples: torch.Tensor) -> torch.Tensor:
        """float [-1, 1] -> uint8 [0, 255], rounded, clamped."""
        import torch

        return samples.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)

    def decode(self, samples: torch.Tensor, output_type: str = "pil") -> Any:
        """Turns generated samples (B, C, H, W) in [-1, 1] into pictures.

        Args:
            output_type: `"pil"`: list of PIL images; `"np"`: float32 (B, H, W, C) in [0, 1]; `"pt"`: float32 (B, C, H, W)
                in [0, 1], on the samples' device.

        Raises:
            UserError: Unknown output type, or a number of channels that PIL cannot hold.
        """
        self.check_output_type(output_type)
        if output_type == "pil":
            return to_pil(self.to_stored(samples))
        pictures = samples.float().add(1.0).mul_(0.5).clamp_(0, 1)
        if output_type == "pt":
            return pictures
        return np.ascontiguousarray(pictures.permute(0, 2, 3, 1).cpu().numpy())

    def output(self, samples: torch.Tensor, output_type: str, *, labels: Any, latents: Any) -> ImageOutput:
        return ImageOutput(self.decode(samples, output_type), labels, latents)

    def save_preview(self, samples: torch.Tensor, folder: Path, name: str) -> list[str]:
        """Writes one sheet, small pictures enlarged."""
        write_bytes(folder / f"{name}.png", to_png(self.sheet(samples)))
        return [f"{name}.png"]

    def save_samples(self, samples: torch.Tensor, target: Path) -> list[Path]:
        """Writes one sheet to `target` if it names a picture file, else one PNG a sample into the folder `target`.

        Raises:
            UserError: The file name has another ending than .png.
        """
        if self.names_a_file(target):
            write_bytes(target, to_png(self.sheet(samples)))
            return [target]
        paths = []
        images = to_pil(self.to_stored(samples))
        for index, image in enumerate(bar(images, desc="writing", unit=" pictures", delay=PATIENCE)):
            paths.append(target / f"{index:05d}.png")
            write_bytes(paths[-1], to_png(image))
        return paths

    def show(self, samples: torch.Tensor) -> str:
        """Draws the sheet with coloured half blocks, two pixels a character."""
        from ganzoo.utils.terminal import draw

        return draw(make_grid(self._drawable(samples), padding=1, background=self.background))

    def sheet(self, samples: torch.Tensor, *, columns: int | None = None) -> Image.Image:
        """Samples side by side on one picture, small ones enlarged; `columns` in a row, by default about as many as rows."""
        scale = max(1, 64 // self.resolution)
        return make_grid(self._drawable(samples), columns=columns, scale=scale, background=self.background)

    def _drawable(self, samples: torch.Tensor) -> torch.Tensor:
        """Stored form; of pictures that no file format holds, the first channel."""
        stored = self.to_stored(samples)
        return stored if self.channels in (1, 3, 4) else stored[:, :1]


def to_pil(stored: torch.Tensor) -> list[Image.Image]:
    """uint8 (B, C, H, W) with 1, 3 or 4 channels -> PIL images.

    Raises:
        UserError: Another number of channels.
    """
    from PIL import Image

    channels = stored.shape[1]
    if channels not in (1, 3, 4):
        raise UserError(f"a picture of {channels} channels is no PIL image; ask for output_type='np' or 'pt'")
    arrays = stored.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [Image.fromarray(array[..., 0] if channels == 1 else array) for array in arrays]


def make_grid(
    stored: torch.Tensor,
    *,
    columns: int | None = None,
    padding: int = 2,
    scale: int = 1,
    background: str | None = None,
) -> Image.Image:
    """Lays uint8 pictures (B, C, H, W) out on one sheet.

    Args:
        columns: Pictures in a row; by default about the square root of their number.
        padding: Pixels between pictures.
        scale: Integer enlargement, without smoothing.
        background: The colour that transparent ones lie on, by default white.
    """
    from PIL import Image

    images = [_on(background or "white", image).convert("RGB") for image in to_pil(stored)]
    width, height = images[0].size[0] * scale, images[0].size[1] * scale
    columns = columns or max(1, int(np.ceil(np.sqrt(len(images)))))
    rows = -(-len(images) // columns)
    sheet = Image.new(
        "RGB", (columns * (width + padding) + padding, rows * (height + padding) + padding), (40, 40, 40)
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        enlarged = image.resize((width, height), Image.Resampling.NEAREST) if scale > 1 else image
        sheet.paste(enlarged, (padding + column * (width + padding), padding + row * (height + padding)))
    return sheet


def to_png(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _open_image(raw: Any) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if isinstance(raw, Image.Image):
        return raw
    if isinstance(raw, Mapping):
        raw = raw.get("bytes") or raw.get("path")
    try:
        if isinstance(raw, np.ndarray):
            if raw.dtype != np.uint8:
                raise UserError(f"an array of pixels must be uint8 (0 to 255), not {raw.dtype}")
            return Image.fromarray(raw[..., 0] if raw.shape[2:] == (1,) else raw)
        image = Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw)
        if image.width * image.height > MAX_PIXELS:
            raise UserError(f"picture of {image.width}x{image.height} pixels is larger than {MAX_PIXELS} pixels")
        image.load()
        return image
    except UserError:
        raise
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        AttributeError,
        Image.DecompressionBombError,
    ) as error:
        name = raw if isinstance(raw, (str, Path)) else type(raw).__name__
        raise UserError(f"cannot read {name} as a picture: {error}") from None


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scales 16-bit pictures down: Pillow's own conversion cuts them off at 255, which makes them white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        grey = Image.fromarray((deep // 257).astype(np.uint8))
        if "transparency" in image.info:  # the value of transparent pixels
            grey.putalpha(Image.fromarray(deep != image.info["transparency"]).convert("L"))
        return grey
    if image.mode in ("I", "F"):
        raise UserError("a picture of 32-bit pixels has no known range; convert it to 8 or 16 bits")
    return image


def _rgb(colour: str) -> tuple[int, ...]:
    """Red, green and blue of a colour.

    Raises:
        ValueError: It is none, or transparent itself.
    """
    from PIL import ImageColor

    values = ImageColor.getrgb(colour)
    if len(values) != 3:
        raise ValueError(f"{colour!r} is transparent itself")
    return values


def _on(background: str, image: Image.Image) -> Image.Image:
    """A picture with transparent pixels on a colour, RGB; another as it is."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")


def _fit(image: Image.Image, processor: ImageProcessor) -> Image.Image:
    """Makes a picture square by the processor's `fit`, inside its margin."""
    from PIL import Image, ImageOps

    inside = processor.resolution - 2 * processor.margin
    if image.size != (inside, inside):
        if processor.fit == "stretch":
            image = image.resize((inside, inside), Image.Resampling.LANCZOS)
        elif processor.fit == "crop":
            image = ImageOps.fit(image, (inside, inside), Image.Resampling.LANCZOS)
        elif image.width > inside or image.height > inside:
            raise UserError(
                f"fit='pad' does not scale: a picture of {image.width}x{image.height} pixels is larger than "
                f"{inside}x{inside}; use fit='crop' or 'stretch', or a higher resolution"
            )
    if image.size == (processor.resolution, processor.resolution):
        return image
    sheet = Image.new(image.mode, (processor.resolution, processor.resolution))
    sheet.paste(image, ((sheet.width - image.width) // 2, (sheet.height - image.height) // 2))
    return sheet


PROCESSOR = ImageProcessor
