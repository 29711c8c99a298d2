"""One page about a training run: what was trained, how it went, what came out, and with which recipe.

`write_report` reads the run directory (metrics.jsonl, recipe.yaml, samples/) and writes `report.html`, which needs no
other file and no network. It may be called at any time, also on a run that was killed: what is missing or half-written
is left out.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ganzoo.errors import MissingPackageError
from ganzoo.training.report.curves import Chart, Series, charts_of, draw, number, smoothing_window
from ganzoo.training.report.samples import MAX_SAMPLES, read_text, show_samples
from ganzoo.training.report.style import SCRIPT, STYLE, escape, section, step_name
from ganzoo.training.trackers import duration, read_rows
from ganzoo.utils.files import write_text

Row = dict[str, Any]

_MAX_STEPS = 8  # of one warning


def write_report(run_dir: str | Path) -> Path:
    """Writes `report.html` into a run directory.

    Args:
        run_dir: The directory of a run, finished or not.

    Returns:
        The path of the page.

    Raises:
        GanzooError: It cannot be written (no permission, disk full).
    """
    run_dir = Path(run_dir)
    rows = read_rows(run_dir / "metrics.jsonl")
    recipe = read_text(run_dir / "recipe.yaml")
    events: dict[str, list[Row]] = {}
    for row in rows:
        events.setdefault(str(row.get("event", "train")), []).append(row)
    title = _title(run_dir, recipe, events)
    sections = [
        _header(title, rows, recipe, events),
        show_samples(run_dir, events.get("samples", [])),
        _evaluation(events.get("evaluation", [])),
        _warnings(events.get("warning", [])),
        _curves(rows, events.get("evaluation", [])),
        _environment(events.get("start", [])),
        section("Recipe", f'<div class="card"><pre>{escape(recipe)}</pre></div>') if recipe else "",
    ]
    path = run_dir / "report.html"
    write_text(path, _page(title, "\n".join(filter(None, sections))))
    return path


def _page(title: str, body: str) -> str:
    script = f"<script>{SCRIPT}</script>" if 'class="player"' in body else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · training report</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n{script}\n</body>\n</html>\n"
    )


# What the run was, and how far it got


def _title(run_dir: Path, recipe: str, events: dict[str, list[Row]]) -> str:
    named = [row["recipe"] for row in events.get("start", []) if isinstance(row.get("recipe"), str)]
    name = named[-1] if named else _recipe_value(recipe, "name")
    return str(name or run_dir.resolve().name)


def _recipe_value(recipe: str, *keys: str) -> Any:
    from ganzoo.utils.safe_yaml import load_yaml

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
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in _facts(recipe, events)
    )
    tiles = f'<dl class="tiles">{tiles}</dl>' if tiles else '<p class="quiet">Nothing has been logged yet.</p>'
    return (
        f'<header>\n<p class="quiet">ganzoo training report</p>\n<h1>{escape(title)}</h1>\n'
        f"<p>{''.join(pills)}</p>\n</header>\n{tiles}"
    )


def _status(rows: list[Row]) -> str:
    turns = [row for row in rows if row.get("event") in ("start", "resume", "end")]
    if not turns or turns[-1]["event"] != "end":
        return '<span class="pill">not finished</span>'
    reason = turns[-1].get("reason", turns[-1].get("status", "finished"))
    kind = "good" if reason == "finished" else "warn"
    return f'<span class="pill {kind}">{escape(reason)}</span>'


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
        f"<div><dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(_short(value))}</dd></div>"
        for key, value in entries.items()
    )
    return section("Environment", f'<div class="card"><dl class="facts">{facts}</dl></div>')


def _short(value: Any) -> str:
    """Writes a logged value for people: 2,765,568, 0.1235, "text", or compact JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 10**15 else "very large"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


# What was measured, and what was warned of


def _metrics(row: Row) -> list[Row]:
    metrics = row.get("metrics")
    return [metric for metric in metrics if isinstance(metric, dict)] if isinstance(metrics, list) else []


def _evaluation(rows: list[Row]) -> str:
    rows = [row for row in rows if _metrics(row)]
    if not rows:
        return ""
    latest, earlier = rows[-1], rows[-2 : -2 - MAX_SAMPLES : -1]
    parts = [f'<div class="card"><p class="quiet">{_step_of(latest)}</p>{_metrics_table(_metrics(latest))}']
    if any(metric.get("floor") is not None for metric in _metrics(latest)):
        parts.append('<p class="quiet">Floor: the same measure on real samples in place of generated ones.</p>')
    if earlier:
        tables = "".join(f'<p class="quiet">{_step_of(row)}</p>{_metrics_table(_metrics(row))}' for row in earlier)
        parts.append(f"<details><summary>Earlier evaluations</summary>{tables}</details>")
    return section("Evaluation", "".join(parts) + "</div>")


