"""Processors of sound: what a recording becomes, what a network sees, what a person hears and looks at."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ganzoo.errors import CheckpointError, UnusableSample, UserError
from ganzoo.families.image.dcgan import DCGANConfig
from ganzoo.networks.audio import AudioGANConfig
from ganzoo.networks.image import ImageGANConfig
from ganzoo.processors import AudioOutput, SpectrogramProcessor, WaveformProcessor, processor_from_json
from ganzoo.sound.recording import Recording

RATE = 8000
DIGITS = Path(__file__).parents[2] / "shared" / "data" / "fsdd" / "test.parquet"


def waveforms(**fields) -> WaveformProcessor:
    """By default one that leaves recordings as they are: the ramps below have an offset and begin quietly."""
    as_it_is = {"remove_offset": False, "trim_db": None}
    return WaveformProcessor.from_dict({"length": 1000, "sampling_rate": RATE, **as_it_is, **fields})


def spectrograms(**fields) -> SpectrogramProcessor:
    return SpectrogramProcessor.from_dict(
        {"length": 4096, "sampling_rate": RATE, "n_fft": 128, "hop_length": 64, **fields}
    )


def harmonics(pitch: float, length: int = 4096) -> np.ndarray:
    """A voice of sorts: harmonics of a pitch that glides, under an envelope, and a little noise."""
    time = np.arange(length) / RATE
    phase = 2 * np.pi * pitch * (time + 0.1 * time**2)
    sound = sum(np.sin(k * phase + k) / k for k in range(1, 8))
    noise = np.random.default_rng(0).standard_normal(length)
    return (0.3 * sound * np.hanning(length) + 1e-3 * noise).astype(np.float32)


def ramp(length: int, peak: float = 0.5) -> np.ndarray:
    return np.linspace(peak / length, peak, length, dtype=np.float32)


def reason(processor: WaveformProcessor, raw) -> str:
    with pytest.raises(UnusableSample) as caught:
        processor.encode_all(raw)
    return str(caught.value)


# Waveforms: encoding


@pytest.mark.parametrize("channels", [1, 2])
def test_a_shorter_recording_is_padded(channels):
    sound = np.stack([ramp(600)] * channels)
    processor = waveforms(channels=channels)
    clip = processor.encode(Recording(sound, RATE))
    assert clip.dtype == np.int16 and clip.shape == processor.sample_shape == (channels, 1000)
    expected = np.rint(np.linspace(1 / 600, 1, 600) * 0.95 * 32767)
    assert np.abs(clip[:, :600] - expected).max() <= 1
    assert not clip[:, 600:].any()
    centred = waveforms(channels=channels, position="centre").encode(Recording(sound, RATE))
    np.testing.assert_array_equal(centred[:, 200:800], clip[:, :600])
    assert not centred[:, :200].any() and not centred[:, 800:].any()


def test_a_longer_recording_gives_its_beginning_or_its_slices():
    sound = ramp(3600)
    (first,) = waveforms().encode_all(Recording(sound, RATE))
    slices = waveforms(slices="all").encode_all(Recording(sound, RATE))
    assert len(slices) == 4  # the last 600 samples are more than half a clip
    np.testing.assert_array_equal(slices[0], first)
    joined = np.concatenate(slices, axis=1)[0]
    # One scale for all: the slices of a recording keep their loudness relative to each other.
    assert np.abs(joined[:3600] - np.rint(sound * (0.95 / 0.5) * 32767)).max() <= 1
    assert not joined[3600:].any()
    assert len(waveforms(slices="all").encode_all(Recording(sound[:3499], RATE))) == 3
    assert len(waveforms(slices="all").encode_all(Recording(sound[:450], RATE))) == 1


def test_silent_slices_are_left_out():
    sound = ramp(4000)
    sound[1000:2000] = 1e-5
    slices = waveforms(slices="all").encode_all(Recording(sound, RATE))
    assert [int(clip.max()) for clip in slices] == pytest.approx([7782, 23347, 31129], abs=2)
    late = np.concatenate([np.zeros(1000, np.float32), ramp(1000)])
    assert "silent" in reason(waveforms(), Recording(late, RATE))
    assert len(waveforms(slices="all").encode_all(Recording(late, RATE))) == 1


@pytest.mark.parametrize("scale", [0.002, 0.5, 1, 3, 30_000])
def test_peaks(scale):
    sound = ramp(1000, 1.0) * np.float32(scale)
    assert waveforms().encode(Recording(sound, RATE)).max() == round(0.95 * 32767)
    plain = waveforms(peak_normalize=False)
    if scale > 4:
        assert "full scale" in reason(plain, Recording(sound, RATE))
    else:
        assert plain.encode(Recording(sound, RATE)).max() == min(round(scale * 32767), 32767)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int32])
@pytest.mark.parametrize("shape", [(1000,), (1, 1000)])
def test_arrays_are_taken_to_be_at_the_processors_rate(kind, shape):
    scale = np.iinfo(kind).max if np.dtype(kind).kind == "i" else 1
    sound = (ramp(1000, 0.25) * scale).astype(kind).reshape(shape)
    expected = np.rint(np.linspace(1e-3, 1, 1000) * 0.95 * 32767)
    assert np.abs(waveforms().encode(sound)[0] - expected).max() <= 4  # 0.25 of int16 holds 8192 steps


def test_a_stored_clip_encodes_to_itself():
    clip = waveforms().encode(harmonics(200, 1000))
    assert np.abs(waveforms().encode(clip).astype(int) - clip).max() <= 1


def test_channels():
    left, right = ramp(1000, 0.8), ramp(1000, -0.2)
    stereo = Recording(np.stack([left, right]), RATE)
    plain = {"peak_normalize": False}
    mono = waveforms(**plain).encode(stereo)
    np.testing.assert_allclose(mono[0] / 32767, ramp(1000, 0.3), atol=1e-4)
    both = waveforms(channels=2, **plain).encode(stereo)
    np.testing.assert_allclose(both / 32767, stereo.samples, atol=1e-4)
    doubled = waveforms(channels=2, **plain).encode(Recording(left, RATE))
    np.testing.assert_array_equal(doubled[0], doubled[1])
    # One scale for both channels.
    assert waveforms(channels=2).encode(stereo)[1].min() == pytest.approx(-0.95 * 32767 / 4, abs=1)
    assert "3 channels" in reason(waveforms(), Recording(np.stack([left] * 3), RATE))
    assert "2 channels" in reason(waveforms(channels=3), stereo)


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (np.zeros(1000, np.float32), "silent"),
        (np.full(1000, 9e-4, np.float32), "silent"),
        (np.zeros(0, np.float32), "empty"),
        (ramp(1), "min_seconds"),
        (ramp(399), "min_seconds"),
        (np.zeros(1000, np.uint8), "uint8"),
        (np.zeros(1000, bool), "bool"),
        (np.zeros((1000, 1), np.float32), "shape"),
        (np.full(1000, np.nan, np.float32), "finite"),
        ("no such file.wav", "no such file.wav"),
        (b"no sound", "cannot read"),
    ],
)
def test_what_cannot_be_used(sound, words):
    assert words in reason(waveforms(), sound)


def test_too_short_is_never_a_whole_clip():
    assert waveforms().encode(ramp(400)).any()
    assert waveforms(min_seconds=10).encode(ramp(1000)).any()
    assert "min_seconds=10" in reason(waveforms(min_seconds=10), ramp(999))
    assert waveforms(min_seconds=0).encode(ramp(1)).any()


@pytest.mark.parametrize("rate", [4000, 11_025, 44_100, 192_000])
def test_other_rates_are_resampled(rate):
    pytest.importorskip("torchaudio", exc_type=ImportError)
    time = np.arange(rate // 2) / rate
    sound = (0.1 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)
    clip = waveforms(length=4000).encode(Recording(sound, rate))
    assert np.abs(clip).max() == round(0.95 * 32767)
    spectrum = np.abs(np.fft.rfft(clip[0] * np.hanning(4000)))
    assert spectrum.argmax() * RATE / 4000 == pytest.approx(500, abs=2)
    assert clip[0, -200:].any()


def test_loud_and_ultrasonic_recordings():
    pytest.importorskip("torchaudio", exc_type=ImportError)
    time = np.arange(16_000) / 16_000
    loud = (3e38 * np.sign(np.sin(2 * np.pi * 100 * time))).astype(np.float32)
    assert np.abs(waveforms().encode(Recording(loud, 16_000))).max() == round(0.95 * 32767)
    ultrasonic = np.sin(2 * np.pi * 80_000 * np.arange(19_200) / 192_000) * np.hanning(19_200)
    assert "nothing below 4000 Hz" in reason(waveforms(), Recording(ultrasonic, 192_000))


def saved_before_trimming(processor: WaveformProcessor) -> WaveformProcessor:
    """What a checkpoint that was published before `trim_db` and `remove_offset` says."""
    values = json.loads(processor.to_json())
    return processor_from_json({k: v for k, v in values.items() if k not in ("trim_db", "remove_offset")}, where="")


def late_voice(before: int = 6000, after: int = 0, level: float = 0.003, rate: int = RATE) -> np.ndarray:
    """Faint room noise, 3000 samples of a voice, and noise again."""
    voice = 0.5 * np.sin(2 * np.pi * 200 * np.arange(3000) / rate)
    noise = level * np.random.default_rng(2).standard_normal(before + 3000 + after)
    return (np.pad(voice, (before, after)) + noise).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 0.0005, 0.003, 0.008])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_excerpt_is_taken_where_the_sound_is(level, channels):
    sound = np.stack([late_voice(level=level)] * channels)
    processor = WaveformProcessor(length=1000, sampling_rate=RATE, channels=channels)
    clip = processor.encode(Recording(sound, RATE)) / 32767
    expected = sound[:, 6000:7000] * (0.95 / np.abs(sound).max())
    shift = min(range(160), key=lambda s: np.abs(clip[:, s:] - expected[:, : 1000 - s]).max())
    assert np.abs(clip[:, shift:] - expected[:, : 1000 - shift]).max() < 0.001
    old = saved_before_trimming(processor)
    if level == 0:
        assert "silent" in reason(old, Recording(sound, RATE))
    else:
        np.testing.assert_allclose(
            old.encode(Recording(sound, RATE)) / 32767, sound[:, :1000] * 0.95 / np.abs(sound).max(), atol=1e-4
        )


def test_an_excerpt_never_has_less_of_the_recording_than_it_could():
    processor = WaveformProcessor(length=5000, sampling_rate=RATE)
    sound = late_voice(before=6000, after=100)  # 3100 samples from where the voice begins
    scale = 0.95 * 32767 / np.abs(sound).max()
    assert np.abs(processor.encode(Recording(sound, RATE))[0] - np.rint(sound[-5000:] * scale)).max() <= 1
    short = late_voice(before=1500)
    assert np.abs(processor.encode(Recording(short, RATE))[0, :4500] - np.rint(short * scale)).max() < 0.01 * 32767
    loud = late_voice(before=0, after=6000)
    assert np.abs(processor.encode(Recording(loud, RATE))[0] - np.rint(loud[:5000] * scale)).max() < 0.01 * 32767


def test_slices_are_those_of_the_sound():
    sound = late_voice(before=4000, after=5000)
    processor = WaveformProcessor(length=1000, sampling_rate=RATE, slices="all")
    clips = processor.encode_all(Recording(sound, RATE))
    assert len(clips) == 3 and all(np.abs(clip).max() > 0.9 * 32767 for clip in clips)
    assert len(saved_before_trimming(processor).encode_all(Recording(sound, RATE))) == 12
    np.testing.assert_array_equal(clips[0], processor.revised(slices="first").encode(Recording(sound, RATE)))
    assert len(processor.revised(length=8000).encode_all(Recording(sound, RATE))) == 1


@pytest.mark.parametrize("slices", ["first", "all"])
@pytest.mark.parametrize("shape", [(1, 12_000), (2, 12_000), (1, 700)])
def test_an_offset_is_taken_away(slices, shape):
    voice = np.stack([harmonics(150 + 10 * i, shape[1]) for i in range(shape[0])])
    voice -= voice.mean(axis=1, keepdims=True)
    offset = np.float32([[0.1], [-0.3]])[: shape[0]]
    processor = WaveformProcessor(length=4000, sampling_rate=RATE, channels=shape[0], slices=slices)
    for clip, clean in zip(
        processor.encode_all(Recording(voice + offset, RATE)),
        processor.encode_all(Recording(voice, RATE)),
        strict=True,
    ):
        assert np.abs(clip.astype(int) - clean).max() < 0.02 * 32767
    kept = saved_before_trimming(processor.revised(peak_normalize=False)).encode(Recording(voice + offset, RATE))
    assert np.abs(kept[:, : shape[1]].mean(axis=1) / 32767 - offset[:, 0]).max() < 0.1


def test_nothing_but_an_offset_is_silent():
    processor = WaveformProcessor(length=1000, sampling_rate=RATE)
    assert "silent but for a constant offset" in reason(processor, np.full(2000, 0.2, np.float32))
    assert "offset" not in reason(processor, np.zeros(2000, np.float32))


def test_opposite_phase_is_named():
    left = harmonics(200, 1000)
    for processor in (WaveformProcessor(length=1000, sampling_rate=RATE), waveforms()):
        for right in (-left, -left + ramp(1000, 0.001)):
            message = reason(processor, Recording(np.stack([left, right]), RATE))
            assert "opposite phase" in message and "silent" not in message
        assert processor.encode(Recording(np.stack([left, 0 * left]), RATE)).any()
    both = WaveformProcessor(length=1000, sampling_rate=RATE, channels=2)
    np.testing.assert_array_equal(*np.abs(both.encode(Recording(np.stack([left, -left]), RATE))))


def test_published_processors_mean_what_they_meant():
    saved = {"processor_type": "waveform", "length": 1000, "channels": 1, "sampling_rate": RATE}
    old = processor_from_json(saved, where="test")
    assert (old.remove_offset, old.trim_db) == (False, None)
    assert processor_from_json(json.loads(old.to_json()), where="test") == old
    now = WaveformProcessor(length=1000, sampling_rate=RATE)
    assert (now.remove_offset, now.trim_db) == (True, 30.0)
    assert processor_from_json(json.loads(now.to_json()), where="test") == now
    pictures = {**saved, "processor_type": "spectrogram", "length": 1024}
    assert processor_from_json(pictures, where="test").trim_db is None


def test_the_resampler_is_part_of_what_is_kept(monkeypatch):
    processors = [waveforms(), spectrograms()]
    before = [processor.fingerprint() for processor in processors]
    monkeypatch.setattr("ganzoo.sound.spectral.RESAMPLING", "another")
    assert not set(before) & {processor.fingerprint() for processor in processors}


# Waveforms: the networks' side


def test_every_stored_value_survives_the_network():
    processor = waveforms(length=65_535)
    stored = torch.arange(-32767, 32768, dtype=torch.int16).view(1, 1, -1)
    samples = processor.normalize(stored)
    assert samples.dtype == torch.float32 and samples.min() == -1 and samples.max() == 1
    assert torch.equal(processor.to_stored(samples), stored)
    assert torch.equal(processor.to_stored(torch.tensor([[[-7.0, 1.5]]])), torch.tensor([[[-32767, 32767]]]))


def test_decode_and_output():
    processor = waveforms(channels=2)
    samples = torch.linspace(-2, 2, 4000).view(2, 2, 1000).requires_grad_()
    audios = processor.decode(samples)
    assert isinstance(audios, np.ndarray) and audios.dtype == np.float32 and audios.shape == (2, 2, 1000)
    assert audios.min() == -1 and audios.max() == 1
    assert torch.equal(processor.decode(samples.bfloat16(), "pt"), samples.detach().bfloat16().float().clamp(-1, 1))
    labels, latents = torch.arange(2), torch.zeros(2, 3)
    output = processor.output(samples, "np", labels=labels, latents=latents)
    assert isinstance(output, AudioOutput) and output.sampling_rate == RATE
    assert output.labels is labels and output.latents is latents
    with pytest.raises(UserError, match="'pil'"):
        processor.decode(samples, "pil")


def read_wav(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate == RATE and soundfile.info(path).subtype == "PCM_16"
    return samples.T


@pytest.mark.parametrize("channels", [1, 2])
def test_saved_samples_are_the_samples(tmp_path, channels):
    processor = waveforms(channels=channels)
    samples = torch.rand(3, channels, 1000, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    stored = processor.to_stored(samples).numpy()
    paths = processor.save_samples(samples, tmp_path / "many")
    assert [path.name for path in paths] == ["00000.wav", "00001.wav", "00002.wav", "overview.png"]
    for path, clip in zip(paths, stored, strict=False):
        np.testing.assert_array_equal(read_wav(path), clip)
    sheet, picture = processor.save_samples(samples, tmp_path / "sheet.wav")
    joined = read_wav(sheet)
    assert joined.shape[1] == 3 * 1000 + 2 * RATE // 4
    np.testing.assert_array_equal(joined[:, 3000 : 3000 + 1000], stored[1])
    assert not joined[:, 1000:3000].any()
    assert picture == tmp_path / "sheet.png" and Image.open(picture).width > 100
    one, _ = processor.save_samples(samples[:1], tmp_path / "one.WAV")
    np.testing.assert_array_equal(read_wav(one), stored[0])
    with pytest.raises(UserError, match=".wav"):
        processor.save_samples(samples, tmp_path / "sound.mp3")


def test_preview_holds_at_most_sixteen_clips(tmp_path):
    processor = waveforms()
    samples = processor.normalize(
        torch.from_numpy(np.stack([processor.encode(harmonics(100 + i)) for i in range(20)]))
    )
    assert processor.save_preview(samples, tmp_path / "new", "step-5") == ["step-5.wav", "step-5.png"]
    assert read_wav(tmp_path / "new" / "step-5.wav").shape[1] == 16 * 1000 + 15 * RATE // 4
    assert (tmp_path / "new" / "step-5.png").read_bytes()[:4] == b"\x89PNG"
    again = processor.save_preview(samples, tmp_path, "again")
    for name, other in zip(again, ["step-5.wav", "step-5.png"], strict=True):
        assert (tmp_path / name).read_bytes() == (tmp_path / "new" / other).read_bytes()


def test_the_picture_shows_waveform_and_pitch(tmp_path):
    """Below the waveform, a high tone is bright above a low one; silence is dark."""
    time = np.arange(4000) / RATE
    tones = [np.sin(2 * np.pi * f * time) * 0.9 for f in (300, 3000)]
    clips = torch.tensor(np.stack([*tones, 0 * time, ramp(4000, 0.9)]), dtype=torch.float32)[:, None]
    waveforms(length=4000).save_preview(clips, tmp_path, "p")
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("L"), dtype=float)
    tile = {0: (6, 6), 1: (6, 252), 2: (156, 6), 3: (156, 252)}  # top and left of each

    def spectrum(index: int) -> np.ndarray:
        top, left = tile[index]
        return picture[top + 48 : top + 144, left + 20 : left + 220].mean(axis=1)

    assert spectrum(1).argmax() < 40 < 60 < spectrum(0).argmax()
    assert spectrum(2).max() < 10 < 100 < spectrum(0).max()
    top, left = tile[3]
    wave = picture[top : top + 48, left : left + 240]
    heights = (wave > 150).argmax(axis=0)  # the ramp rises from the middle to the upper edge
    assert heights[10] > 20 and heights[-10] < 6 and (np.diff(heights) <= 0).all()


@pytest.mark.parametrize("fields", [{"length": 16}, {"length": 100, "channels": 3, "sampling_rate": 1000}])
def test_pictures_of_tiny_clips(tmp_path, fields):
    processor = waveforms(**fields)
    samples = torch.rand(2, *processor.sample_shape) - 0.5
    for name in processor.save_preview(samples, tmp_path, "tiny"):
        assert (tmp_path / name).stat().st_size > 50
    assert processor.show(samples)


def test_show_draws_a_louder_clip_taller():
    processor = waveforms()
    tone = torch.sin(torch.arange(1000) / 3)[None, None]
    quiet, loud = processor.show(0.05 * tone), processor.show(tone)
    assert sum(map(bool, loud.splitlines())) > 2 * sum(map(bool, quiet.splitlines()))
    assert len(processor.show(tone.repeat(4, 1, 1)).splitlines()) > len(loud.splitlines())


# Saving and validating


@pytest.mark.parametrize(
    "processor", [waveforms(slices="all"), spectrograms(), spectrograms().fitted([harmonics(200)])]
)
def test_saved_and_read_again(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "processor_config.json").read_text())
    assert processor_from_json(values, where="test") == processor
    with pytest.raises(CheckpointError, match="sampling_rate"):
        processor_from_json({**values, "sampling_rate": 0}, where="test")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"length": 15}, "length"),
        ({"channels": 9}, "channels"),
        ({"slices": "some"}, "slices"),
        ({"lenght": 15}, "Did you mean 'length'"),
        ({"silence": float("nan")}, "silence"),
    ],
)
def test_wrong_fields_of_waveforms(fields, words):
    with pytest.raises(UserError, match=words):
        waveforms(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"length": 4095}, "multiple of hop_length"),
        ({"n_fft": 127}, "even"),
        ({"hop_length": 65}, "at most half"),
        ({"mean": (0.0,) * 64}, "belong together"),
        ({"mean": (0.0,) * 65, "std": (1.0,) * 65}, "64 values"),
        ({"mean": (0.0,) * 64, "std": (0.0,) * 64}, "positive"),
        ({"mean": (float("inf"),) * 64, "std": (1.0,) * 64}, "mean"),
        ({"clip": 0}, "clip"),
    ],
)
def test_wrong_fields_of_spectrograms(fields, words):
    with pytest.raises(UserError, match=words):
        spectrograms(**fields)


# Spectrograms


def log_magnitudes(stored: np.ndarray, n_fft: int, hop: int, floor: float = 1e-6) -> np.ndarray:
    """(B, C, L) -> (B, C, n_fft // 2, L // hop), in numpy and float64: SpecGAN's before it is normalised."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    sound = np.pad(stored / 32767, ((0, 0), (0, 0), (0, n_fft - hop)))
    frames = np.lib.stride_tricks.sliding_window_view(sound, n_fft, axis=-1)[..., ::hop, :]
    return np.log(np.abs(np.fft.rfft(frames * window))[..., :-1] + floor).swapaxes(-1, -2)


@pytest.mark.parametrize(("channels", "floor"), [(1, 1e-6), (2, 1e-6), (1, 0.01)])
def test_statistics_are_those_of_the_data(channels, floor):
    sounds = [np.stack([harmonics(100 + 37 * i), harmonics(90 + 11 * i)])[:channels] for i in range(70)]
    raws = [*sounds, np.zeros((channels, 4096), np.float32), b"no sound"]  # what cannot be used is left out
    processor = spectrograms(channels=channels, floor=floor).fitted(iter(raws))
    stored = np.stack([processor.encode(sound) for sound in sounds])
    logs = log_magnitudes(stored, 128, 64, floor)
    np.testing.assert_allclose(processor.mean, logs.mean(axis=(0, 1, 3)), atol=1e-4)
    np.testing.assert_allclose(processor.std, logs.std(axis=(0, 1, 3)), atol=1e-4)
    assert processor.fitted(iter([])) is processor
    assert spectrograms(channels=channels, floor=floor).fitted(iter(raws)) == processor

    samples = processor.normalize(torch.from_numpy(stored))
    assert samples.shape[1:] == processor.network_shape == (channels, 64, 64)
    expected = (logs - logs.mean(axis=(0, 1, 3))[:, None]) / logs.std(axis=(0, 1, 3))[:, None] / 3
    assert (np.abs(expected) > 1).any()  # so that clipping is seen
    np.testing.assert_allclose(samples.numpy(), expected.clip(-1, 1), atol=5e-3)  # float32 near the floor


def test_the_papers_shape():
    processor = SpectrogramProcessor(length=16_384)
    assert processor.network_shape == (1, 128, 128)
    assert (processor.n_fft, processor.hop_length, processor.clip, processor.iterations) == (256, 128, 3.0, 16)


@pytest.mark.parametrize("hop", [64, 32])
def test_round_trip_of_voices(hop):
    sounds = [harmonics(pitch) for pitch in (110, 170, 230, 310)]
    # 8 deviations clip nothing; quiet, nothing is scaled.
    processor = spectrograms(hop_length=hop, clip=8, peak_normalize=False).fitted(sounds)
    stored = torch.from_numpy(np.stack([processor.encode(sound) for sound in sounds]))
    samples = processor.normalize(stored)
    heard = processor.to_stored(samples)
    assert heard.shape == stored.shape and heard.dtype == torch.int16
    before, after = (np.exp(log_magnitudes(clips.numpy(), 128, hop)) for clips in (stored, heard))
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert error < 0.16
    worse = processor.revised(iterations=0).to_stored(samples).numpy()
    assert np.linalg.norm(np.exp(log_magnitudes(worse, 128, hop)) - before) / np.linalg.norm(before) > 2 * error


def test_a_floor_leaves_the_range_to_the_sound():
    half = np.where(np.arange(4096) < 2048, harmonics(150), 0).astype(np.float32)  # then nothing at all

    def contrast(floor: float) -> float:
        """Deviation within the frames that sound; those that do not are one value."""
        processor = spectrograms(floor=floor).fitted([half])
        samples = processor.normalize(torch.from_numpy(processor.encode(half))[None])
        assert samples[..., 33:].std(dim=-1).max() < 1e-5
        return float(samples[..., :31].std(dim=-1).mean())

    assert contrast(0.03) > 2 * contrast(1e-6)


def test_no_click_at_the_start():
    sound = harmonics(150, 8192)[2048:6144]  # begins in the middle of a voice
    processor = spectrograms(hop_length=64).fitted([sound])
    samples = processor.normalize(torch.from_numpy(processor.encode(sound))[None])
    noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(0))
    for shown in (samples, samples + 0.05 * noise):  # a network's, too, which are no sound's
        heard = processor.to_waveforms(shown)[0, 0].abs()
        assert heard[:32].max() < heard[32:].max()


