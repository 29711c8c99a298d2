"""One page about a training run: what was trained, how it went, what came out, and with which recipe.

`write_report` reads the run directory (metrics.jsonl, recipe.yaml, samples/) and writes `report.html`, which needs no
other file and no network. It may be called at any time, also on a run that was killed: what is missing or half-written
is left out.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ganzoo.errors import MissingPackageError
from ganzoo.training.curves import Chart, Series, charts_of, draw, number, smoothing_window
from ganzoo.training.report_style import SCRIPT, STYLE
from ganzoo.training.trackers import duration, read_rows

Row = dict[str, Any]
T = TypeVar("T")

_MAX_SAMPLES = 24
_MAX_IMAGE_SIDE = 1024
_THUMBNAIL_SIDE = 256
_SMALL_SIDE = 512  # smaller grids are enlarged with visible pixels, not blurred
_MAX_AUDIO_BYTES = 4_000_000
_MAX_TEXT = 20_000
_MAX_STEPS = 8  # of one warning


def write_report(run_dir: str | Path) -> Path:
    """Writes `report.html` into a run directory.

    Args:
        run_dir: The directory of a run, finished or not.

    Returns:
        The path of the page.
    """
    run_dir = Path(run_dir)
    rows = read_rows(run_dir / "metrics.jsonl")
    recipe = _read_text(run_dir / "recipe.yaml")
    events: dict[str, list[Row]] = {}
    for row in rows:
        events.setdefault(str(row.get("event", "train")), []).append(row)
    title = _title(run_dir, recipe, events)
    sections = [
        _header(title, rows, recipe, events),
        _samples(run_dir, events.get("samples", [])),
        _evaluation(events.get("evaluation", [])),
        _warnings(events.get("warning", [])),
        _curves(events.get("train", []), events.get("evaluation", [])),
        _environment(events.get("start", [])),
        _section("Recipe", f'<div class="card"><pre>{_escape(recipe)}</pre></div>') if recipe else "",
    ]
    path = run_dir / "report.html"
    temporary = path.with_name("report.html.tmp")
    temporary.write_text(_page(title, "\n".join(filter(None, sections))), encoding="utf-8")
    temporary.replace(path)
    return path


def _page(title: str, body: str) -> str:
    script = f"<script>{SCRIPT}</script>" if 'class="player"' in body else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)} · training report</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n{script}\n</body>\n</html>\n"
    )


def _section(title: str, body: str, name: str = "") -> str:
    anchor = f' id="{name}"' if name else ""
    return f"<section{anchor}>\n<h2>{_escape(title)}</h2>\n{body}\n</section>"


def _escape(value: Any) -> str:
    """Makes text safe to stand in the page; lone surrogates, which no file can hold, become question marks."""
    return html.escape(str(value).encode("utf-8", errors="replace").decode())


# What the run was, and how far it got


def _title(run_dir: Path, recipe: str, events: dict[str, list[Row]]) -> str:
    named = [row["recipe"] for row in events.get("start", []) if isinstance(row.get("recipe"), str)]
    name = named[-1] if named else _recipe_value(recipe, "name")
    return str(name or run_dir.resolve().name)


def _recipe_value(recipe: str, *keys: str) -> Any:
    from ganzoo.safe_yaml import load_yaml

    try:
        value = load_yaml(recipe)
    except ValueError:
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _header(title: str, rows: list[Row], recipe: str, events: dict[str, list[Row]]) -> str:
    pills = [_status(rows)]
    if count := len(events.get("warning", [])):
        pills.append(f'<a class="pill warn" href="#warnings">{count} warning{"s" if count > 1 else ""}</a>')
    tiles = "".join(
        f"<div><dt>{_escape(name)}</dt><dd>{_escape(value)}<small>{_escape(more)}</small></dd></div>"
        for name, value, more in _facts(recipe, events)
    )
    tiles = f'<dl class="tiles">{tiles}</dl>' if tiles else '<p class="quiet">Nothing has been logged yet.</p>'
    return (
        f'<header>\n<p class="quiet">ganzoo training report</p>\n<h1>{_escape(title)}</h1>\n'
        f"<p>{''.join(pills)}</p>\n</header>\n{tiles}"
    )


def _status(rows: list[Row]) -> str:
    turns = [row for row in rows if row.get("event") in ("start", "resume", "end")]
    if not turns or turns[-1]["event"] != "end":
        return '<span class="pill">not finished</span>'
    reason = turns[-1].get("reason", turns[-1].get("status", "finished"))
    kind = "good" if reason == "finished" else "warn"
    return f'<span class="pill {kind}">{_escape(reason)}</span>'


def _facts(recipe: str, events: dict[str, list[Row]]) -> list[tuple[str, str, str]]:
    """Returns (name, value, small print) of each headline fact that is known."""
    train, start = events.get("train", []), (events.get("start") or [{}])[-1]
    steps, seen, seconds, rates, sample_rates = (
        [value for value in (number(row.get(key)) for row in train) if math.isfinite(value)]
        for key in ("step", "samples_seen", "seconds", "steps_per_second", "samples_per_second")
    )
    facts = []
    if steps:
        total = number(_recipe_value(recipe, "training", "steps"))
        planned = f"of {total:,.0f} in the recipe" if math.isfinite(total) and total != max(steps) else ""
        facts.append(("Steps", f"{max(steps):,.0f}", planned))
    if seen:
        facts.append(("Real samples seen", f"{max(seen):,.0f}", ""))
    if seconds:
        facts.append(("Duration", duration(_total_seconds(seconds)), ""))
    if rates or sample_rates:
        texts = [
            f"{np.median(values):,.4g} {unit}"
            for values, unit in ((sample_rates, "samples/s"), (rates, "steps/s"))
            if values
        ]
        facts.append(("Speed (median)", texts[0], texts[1] if len(texts) > 1 else ""))
    if start.get("device") is not None:
        facts.append(("Device", str(start["device"]), str(start.get("precision") or "")))
    return facts


def _total_seconds(seconds: list[float]) -> float:
    """Adds up a clock that may start again from zero whenever the run was resumed."""
    ends = [before for before, after in itertools.pairwise(seconds) if after < before]
    return sum(ends) + seconds[-1]


def _environment(starts: list[Row]) -> str:
    shown_above = ("event", "step", "recipe")
    entries = {
        key: value for row in starts for key, value in row.items() if key not in shown_above and value is not None
    }
    if not entries:
        return ""
    facts = "".join(
        f"<div><dt>{_escape(key.replace('_', ' '))}</dt><dd>{_escape(_short(value))}</dd></div>"
        for key, value in entries.items()
    )
    return _section("Environment", f'<div class="card"><dl class="facts">{facts}</dl></div>')


def _short(value: Any) -> str:
    """Writes a logged value for people: 2,765,568, 0.1235, "text", or compact JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 10**15 else "very large"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


