"""report.html: complete, well-formed, self-contained, safe with hostile input, and never in the way of a run."""

import base64
import builtins
import io
import json
import math
import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ganzoo.errors import GanzooError
from ganzoo.training.report.curves import Chart, Series, charts_of, draw, number, smooth, thin
from ganzoo.training.report.page import write_report
from ganzoo.training.trackers import JsonlTracker

VOID = {"meta", "link", "br", "hr", "img", "input", "source"}
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&$x$ \ud800"


class Page(HTMLParser):
    """Parses a page, insisting that every element is closed in its turn."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.tags, self.attributes, self.scripts, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.stack == [], "left open"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-1:]}"
        self.stack.pop()

    def handle_data(self, data):
        (self.scripts if self.stack[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, *names):
        return [value for name, value in self.attributes if name in names]


def page_of(run_dir):
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    ids = page.values("id")
    assert len(ids) == len(set(ids)), "ids clash"
    for link in page.values("src", "href", "xlink:href", "action", "data", "poster"):
        assert link.startswith(("data:", "#")), f"not self-contained: {link[:80]}"
    assert "url(http" not in path.read_text() and "@import" not in path.read_text()
    assert not [name for name, _ in page.attributes if name.startswith("on")], "an event handler got in"
    assert len(page.scripts) <= 1 and "alert" not in "".join(page.scripts)
    return page


def train_row(step, **changes):
    return {
        "event": "train",
        "step": step,
        "phase": "adversarial",
        "samples_seen": step * 64,
        "seconds": step * 0.5,
        "discriminator/loss": 1.0 + 0.1 * math.sin(step),
        "generator/loss": 0.7,
        "discriminator/loss_real": 0.4,
        "discriminator/grad_norm": 2.0,
        "generator/grad_norm": 0.1,
        "discriminator/real_accuracy": 0.9,
        "discriminator/fake_accuracy": 0.8,
        "generator/diversity": 0.4,
        "real/diversity": 0.5,
        "generator/learning_rate": 2e-4,
        "steps_per_second": 2.0,
        "samples_per_second": 128.0,
        **changes,
    }


METRIC = {
    "name": "frechet_distance",
    "value": 1.25,
    "num_real": 1797,
    "num_generated": 10_000,
    "embedder": "digit-classifier",
    "dataset": "digits",
    "split": "test",
    "seed": 7,
    "parameters": {},
    "floor": 0.4321,
}


def save_grid(path, size=16, value=128):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)


def log(run_dir, *rows):
    tracker = JsonlTracker(run_dir / "metrics.jsonl")
    for row in rows:
        tracker.log(row)
    tracker.close()


@pytest.fixture
def run_dir(tmp_path):
    """A small run as the trainer leaves it."""
    run_dir = tmp_path / "my-run"
    rows = [{"event": "start", "recipe": "dcgan-digits", "device": "cpu", "generator_parameters": 3_576_704}]
    for step in range(10, 310, 10):
        rows.append(train_row(step, phase="warm-up" if step < 100 else "adversarial"))
        if step % 100 == 0:
            save_grid(run_dir / f"samples/step-{step:08d}.png", value=step % 256)
            rows.append({"event": "samples", "step": step, "file": f"samples/step-{step:08d}.png"})
            rows.append(
                {"event": "evaluation", "step": step, "metrics": [{**METRIC, "value": METRIC["value"] + (300 - step)}]}
            )
    rows.insert(
        20, {"event": "warning", "step": 180, "name": "discriminator-saturation", "message": "It always wins."}
    )
    rows.append({"event": "end", "step": 300, "reason": "finished"})
    log(run_dir, *rows)
    (run_dir / "recipe.yaml").write_text("# digits\nname: dcgan-digits\ntraining:\n  steps: 500\n")
    return run_dir


def test_a_whole_run(run_dir):
    pytest.importorskip("matplotlib")
    page = page_of(run_dir)
    for words in (
        "dcgan-digits",
        "finished 1 warning",
        "Steps 300 of 500 in the recipe",
        "Real samples seen 19,200",
        "Duration 2 min 30 s",
        "128 samples/s 2 steps/s",
        "Device cpu",
        "generator parameters 3,576,704",
        "Discriminator saturation at step 180 It always wins.",
        "frechet distance 1.25 0.4321 1,797 10,000 digit-classifier digits test 7",
        "Earlier evaluations At step 200",
        "Dashed: adversarial from step 100.",
        "# digits name: dcgan-digits training: steps: 500",
    ):
        assert words in page.text, words
    for title in (
        "Losses",
        "Gradient norms",
        "Discriminator accuracy",
        "Diversity",
        "Learning rates",
        "Speed",
        "Discriminator terms",
        "Frechet distance",
    ):
        assert page.values("aria-label").count(title) == 1, title
    assert page.tags.count("svg") == 8
    assert page.values("alt") == ["step 100", "step 200", "step 300", "", ""]
    first = base64.b64decode(page.values("src")[0].removeprefix("data:image/png;base64,"))
    assert np.array(Image.open(io.BytesIO(first)))[0, 0] == 100


def test_the_picture_draws_the_numbers(run_dir):
    pytest.importorskip("matplotlib")
    steps = np.arange(5.0)
    svg = draw(Chart("x", "", [Series("y", 3, steps, np.array([0.0, 1.0, np.nan, 2.0, 4.0]))]), last_step=4)
    line = re.search(r'd="([^"]*)"[^>]*stroke: var\(--series-3\)', svg)[1]
    points = np.array([[float(x) for x in point.split()] for point in re.findall(r"[\d.]+ [\d.]+", line)])
    assert len(points) == 4 and line.count("M") == 2, "the gap is a gap"
    assert np.allclose(np.diff(points[:, 0]) / (points[1, 0] - points[0, 0]), [1, 2, 1], atol=0.01)
    assert np.allclose(np.diff(points[:, 1]) / (points[1, 1] - points[0, 1]), [1, 1, 2], atol=0.01)
    assert "#0" not in re.sub(r'clip-path="[^"]*"|xlink:href="[^"]*"', "", svg), "a colour that ignores the page's"


def test_a_spike_does_not_flatten_the_run():
    pytest.importorskip("matplotlib")
    values = np.sin(np.arange(60.0))
    values[30] = 1e4
    svg = draw(Chart("x", "", [Series("y", 3, np.arange(60.0), values)]), last_step=60)
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])
    line = re.search(r'd="([^"]*)"[^>]*stroke: var\(--series-3\)', svg)[1]
    usual = [float(y) for _, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", line) if 0 <= float(y) <= height]
    assert len(usual) >= 59 and max(usual) - min(usual) > height / 3


def test_hostile_text_stays_text(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.txt").write_text(HOSTILE, errors="replace")
    rows = [
        {"event": "start", "recipe": HOSTILE, "device": HOSTILE, HOSTILE: HOSTILE, "data": {HOSTILE: [HOSTILE]}},
        train_row(1, **{f"generator/{HOSTILE}": 1.0, HOSTILE: 2.0}),
        train_row(2, phase=HOSTILE),
        {"event": "warning", "step": 2, "name": HOSTILE, "message": HOSTILE},
        {"event": "samples", "step": 2, "file": "samples/a.txt"},
        *(
            {"event": "evaluation", "step": i, "metrics": [{**METRIC, "name": HOSTILE, "split": HOSTILE}]}
            for i in (1, 2)
        ),
        {"event": "end", "reason": HOSTILE},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(HOSTILE, errors="replace")
    page = page_of(tmp_path)
    assert page.tags.count("script") == 0 and "img" not in page.tags
    assert page.text.count("<script>alert(1)</script>") >= 12


@pytest.mark.parametrize("lines", ["", '{"event":"start","recipe":"my-gan"}\n', '{"event":"train","st'])
def test_a_run_that_has_hardly_begun(tmp_path, lines):
    (tmp_path / "metrics.jsonl").write_text(lines)
    page = page_of(tmp_path)
    assert "Nothing has been logged yet." in page.text and "not finished" in page.text
    assert ("my-gan" if "my-gan" in lines else tmp_path.name) in page.text
    assert "Curves" not in page.text and "script" not in page.tags


def test_an_empty_folder_and_a_second_report(tmp_path):
    page_of(tmp_path)
    page_of(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_missing_and_half_written_files_are_left_out(run_dir):
    (run_dir / "samples/step-00000100.png").unlink()
    whole = (run_dir / "samples/step-00000200.png").read_bytes()
    (run_dir / "samples/step-00000200.png").write_bytes(whole[: len(whole) - 25])
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"event":"samples","step":310,"file":"samples"}\n{"event":"train","step":3')
    (run_dir / "recipe.yaml").write_bytes(b"\xff\xfe: [")
    page = page_of(run_dir)
    assert page.values("alt") == ["step 300"] and "Recipe" in page.text


def test_nothing_outside_the_run_is_shown(run_dir):
    outside = run_dir.parent / "secret.txt"
    outside.write_text("the secret")
    (run_dir / "link.txt").symlink_to(outside)
    (run_dir / "loop.txt").symlink_to(run_dir / "loop.txt")
    names = [
        "../secret.txt",
        str(outside),
        "link.txt",
        "loop.txt",
        "a\0b.txt",
        "x" * 5000 + ".txt",
        "samples/../../secret.txt",
    ]
    log(run_dir, *({"event": "samples", "step": 1, "file": name} for name in names))
    assert "the secret" not in page_of(run_dir).text


def test_without_matplotlib_the_pictures_and_numbers_remain(run_dir, monkeypatch):
    real_import = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    monkeypatch.setattr("importlib.import_module", no_matplotlib)
    page = page_of(run_dir)
    assert "svg" not in page.tags and page.tags.count("img") == 5
    assert "needs the package 'matplotlib'" in page.text and "discriminator 2 generator 0.1" in page.text


def test_grids_are_capped_evenly_and_reduced(tmp_path):
    rows = []
    for step in range(100):
        save_grid(tmp_path / f"samples/{step}.png", size=1500 if step == 99 else 8)
        rows.append({"event": "samples", "step": step, "file": f"samples/{step}.png"})
    log(tmp_path, *rows)
    page = page_of(tmp_path)
    steps = [int(alt.removeprefix("step ")) for alt in page.values("alt") if alt]
    assert len(steps) == 24 and steps[0] == 0 and steps[-1] == 99
    assert set(np.diff(steps)) <= {4, 5}
    assert page.values("max") == ["23"]
    pictures = [base64.b64decode(source.partition(",")[2]) for source in page.values("src")]
    assert Image.open(io.BytesIO(pictures[23])).size == (1024, 1024)


def test_audio_and_text_samples(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "samples").mkdir()
    for step in (1, 2):
        soundfile.write(tmp_path / f"samples/{step}.wav", np.zeros(100), 16_000)
        (tmp_path / f"samples/{step}.txt").write_text(f"story {step} <i>")
        log(
            tmp_path,
            *({"event": "samples", "step": step, "file": f"samples/{step}.{kind}"} for kind in ("wav", "txt")),
        )
    (tmp_path / "samples/3.wav").write_bytes(b"no audio")
    log(tmp_path, {"event": "samples", "step": 3, "file": "samples/3.wav"})
    page = page_of(tmp_path)
    assert page.tags.count("audio") == 2
    sound = base64.b64decode(page.values("src")[0].removeprefix("data:audio/wav;base64,"))
    assert soundfile.read(io.BytesIO(sound))[1] == 16_000
    assert "Step 1 Step 2 story 1 <i> story 2 <i>" in page.text


def test_a_clock_that_starts_again_is_added_up(tmp_path):
    log(tmp_path, *(train_row(step, seconds=seconds) for step, seconds in enumerate([10, 100, 5, 50, 20])))
    assert "Duration 2 min 50 s" in page_of(tmp_path).text


def test_a_repeated_warning_is_one_entry(tmp_path):
    log(tmp_path, *({"event": "warning", "step": step, "name": "x-y", "message": f"no {step}"} for step in range(20)))
    page = page_of(tmp_path)
    assert "X y at step 0, 1, 2, 3, 4, 5, 6 and 13 more times, last at 19 no 19" in page.text
    assert "20 warnings" in page.text


def test_any_garbage_gives_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr("ganzoo.training.report.page.draw", lambda *args: "")  # drawing has its own test, below
    generator = random.Random(0)
    keys = [*train_row(1), *METRIC, "metrics", "file", "event", "reason", "recipe", "device", "message"]
    events = ["start", "resume", "train", "samples", "evaluation", "warning", "end", 3, None]
    values = [
        None,
        True,
        0,
        -1,
        5,
        1e308,
        -1e308,
        10**400,
        "NaN",
        "x",
        "",
        [],
        {},
        [1],
        [{}],
        [{"value": "x"}],
        {"a": [None]},
    ]
    for _ in range(300):
        rows = [
            {key: generator.choice(values) for key in generator.sample(keys, 8)} | {"event": generator.choice(events)}
            for _ in range(generator.randrange(12))
        ]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "recipe.yaml").write_text(json.dumps(generator.choice(values)))
        page_of(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [0.0, 0.0],
        [-1.0, -1.0],
        [1e308, -1e308],
        [math.nan, 1.0],
        [math.inf, 1.0],
        [1e-300, 1e-320],
        [1.0] * 300 + [math.nan] * 300,
        [0.0] * 300 + [1e30],
    ],
)
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_any_numbers_can_be_drawn(values, scale):
    pytest.importorskip("matplotlib")
    series = Series("y", 0, np.arange(len(values), dtype=float), np.array(values))
    Page(draw(Chart("x", "", [series], scale), last_step=len(values)))


def test_thin_keeps_every_spike():
    values = np.sin(np.arange(20_000) / 500)
    values[[1234, 15_000]] = 50, -50
    steps, kept = thin(np.arange(20_000.0), values, points=1000)
    assert len(kept) <= 1004 and steps[0] == 0 and steps[-1] == 19_999
    assert (kept.max(), kept.min()) == (50, -50) and np.all(np.diff(steps) > 0)
    assert np.array_equal(values[steps.astype(int)], kept)


def test_smooth_is_a_weighted_mean_of_what_is_finite():
    values = np.array([1.0, np.nan, 3.0, 4.0, 10.0, np.inf, np.nan, np.nan, np.nan, np.nan])
    weights = np.hanning(5)[1:-1]
    for index, got in enumerate(smooth(values, 3)):
        pairs = [(weights[k + 1], values[index + k]) for k in (-1, 0, 1) if 0 <= index + k < len(values)]
        pairs = [(weight, value) for weight, value in pairs if np.isfinite(value)]
        wanted = sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) if pairs else math.nan
        assert got == pytest.approx(wanted, nan_ok=True)
    assert np.allclose(smooth(np.full(100, 2.5), 9), 2.5)


def test_every_logged_number_finds_a_chart():
    rows = [train_row(step, **{"generator/r1": 1.0, "temperature": 2.0, "note": "text"}) for step in (1, 2)]
    charts = {chart.title: [series.label for series in chart.series] for chart in charts_of(rows)}
    assert charts["Generator terms"] == ["r1"] and charts["Other"] == ["temperature"]
    assert charts["Losses"] == ["discriminator", "generator"] and charts["Diversity"] == ["real", "generated"]
    assert charts_of([{"event": "train"}, {"step": 1, "x": "y"}]) == []


@pytest.mark.parametrize(("value", "wanted"), [(1, 1.0), ("-Infinity", -math.inf), (None, math.nan), (True, math.nan)])
def test_number(value, wanted):
    assert number(value) == pytest.approx(wanted, nan_ok=True)
    assert math.isnan(number([])) and math.isnan(number(10**400)) and math.isnan(number("x"))


def test_thousands_of_rows_make_a_page_of_bearable_size(tmp_path):
    pytest.importorskip("matplotlib")
    generator = random.Random(0)
    rows = [train_row(step, **{"generator/loss": generator.random()}) for step in range(20_000)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page_of(tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_a_page_that_cannot_be_written_is_one_sentence_and_leaves_nothing(tmp_path):
    (tmp_path / "report.html" / "mine").mkdir(parents=True)
    with pytest.raises(GanzooError, match=r"cannot write .*report\.html: Is a directory"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