def test_what_is_too_loud_is_turned_down_and_not_cut_off():
    processor = spectrograms(clip=8).fitted([harmonics(150)])  # loud
    samples = processor.normalize(torch.from_numpy(processor.encode(harmonics(150)))[None])
    louder = samples + math.log(3) / (8 * torch.tensor(processor.std)[:, None])  # three times the magnitudes
    heard = processor.to_waveforms(louder)
    assert heard.abs().max() == pytest.approx(1, abs=1e-6)
    shape = processor.to_waveforms(samples)
    assert torch.nn.functional.cosine_similarity(heard.flatten(), shape.flatten(), dim=0) > 0.99
    assert processor.revised(peak_normalize=False).to_waveforms(louder).abs().max() > 2


def test_a_sample_depends_on_no_other_of_its_batch():
    processor = spectrograms().fitted([harmonics(150), harmonics(250)])
    samples = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    together = processor.decode(samples)
    np.testing.assert_allclose(processor.decode(samples[1:2])[0], together[1], atol=2e-3)
    np.testing.assert_array_equal(processor.decode(samples), together)


def test_bins_that_never_change_do_no_harm():
    tone = np.sin(np.pi / 2 * np.arange(4096)).astype(np.float32)
    processor = spectrograms().fitted([tone])
    samples = processor.normalize(torch.from_numpy(processor.encode(tone))[None])
    assert torch.isfinite(samples).all() and np.isfinite(processor.decode(samples)).all()


