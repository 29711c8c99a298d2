"""Pictures in a terminal: two pixels a character, by the upper-half block in two colours."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

GREYS = " .:-=+*#%@"


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