# What came out: samples through time


def _samples(run_dir: Path, rows: list[Row]) -> str:
    files: dict[str, tuple[float, Path]] = {}
    root = run_dir.resolve()
    for row in rows:
        step, name = number(row.get("step")), row.get("file")
        path = _inside(root, name) if isinstance(name, str) else None
        if path is not None and math.isfinite(step):
            files[name] = (step, path)
    ordered = sorted(files.values())
    kinds = ((".png", _load_image, _grids), (".wav", _load_audio, _audio), (".txt", _load_text, _texts))
    parts = []
    for suffix, load, show in kinds:
        found = _load_evenly([item for item in ordered if item[1].suffix.lower() == suffix], load)
        if found:
            parts.append(f'<div class="card">{show(found)}</div>')
    return _section("Samples through time", "\n".join(parts)) if parts else ""


def _inside(root: Path, name: str) -> Path | None:
    """Finds a file of the run: a page that people pass on shows nothing from elsewhere on the disk."""
    try:
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, a loop of links, a null byte
        return None


def _load_evenly(files: Sequence[tuple[float, Path]], load: Callable[[Path], T | None]) -> list[tuple[float, T]]:
    """Loads at most `_MAX_SAMPLES` of the files, evenly chosen with first and last; leaves out unreadable ones."""
    chosen = sorted({round(i) for i in np.linspace(0, len(files) - 1, min(len(files), _MAX_SAMPLES))}) if files else []
    loaded = ((files[index][0], load(files[index][1])) for index in chosen)
    return [(step, content) for step, content in loaded if content is not None]