def _step_of(row: Row) -> str:
    step = number(row.get("step"))
    return f"At {step_name(step)}" if math.isfinite(step) else ""


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
    ("Settings", "parameters", False),
)


def _metrics_table(metrics: list[Row]) -> str:
    columns = [column for column in _COLUMNS if any(metric.get(column[1]) not in (None, {}) for metric in metrics)]
    head = "".join(f'<th class="{"number" if right else ""}">{name}</th>' for name, _, right in columns)
    body = ""
    for metric in metrics:
        cells = ((key, right, metric.get(key)) for _, key, right in columns)
        body += "<tr>" + "".join(
            f'<td class="{"number" if right else _CLASSES.get(key, "")}{" value" if key == "value" else ""}">'
            f"{escape('' if value is None else _CELLS.get(key, _short)(value))}</td>"
            for key, right, value in cells
        )
        body += "</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _label(name: Any) -> str:
    return str(name).replace("_", " ")


def _settings(values: Any) -> str:
    pairs = values.items() if isinstance(values, dict) else ()
    return ", ".join(f"{_label(name)} {_short(value)}" for name, value in pairs)


_CELLS = {"name": _label, "parameters": _settings}
_CLASSES = {"embedder": "long", "parameters": "long"}


def _warnings(rows: list[Row]) -> str:
    if not rows:
        return ""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(str(row.get("name", "warning")), []).append(row)
    items = "".join(
        f"<li><b>{escape(name.replace('-', ' ').capitalize())}</b> "
        f'<span class="quiet">{_steps_of(found)}</span><p>{escape(found[-1].get("message", ""))}</p></li>'
        for name, found in by_name.items()
    )
    return section("Warnings", f'<ul class="warnings">{items}</ul>', name="warnings")


def _steps_of(rows: list[Row]) -> str:
    """Writes when a warning was given: "at step 100, 1,200 and 2,300"."""
    steps = [f"{step:,.0f}" for step in (number(row.get("step")) for row in rows) if math.isfinite(step)]
    if len(steps) > _MAX_STEPS:
        steps = [*steps[: _MAX_STEPS - 1], f"{len(steps) - _MAX_STEPS + 1} more times, last at {steps[-1]}"]
    return f"at step {' and '.join(filter(None, (', '.join(steps[:-1]), steps[-1])))}" if steps else ""


# How it went: the curves


def _curves(rows: list[Row], evaluations: list[Row]) -> str:
    logged = [_with_perplexity(row) for row in rows if row.get("event", "train") in ("train", "validation")]
    charts = charts_of(logged) + _metric_charts(evaluations)
    if not charts:
        return ""
    phases = [(number(row.get("step")), str(row.get("phase", ""))) for row in logged]
    changes = [after for before, after in itertools.pairwise(phases) if before[1] != after[1] and after[0] > 0]
    last_step = max(float(np.nanmax(series.steps)) for chart in charts for series in chart.series)
    starts = [step for step, _ in changes]
    try:
        figures = "\n".join(_figure(chart, draw(chart, last_step, starts)) for chart in charts)
    except MissingPackageError as error:
        figures = "\n".join(_figure(chart, "") for chart in charts)
        return section("Curves", f'<p class="quiet">{escape(error)}.</p><div class="charts">{figures}</div>')
    notes = []
    if any(smoothing_window(series) > 1 for chart in charts for series in chart.series):
        notes.append("Faint: as logged. Bold: moving average.")
    if changes:
        named = ", ".join(f"{escape(phase)} from {step_name(step)}" for step, phase in changes[:MAX_SAMPLES])
        notes.append(f"Dashed: {named}.")
    notes += [_early_stop(row) for row in rows if row.get("event") == "early stop"][:MAX_SAMPLES]
    note = f'<p class="quiet">{" ".join(notes)}</p>' if notes else ""
    return section("Curves", f'{note}<div class="charts">{figures}</div>')


def _with_perplexity(row: Row) -> Row:
    """Adds what a held-out loss in nats per token means; only language models log one."""
    loss = number(row.get("validation/loss"))
    return {**row, "validation/perplexity": math.exp(loss)} if loss < 100 else row


def _early_stop(row: Row) -> str:
    best, step = number(row.get("validation/best")), number(row.get("step"))
    return f"Stopped early: {escape(row.get('phase', ''))}, at {step_name(step)}, best held-out loss {best:.4g}."


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
        f'<li><i style="background: var(--series-{series.color})"></i>{escape(series.label)} '
        f"<b>{_last(series):.4g}</b></li>"
        for series in chart.series
    )
    note = f'<p class="quiet">{escape(chart.note)}</p>' if chart.note else ""
    return f'<figure class="card"><h3>{escape(chart.title)}</h3><ul class="legend">{legend}</ul>{svg}{note}</figure>'


def _last(series: Series) -> float:
    finite = series.values[np.isfinite(series.values)]
    return float(finite[-1]) if len(finite) else math.nan
