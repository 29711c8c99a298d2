"""Spectra against independent slow computations in numpy, and what happens where torchaudio does not load."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ganzoo.errors import UserError
from ganzoo.sound import spectral
from ganzoo.sound.spectral import (
    MelConfig,
    griffin_lim,
    log_mel,
    magnitudes_from_mel,
    mel_filters,
    mel_spectrogram,
    mel_to_waveform,
    resample,
    stft_magnitude,
)
from ganzoo.version import install_command

HIFIGAN = MelConfig()
SMALL = MelConfig(sampling_rate=8000, n_fft=256, hop_length=64, win_length=200, n_mels=20, f_min=50, f_max=3800)


def torchaudio_loads() -> bool:
    try:
        spectral.require_torchaudio()
    except ImportError:
        return False
    return True


needs_torchaudio = pytest.mark.skipif(not torchaudio_loads(), reason="torchaudio does not load here")


def sines(*frequencies: float, rate: int, length: int) -> torch.Tensor:
    time = torch.arange(length, dtype=torch.float64) / rate
    return sum(torch.sin(2 * torch.pi * f * time + f) for f in frequencies).float() / len(frequencies)


def peak_frequency(waveform: torch.Tensor, rate: int) -> float:
    window = np.hanning(len(waveform))
    return (
        np.abs(np.fft.rfft(waveform.double().numpy() * window, n=8 * len(waveform))).argmax()
        * rate
        / (8 * len(waveform))
    )


def slow_filters(config: MelConfig) -> np.ndarray:
    """Slaney's scale: linear to 1 kHz (3 mel for 200 Hz), then 27 mel for a factor of 6.4; triangles of area 1."""

    def to_mel(hertz: float) -> float:
        return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    def to_hertz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    highest = config.f_max or config.sampling_rate / 2
    edges = [to_hertz(mel) for mel in np.linspace(to_mel(config.f_min), to_mel(highest), config.n_mels + 2)]
    filters = np.zeros((config.n_fft // 2 + 1, config.n_mels))
    for bin_ in range(len(filters)):
        hertz = bin_ * config.sampling_rate / config.n_fft
        for band in range(config.n_mels):
            low, middle, high = edges[band : band + 3]
            height = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
            filters[bin_, band] = max(0.0, height) * 2 / (high - low)
    return filters


def slow_magnitude(waveform: np.ndarray, n_fft: int, hop: int, win: int) -> np.ndarray:
    """|DFT| (n_fft // 2 + 1, frames) by its definition."""
    window = np.zeros(n_fft)
    start = (n_fft - win) // 2
    window[start : start + win] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win) / win)
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft)
    frames = range(0, len(waveform) - n_fft + 1, hop)
    return np.abs(np.stack([matrix @ (waveform[at : at + n_fft] * window) for at in frames], axis=1))


@needs_torchaudio
@pytest.mark.parametrize(
    "config",
    [
        HIFIGAN,
        MelConfig(f_max=None),
        SMALL,
        MelConfig(sampling_rate=16_000, n_fft=512, hop_length=160, win_length=400, n_mels=40, f_min=20, f_max=7600),
    ],
)
def test_mel_filters_are_slaneys(config):
    np.testing.assert_allclose(mel_filters(config).numpy(), slow_filters(config), atol=2e-7, rtol=2e-4)


