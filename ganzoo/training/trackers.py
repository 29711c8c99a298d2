"""Where a run writes what happens: metrics.jsonl, TensorBoard, and the progress bar.

A tracker takes flat rows (`{"event": "train", "step": 100, "generator/loss": 0.7, ...}`) and files of samples.
`Trackers` hands them to several; `create_trackers` makes the usual ones of a run directory.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from ganzoo.errors import MissingPackageError, require
from ganzoo.utils.files import explained_os_errors, write_bytes
from ganzoo.utils.terminal import bars_are_off


class Tracker(Protocol):
    """What `Trackers` fans out to."""

    def log(self, row: Mapping[str, Any]) -> None: ...

    def samples(self, step: int, path: Path) -> None: ...

    def truncate_after(self, step: int) -> None: ...

    def close(self) -> None: ...


class JsonlTracker:
    """Appends rows to a file, one JSON object a line, on disk for other readers as soon as `log` returns.

    NaN and infinities, which JSON does not have, are written as the strings "NaN", "Infinity" and "-Infinity" (which
    `float()` reads back).

    Args:
        path: The file, usually `metrics.jsonl` of a run directory. A half-written last line, left by a killed run, is
            cut off before anything is appended.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._rewrite(read_rows(self.path))
        self._file = self._open()

    def _open(self) -> TextIO:
        return self.path.open("a", encoding="utf-8", newline="\n")

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one row and flushes it."""
        self._file.write(to_json(row) + "\n")
        self._file.flush()

    def samples(self, step: int, path: Path) -> None:
        """Records that `path` shows the samples of `step`: relative to the run directory, when inside it."""
        folder, file = self.path.parent.resolve(), Path(path).resolve()
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        self.log({"event": "samples", "step": step, "file": name.as_posix()})

    def truncate_after(self, step: int) -> None:
        """Drops the rows beyond `step`, for a run that resumes there; rows that name no step stay.

        The file is replaced in one rename, so a kill leaves either the old rows or the new ones.
        """
        self._file.close()
        self._rewrite([row for row in read_rows(self.path) if not _beyond(row, step)])
        self._file = self._open()

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        content = "".join(to_json(row) + "\n" for row in rows).encode()
        if content == self.path.read_bytes():
            return
        write_bytes(self.path, content)

    def close(self) -> None:
        self._file.close()


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Reads a metrics.jsonl, skipping lines that are no JSON object (a killed run's half-written last line).

    Returns:
        The rows, in the order of the file; an empty list when there is no such file.
    """
    rows = []
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def to_json(row: Mapping[str, Any]) -> str:
    """Serialises a row as strict JSON on one line; tensors and numpy scalars become numbers, paths become strings."""
    return json.dumps(_plain(row), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if hasattr(value, "item"):  # a 0-dim tensor or a numpy scalar
        return _plain(value.item())
    return value


def _beyond(row: Mapping[str, Any], step: int) -> bool:
    return isinstance(row.get("step"), int | float) and row["step"] > step


class TensorBoardTracker:
    """Writes scalars, sample grids, audio and warnings for TensorBoard.

    Args:
        folder: Where the event files go, usually `tensorboard/` of a run directory.

    Raises:
        MissingPackageError: tensorboard is not installed, or does not load.
    """

    def __init__(self, folder: str | Path) -> None:
        require("tensorboard", extra="tensorboard", purpose="Logging to TensorBoard")
        module = require("torch.utils.tensorboard", extra="tensorboard", purpose="Logging to TensorBoard")
        self._make_writer = module.SummaryWriter
        self.folder = Path(folder)
        self._purge_step: int | None = None
        self._lazy_writer: Any = None

    @property
    def _writer(self) -> Any:
        # Opened at the first row, so that a resumed run can first say from which step older events are void.
        if self._lazy_writer is None:
            self._lazy_writer = self._make_writer(str(self.folder), purge_step=self._purge_step)
        return self._lazy_writer

    def log(self, row: Mapping[str, Any]) -> None:
        """Writes a train or validation row's numbers as scalars, an evaluation's metrics, or a warning's text."""
        step, event = row.get("step"), row.get("event", "train")
        if event in ("train", "validation"):
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self._writer.add_scalar(name, value, step)
        elif event == "evaluation":
            for metric in row["metrics"]:
                self._writer.add_scalar(f"evaluation/{metric['embedder']}/{metric['name']}", metric["value"], step)
        elif event == "warning":
            self._writer.add_text(f"warnings/{row['name']}", row["message"], step)

    def samples(self, step: int, path: Path) -> None:
        """Writes a .png as an image, a .wav as audio, a .txt as text."""
        path = Path(path)
        if path.suffix == ".png":
            import numpy as np
            from PIL import Image

            with Image.open(path) as image:
                self._writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        elif path.suffix == ".wav":
            import soundfile

            waveform, sampling_rate = soundfile.read(path, dtype="float32", always_2d=True)
            self._writer.add_audio("samples", waveform.mean(axis=1)[None], step, sample_rate=sampling_rate)
        elif path.suffix == ".txt":
            # Indented it is shown as it is: what a model writes is no Markdown.
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            self._writer.add_text("samples", "\n".join(f"    {line}" for line in lines), step)

    def truncate_after(self, step: int) -> None:
        """Hides what an earlier run wrote beyond `step`."""
        self.close()
        self._purge_step = step + 1

    def close(self) -> None:
        if self._lazy_writer is not None:
            self._lazy_writer.close()
            self._lazy_writer = None


class Trackers:
    """Hands every row and every file of samples to each of its trackers, in order.

    Args:
        trackers: The trackers.
        folder: Where they write, to be named where they cannot (GanzooError).
    """

    def __init__(self, *trackers: Tracker, folder: str | Path) -> None:
        self.trackers, self.folder = trackers, Path(folder)

    def log(self, row: Mapping[str, Any]) -> None:
        self._each("log", row)

    def samples(self, step: int, path: Path) -> None:
        self._each("samples", step, path)

    def truncate_after(self, step: int) -> None:
        self._each("truncate_after", step)

    def close(self) -> None:
        self._each("close")

    def _each(self, method: str, *arguments: Any) -> None:
        for tracker in self.trackers:
            with explained_os_errors(self.folder):
                getattr(tracker, method)(*arguments)


def create_trackers(run_dir: str | Path, *, tensorboard: bool | None = None) -> Trackers:
    """Makes the trackers of a run directory: `metrics.jsonl`, and `tensorboard/` where it is installed.

    Args:
        run_dir: The run's directory.
        tensorboard: None writes it when the package is installed, True insists on it, False leaves it out.

    Raises:
        MissingPackageError: `tensorboard` is True and the package is not installed.
        GanzooError: The directory cannot be written, here and at each row.
    """
    with explained_os_errors(Path(run_dir)):
        trackers: list[Tracker] = [JsonlTracker(Path(run_dir) / "metrics.jsonl")]
    if tensorboard is not False:
        try:
            trackers.append(TensorBoardTracker(Path(run_dir) / "tensorboard"))
        except MissingPackageError:
            if tensorboard:
                raise
    return Trackers(*trackers, folder=run_dir)


_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_noinv_fmt}{postfix}]"


