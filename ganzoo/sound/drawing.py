"""Sound to listen to and to look at: WAV files, pictures of waveforms above spectrograms, terminal drawings."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from ganzoo.errors import MissingPackageError, UserError, require
from ganzoo.sound.recording import FULL_SCALE

if TYPE_CHECKING:
    from PIL import Image

MAX_CLIPS = 16  # of one sheet
PAUSE_SECONDS = 0.25
WAVE_HEIGHT, SPECTRUM_HEIGHT, TILE_WIDTH, GAP = 48, 96, 240, 6
DECIBELS = 80.0  # from the loudest of a sheet down to black
BACKGROUND, WAVE, AXIS, INK = (24, 24, 28), (120, 200, 255), (70, 70, 80), (200, 200, 200)
# From silent to loud; evenly rising lightness, so that it reads in grey too.
COLOURS = np.array([(0, 0, 4), (60, 15, 110), (145, 40, 130), (220, 75, 105), (252, 150, 105), (252, 250, 190)])


def wav_bytes(clip: np.ndarray, sampling_rate: int) -> bytes:
    """A WAV file, 16-bit PCM, of an int16 clip (C, T)."""
    soundfile = require("soundfile", extra="audio", purpose="writing sound files")
    buffer = io.BytesIO()
    soundfile.write(buffer, np.ascontiguousarray(clip.T), sampling_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def wav_sheet(clips: np.ndarray, sampling_rate: int) -> bytes:
    """A WAV file of int16 clips (B, C, T), one after another with short pauses."""
    pause = np.zeros((clips.shape[1], round(PAUSE_SECONDS * sampling_rate)), dtype=np.int16)
    parts = [part for clip in clips for part in (clip, pause)][:-1]
    return wav_bytes(np.concatenate(parts, axis=1), sampling_rate)


def draw_sheet(clips: np.ndarray, sampling_rate: int) -> bytes:
    """A PNG of int16 clips (B, C, T), at most the first 16: each one's waveform above its spectrogram.

    Spectrograms are log-mel where torchaudio loads, else of linear frequency; the caption says which. Loudness is relative
    to the loudest of the sheet.
    """
    from PIL import Image, ImageDraw

    clips = clips[:MAX_CLIPS]
    levels, kind = _levels(clips, sampling_rate)
    columns = min(4, max(1, int(np.ceil(np.sqrt(len(clips))))))
    rows = -(-len(clips) // columns)
    tile_height = WAVE_HEIGHT + SPECTRUM_HEIGHT
    size = (columns * (TILE_WIDTH + GAP) + GAP, rows * (tile_height + GAP) + GAP + 14)
    sheet = Image.new("RGB", size, BACKGROUND)
    for index, (clip, level) in enumerate(zip(clips, levels, strict=True)):
        row, column = divmod(index, columns)
        left, top = GAP + column * (TILE_WIDTH + GAP), GAP + row * (tile_height + GAP)
        sheet.paste(Image.fromarray(_waveform(clip, TILE_WIDTH, WAVE_HEIGHT)), (left, top))
        sheet.paste(_spectrum(level), (left, top + WAVE_HEIGHT))
    seconds, highest = clips.shape[-1] / sampling_rate, sampling_rate // 2
    caption = f"{seconds:.3g} s, {kind} 0-{highest:,} Hz, {DECIBELS:.0f} dB"
    ImageDraw.Draw(sheet).text((GAP, size[1] - 14), caption, fill=INK)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def show_waveforms(clips: np.ndarray, *, width: int = 96, height: int = 12) -> str:
    """The waveforms of int16 clips (B, C, T), at most the first 16, as text for a terminal, two beside each other."""
    from PIL import Image

    from ganzoo.utils.terminal import draw

    tiles = [np.pad(_waveform(clip, width // 2 - 2, height), ((1, 1), (1, 1), (0, 0))) for clip in clips[:MAX_CLIPS]]
    if len(tiles) == 1:
        return draw(Image.fromarray(_waveform(clips[0], width, height)))
    tiles += [np.zeros_like(tiles[0])] * (len(tiles) % 2)
    rows = [np.concatenate(tiles[start : start + 2], axis=1) for start in range(0, len(tiles), 2)]
    return draw(Image.fromarray(np.concatenate(rows)))


def _waveform(clip: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 3): from the lowest to the highest sample under each pixel; channels one above another."""
    parts = np.array_split(np.arange(height), len(clip))
    return np.concatenate([_lane(channel, width, len(part)) for channel, part in zip(clip, parts, strict=True)])


def _lane(samples: np.ndarray, width: int, height: int) -> np.ndarray:
    # A pixel's samples reach into the next one's first, so that steep slopes stay connected.
    edges = np.linspace(0, len(samples) - 1, width + 1).astype(int)
    pixels = [samples[start : end + 1] / FULL_SCALE for start, end in zip(edges[:-1], edges[1:], strict=True)]
    top = np.array([(1 - pixel.max()) / 2 for pixel in pixels]) * (height - 1)
    bottom = np.array([(1 - pixel.min()) / 2 for pixel in pixels]) * (height - 1)
    rows = np.arange(height)[:, None]
    lane = np.zeros((height, width, 3), dtype=np.uint8)
    lane[height // 2] = AXIS
    lane[(rows >= np.rint(top)) & (rows <= np.rint(bottom))] = WAVE
    return lane


def _levels(clips: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, str]:
    """Decibels (B, bands, frames) below the loudest, the lowest band first, and the kind of spectrum in words."""
    import torch

    from ganzoo.sound.spectral import MelConfig, mel_filters, stft_magnitude

    length = clips.shape[-1]
    # About 32 ms: long enough to tell harmonics, short enough to tell onsets.
    n_fft = min(max(16, 2 ** round(np.log2(0.032 * sampling_rate))), 2 ** (length.bit_length() - 1))
    hop = min(max(1, length // TILE_WIDTH), n_fft // 2)
    waveforms = torch.from_numpy(clips.astype(np.float32) / FULL_SCALE).mean(dim=1)
    magnitude, kind = stft_magnitude(waveforms, n_fft, hop, centre=True), "linear frequency"
    try:
        config = MelConfig(
            sampling_rate=sampling_rate,
            n_fft=n_fft,
            hop_length=hop,
            win_length=n_fft,
            n_mels=min(80, n_fft // 8),
            f_max=None,
        )
        magnitude, kind = mel_filters(config).T @ magnitude, "log-mel"
    except (MissingPackageError, UserError):  # a picture is still due
        pass
    level = 20 * torch.log10(magnitude.clamp(min=1e-10))
    return (level - level.max()).clamp(min=-DECIBELS).numpy(), kind


def _spectrum(level: np.ndarray) -> Image.Image:
    """Decibels (bands, frames) as a picture of the tile's size, low frequencies at the bottom."""
    from PIL import Image

    shade = (level[::-1] / DECIBELS + 1) * (len(COLOURS) - 1)
    lower = np.minimum(shade.astype(int), len(COLOURS) - 2)
    part = (shade - lower)[..., None]
    pixels = COLOURS[lower] * (1 - part) + COLOURS[lower + 1] * part
    picture = Image.fromarray(np.rint(pixels).astype(np.uint8))
    return picture.resize((TILE_WIDTH, SPECTRUM_HEIGHT), Image.Resampling.BILINEAR)