@needs_torchaudio
@pytest.mark.parametrize("config", [HIFIGAN, SMALL, MelConfig(hop_length=225, win_length=900)])
def test_mel_spectrogram_equals_a_slow_transform(config):
    waveform = torch.rand(8192, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    fast = mel_spectrogram(waveform, config)
    left = (config.n_fft - config.hop_length) // 2
    padded = np.pad(waveform.double().numpy(), (left, config.n_fft - config.hop_length - left), mode="reflect")
    magnitude = slow_magnitude(padded, config.n_fft, config.hop_length, config.win_length)
    slow = slow_filters(config).T @ np.sqrt(magnitude**2 + 1e-9)
    assert fast.shape == slow.shape == (config.n_mels, 8192 // config.hop_length)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_mel(waveform, config).numpy(), np.log(np.maximum(slow, 1e-5)), atol=1e-5)


@needs_torchaudio
def test_silence_has_the_floor_and_a_gradient():
    silence = torch.zeros(1, 2048, requires_grad=True)
    mels = log_mel(silence, HIFIGAN)
    # The root of 1e-9 in every bin, under filters of small area, is below the floor of 1e-5.
    torch.testing.assert_close(mels, torch.full_like(mels, float(np.log(1e-5))))
    mel_spectrogram(silence, HIFIGAN).sum().backward()
    assert torch.isfinite(silence.grad).all()


@needs_torchaudio
@pytest.mark.parametrize("config", [HIFIGAN, SMALL])
def test_crop_of_mel_is_mel_of_crop(config):
    """Inside the reach of the window; so a vocoder may train on excerpts."""
    waveform = torch.rand(2, 1, 40 * config.hop_length, generator=torch.Generator().manual_seed(0)) - 0.5
    whole = mel_spectrogram(waveform, config)
    first, frames = 7, 20
    crop = mel_spectrogram(waveform[..., first * config.hop_length : (first + frames) * config.hop_length], config)
    assert whole.shape == (2, 1, config.n_mels, 40) and crop.shape[-1] == frames
    reach = -(-config.padding // config.hop_length)
    torch.testing.assert_close(
        crop[..., reach:-reach], whole[..., first + reach : first + frames - reach], rtol=1e-4, atol=1e-6
    )
    assert not torch.allclose(crop[..., 0], whole[..., first], rtol=1e-2)  # at the edge it sees its own reflection


@needs_torchaudio
def test_batches_leading_dimensions_and_autocast_change_nothing():
    waveforms = torch.rand(6, 4096, generator=torch.Generator().manual_seed(0)) - 0.5
    together = mel_spectrogram(waveforms.view(2, 3, 4096), HIFIGAN)
    alone = torch.stack([mel_spectrogram(waveform, HIFIGAN) for waveform in waveforms])
    torch.testing.assert_close(together.view(6, 80, 16), alone, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mel_spectrogram(waveforms.view(2, 3, 4096), HIFIGAN), together)


@needs_torchaudio
def test_filters_first_made_in_inference_mode_can_be_trained_through():
    config = MelConfig(n_mels=33)
    waveform = torch.rand(1, 2048)
    with torch.inference_mode(), torch.device("meta"):
        assert mel_filters(config).device.type == "cpu"
    waveform.requires_grad_()
    mel_spectrogram(waveform, config).sum().backward()
    assert waveform.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hop_length": 2000}, "must not decrease"),
        ({"win_length": 2048}, "must not decrease"),
        ({"f_max": 12_000}, "sampling_rate / 2"),
        ({"f_min": 9000}, "f_min"),
        ({"n_mells": 80}, "n_mels"),
        ({"n_fft": 10**9}, "n_fft"),
        ({"f_max": float("nan")}, "f_max"),
    ],
)
def test_impossible_front_ends(values, words):
    with pytest.raises(UserError, match=words):
        MelConfig.from_dict(values)


@needs_torchaudio
def test_bands_narrower_than_the_bins_are_refused():
    with pytest.raises(UserError, match="hold no bin"):
        mel_filters(MelConfig(n_fft=256, hop_length=64, win_length=256, n_mels=128))


@needs_torchaudio
@pytest.mark.parametrize("length", [0, 1, 255, 384])
def test_waveforms_too_short_to_reflect(length):
    with pytest.raises(UserError, match="too short"):
        mel_spectrogram(torch.zeros(2, length), HIFIGAN)


@needs_torchaudio
@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(8000, 16_000), (44_100, 16_000), (192_000, 8000), (16_000, 22_050), (44_101, 16_000)]
)
def test_resampling_keeps_frequency_and_amplitude(from_rate, to_rate):
    length = from_rate // 2
    waveform = sines(440, rate=from_rate, length=length)
    resampled = resample(waveform[None], from_rate, to_rate)[0]
    assert abs(len(resampled) - to_rate / 2) <= 1
    assert peak_frequency(resampled, to_rate) == pytest.approx(440, abs=0.5)
    middle = resampled[len(resampled) // 4 : 3 * len(resampled) // 4]
    assert middle.abs().max() == pytest.approx(1, abs=0.02)
    expected = sines(440, rate=to_rate, length=len(resampled))
    assert (middle - expected[len(resampled) // 4 : 3 * len(resampled) // 4]).abs().max() < 0.03


@needs_torchaudio
def test_resampling_removes_what_the_lower_rate_cannot_hold():
    high = sines(6000, rate=16_000, length=8000)
    assert resample(high, 16_000, 8000)[100:-100].abs().max() < 0.01


def level(frequency: float, from_rate: int, to_rate: int) -> float:
    """Decibels that a tone has after resampling; of one that the lower rate cannot hold, its image's."""
    resampled = resample(sines(frequency, rate=from_rate, length=from_rate), from_rate, to_rate).double()
    middle = resampled[len(resampled) // 4 : -len(resampled) // 4]
    return 20 * math.log10(max(middle.square().mean().sqrt().item() * math.sqrt(2), 1e-12))


@needs_torchaudio
@pytest.mark.parametrize(
    ("from_rate", "to_rate"), [(44_100, 16_000), (48_000, 16_000), (16_000, 8000), (22_050, 8000)]
)
def test_resampling_keeps_what_fits_and_carries_no_images(from_rate, to_rate):
    half = to_rate / 2
    for share in (0.01, 0.25, 0.5, 0.875):  # the last is 7 kHz of 8
        assert level(share * half, from_rate, to_rate) == pytest.approx(0, abs=0.01)
    for frequency in (1.04 * half, 1.0625 * half, 1.2 * half, 0.99 * from_rate / 2):
        assert level(frequency, from_rate, to_rate) < -118


@needs_torchaudio
def test_resampling_up_makes_no_images():
    original = sines(1000, rate=8000, length=8000)
    expected = sines(1000, rate=44_100, length=44_100)
    assert (resample(original, 8000, 44_100) - expected)[4410:-4410].abs().max() < 1e-5


@needs_torchaudio
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resampling_in_any_mode_and_shape(dtype):
    waveforms = sines(440, rate=8000, length=800).to(dtype).requires_grad_()
    with torch.inference_mode():
        first = resample(waveforms.expand(2, 3, -1), 8000, 11_025)
    assert first.shape == (2, 3, 1103) and first.dtype == dtype
    again = resample(waveforms, 8000, 11_025)  # with the kernel of the first call, outside its mode
    again.sum().backward()
    torch.testing.assert_close(again, first[1, 2])


def test_equal_rates_return_the_input():
    waveform = torch.rand(3, 100)
    assert resample(waveform, 44_101, 44_101) is waveform


@pytest.mark.parametrize(("n_fft", "hop", "win"), [(256, 128, 256), (512, 100, 300), (64, 16, 64)])
def test_stft_magnitude_equals_a_slow_transform(n_fft, hop, win):
    waveform = torch.rand(2000, generator=torch.Generator().manual_seed(1)) - 0.5
    samples = waveform.double().numpy()
    np.testing.assert_allclose(
        stft_magnitude(waveform, n_fft, hop, win), slow_magnitude(samples, n_fft, hop, win), rtol=1e-4, atol=1e-5
    )
    centred = slow_magnitude(np.pad(samples, n_fft // 2, mode="reflect"), n_fft, hop, win)
    np.testing.assert_allclose(stft_magnitude(waveform, n_fft, hop, win, centre=True), centred, rtol=1e-4, atol=1e-5)


def convergence(waveforms: torch.Tensor, magnitude: torch.Tensor, n_fft: int, hop: int) -> float:
    """Spectral convergence: the relative error of the magnitudes."""
    return ((stft_magnitude(waveforms, n_fft, hop) - magnitude).norm() / magnitude.norm()).item()


@pytest.mark.parametrize(("n_fft", "hop"), [(256, 128), (256, 64), (512, 100)])
def test_griffin_lim_converges(n_fft, hop):
    length = n_fft + 60 * hop
    waveforms = torch.stack([sines(200 + 90 * i, 330, 1111, rate=8000, length=length) for i in range(3)])
    waveforms = waveforms * torch.linspace(0.1, 1, length)
    magnitude = stft_magnitude(waveforms, n_fft, hop)
    errors = [
        convergence(griffin_lim(magnitude, n_fft, hop, iterations=n), magnitude, n_fft, hop) for n in (0, 4, 16, 64)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.15 * errors[0]
    # Griffin and Lim's own steps never increase the error, and the momentum is worth having.
    plain = [
        convergence(griffin_lim(magnitude, n_fft, hop, iterations=n, momentum=0), magnitude, n_fft, hop)
        for n in range(0, 24, 4)
    ]
    assert plain == sorted(plain, reverse=True)
    assert errors[-1] < convergence(
        griffin_lim(magnitude, n_fft, hop, iterations=64, momentum=0), magnitude, n_fft, hop
    )


@pytest.mark.parametrize("win", [256, 200])
def test_griffin_lim_finds_a_sine(win):
    waveform = sines(523.25, rate=8000, length=256 + 100 * 64)
    magnitude = stft_magnitude(waveform, 256, 64, win)
    rebuilt = griffin_lim(magnitude, 256, 64, win, iterations=32)
    assert rebuilt.shape == waveform.shape
    assert peak_frequency(rebuilt, 8000) == pytest.approx(523.25, abs=1)
    assert rebuilt[500:-500].abs().max() == pytest.approx(1, abs=0.15)


def test_griffin_lim_of_a_clip_depends_on_no_other():
    magnitude = stft_magnitude(torch.rand(4, 2, 2048, generator=torch.Generator().manual_seed(0)) - 0.5, 256, 128)
    together = griffin_lim(magnitude, 256, 128, iterations=8, length=1500, skip=100)
    assert together.shape == (4, 2, 1500)
    state = torch.random.get_rng_state()
    alone = griffin_lim(magnitude[2, 1], 256, 128, iterations=8, length=1500, skip=100)
    torch.testing.assert_close(together[2, 1], alone, rtol=1e-3, atol=1e-4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert griffin_lim(magnitude, 256, 128, iterations=0, length=5000).shape == (4, 2, 5000)


def test_griffin_lim_of_silence_is_silence():
    assert not griffin_lim(torch.zeros(1, 129, 10), 256, 128, iterations=4).any()


@needs_torchaudio
@pytest.mark.parametrize("config", [SMALL, MelConfig(f_max=None)])
def test_magnitudes_from_mel_have_these_mels(config):
    waveform = sines(300, 720, 1500, 3100, rate=config.sampling_rate, length=64 * config.hop_length)
    mels = mel_spectrogram(waveform, config)
    errors = []
    for iterations in (0, 10, 100, 1000):
        magnitude = magnitudes_from_mel(mels, config, iterations=iterations)
        assert magnitude.min() >= 0
        errors.append(((mel_filters(config).T @ magnitude - mels).norm() / mels.norm()).item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.005


@needs_torchaudio
def test_mel_to_waveform_has_the_mel_and_the_pitch():
    config = MelConfig(sampling_rate=8000, n_fft=512, hop_length=128, win_length=512, n_mels=64, f_max=None)
    waveform = 0.5 * sines(440, 1320, rate=8000, length=64 * 128)
    target = log_mel(waveform[None, None], config)
    rebuilt = mel_to_waveform(target, config)
    assert rebuilt.shape == (1, 1, 64 * 128)
    heard = target > target.max() - 3  # within 26 dB of the loudest
    assert (log_mel(rebuilt, config) - target)[heard].abs().mean() < 0.2
    frequency = peak_frequency(rebuilt[0, 0, 1000:-1000], 8000)
    assert min(abs(frequency - 440), abs(frequency - 1320)) < 8


WITHOUT_TORCHAUDIO = """
import pathlib, sys
import ganzoo, ganzoo.processors, ganzoo.sound.recording
assert not {"torch", "torchaudio", "soundfile"} & set(sys.modules)
import numpy as np, torch
from ganzoo.errors import MissingPackageError
from ganzoo.processors import SpectrogramProcessor, WaveformProcessor
from ganzoo.sound.recording import Recording
from ganzoo.sound.spectral import MelConfig, log_mel, resample

sys.failure = OSError("libc10_cuda.so: cannot open shared object file")  # what the stub of torchaudio raises
folder = pathlib.Path(sys.argv[1])
sound = np.sin(np.arange(4096) / 7).astype(np.float32)
processor = WaveformProcessor(length=4096, sampling_rate=8000)
stored = torch.from_numpy(processor.encode(Recording(sound, 8000)))[None]
samples = processor.normalize(stored)
assert torch.equal(processor.to_stored(samples), stored)
assert processor.decode(samples).shape == (1, 1, 4096)
assert [(folder / name).stat().st_size > 100 for name in processor.save_preview(samples, folder, "a")] == [True, True]
assert processor.show(samples)
pictures = SpectrogramProcessor(length=4096, sampling_rate=8000).fitted([sound])
assert pictures.decode(pictures.normalize(stored)).shape == (1, 1, 4096)
for sys.failure in (sys.failure, RuntimeError("compiled with different CUDA versions"), ModuleNotFoundError("gone")):
    for work in (
        lambda: log_mel(samples, MelConfig()),
        lambda: resample(samples, 8000, 16000),
        lambda: processor.encode(Recording(sound, 16000)),
    ):
        try:
            work()
        except MissingPackageError as error:
            print(error)
        else:
            raise AssertionError("worked without torchaudio")
"""


def test_where_torchaudio_does_not_load(tmp_path):
    """In a process of its own: what needs it fails with one sentence, waveforms work, with pictures of linear frequency."""
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("import sys\nraise sys.failure\n")
    paths = [str(tmp_path), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHOUT_TORCHAUDIO, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    sentences = result.stdout.splitlines()
    causes = [cause for cause in ("libc10_cuda.so", "different CUDA versions", "is not installed") for _ in range(3)]
    for sentence, cause in zip(sentences, causes, strict=True):
        assert cause in sentence and "torchaudio" in sentence and install_command("audio") in sentence