def test_without_statistics():
    processor = spectrograms()
    with pytest.raises(UserError, match="fitted"):
        processor.normalize(torch.zeros(1, 1, 4096, dtype=torch.int16))
    with pytest.raises(UserError, match="fitted"):
        processor.decode(torch.zeros(1, 1, 64, 64))
    with pytest.raises(UserError, match="no recording can be used"):
        processor.fitted([b"no sound"])


def test_waveforms_and_spectrograms_share_a_data_cache():
    shared = {"length": 4096, "sampling_rate": RATE}
    plain = WaveformProcessor(**shared)
    fitted = spectrograms().fitted([harmonics(200)])
    assert plain.fingerprint() == spectrograms().fingerprint() == fitted.fingerprint()
    assert plain.fingerprint() != spectrograms(position="centre").fingerprint()


def test_previews_of_spectrograms_are_sound(tmp_path):
    processor = spectrograms().fitted([harmonics(150), harmonics(250)])
    samples = torch.rand(2, 1, 64, 64) * 2 - 1
    assert processor.save_preview(samples, tmp_path, "p") == ["p.wav", "p.png"]
    assert read_wav(tmp_path / "p.wav").shape == (1, 2 * 4096 + RATE // 4)
    assert processor.show(samples)


# Configs


@pytest.mark.parametrize("resolution", [16, 64, 128])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_image_model_may_make_spectrograms(resolution, channels):
    config = DCGANConfig(resolution=resolution, channels=channels)
    processor = config.processor(type="spectrogram", sampling_rate=RATE)
    assert isinstance(processor, SpectrogramProcessor)
    assert processor.network_shape == config.processor().network_shape == (channels, resolution, resolution)
    assert processor.n_fft == 2 * resolution and processor.hop_length == resolution
    assert config.processor().difference(processor) is None
    dense = config.processor(type="spectrogram", hop_length=resolution // 2)
    assert dense.network_shape == processor.network_shape and dense.length == resolution**2 // 2


def test_the_papers_spectrograms_of_an_image_model():
    processor = ImageGANConfig(resolution=128, channels=1).processor(type="spectrogram")
    assert processor == SpectrogramProcessor(length=16_384)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"type": "waveform"}, "image or spectrogram"),
        ({"type": ["spectrogram"]}, "image or spectrogram"),
        ({"type": "spectrogram", "n_fft": 256}, "n_fft is the model's"),
        ({"type": "spectrogram", "length": 256}, "length is the model's"),
        ({"type": "spectrogram", "hop_length": "long"}, "whole number"),
        ({"type": "spectrogram", "hop_length": 0}, "hop_length"),
        ({"type": "spectrogram", "hop_length": 100}, "at most half"),
        ({"type": "spectrogram", "fit": "pad"}, "fit"),
        ({"type": "image", "hop_length": 64}, "hop_length"),
    ],
)
def test_wrong_processors_of_an_image_model(overrides, words):
    with pytest.raises(UserError, match=words):
        ImageGANConfig(resolution=64, channels=1).processor(**overrides)


