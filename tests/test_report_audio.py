"""The sound of a training report: under its picture, of a bearable size, and in TensorBoard too."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_report import page_of, save_grid

from ganzoo.training.report.samples import MAX_SAMPLES
from ganzoo.training.trackers import JsonlTracker, TensorBoardTracker

RATE = 8000


def tone(step: int) -> float:
    return 200.0 + 10 * step


def save_tone(path: Path, step: int, seconds: float = 0.1) -> None:
    """A tone whose frequency says which step it belongs to."""
    path.parent.mkdir(exist_ok=True)
    times = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * tone(step) * times), RATE)


def heard(data: str) -> float:
    """The frequency of a player's sound."""
    kind, _, content = data.partition(",")
    assert kind == "data:audio/wav;base64"
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert rate == RATE
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


def log(run_dir: Path, *files: tuple[int, str]) -> None:
    tracker = JsonlTracker(run_dir / "metrics.jsonl")
    for step, name in files:
        tracker.log({"event": "samples", "step": step, "file": name})
    tracker.close()


def preview(run_dir: Path, step: int, seconds: float = 0.1) -> None:
    """What an audio model's preview leaves: a recording and its picture, named by the step."""
    name = f"samples/step-{step:08d}"
    save_tone(run_dir / f"{name}.wav", step, seconds)
    save_grid(run_dir / f"{name}.png", value=step % 256)
    log(run_dir, (step, f"{name}.wav"), (step, f"{name}.png"))


def sheets(run_dir: Path) -> list[tuple[int, bool, float | None]]:
    """(step, has a picture, frequency of its sound) of every sheet of the player."""
    page_of(run_dir)
    html = (run_dir / "report.html").read_text(encoding="utf-8")
    found = []
    for step, sheet in re.findall(r'<div class="sheet" data-step="step ([\d,]+)"[^>]*>(.*?)</div>', html, re.DOTALL):
        sound = re.search(r'<audio controls preload="none" [^>]*src="([^"]*)"', sheet)
        picture = re.search(r'<img [^>]*alt="step ([\d,]+)"', sheet)
        assert picture is None or (picture[1] == step and (not sound or picture.end() < sound.start()))
        found.append((int(step.replace(",", "")), picture is not None, sound and heard(sound[1])))
    return found


def test_every_picture_has_the_sound_of_its_step_below(tmp_path):
    for step in (0, 20, 10):
        preview(tmp_path, step)
    assert sheets(tmp_path) == [(step, True, tone(step)) for step in (0, 10, 20)]
    page = page_of(tmp_path)
    assert page.tags.count("audio") == 3 and page.values("max") == ["2"]
    assert page.values("aria-label").count("What step 20 sounds like") == 1
    assert "pause()" in page.scripts[0], "a sound that is out of sight is out of hearing"


def test_one_preview_has_no_controls(tmp_path):
    preview(tmp_path, 7)
    assert sheets(tmp_path) == [(7, True, tone(7))]
    assert page_of(tmp_path).tags.count("input") == 0


def test_what_is_missing_or_broken_is_left_out_and_the_rest_stays(tmp_path):
    for step in range(6):
        preview(tmp_path, step)
    samples = tmp_path / "samples"
    (samples / "step-00000000.wav").unlink()
    (samples / "step-00000001.wav").write_bytes(b"no sound")
    (samples / "step-00000002.png").unlink()
    (samples / "step-00000003.png").write_bytes(b"no picture")
    for kind in ("png", "wav"):
        (samples / f"step-00000004.{kind}").write_bytes(b"")
    expected = [(0, True, None), (1, True, None), (2, False, tone(2)), (3, False, tone(3)), (5, True, tone(5))]
    assert sheets(tmp_path) == expected


def test_many_previews_are_shown_evenly_with_their_own_sound(tmp_path):
    for step in range(100):
        preview(tmp_path, step)
    found = sheets(tmp_path)
    steps = [step for step, _, _ in found]
    assert len(found) == MAX_SAMPLES and steps[0] == 0 and steps[-1] == 99 and set(np.diff(steps)) <= {4, 5}
    assert all(picture and sound == tone(step) for step, picture, sound in found)


def test_a_page_holds_so_much_sound_and_says_where_the_rest_is(tmp_path):
    """One and a half MB each: eight of ten fit into 12 MB, evenly, the first and the last among them."""
    for step in range(10):
        preview(tmp_path, step, seconds=93)
    found = sheets(tmp_path)
    assert [step for step, _, _ in found] == list(range(10)) and all(picture for _, picture, _ in found)
    silent = [step for step, _, sound in found if sound is None]
    assert len(silent) == 2 and not {0, 9} & set(silent)
    assert all(sound == pytest.approx(tone(step), abs=0.1) for step, _, sound in found if sound)
    words = page_of(tmp_path).text
    assert re.findall(r"To be heard: (\S+)", words) == [f"samples/step-{step:08d}.wav" for step in silent]
    assert (tmp_path / "report.html").stat().st_size < 17_000_000


def test_a_recording_that_is_too_long_is_named(tmp_path):
    preview(tmp_path, 1, seconds=300)  # 4.8 MB
    assert sheets(tmp_path) == [(1, True, None)]
    assert "To be heard: samples/step-00000001.wav" in page_of(tmp_path).text


def test_previews_of_sound_alone_are_a_list_with_the_latest_first(tmp_path):
    for step in (1, 2):
        save_tone(tmp_path / f"samples/{step}.wav", step)
        log(tmp_path, (step, f"samples/{step}.wav"))
    page = page_of(tmp_path)
    assert [heard(source) for source in page.values("src")] == [tone(2), tone(1)]
    assert page.text.index("step 2") < page.text.index("step 1") and "img" not in page.tags


def test_pictures_without_sound_are_as_they_were(tmp_path):
    for step in (1, 2):
        save_grid(tmp_path / f"samples/{step}.png", value=step)
        log(tmp_path, (step, f"samples/{step}.png"))
    assert sheets(tmp_path) == [(1, True, None), (2, True, None)]
    assert page_of(tmp_path).tags.count("audio") == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_tensorboard_has_the_sound_and_the_picture(tmp_path, channels):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    preview(tmp_path, 3)
    if channels == 2:
        samples, _ = soundfile.read(tmp_path / "samples/step-00000003.wav")
        soundfile.write(tmp_path / "samples/step-00000003.wav", np.stack([samples, samples], axis=1), RATE)
    tracker = TensorBoardTracker(tmp_path / "tensorboard")
    for kind in ("wav", "png"):
        tracker.samples(3, tmp_path / f"samples/step-00000003.{kind}")
    tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    [sound], [picture] = events.Audio("samples"), events.Images("samples")
    assert (sound.step, sound.sample_rate, picture.step) == (3, RATE, 3)
    samples, rate = soundfile.read(io.BytesIO(sound.encoded_audio_string))
    assert rate == RATE and np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples) == tone(3)