class ProgressBar:
    """Shows how far a run is: losses, steps/s, samples/s and the time left.

    On a terminal this is a tqdm bar; elsewhere (a log file, a batch job) a plain line at most every `interval`
    seconds. With HF_HUB_DISABLE_PROGRESS_BARS set, as for every Hugging Face tool, it shows nothing.

    Args:
        total: The step the run ends at.
        initial: The step it starts from; above 0 when it resumes.
        samples_per_step: Real samples a step takes, for samples/s.
        stream: Where to write; stderr by default.
        interval: Seconds between plain lines.
    """

    def __init__(
        self,
        total: int,
        *,
        initial: int = 0,
        samples_per_step: int = 0,
        stream: TextIO | None = None,
        interval: float = 10.0,
    ) -> None:
        self.total, self.initial, self.step = total, initial, initial
        self.samples_per_step, self.interval = samples_per_step, interval
        self.stream = stream or sys.stderr
        self._start = self._shown = time.monotonic()
        self._losses = ""
        self._bar: Any = None
        disabled = bars_are_off()
        self._plain = not disabled and not self.stream.isatty()
        if not disabled and not self._plain:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, initial=initial, unit=" steps", file=self.stream, dynamic_ncols=True, bar_format=_BAR
            )

    def update(self, steps: int = 1) -> None:
        """Counts finished steps; cheap enough for every step."""
        self.step += steps
        if self._bar is not None:
            self._bar.update(steps)
        elif self._plain and time.monotonic() - self._shown >= self.interval:
            self._print_line()

    def show(self, row: Mapping[str, Any]) -> None:
        """Takes the losses to show from a train row: "discriminator/loss" is shown as "discriminator"; and the reward."""
        losses = [(name.removesuffix("/loss"), value) for name, value in row.items() if name.endswith("/loss")]
        if "generator/reward" in row:
            losses.append(("reward", row["generator/reward"]))
        self._losses = ", ".join(f"{name} {value:.4g}" for name, value in losses)
        if self._bar is not None:
            samples = f"{self._rate() * self.samples_per_step:,.0f} samples/s" if self.samples_per_step else ""
            self._bar.set_postfix_str(", ".join(text for text in (samples, self._losses) if text), refresh=False)

    def write(self, message: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(message, file=self.stream)
        else:
            print(message, file=self.stream, flush=True)

    def close(self) -> None:
        """Ends the bar; where lines are printed, prints where the run stands."""
        if self._bar is not None:
            self._bar.close()
        elif self._plain and self.step > self.initial:
            self._print_line()
        self._bar, self._plain = None, False

    def _rate(self) -> float:
        """Steps a second since this process started."""
        return (self.step - self.initial) / max(time.monotonic() - self._start, 1e-9)

    def _print_line(self) -> None:
        self._shown = time.monotonic()
        rate = self._rate()
        parts = [f"step {self.step:,} of {self.total:,}", self._losses, f"{rate:,.2f} steps/s"]
        if self.samples_per_step:
            parts.append(f"{rate * self.samples_per_step:,.0f} samples/s")
        if self.step < self.total:
            parts.append(f"{duration((self.total - self.step) / max(rate, 1e-9))} left")
        print(", ".join(part for part in parts if part), file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """Writes a time span as people do: "4.2 s", "3 min 20 s", "1 h 05 min", "2 d 03 h"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"
