"""The curves of a training report: logged rows -> thinned and smoothed series -> SVG.

The pictures carry no colours of their own: they name CSS variables (`--muted`, `--line`, `--series-0` ...), so that
the page they are put into decides, in the light and in the dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ganzoo.errors import require

NUM_COLORS = 8
_POINTS = 1000
_SMOOTH_FRACTION = 50  # the moving average spans this part of a curve's rows
_COLORS = {"#010101": "var(--muted)", "#020202": "var(--line)"} | {
    f"#0a0b0{index}": f"var(--series-{index})" for index in range(NUM_COLORS)
}


class Series(NamedTuple):
    """One curve: `steps` and `values` are float arrays of the same length.

    A NaN value is a gap in a curve that is one; where the step is NaN as well, another curve begins.
    """

    label: str
    color: int
    steps: np.ndarray
    values: np.ndarray


class Chart(NamedTuple):
    """A titled picture of a few series that share an axis."""

    title: str
    note: str
    series: list[Series]
    scale: str = "linear"
    limits: tuple[float, float] | None = None


class Template(NamedTuple):
    """A chart the report knows by name: which logged values it shows and how to read them."""

    title: str
    note: str
    series: tuple[tuple[str, str, int], ...]  # (key of the row, label, colour)
    scale: str = "linear"
    limits: tuple[float, float] | None = None


_DISCRIMINATOR, _GENERATOR, _REAL = 0, 1, 2
TEMPLATES = (
    Template(
        "Losses",
        "The two pull against each other: neither has to fall, but neither should run away.",
        (("discriminator/loss", "discriminator", _DISCRIMINATOR), ("generator/loss", "generator", _GENERATOR)),
    ),
    Template(
        "Gradient norms",
        "Logarithmic. A generator's norm that drops by decades has stopped learning.",
        (
            ("discriminator/grad_norm", "discriminator", _DISCRIMINATOR),
            ("generator/grad_norm", "generator", _GENERATOR),
        ),
        scale="log",
    ),
    Template(
        "Discriminator accuracy",
        "Near 1 on both: it always wins. Near 0.5 on both: it can no longer tell them apart.",
        (
            ("discriminator/real_accuracy", "on real", _REAL),
            ("discriminator/fake_accuracy", "on generated", _GENERATOR),
        ),
        limits=(-0.03, 1.03),
    ),
    Template(
        "Diversity",
        "Mean distance between the samples of a batch, of one class where there are classes. Far below the real line: the samples are "
        "alike.",
        (("real/diversity", "real", _REAL), ("generator/diversity", "generated", _GENERATOR)),
    ),
    Template(
        "Reward",
        "What a token earns on average: how far the generator gets with the discriminator of the moment, which learns too.",
        (("generator/reward", "mean reward", _GENERATOR),),
    ),
    Template(
        "Negative log-likelihood",
        "Nats per token. Held-out above training, and rising: it learns by heart. Of its own samples: the entropy.",
        (
            ("generator/loss_likelihood", "training text", _GENERATOR),
            ("validation/loss", "held-out text", _REAL),
            ("generator/nll_own", "own samples", 3),
        ),
    ),
    Template(
        "Perplexity",
        "Logarithmic. The number of equally probable tokens that would be as hard to guess: e to the power of the above.",
        (("generator/perplexity", "training text", _GENERATOR), ("validation/perplexity", "held-out text", _REAL)),
        scale="log",
    ),
    Template(
        "Distinct tokens and sentences",
        "Share of a batch that is not a repetition. Far below the real lines: the generator repeats itself.",
        (
            ("real/distinct_tokens", "tokens, real", _REAL),
            ("generator/distinct_tokens", "tokens, generated", _GENERATOR),
            ("real/distinct_sentences", "sentences, real", 3),
            ("generator/distinct_sentences", "sentences, generated", 4),
        ),
        limits=(-0.03, 1.03),
    ),
    Template(
        "Learning rates",
        "",
        (
            ("discriminator/learning_rate", "discriminator", _DISCRIMINATOR),
            ("generator/learning_rate", "generator", _GENERATOR),
        ),
    ),
    Template("Speed", "Real samples a second.", (("samples_per_second", "samples/s", 3),)),
)
# What no chart has asked for, by the beginning of its name.
_REST = (
    ("Discriminator terms", "discriminator/"),
    ("Generator terms", "generator/"),
    ("Held-out data", "validation/"),
    ("Other", ""),
)
# Numbers of a train row that place it rather than measure anything, or that the speed chart already says.
_NOT_CURVES = {"step", "samples_seen", "seconds", "steps_per_second", "validation/best"}


def number(value: Any) -> float:
    """Reads a logged value as a float; NaN for what is none (null, "Infinity" becomes infinity)."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def charts_of(rows: Iterable[Mapping[str, Any]]) -> list[Chart]:
    """Sorts everything numeric in the train rows into charts: the known ones first, then the rest by network."""
    rows = [row for row in rows if math.isfinite(number(row.get("step")))]
    keys = {key: None for row in rows for key in row if key not in _NOT_CURVES}
    columns = {key: _column(rows, key) for key in keys}
    columns = {key: column for key, column in columns.items() if np.isfinite(column[1]).any()}
    charts = []
    for title, note, wanted, scale, limits in TEMPLATES:
        series = [Series(label, color, *columns.pop(key)) for key, label, color in wanted if key in columns]
        charts.append(Chart(title, note, series, scale, limits))
    for title, prefix in _REST:
        rest = sorted(key for key in columns if key.startswith(prefix))[:NUM_COLORS]
        series = [Series(key.removeprefix(prefix), i, *columns.pop(key)) for i, key in enumerate(rest)]
        charts.append(Chart(title, "", series))
    return [chart for chart in charts if chart.series]