def _load_image(path: Path) -> Any | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # PIL raises SyntaxError for some broken PNGs


def _load_audio(path: Path) -> bytes | None:
    try:
        content = path.read_bytes() if path.stat().st_size <= _MAX_AUDIO_BYTES else b""
    except OSError:
        return None
    return content if content.startswith(b"RIFF") else None


def _load_text(path: Path) -> str | None:
    return _read_text(path)[:_MAX_TEXT] or None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _image_tag(image: Any, side: int, alt: str, attributes: str = "") -> str:
    kind = "small" if max(image.size) < _SMALL_SIDE and side > _THUMBNAIL_SIDE else ""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img class="{kind}" alt="{_escape(alt)}" src="data:image/png;base64,{data}"{attributes}>'


def _grids(grids: list[tuple[float, Any]]) -> str:
    last = len(grids) - 1
    images = "\n".join(
        _image_tag(image, _MAX_IMAGE_SIDE, _step(step), "" if index == last else " hidden")
        for index, (step, image) in enumerate(grids)
    )
    if not last:
        return f'<div class="stage">{images}</div><p class="quiet">{_step(grids[0][0])}</p>'
    ends = "\n".join(
        f'<button type="button" data-index="{index}">'
        f"{_image_tag(grids[index][1], _THUMBNAIL_SIDE, '')}{name}: {_step(grids[index][0])}</button>"
        for index, name in ((0, "First"), (last, "Last"))
    )
    return (
        f'<div class="player">\n<div>\n<div class="stage">{images}</div>\n<div class="controls">'
        '<button type="button" class="play">▶ Play</button>'
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="Step of the samples">'
        f'<output>{_step(grids[-1][0])}</output></div>\n</div>\n<div class="ends">{ends}</div>\n</div>'
    )


def _audio(files: list[tuple[float, bytes]]) -> str:
    players = "\n".join(
        f'<div><span class="quiet">{_step(step)}</span>'
        '<audio controls preload="none" '
        f'src="data:audio/wav;base64,{base64.b64encode(content).decode()}"></audio></div>'
        for step, content in reversed(files)
    )
    return f'<div class="audio">{players}</div>'


def _texts(files: list[tuple[float, str]]) -> str:
    blocks = [
        f"<details{' open' if index == 0 else ''}><summary>{_step(step)}</summary>"
        f'<pre class="text">{_escape(text)}</pre></details>'
        for index, (step, text) in enumerate(reversed(files))
    ]
    return "\n".join(blocks)


def _step(step: float) -> str:
    return f"step {step:,.0f}"


# What was measured, and what was warned of


def _metrics(row: Row) -> list[Row]:
    metrics = row.get("metrics")
    return [metric for metric in metrics if isinstance(metric, dict)] if isinstance(metrics, list) else []


def _evaluation(rows: list[Row]) -> str:
    rows = [row for row in rows if _metrics(row)]
    if not rows:
        return ""
    latest, earlier = rows[-1], rows[-2 : -2 - _MAX_SAMPLES : -1]
    parts = [f'<div class="card"><p class="quiet">{_step_of(latest)}</p>{_metrics_table(_metrics(latest))}']
    if any(metric.get("floor") is not None for metric in _metrics(latest)):
        parts.append('<p class="quiet">Floor: the same measure on real samples in place of generated ones.</p>')
    if earlier:
        tables = "".join(f'<p class="quiet">{_step_of(row)}</p>{_metrics_table(_metrics(row))}' for row in earlier)
        parts.append(f"<details><summary>Earlier evaluations</summary>{tables}</details>")
    return _section("Evaluation", "".join(parts) + "</div>")


def _step_of(row: Row) -> str:
    step = number(row.get("step"))
    return f"At {_step(step)}" if math.isfinite(step) else ""


_COLUMNS = (  # (heading, key, whether it is a number)
    ("Metric", "name", False),
    ("Value", "value", True),
    ("Floor", "floor", True),
    ("N real", "num_real", True),
    ("N generated", "num_generated", True),
    ("Embedder", "embedder", False),
    ("Data", "dataset", False),
    ("Split", "split", False),
    ("Seed", "seed", True),
)


