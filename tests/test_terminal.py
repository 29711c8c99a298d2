"""Progress bars: on a terminal, of work that takes its time."""

from __future__ import annotations

import importlib
import sys

import pytest

import ganzoo
from ganzoo.exploring import interpolate, neighbour_sheet
from ganzoo.utils.terminal import bar


def pretend_a_terminal(monkeypatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def shown(capsys) -> str:
    output, errors = capsys.readouterr()
    assert output == ""
    return errors


def test_a_bar_tells_rate_and_time_left_and_is_gone_at_the_end(capsys, monkeypatch):
    pretend_a_terminal(monkeypatch)
    assert list(bar(range(3), desc="counting", unit=" things", mininterval=0)) == [0, 1, 2]
    text = shown(capsys)
    assert "counting:  67%" in text and "2/3" in text and "things/s" in text
    assert text.endswith("\r") and text.split("\r")[-2].strip() == ""


def test_a_log_file_is_not_for_bars(capsys, monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    list(bar(range(3)))
    assert shown(capsys) == ""
    list(bar(range(3), shown=True))
    assert shown(capsys) != ""


def test_bars_are_switched_off_as_those_of_the_hub(capsys, monkeypatch):
    pretend_a_terminal(monkeypatch)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "on")
    list(bar(range(3)))
    assert shown(capsys) == ""


def test_what_takes_less_than_a_moment_has_no_bar(capsys, monkeypatch, tmp_path):
    pretend_a_terminal(monkeypatch)
    for module in ("ganzoo.pipelines.generation", "ganzoo.processors.image"):
        monkeypatch.setattr(importlib.import_module(module), "PATIENCE", 3600)  # however busy the machine is
    pipe = ganzoo.from_pretrained("dcgan-digits")
    pipe.processor.save_samples(pipe.sample(4, batch_size=2).samples, tmp_path)
    assert shown(capsys) == ""


WORK = {
    "ganzoo.pipelines.generation": (
        "drawing",
        lambda folder: ganzoo.from_pretrained("dcgan-digits").sample(4, batch_size=2),
    ),
    "ganzoo.pipelines.continuation": (
        "drawing",
        lambda folder: ganzoo.from_pretrained("mle-coco").sample(4, batch_size=2),
    ),
    "ganzoo.exploring.walks": ("walking", lambda folder: interpolate("dcgan-digits", stops=2, frames=3)),
    "ganzoo.exploring.neighbours": ("comparing", lambda folder: neighbour_sheet("dcgan-digits", 1)),
    "ganzoo.processors.image": ("writing", lambda folder: save("dcgan-digits", folder)),
    "ganzoo.processors.waveform": ("writing", lambda folder: save("wavegan-drums", folder)),
}


def save(name, folder) -> None:
    pipe = ganzoo.from_pretrained(name)
    pipe.processor.save_samples(pipe.sample(4).samples, folder)


@pytest.mark.parametrize("module", WORK)
def test_long_work_has_one(capsys, monkeypatch, tmp_path, module):
    pretend_a_terminal(monkeypatch)
    monkeypatch.setattr(importlib.import_module(module), "PATIENCE", 0)
    said, work = WORK[module]
    work(tmp_path / "folder")
    assert said in shown(capsys)