def _column(rows: list[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have a key: what is logged now and then is a line, not a row of gaps.

    Between two phases there is a gap: a loss of one objective does not go on as that of another.
    """
    points: list[tuple[float, float]] = []
    last = None
    for row in rows:
        if key not in row:
            continue
        if points and row.get("phase", last) != last:
            points.append((math.nan, math.nan))
        last = row.get("phase", last)
        points.append((number(row["step"]), number(row[key])))
    steps, values = np.array(points, dtype=float).T
    return steps, values


def smoothing_window(series: Series) -> int:
    """Number of rows a curve is averaged over; below 2 it is drawn as logged."""
    return len(series.values) // _SMOOTH_FRACTION


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average over `window` values, NaN where none is finite.

    Weighted by a Hann window, in which a single spike makes a soft hill, not a block.
    """
    finite = np.isfinite(values)
    kernel = np.hanning(min(window, len(values)) + 2)[1:-1]
    sums = np.convolve(np.where(finite, values, 0.0), kernel, mode="same")
    counts = np.convolve(finite.astype(float), kernel, mode="same")
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 1e-9)


def thin(steps: np.ndarray, values: np.ndarray, points: int = _POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Keeps about `points` of a longer curve: the lowest and highest of each stretch, so that no spike is lost."""
    if len(values) <= points:
        return steps, values
    kept: set[int] = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), points // 2):
        finite = stretch[np.isfinite(values[stretch])]
        if len(finite):
            kept |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
        else:
            kept.add(int(stretch[0]))  # keeps the gap a gap
    indices = np.array(sorted(kept))
    return steps[indices], values[indices]


def draw(chart: Chart, last_step: float, boundaries: Iterable[float] = ()) -> str:
    """Draws a chart as an `<svg>` element to be put into a page.

    Args:
        chart: What to draw.
        last_step: Where the step axis ends: the same for all charts of a run, so that they can be read side by side.
        boundaries: Steps at which another phase begins, drawn as dashed lines; every second phase is shaded.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    require("matplotlib", extra="train", purpose="Drawing the curves of a report")
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": ascii(chart.title), "text.parse_math": False, "font.size": 10}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.6, 2.7), layout="constrained")  # no pyplot: no window system, no global state
        axes = figure.subplots()
        for series in chart.series:
            for stretch in _stretches(series):
                _draw_series(axes, stretch, chart.scale)
        _style_axes(axes, chart)
        end = max(last_step, 1) * 1.01
        axes.set_xlim(0, end)
        boundaries = list(boundaries)
        for step in boundaries:
            axes.axvline(step, color="#010101", linewidth=0.8, linestyle=(0, (3, 3)))
        for start, stop in zip(boundaries[::2], [*boundaries[1::2], end], strict=False):
            axes.axvspan(start, stop, color="#020202", alpha=0.35, linewidth=0, zorder=0)
        stream = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _clean_svg(stream.getvalue(), chart.title)


def _stretches(series: Series) -> list[Series]:
    """The parts of a curve, each of which is smoothed by itself."""
    starts = np.flatnonzero(np.isnan(series.steps))
    bounds = zip([0, *(starts + 1)], [*starts, len(series.steps)], strict=True)
    return [series._replace(steps=series.steps[a:b], values=series.values[a:b]) for a, b in bounds if a < b]


def _draw_series(axes: Any, series: Series, scale: str) -> None:
    values = _drawable(series.values, scale)
    color = f"#0a0b0{series.color % NUM_COLORS}"
    window = smoothing_window(series)
    if window < 2:
        axes.plot(
            series.steps, values, color=color, linewidth=1.5, marker="o" if len(values) < 20 else "", markersize=3
        )
        return
    axes.plot(*thin(series.steps, values), color=color, linewidth=0.7, alpha=0.3, zorder=2)
    average = np.exp(smooth(np.log(values), window)) if scale == "log" else smooth(values, window)
    every = max(1, len(values) // _POINTS)
    axes.plot(series.steps[::every], average[::every], color=color, linewidth=1.6, zorder=3)


def _drawable(values: np.ndarray, scale: str) -> np.ndarray:
    """Puts NaN for what an axis cannot show; beyond 1e±30, where axes overflow, nothing is left to be read anyway."""
    shown = np.isfinite(values) & ((values > 0) | (scale != "log"))
    return np.where(shown, np.clip(values, 1e-30 if scale == "log" else -1e30, 1e30), np.nan)


def _style_axes(axes: Any, chart: Chart) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_axisbelow(True)
    axes.grid(True, color="#020202", linewidth=0.7)
    axes.tick_params(which="both", colors="#010101", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#020202")
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    lower, upper = chart.limits or _limits(chart)
    if chart.scale == "log":
        axes.set_yscale("log")
        subs = (1.0,) if upper / lower > 50 else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylim(lower, upper)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


def _limits(chart: Chart) -> tuple[float, float]:
    """Chooses the value axis without the most extreme rows if they lie far off: a spike shall not flatten a run."""
    log = chart.scale == "log"
    values = np.concatenate([_drawable(series.values, chart.scale) for series in chart.series])
    values = values[np.isfinite(values)]
    if not len(values):
        return (0.1, 1.0) if log else (0.0, 1.0)
    values = np.log(values) if log else values
    lower, upper = values.min(), values.max()
    usual_lower, usual_upper = np.quantile(values, [0.02, 0.98])
    usual = usual_upper - usual_lower
    if upper - lower > 4 * usual > 0:
        lower, upper = max(lower, usual_lower - usual / 2), min(upper, usual_upper + usual / 2)
    if not log and lower >= 0 and (lower < 0.5 * upper or lower == upper):
        lower = 0.0  # a positive quantity is read best from zero
    margin = 0.06 * (upper - lower) or 0.05 * abs(upper) or 1.0
    lower, upper = lower - (margin if lower else 0.0), upper + margin
    return (math.exp(lower), math.exp(upper)) if log else (float(lower), float(upper))


def _round_path(match: re.Match[str]) -> str:
    """Cuts a path's coordinates to a hundredth of a point, finer than anybody sees: a third of the page's weight."""
    return re.sub(r"(\.\d\d)\d+", r"\1", match[0])


def _clean_svg(svg: str, title: str) -> str:
    """Makes matplotlib's file an element of a page: no prolog, size, style sheet, fonts or clashing ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;?", "", re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg))
    svg = re.sub(r' d="[^"]*"', _round_path, svg)
    for color, variable in _COLORS.items():
        svg = svg.replace(color, variable)
    used = set(re.findall(r"#([\w-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    view_box = re.search(r'viewBox="[\d. ]+"', svg)[0]
    label = re.sub(r"[^\w ]", " ", title)
    return f'<svg {view_box} role="img" aria-label="{label}"' + svg[svg.index(">") :].replace("\n", "")
