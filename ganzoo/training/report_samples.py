"""The samples of a training report: pictures, sound and sentences through time.

Previews are drawn from the same latents every time, so the same place on two sheets shows how one sample changed.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ganzoo.training.curves import number
from ganzoo.training.report_style import escape, section, step_name

T = TypeVar("T")
Row = dict[str, Any]

MAX_SAMPLES = 24
_MAX_IMAGE_SIDE = 1024
_THUMBNAIL_SIDE = 256
_SMALL_SIDE = 512  # smaller grids are enlarged with visible pixels, not blurred
_MAX_AUDIO_BYTES = 4_000_000
_MAX_TEXT = 200_000  # characters that are read of a sheet of sentences
_MAX_SENTENCES = 64
_MAX_COMPARED = 16
_MAX_CHARACTERS = 400
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show_samples(run_dir: Path, rows: list[Row]) -> str:
    """The section with the files that the "samples" rows name; empty when none of them can be shown."""
    files: dict[str, tuple[float, Path]] = {}
    root = run_dir.resolve()
    for row in rows:
        step, name = number(row.get("step")), row.get("file")
        path = _inside(root, name) if isinstance(name, str) else None
        if path is not None and math.isfinite(step):
            files[name] = (step, path)
    ordered = sorted(files.values())
    kinds = ((".png", _load_image, _grids), (".wav", _load_audio, _audio), (".txt", _load_sentences, _sentences))
    parts = []
    for suffix, load, show in kinds:
        found = _load_evenly([item for item in ordered if item[1].suffix.lower() == suffix], load)
        if found:
            parts.append(f'<div class="card">{show(found)}</div>')
    return section("Samples through time", "\n".join(parts)) if parts else ""


def read_text(path: Path, limit: int = -1) -> str:
    """The first characters of a file, whatever its bytes are; nothing of one that cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            return file.read(limit)
    except OSError:
        return ""


def _inside(root: Path, name: str) -> Path | None:
    """Finds a file of the run: a page that people pass on shows nothing from elsewhere on the disk."""
    try:
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, a loop of links, a null byte
        return None


def _load_evenly(files: Sequence[tuple[float, Path]], load: Callable[[Path], T | None]) -> list[tuple[float, T]]:
    """Loads at most `MAX_SAMPLES` of the files, evenly chosen with first and last; leaves out unreadable ones."""
    chosen = sorted({round(i) for i in np.linspace(0, len(files) - 1, min(len(files), MAX_SAMPLES))}) if files else []
    loaded = ((files[index][0], load(files[index][1])) for index in chosen)
    return [(step, content) for step, content in loaded if content is not None]


def _player(sheets: Sequence[str], steps: Sequence[float], thumbnails: tuple[str, str] = ("", "")) -> str:
    """Shows one sheet at a time, the last at first; a single one has no controls."""
    last = len(sheets) - 1
    stage = "\n".join(
        f'<div class="sheet" data-step="{step_name(step)}"{"" if index == last else " hidden"}>{sheet}</div>'
        for index, (sheet, step) in enumerate(zip(sheets, steps, strict=True))
    )
    if not last:
        return f'<div class="stage">{stage}</div><p class="quiet">{step_name(steps[0])}</p>'
    ends = "\n".join(
        f'<button type="button" data-index="{index}">{thumbnail}{name}: {step_name(steps[index])}</button>'
        for index, name, thumbnail in ((0, "First", thumbnails[0]), (last, "Last", thumbnails[1]))
    )
    return (
        f'<div class="player">\n<div>\n<div class="stage">{stage}</div>\n<div class="controls">'
        '<button type="button" class="play">▶ Play</button>'
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="Step of the samples">'
        f'<output>{step_name(steps[-1])}</output></div>\n</div>\n<div class="ends">{ends}</div>\n</div>'
    )


# Pictures


def _load_image(path: Path) -> Any | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # PIL raises SyntaxError for some broken PNGs


def _image_tag(image: Any, side: int, alt: str) -> str:
    kind = "small" if max(image.size) < _SMALL_SIDE and side > _THUMBNAIL_SIDE else ""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def _grids(grids: list[tuple[float, Any]]) -> str:
    steps, images = zip(*grids, strict=True)
    sheets = [_image_tag(image, _MAX_IMAGE_SIDE, step_name(step)) for step, image in grids]
    ends = (
        [_image_tag(image, _THUMBNAIL_SIDE, "") for image in (images[0], images[-1])] if len(grids) > 1 else ["", ""]
    )
    return _player(sheets, steps, (ends[0], ends[1]))


# Sound


def _load_audio(path: Path) -> bytes | None:
    try:
        content = path.read_bytes() if path.stat().st_size <= _MAX_AUDIO_BYTES else b""
    except OSError:
        return None
    return content if content.startswith(b"RIFF") else None


def _audio(files: list[tuple[float, bytes]]) -> str:
    players = "\n".join(
        f'<div><span class="quiet">{step_name(step)}</span>'
        '<audio controls preload="none" '
        f'src="data:audio/wav;base64,{base64.b64encode(content).decode()}"></audio></div>'
        for step, content in reversed(files)
    )
    return f'<div class="audio">{players}</div>'


# Sentences


def _load_sentences(path: Path) -> list[str] | None:
    """The lines of a sheet: one sentence each, an empty one too."""
    text = read_text(path, _MAX_TEXT)
    return text.removesuffix("\n").split("\n") if text else None


def _sentences(sheets: list[tuple[float, list[str]]]) -> str:
    steps, texts = zip(*sheets, strict=True)
    shown = _player([_list(sentences) for sentences in texts], steps)
    return shown + _comparison(sheets) if len(sheets) > 1 else shown


def _list(sentences: list[str]) -> str:
    items = "".join(f"<li>{_sentence(sentence)}</li>" for sentence in sentences[:_MAX_SENTENCES])
    rest = len(sentences) - _MAX_SENTENCES
    more = f'<p class="quiet">and {rest:,} more</p>' if rest > 0 else ""
    return f'<ol class="sentences">{items}</ol>{more}'


def _comparison(sheets: list[tuple[float, list[str]]]) -> str:
    """A table of the same samples at the first, the middle and the latest step, one a row."""
    chosen = [sheets[index] for index in sorted({0, len(sheets) // 2, len(sheets) - 1})]
    count = min(_MAX_COMPARED, *(len(sentences) for _, sentences in chosen))
    head = "".join(f"<th>{step_name(step).capitalize()}</th>" for step, _ in chosen)
    body = "".join(
        "<tr>" + "".join(f"<td>{_sentence(sentences[row])}</td>" for _, sentences in chosen) + "</tr>"
        for row in range(count)
    )
    return (
        '<h3 class="compared">The same samples through time</h3>'
        '<p class="quiet">A row is one sample: its random numbers stay, only the model changes.</p>'
        f'<div class="scroll"><table class="sentences"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _sentence(sentence: str) -> str:
    """One sentence, safe in the page: isolated from the direction of others, control characters made visible."""
    if not sentence.strip():
        return '<span class="quiet">(empty)</span>'
    shortened = sentence if len(sentence) <= _MAX_CHARACTERS else f"{sentence[:_MAX_CHARACTERS]} …"
    return f"<bdi>{escape(_CONTROL.sub(_REPLACEMENT, shortened))}</bdi>"
