"""The samples of a training report: pictures, sound and sentences through time.

Previews are drawn from the same latents every time, so the same place on two sheets shows how one sample changed.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ganzoo.training.report.curves import number
from ganzoo.training.report.style import escape, section, step_name

T = TypeVar("T")
Row = dict[str, Any]

MAX_SAMPLES = 24
_MAX_IMAGE_SIDE = 1024
_THUMBNAIL_SIDE = 256
_SMALL_SIDE = 512  # smaller grids are enlarged with visible pixels, not blurred
_MAX_AUDIO_BYTES = 4_000_000  # of one recording
_MAX_ALL_AUDIO_BYTES = 12_000_000
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
    texts = [(step, path) for step, path in ordered if path.suffix.lower() == ".txt"]
    parts = [_seen_and_heard(_previews(ordered)), _sentences(_load_sheets(texts))]
    cards = [f'<div class="card">{part}</div>' for part in parts if part]
    return section("Samples through time", "\n".join(cards)) if cards else ""


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


def _evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly chosen with the first and the last; of a count of one, the last."""
    chosen = np.linspace(len(items) - 1, 0, min(len(items), count))
    return [items[index] for index in sorted({round(index) for index in chosen})]


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


# Pictures and sound


class _Preview(NamedTuple):
    """The files of one preview: a picture, a recording, or the picture of a recording with the recording."""

    step: float
    picture: Path | None
    recording: Path | None


class _Sheet(NamedTuple):
    """What is shown of one preview; at least one of the last three. `silent` names a recording too long to be held here."""

    step: float
    picture: Any | None
    sound: bytes | None
    silent: str


def _previews(files: Sequence[tuple[float, Path]]) -> list[_Preview]:
    """Pairs the .png and the .wav that one step gave one name."""
    pairs: dict[tuple[float, Path], dict[str, Path]] = {}
    for step, path in files:
        if path.suffix.lower() in (".png", ".wav"):
            pairs.setdefault((step, path.with_suffix("")), {})[path.suffix.lower()] = path
    return [_Preview(step, found.get(".png"), found.get(".wav")) for (step, _), found in pairs.items()]


def _seen_and_heard(previews: list[_Preview]) -> str:
    sheets = [sheet for sheet in _load(_evenly(previews, MAX_SAMPLES)) if sheet.picture or sheet.sound]
    if any(sheet.picture for sheet in sheets):
        return _gallery(sheets)
    return f'<div class="audio">{"".join(map(_recording, reversed(sheets)))}</div>' if sheets else ""


def _load(previews: Sequence[_Preview]) -> list[_Sheet]:
    """Reads the files: all pictures, and evenly so many recordings that the page stays small enough to be passed on."""
    sizes = {preview.recording: _size(preview.recording) for preview in previews if preview.recording}
    short = [path for path, size in sizes.items() if 0 < size <= _MAX_AUDIO_BYTES]
    room = _MAX_ALL_AUDIO_BYTES // max((sizes[path] for path in short), default=1)
    heard = set(_evenly(short, max(1, room)))
    sheets = []
    for step, picture, recording in previews:
        sound = _load_audio(recording) if recording in heard else None
        silent = (
            f"{recording.parent.name}/{recording.name}"
            if recording and recording not in heard and sizes[recording]
            else ""
        )
        sheets.append(_Sheet(step, _load_image(picture) if picture else None, sound, silent))
    return sheets


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _load_audio(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if content.startswith(b"RIFF") else None


def _load_image(path: Path) -> Any | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # PIL raises SyntaxError for some broken PNGs


def _gallery(sheets: list[_Sheet]) -> str:
    """One sheet at a time: the picture, and under it what it sounds like."""
    shown = [
        (_image_tag(sheet.picture, _MAX_IMAGE_SIDE, step_name(sheet.step)) if sheet.picture else "") + _sound(sheet)
        for sheet in sheets
    ]
    thumbnails = [
        _image_tag(sheet.picture, _THUMBNAIL_SIDE, "") if sheet.picture and len(sheets) > 1 else ""
        for sheet in (sheets[0], sheets[-1])
    ]
    return _player(shown, [sheet.step for sheet in sheets], (thumbnails[0], thumbnails[1]))


def _image_tag(image: Any, side: int, alt: str) -> str:
    kind = "small" if max(image.size) < _SMALL_SIDE and side > _THUMBNAIL_SIDE else ""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def _recording(sheet: _Sheet) -> str:
    return f'<div><span class="quiet">{step_name(sheet.step)}</span>{_sound(sheet)}</div>'


def _sound(sheet: _Sheet) -> str:
    if sheet.sound is None:
        return f'<p class="quiet">To be heard: {escape(sheet.silent)}</p>' if sheet.silent else ""
    data = base64.b64encode(sheet.sound).decode()
    name = escape(f"What {step_name(sheet.step)} sounds like")
    return f'<audio controls preload="none" aria-label="{name}" src="data:audio/wav;base64,{data}"></audio>'


# Sentences


def _load_sentences(path: Path) -> list[str] | None:
    """The lines of a sheet: one sentence each, an empty one too."""
    text = read_text(path, _MAX_TEXT)
    return text.removesuffix("\n").split("\n") if text else None


def _load_sheets(files: Sequence[tuple[float, Path]]) -> list[tuple[float, list[str]]]:
    loaded = [(step, _load_sentences(path)) for step, path in _evenly(files, MAX_SAMPLES)]
    return [(step, sentences) for step, sentences in loaded if sentences]


def _sentences(sheets: list[tuple[float, list[str]]]) -> str:
    if not sheets:
        return ""
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
