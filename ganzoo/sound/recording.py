"""Recordings: what a sound file holds, checked before anything is made of it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ganzoo.errors import UnusableSample, require, shorten
from ganzoo.sound.containers import check_mp3, check_ogg, check_wav, with_length

# More than any recording needs, less than hurts: an hour, 1 GiB of float32.
MAX_SECONDS = 3600
MAX_VALUES = 1 << 28
MAX_BYTES = 1 << 30
MAX_CHANNELS = 32
RATES = (1000, 384_000)
# What has a signature that text or noise does not hit by accident; libsndfile knows more, and guesses some of them.
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3")
# Less than this part of the peak is no offset: it may be the sound's own, and digital silence stays so.
MIN_OFFSET = 1e-3
# A mix so much quieter than its channels (26 dB) holds what they differ in, not what they play.
MIN_MIX = 0.05
# Full scale of signed integers: 1.0 <-> 32767, so that -1 and 1 are both whole numbers. Files scale by 32768 instead, as
# everyone's do, and libsndfile takes care of that.
FULL_SCALE = 32_767

_BLOCK = 1 << 16  # samples read at once
_UNKNOWN = (1 << 63) - 1  # libsndfile's length of a FLAC file of a pipe


class Recording(NamedTuple):
    """A sound.

    Attributes:
        samples: float32 (C, T), full scale [-1, 1]. As an input also float64, int16 or int32 (full scale 32767 and
            2147483647), and (T,) for one channel.
        sampling_rate: Samples a second, in Hz.
    """

    samples: np.ndarray
    sampling_rate: int


def read_recording(raw: Any) -> Recording:
    """Reads a sound file whole: WAV, FLAC, OGG, MP3 and what else of `FORMATS` soundfile knows, by content, not by name.

    Files of a pipe (`ffmpeg -f wav -`), which state no length or a false one, are read to their end.

    Args:
        raw: The path or the bytes of a file; the `{"bytes", "path"}` or `{"array", "sampling_rate"}` record of the
            `datasets` library; or a `Recording`, which is checked and converted.

    Returns:
        float32 samples (C, T), finite, T at least 1.

    Raises:
        UnusableSample: It is no sound file, damaged, cut off, empty, not finite, or larger than `MAX_SECONDS` or `MAX_VALUES`.
    """
    if isinstance(raw, Mapping) and raw.get("array") is not None:
        raw = Recording(np.asarray(raw["array"]), raw.get("sampling_rate", 0))
    if isinstance(raw, Recording):
        return _checked("the array", raw)
    name, content = _content(raw)
    check_wav(name, content)
    check_ogg(name, content)
    return _checked(name, _decoded(name, with_length(content)))


def _content(raw: Any) -> tuple[str, bytes]:
    """The bytes of a file, and what to call it."""
    path = None
    if isinstance(raw, Mapping):
        raw, path = raw.get("bytes"), raw.get("path")
        raw = path if raw is None else raw
    name = os.path.basename(os.fspath(path)) if isinstance(path, (str, Path)) and path else "the bytes"
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return name, bytes(raw)
    if not isinstance(raw, (str, Path)):
        raise UnusableSample(
            f"cannot read a {type(raw).__name__} as a recording; give a file's path or bytes, or a Recording"
        )
    try:
        # By its bytes: a name would make the decoder trust the ending, and read any text called .au or .gsm as sound.
        if os.stat(raw).st_size > MAX_BYTES:
            raise UnusableSample(f"{raw} is larger than {MAX_BYTES:,} bytes; cut it into shorter recordings")
        return os.path.basename(raw), Path(raw).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, UnusableSample):
            raise
        raise UnusableSample(f"cannot read {raw}: {getattr(error, 'strerror', None) or error}") from None


def _decoded(name: str, content: bytes) -> Recording:
    soundfile = require("soundfile", extra="audio", purpose="reading sound files")
    try:
        with soundfile.SoundFile(_Content(content)) as file:
            if file.format not in FORMATS:
                raise UnusableSample(f"{name} is of the format {file.format}; the known ones are {', '.join(FORMATS)}")
            _check_rate(name, file.samplerate)
            limit = min(MAX_SECONDS * file.samplerate, MAX_VALUES // file.channels)
            if file.frames == _UNKNOWN:  # soundfile seeks after every block, which libsndfile cannot do here
                file.seekable = lambda: False
            blocks, total = [], 0
            # Block by block, because the stated length may be a lie.
            while total <= limit:
                block = file.read(_BLOCK, dtype="float32", always_2d=True)
                blocks.append(block)
                total += len(block)
                if len(block) < _BLOCK:
                    break
            if total > limit:
                raise UnusableSample(f"{name} is longer than {limit / file.samplerate:,.0f} s; cut it into recordings")
            if total < file.frames != _UNKNOWN:
                raise UnusableSample(f"{name} is cut off: it states {file.frames:,} samples and has {total:,}")
            if file.format == "MP3":
                check_mp3(name, content, total)
            return Recording(np.concatenate(blocks).T, file.samplerate)
    except UnusableSample:
        raise
    except (RuntimeError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        # libsndfile's sentence names a Python object; what follows the colon is the reason.
        reason = str(error).rpartition(">: ")[2] or type(error).__name__
        raise UnusableSample(f"cannot read {name} as a recording: {reason}") from None


def _checked(name: str, recording: Recording) -> Recording:
    """The recording as float32 (C, T)."""
    _check_rate(name, recording.sampling_rate)
    samples = to_float(recording.samples)
    samples = samples[None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or not 1 <= samples.shape[0] <= MAX_CHANNELS:
        raise UnusableSample(f"{name} has the shape {samples.shape}; a recording is (channels, samples)")
    if samples.shape[1] == 0:
        raise UnusableSample(f"{name} is empty: it holds no samples")
    if samples.shape[1] > MAX_SECONDS * recording.sampling_rate:
        raise UnusableSample(f"{name} is longer than {MAX_SECONDS:,} s; cut it into recordings")
    if not np.isfinite(samples).all():
        raise UnusableSample(f"{name} is damaged: it holds values that are not finite numbers")
    return Recording(np.ascontiguousarray(samples), int(recording.sampling_rate))


def _check_rate(name: str, rate: Any) -> None:
    if not isinstance(rate, (int, np.integer)) or not RATES[0] <= rate <= RATES[1]:
        raise UnusableSample(f"{name} states a sampling rate of {shorten(rate)} Hz, outside {RATES[0]} to {RATES[1]}")


def to_float(samples: Any) -> np.ndarray:
    """Samples as float32 at full scale [-1, 1].

    Raises:
        UnusableSample: They are of another type than float32, float64, int16 and int32.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype not in (np.float32, np.float64, np.int16, np.int32):
        kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise UnusableSample(f"samples of sound must be a float32, float64, int16 or int32 array, not {kind}")
    if samples.dtype.kind == "i":
        return (samples / np.iinfo(samples.dtype).max).astype(np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return samples.astype(np.float32, copy=False)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples at full scale [-1, 1] as int16, rounded, clamped."""
    return np.clip(np.rint(samples * np.float32(FULL_SCALE)), -FULL_SCALE, FULL_SCALE).astype(np.int16)


def without_offset(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Samples (C, T) without the constant that a sound card may have added to a channel: the median over the means of tenths
    of a second, which neither a low note nor the beginning of a drum moves, as it moves the mean over all."""
    size = round(0.1 * sampling_rate)
    if 2 * samples.shape[1] < size:  # too short to tell an offset from a sound
        return samples
    starts = np.arange(0, max(1, samples.shape[1] - size // 2), size)  # a short rest belongs to the last part
    sums = np.add.reduceat(samples, starts, axis=1, dtype=np.float64)
    means = sums / np.diff(starts, append=samples.shape[1])
    offset = np.median(means, axis=1, keepdims=True).astype(np.float32)
    found = np.abs(offset) >= MIN_OFFSET * np.abs(samples).max(axis=1, keepdims=True)
    return samples - offset * found if found.any() else samples


def mixed(samples: np.ndarray) -> np.ndarray:
    """The mean (1, T) of channels (C, T).

    Raises:
        UnusableSample: They are of opposite phase, so that nothing would be left of them.
    """
    mix = np.zeros_like(samples[:1])
    for channel in samples:  # each divided first: float32 would overflow on the loudest that it can hold
        mix += channel / np.float32(len(samples))
    if len(samples) > 1 and _level(mix) < MIN_MIX * _level(samples):
        raise UnusableSample(
            "the recording's channels are of opposite phase and cancel each other in one; invert one of them, or keep one"
        )
    return mix


def _level(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.einsum("ct,ct->", samples, samples, dtype=np.float64) / samples.size))


class _Content(io.BytesIO):
    """Bytes in which looking for a place before the first is no exception: libsndfile does so in damaged files, and what is
    raised in its callbacks cannot be caught. That nothing has moved tells it enough."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()
