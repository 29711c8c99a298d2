"""Writing sheets and animations."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.errors import UserError
from ganzoo.processors.image import to_png
from ganzoo.utils.files import write_bytes

if TYPE_CHECKING:
    from PIL import Image

FRAME_MILLISECONDS = 40


def save_sheet(sheet: Image.Image, path: str | Path) -> Path:
    """Writes one picture.

    Raises:
        UserError: The name ends in something else than `.png`.
        GanzooError: The file cannot be written.
    """
    path = check_sheet_path(path)
    write_bytes(path, to_png(sheet))
    return path


def check_sheet_path(path: str | Path) -> Path:
    """The path; raises as `save_sheet`, before there is a sheet."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: a sheet is one picture, written as .png; give a name that ends so")
    return path


def save_animation(frames: Sequence[Image.Image], path: str | Path) -> Path:
    """Writes an animation that loops for ever.

    Args:
        path: Ends in `.gif`, which everything shows, or `.webp`, which is smaller.

    Raises:
        UserError: Another ending, or a Pillow without WebP.
        GanzooError: The file cannot be written.
    """
    path = check_animation_path(path)
    buffer = io.BytesIO()
    first, *rest = frames
    options = {"save_all": True, "append_images": rest, "duration": FRAME_MILLISECONDS, "loop": 0}
    first.save(buffer, format=path.suffix[1:].upper(), **options)
    write_bytes(path, buffer.getvalue())
    return path


def check_animation_path(path: str | Path) -> Path:
    """The path; raises as `save_animation`, before there is an animation."""
    from PIL import features

    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".gif", ".webp"):
        raise UserError(f"{path}: animations are written as .gif or .webp; give a name that ends so")
    if kind == ".webp" and not features.check("webp"):
        raise UserError(f"{path}: this Pillow was built without WebP; give a name that ends in .gif")
    return path