def _metrics_table(metrics: list[Row]) -> str:
    columns = [column for column in _COLUMNS if any(metric.get(column[1]) is not None for metric in metrics)]
    head = "".join(f'<th class="{"number" if right else ""}">{name}</th>' for name, _, right in columns)
    body = ""
    for metric in metrics:
        cells = ((key, right, metric.get(key)) for _, key, right in columns)
        body += "<tr>" + "".join(
            f'<td class="{"number" if right else ""}{" value" if key == "value" else ""}">'
            f"{_escape('' if value is None else _label(value) if key == 'name' else _short(value))}</td>"
            for key, right, value in cells
        )
        body += "</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _label(name: Any) -> str:
    return str(name).replace("_", " ")


def _warnings(rows: list[Row]) -> str:
    if not rows:
        return ""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(str(row.get("name", "warning")), []).append(row)
    items = "".join(
        f"<li><b>{_escape(name.replace('-', ' ').capitalize())}</b> "
        f'<span class="quiet">{_steps_of(found)}</span><p>{_escape(found[-1].get("message", ""))}</p></li>'
        for name, found in by_name.items()
    )
    return _section("Warnings", f'<ul class="warnings">{items}</ul>', name="warnings")


def _steps_of(rows: list[Row]) -> str:
    """Writes when a warning was given: "at step 100, 1,200 and 2,300"."""
    steps = [f"{step:,.0f}" for step in (number(row.get("step")) for row in rows) if math.isfinite(step)]
    if len(steps) > _MAX_STEPS:
        steps = [*steps[: _MAX_STEPS - 1], f"{len(steps) - _MAX_STEPS + 1} more times, last at {steps[-1]}"]
    return f"at step {' and '.join(filter(None, (', '.join(steps[:-1]), steps[-1])))}" if steps else ""


# How it went: the curves


def _curves(train: list[Row], evaluations: list[Row]) -> str:
    charts = charts_of(train) + _metric_charts(evaluations)
    if not charts:
        return ""
    phases = [(number(row.get("step")), str(row.get("phase", ""))) for row in train]
    changes = [after for before, after in itertools.pairwise(phases) if before[1] != after[1] and after[0] > 0]
    last_step = max(float(series.steps.max()) for chart in charts for series in chart.series)
    starts = [step for step, _ in changes]
    try:
        figures = "\n".join(_figure(chart, draw(chart, last_step, starts)) for chart in charts)
    except MissingPackageError as error:
        figures = "\n".join(_figure(chart, "") for chart in charts)
        return _section("Curves", f'<p class="quiet">{_escape(error)}.</p><div class="charts">{figures}</div>')
    named = ", ".join(f"{_escape(phase)} from {_step(step)}" for step, phase in changes[:_MAX_SAMPLES])
    smoothed = any(smoothing_window(series) > 1 for chart in charts for series in chart.series)
    note = "Faint: as logged. Bold: moving average. " if smoothed else ""
    note += f"Dashed: {named}." if named else ""
    note = f'<p class="quiet">{note}</p>' if note else ""
    return _section("Curves", f'{note}<div class="charts">{figures}</div>')


def _metric_charts(rows: list[Row]) -> list[Chart]:
    """One chart for each metric that was measured more than once."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        for metric in _metrics(row):
            point = (number(row.get("step")), number(metric.get("value")))
            if all(map(math.isfinite, point)):
                key = (_label(metric.get("name", "")), str(metric.get("embedder", "")))
                points.setdefault(key, []).append(point)
    return [
        Chart(name.capitalize(), "", [Series(embedder or "value", 3, *np.array(sorted(values)).T)])
        for (name, embedder), values in points.items()
        if len(values) > 1
    ]


def _figure(chart: Chart, svg: str) -> str:
    legend = "".join(
        f'<li><i style="background: var(--series-{series.color})"></i>{_escape(series.label)} '
        f"<b>{_last(series):.4g}</b></li>"
        for series in chart.series
    )
    note = f'<p class="quiet">{_escape(chart.note)}</p>' if chart.note else ""
    return f'<figure class="card"><h3>{_escape(chart.title)}</h3><ul class="legend">{legend}</ul>{svg}{note}</figure>'


def _last(series: Series) -> float:
    finite = series.values[np.isfinite(series.values)]
    return float(finite[-1]) if len(finite) else math.nan
