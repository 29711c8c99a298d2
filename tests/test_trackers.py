"""metrics.jsonl, TensorBoard and the progress bar."""

import builtins
import io
import json
import math
import os
import re
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.errors import GanzooError, MissingPackageError
from ganzoo.training.trackers import JsonlTracker, ProgressBar, Trackers, create_trackers, duration, read_rows


def strict_rows(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_each_row_is_one_line_and_readable_at_once(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    tracker = JsonlTracker(path)
    rows = [{"event": "start", "recipe": "größe\n2"}, {"event": "train", "step": 1, "generator/loss": 0.5}]
    for count, row in enumerate(rows, start=1):
        tracker.log(row)
        assert strict_rows(path) == rows[:count]
    tracker.close()
    again = JsonlTracker(path)
    again.log({"event": "end"})
    again.close()
    assert read_rows(path) == [*rows, {"event": "end"}]


def test_what_json_cannot_say_is_still_valid_json(tmp_path):
    tracker = JsonlTracker(tmp_path / "metrics.jsonl")
    tracker.log(
        {
            "nan": math.nan,
            "inf": [math.inf, -math.inf],
            "tensor": torch.tensor(math.nan),
            "numpy": {"a": np.float32(0.5), "b": np.int64(3), "c": np.float64(math.inf)},
            "path": tmp_path,
        }
    )
    (row,) = strict_rows(tmp_path / "metrics.jsonl")
    assert row == {
        "nan": "NaN",
        "inf": ["Infinity", "-Infinity"],
        "tensor": "NaN",
        "numpy": {"a": 0.5, "b": 3, "c": "Infinity"},
        "path": str(tmp_path),
    }
    assert math.isnan(float(row["nan"])) and float(row["inf"][1]) == -math.inf


def test_truncate_after_drops_rows_beyond_the_step_and_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.log({"event": "start"})
    for step in (100, 200, 300):
        tracker.log({"event": "train", "step": step})
    tracker.log({"event": "warning", "step": 250, "name": "x", "message": "y"})
    tracker.truncate_after(200)
    tracker.log({"event": "resume", "step": 200})
    tracker.close()
    assert [(row["event"], row.get("step")) for row in strict_rows(path)] == [
        ("start", None),
        ("train", 100),
        ("train", 200),
        ("resume", 200),
    ]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_a_line_half_written_at_any_byte_is_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"event": "train", "step": 1}\n'
    last = '{"event": "train", "step": 2, "name": "größe"}\n'.encode()
    for length in range(len(last) + 1):
        path.write_bytes(whole.encode() + last[:length])
        tracker = JsonlTracker(path)
        tracker.log({"step": 3})
        tracker.close()
        complete = length >= len(last) - 1  # only the newline is missing: the row itself is whole
        assert [row["step"] for row in strict_rows(path)] == ([1, 2, 3] if complete else [1, 3])


def test_a_kill_during_truncation_leaves_the_old_rows(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    tracker = JsonlTracker(path)
    for step in (1, 2, 3):
        tracker.log({"step": step})

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        tracker.truncate_after(1)
    assert [row["step"] for row in strict_rows(path)] == [1, 2, 3]


def test_read_rows_skips_what_is_no_row(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    path.write_bytes(b'\xff\xfe\n[1]\n3\n\n{"step": 1}\n{"step": \n' + b"[" * 100_000 + b'\n{"step": 2}')
    assert read_rows(path) == [{"step": 1}, {"step": 2}]


def test_samples_are_recorded_relative_to_the_run(tmp_path):
    trackers = Trackers(JsonlTracker(tmp_path / "metrics.jsonl"), folder=tmp_path)
    trackers.samples(500, tmp_path / "samples" / "step-00000500.png")
    trackers.close()
    assert read_rows(tmp_path / "metrics.jsonl") == [
        {"event": "samples", "step": 500, "file": "samples/step-00000500.png"}
    ]


def test_tensorboard_is_left_out_silently_unless_asked_for(tmp_path, monkeypatch):
    real_import = builtins.__import__

    def no_tensorboard(name, *args, **kwargs):
        if name.partition(".")[0] == "tensorboard":
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_tensorboard)
    monkeypatch.setattr("importlib.import_module", no_tensorboard)
    create_trackers(tmp_path).close()
    create_trackers(tmp_path, tensorboard=False).close()
    with pytest.raises(MissingPackageError, match="TensorBoard needs the package 'tensorboard'"):
        create_trackers(tmp_path, tensorboard=True)


def test_tensorboard_events_can_be_read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "grid.png")
    (tmp_path / "samples.txt").write_text("once upon a time")
    trackers = create_trackers(tmp_path, tensorboard=True)
    for step in (1, 2, 3):
        trackers.log({"event": "train", "step": step, "phase": "adversarial", "generator/loss": float(step)})
    trackers.samples(3, tmp_path / "grid.png")
    trackers.samples(3, tmp_path / "samples.txt")
    trackers.log({"event": "warning", "step": 3, "name": "falling-diversity", "message": "look"})
    for step, value in ((2, 1.5), (3, 1.25)):
        metric = {"name": "frechet_distance", "embedder": "digits", "value": value}
        trackers.log({"event": "evaluation", "step": step, "metrics": [metric]})
    trackers.log({"event": "end", "step": 3})
    trackers.truncate_after(2)
    trackers.log({"event": "train", "step": 3, "generator/loss": 30.0})
    trackers.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("generator/loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    evaluations = events.Scalars("evaluation/digits/frechet_distance")
    assert [(event.step, event.value) for event in evaluations] == [(2, 1.5)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_on_a_terminal_starts_at_the_resumed_step(monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    bar = ProgressBar(1000, initial=400, samples_per_step=64, stream=stream)
    bar.update(100)
    bar.show({"event": "train", "step": 500, "discriminator/loss": 1.25, "generator/loss": 0.7, "beta": 3.0})
    bar.write("warning: look here")
    bar.update(100)
    bar.close()
    text = stream.getvalue()
    assert "400/1000" in text and "600/1000" in text and "left" in text and "steps/s" in text
    assert "discriminator 1.25, generator 0.7" in text and "samples/s" in text and "beta" not in text
    assert re.search(r"(^|\r|\n) *warning: look here\n", text)


def test_plain_lines_elsewhere_no_more_often_than_the_interval(monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    bar = ProgressBar(1000, initial=100, samples_per_step=10, stream=stream, interval=10.0)
    bar.show({"generator/loss": 0.5})
    for _ in range(50):
        clock[0] += 0.5
        bar.update()
    assert stream.getvalue().splitlines() == [
        "step 120 of 1,000, generator 0.5, 2.00 steps/s, 20 samples/s, 7 min 20 s left",
        "step 140 of 1,000, generator 0.5, 2.00 steps/s, 20 samples/s, 7 min 10 s left",
    ]
    bar.close()
    bar.close()
    assert len(stream.getvalue().splitlines()) == 3


def test_nothing_is_shown_when_hugging_face_bars_are_disabled(monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for stream in (Terminal(), io.StringIO()):
        bar = ProgressBar(10, stream=stream, interval=0.0)
        bar.update(10)
        bar.show({"generator/loss": 1.0})
        bar.close()
        assert stream.getvalue() == ""
        bar.write("a warning is still told")
        assert stream.getvalue() == "a warning is still told\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.96, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (183_600, "2 d 03 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_disk_that_fills_up_is_one_sentence_and_what_was_written_stays(tmp_path):
    """The limit on the size of a file stops a write in the middle, as a full disk does."""
    trackers = create_trackers(tmp_path, tensorboard=False)
    trackers.log({"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(GanzooError, match=rf"cannot write {tmp_path}: File too large"):
            trackers.log({"step": 2, "message": "x" * 2000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1}]
