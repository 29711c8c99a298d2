"""The built-in set `drums`: hits of a kick, a snare and a hi-hat by formula, with known pitch and decay.

For learning and for tests: it needs no download, its labels are exact, and what a generator makes can be measured against
what every hit was made with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ganzoo.data.sets.base import DataSet
from ganzoo.data.source import Source, no_split
from ganzoo.errors import UserError

if TYPE_CHECKING:
    from ganzoo.recipe.data import DataConfig

SAMPLING_RATE = 8000
SECONDS = 0.5
MAX_LENGTH = 1 << 24
KINDS = ("kick", "snare", "hat")  # by label
SPLITS = {"train": 1500, "test": 300}  # a third each
# Kind -> bounds of pitch (Hz) and decay (s), both drawn uniformly in the logarithm.
RANGES = {
    "kick": ((40.0, 90.0), (0.05, 0.12)),
    "snare": ((150.0, 260.0), (0.03, 0.09)),
    "hat": ((1800.0, 3000.0), (0.01, 0.08)),
}
SWEEP_RATIO = 4.0  # a kick begins so many times above its pitch
SWEEP_SECONDS = 0.03  # and comes down to it with this time constant
TONE_SHARE = 0.4  # of a snare; the rest is noise


class DrumHit(NamedTuple):
    """What a hit is made with.

    Attributes:
        kind: "kick", "snare" or "hat".
        pitch: In Hz: of a kick, the frequency that its sweep ends at; of a snare, its tone; of a hat, the frequency below
            which its noise is silent.
        decay: Seconds in which the amplitude falls to 1/e.
        seed: Of the noise.
    """

    kind: str
    pitch: float
    decay: float
    seed: int


def drum_of(split: str, index: int) -> DrumHit:
    """What sample `index` of a split ("train" or "test") is made with: kinds take turns, pitch and decay are drawn."""
    seed = index + (0 if split == "train" else SPLITS["train"])
    kind = KINDS[index % len(KINDS)]
    # RandomState: the one NumPy stream that is frozen for ever.
    shares = np.random.RandomState(seed).uniform(size=2)
    pitch, decay = (
        low * (high / low) ** share for (low, high), share in zip(RANGES[kind], shares.tolist(), strict=True)
    )
    return DrumHit(kind, pitch, decay, seed)


def drum_hit(
    kind: str,
    pitch: float,
    decay: float,
    seed: int = 0,
    sampling_rate: int = SAMPLING_RATE,
    seconds: float = SECONDS,
) -> np.ndarray:
    """One hit, exp(-t / decay) times

    - kick: sin of 2 pi times the integral of f(t) = pitch (1 + 3 exp(-t / 0.03 s)), a sine that sweeps down to its pitch;
    - snare: 0.4 sin(2 pi pitch t) + 0.6 noise, uniform in [-1, 1];
    - hat: such noise without its frequencies below the pitch.

    Args:
        kind, pitch, decay, seed: As those of `DrumHit`.
        sampling_rate: Samples a second.
        seconds: Length.

    Returns:
        (T,) float32, scaled to a peak of 1.

    Raises:
        UserError: Another kind, a number that is not positive, or a pitch that the rate cannot hold.
    """
    if kind not in KINDS:
        raise UserError(f"There is no drum '{kind}'; there is {', '.join(KINDS)}.")
    highest = SWEEP_RATIO * pitch if kind == "kick" else pitch
    if not (decay > 0 and pitch > 0 and 2 <= seconds * sampling_rate <= MAX_LENGTH and 2 * highest < sampling_rate):
        raise UserError(
            f"A {kind} of {pitch} Hz that decays in {decay} s cannot be {seconds} s at {sampling_rate} Hz: all must be "
            f"positive, no frequency above half the rate, and nothing longer than {MAX_LENGTH:,} samples."
        )
    times = np.arange(round(seconds * sampling_rate)) / sampling_rate
    wave = np.exp(-times / decay) * _SOUNDS[kind](times, pitch, np.random.RandomState(seed), sampling_rate)
    return (wave / np.abs(wave).max()).astype(np.float32)


def _kick(times: np.ndarray, pitch: float, noise: np.random.RandomState, sampling_rate: int) -> np.ndarray:
    swept = (SWEEP_RATIO - 1) * SWEEP_SECONDS * (1 - np.exp(-times / SWEEP_SECONDS))
    return np.sin(2 * np.pi * pitch * (times + swept))


def _snare(times: np.ndarray, pitch: float, noise: np.random.RandomState, sampling_rate: int) -> np.ndarray:
    tone = np.sin(2 * np.pi * pitch * times)
    return TONE_SHARE * tone + (1 - TONE_SHARE) * noise.uniform(-1, 1, len(times))


def _hat(times: np.ndarray, pitch: float, noise: np.random.RandomState, sampling_rate: int) -> np.ndarray:
    spectrum = np.fft.rfft(noise.uniform(-1, 1, len(times)))
    spectrum[np.fft.rfftfreq(len(times), 1 / sampling_rate) < pitch] = 0
    return np.fft.irfft(spectrum, len(times))


_SOUNDS = {"kick": _kick, "snare": _snare, "hat": _hat}


def open_drums(config: DataConfig, split: str) -> Source:
    """1,500 hits to train on and 300 to test with, half a second each at 8 kHz; `drum_of` says what they are made with."""
    if split not in SPLITS:
        raise no_split("The built-in data set 'drums'", split, SPLITS)

    def iterate() -> Iterator[tuple[Any, int]]:
        from ganzoo.sound.recording import Recording

        for index in range(SPLITS[split]):
            yield Recording(drum_hit(*drum_of(split, index))[None], SAMPLING_RATE), index % len(KINDS)

    return Source(
        description="drums",
        split=split,
        fingerprint=f"drums-1:{split}",
        length=SPLITS[split],
        iterate=iterate,
        class_names=KINDS,
    )


DATASET = DataSet(open_drums)
