"""What a terminal shows: progress bars, and pictures, two pixels a character, by the upper-half block in two colours."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from tqdm import tqdm

PATIENCE = 1.0  # seconds without a bar; what mostly takes less needs none
GREYS = " .:-=+*#%@"


def bars_are_off() -> bool:
    """Whether HF_HUB_DISABLE_PROGRESS_BARS is set, which switches off every Hugging Face tool's bars, and ours."""
    return os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "").upper() in {"1", "ON", "YES", "TRUE"}


def bar(work: Iterable[Any] | None = None, *, shown: bool | None = None, **options: Any) -> tqdm:
    """A bar on standard error with rate and time left, gone when the work is done.

    Args:
        work: What is gone through; without it, `update` is to be called.
        shown: By default only on a terminal, and not if `bars_are_off`.
        **options: As of tqdm: `desc`, `unit`, `total`, `delay` in seconds for what mostly takes less.
    """
    from tqdm import tqdm

    if shown is None:
        shown = not bars_are_off() and sys.stderr.isatty()
    return tqdm(work, disable=not shown, **{"leave": False, **options})


def draw(image: Image.Image, *, columns: int | None = None, colour: bool | None = None) -> str:
    """Returns a picture as lines of text.

    Args:
        columns: Width in characters; by default the terminal's, or the picture's if that is smaller.
        colour: 24-bit colours; by default only if standard output is a terminal. Without, shades of punctuation.
    """
    from PIL import Image

    colour = sys.stdout.isatty() if colour is None else colour
    width = min(columns or shutil.get_terminal_size((100, 24)).columns, image.width)
    height = max(2, round(image.height * width / image.width) // 2 * 2)
    small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    pixels = small.load()
    if colour:
        lines = ["".join(_block(pixels[x, y], pixels[x, y + 1]) for x in range(width)) for y in range(0, height, 2)]
        return "\x1b[0m\n".join(lines) + "\x1b[0m"
    return "\n".join(
        "".join(_shade(pixels[x, y], pixels[x, y + 1]) for x in range(width)).rstrip() for y in range(0, height, 2)
    )


def _block(upper: tuple[int, ...], lower: tuple[int, ...]) -> str:
    return "\x1b[38;2;{};{};{};48;2;{};{};{}m▀".format(*upper, *lower)


def _shade(upper: tuple[int, ...], lower: tuple[int, ...]) -> str:
    return GREYS[(sum(upper) + sum(lower)) * (len(GREYS) - 1) // (6 * 255)]