def test_an_audio_model_has_its_shape():
    config = AudioGANConfig(length=2048, channels=2, sampling_rate=RATE)
    processor = config.processor(slices="all")
    assert processor == WaveformProcessor(length=2048, channels=2, sampling_rate=RATE, slices="all")
    for name in ("length", "channels", "sampling_rate"):
        with pytest.raises(UserError, match=f"{name} is the model's"):
            config.processor(**{name: 1})


# Real recordings


@pytest.mark.skipif(not DIGITS.exists(), reason="the recorded digits are not here")
def test_recorded_digits_are_encoded_and_rebuilt():
    """The six speakers' loudness differs by a factor of 16; after encoding every clip has one peak."""
    parquet = pytest.importorskip("pyarrow.parquet")
    records = parquet.read_table(DIGITS, columns=["audio"])["audio"].to_pylist()[::10]
    processor = SpectrogramProcessor(length=8192, sampling_rate=RATE, hop_length=64, remove_offset=False, trim_db=None)
    stored = np.stack([processor.encode(record) for record in records])
    assert (np.abs(stored).max(axis=(1, 2)) >= 0.95 * 32767 - 1).mean() > 0.9
    for record, clip in zip(records, stored, strict=True):
        sound, rate = soundfile.read(io.BytesIO(record["bytes"]), dtype="float64")
        expected = np.zeros(8192)
        expected[: min(len(sound), 8192)] = sound[:8192] * (0.95 / np.abs(sound).max())
        assert rate == RATE and np.abs(clip[0] / 32767 - expected).max() < 1e-4
    processor = processor.fitted(records)
    samples = processor.normalize(torch.from_numpy(stored))
    rebuilt = processor.to_stored(samples).numpy()
    before, after = (np.exp(log_magnitudes(clips, 256, 64)) for clips in (stored, rebuilt))
    assert np.linalg.norm(after - before) / np.linalg.norm(before) < 0.2
