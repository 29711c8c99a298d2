"""Recordings: what is read is right, and what cannot be read is refused in one sentence."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from ganzoo.errors import UnusableSample
from ganzoo.sound.recording import MAX_SECONDS, Recording, mixed, read_recording, to_float, to_int16, without_offset

RATE = 16_000
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wav8": ("WAV", "PCM_U8"),
    "float": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """float32 (C, T): another pitch in each channel, and a little noise, so that no part equals another."""
    time = np.arange(round(seconds * rate)) / rate
    sound = [0.5 * np.sin(2 * np.pi * 220 * (channel + 1) * time) for channel in range(channels)]
    noise = 0.01 * np.random.default_rng(0).standard_normal((channels, len(time)))
    return (np.stack(sound) + noise).astype(np.float32)


def sound_file(samples: np.ndarray, rate: int = RATE, kind: str = "wav") -> bytes:
    buffer = io.BytesIO()
    container, subtype = KINDS[kind]
    soundfile.write(buffer, samples.T, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def refused(raw) -> str:
    with pytest.raises(UnusableSample) as caught:
        read_recording(raw)
    message = str(caught.value)
    assert len(message) < 400 and "\n" not in message and "object at 0x" not in message
    return message


@pytest.mark.parametrize(
    ("kind", "step"), [("wav", 2**-15), ("wav24", 2**-23), ("wav8", 2**-7), ("float", 1e-9), ("flac", 2**-15)]
)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 44_100, 192_000])
def test_lossless_files_are_read_exactly(kind, step, channels, rate):
    samples = tone(0.05, rate, channels)
    recording = read_recording(sound_file(samples, rate, kind))
    assert recording.sampling_rate == rate
    assert recording.samples.dtype == np.float32 and recording.samples.shape == samples.shape
    assert np.abs(recording.samples - samples).max() <= 1.01 * step


@pytest.mark.parametrize("kind", ["ogg", "mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_files_are_read_closely(kind, channels):
    samples = tone(2.0, 44_100, channels)
    recording = read_recording(sound_file(samples, 44_100, kind))
    assert recording.samples.shape == samples.shape and recording.sampling_rate == 44_100
    for read, written in zip(recording.samples, samples, strict=True):
        assert np.corrcoef(read, written)[0, 1] > 0.99


def test_every_way_to_give_a_recording(tmp_path):
    samples = tone(0.1)
    content = sound_file(samples)
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    expected = read_recording(content).samples
    ways = [
        path,
        str(path),
        bytearray(content),
        {"bytes": content, "path": "inside.wav"},
        {"bytes": None, "path": str(path)},
        {"array": expected[0], "sampling_rate": RATE},
        Recording(expected, RATE),
        Recording(expected.astype(np.float64), np.int64(RATE)),
    ]
    for raw in ways:
        recording = read_recording(raw)
        assert recording.sampling_rate == RATE and type(recording.sampling_rate) is int
        np.testing.assert_array_equal(recording.samples, expected)


def test_a_name_does_not_decide_how_a_file_is_read(tmp_path):
    """By their endings libsndfile would take these for headerless mu-law, ADPCM, GSM or raw samples."""
    content = sound_file(tone(0.1), kind="flac")
    for ending in ("au", "snd", "vox", "gsm", "raw", "mp3", "txt"):
        (tmp_path / f"sound.{ending}").write_bytes(content)
        (tmp_path / f"text.{ending}").write_text("This is no sound. " * 500)
        assert read_recording(tmp_path / f"sound.{ending}").samples.shape == (1, 1600)
        assert f"text.{ending}" in refused(tmp_path / f"text.{ending}")


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_full_scale_of_integers(dtype):
    highest = np.iinfo(dtype).max
    values = np.array([-highest, 0, highest // 2, highest], dtype=dtype)
    read = read_recording(Recording(values, RATE)).samples
    np.testing.assert_allclose(read, [[-1, 0, 0.5, 1]], atol=1e-4)
    assert read[0, 0] == -1 and read[0, 3] == 1


def test_int16_survives_the_way_to_float_and_back():
    values = np.arange(-32767, 32768, dtype=np.int16)
    np.testing.assert_array_equal(to_int16(to_float(values)), values)
    np.testing.assert_array_equal(to_int16(np.float32([-9, -1.00001, 1.5])), [-32767, -32767, 32767])


def test_a_single_sample_is_a_recording():
    assert read_recording(sound_file(tone()[:, :1])).samples.shape == (1, 1)


@pytest.mark.parametrize("kind", ["wav", "wav24", "float", "ogg"])
def test_files_without_samples(kind):
    assert "empty" in refused(sound_file(tone()[:, :0], kind=kind))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(value):
    samples = tone(0.1)
    samples[0, 700] = value
    assert "finite" in refused(sound_file(samples, kind="float"))
    assert "finite" in refused(Recording(samples, RATE))
    assert "finite" in refused(Recording(np.array([1e300, 0.0]), RATE))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"RIFF",
        b"ID3" + bytes(100),
        b"\xff\xfb\x90\x00" * 30,
        b"text that was renamed\n" * 1000,
        "text as UTF-16, which begins like MPEG audio\n".encode("utf-16") * 1000,
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"fLaC" + bytes(1000),
        b"OggS" + bytes(1000),
        "no/such/file.wav",
        "nul\0byte.wav",
        ".",
        None,
        17,
        {},
        {"bytes": None, "path": None},
        {"array": [[["deep"]]], "sampling_rate": 8000},
        {"array": np.zeros(100, np.float32)},
        Recording(np.zeros(100, np.uint8), RATE),
        Recording(np.zeros(100, np.complex64), RATE),
        Recording(np.zeros((0, 100), np.float32), RATE),
        Recording(np.zeros((1, 0), np.float32), RATE),
        Recording(np.zeros((16_000, 2), np.float32), RATE),  # the axes are the wrong way round
        Recording(np.zeros((1, 1, 100), np.float32), RATE),
        Recording(np.zeros((), np.float32), RATE),
        Recording(np.zeros(100, np.float32), 0),
        Recording(np.zeros(100, np.float32), 10**400),
        Recording(np.zeros(100, np.float32), 44_100.5),
        Recording([0.0] * 100, RATE),
    ],
    ids=repr,
)
def test_what_is_no_recording(raw):
    refused(raw)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", np.linspace(0.001, 0.97, 30).round(3))
def test_files_that_are_cut_off(kind, part):
    content = sound_file(tone(2.0), kind=kind)
    refused(content[: int(part * len(content))])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(30))
def test_damaged_headers_are_refused_or_harmless(kind, seed):
    generator = np.random.default_rng(seed)
    content = bytearray(sound_file(tone(0.2, channels=1 + seed % 2), kind=kind))
    for position in generator.integers(0, min(len(content), 128), size=1 + seed % 4):
        content[position] = generator.integers(256)
    try:
        recording = read_recording(bytes(content))
    except UnusableSample:
        return
    assert recording.samples.ndim == 2 and recording.samples.dtype == np.float32
    assert np.isfinite(recording.samples).all()
    assert 1 <= recording.samples.shape[1] <= MAX_SECONDS * recording.sampling_rate


@pytest.mark.parametrize("kind", ["flac", "ogg"])
@pytest.mark.parametrize("seed", range(20))
def test_damaged_sound_with_checksums_is_refused(kind, seed):
    generator = np.random.default_rng(seed)
    content = bytearray(sound_file(tone(1.0), kind=kind))
    start = generator.integers(len(content) // 3, len(content) - 40)
    content[start : start + 16] = bytes(byte ^ 0x5A for byte in content[start : start + 16])
    refused(bytes(content))


def with_field(content: bytes, tag: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(layout, changed, content.index(tag) + offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("tag", "offset", "layout", "value"),
    [
        (b"data", 4, "<I", 1_000_000_000),  # bytes of sound
        (b"fmt ", 10, "<H", 0),  # channels
        (b"fmt ", 10, "<H", 2),
        (b"fmt ", 10, "<H", 65_535),
        (b"fmt ", 12, "<I", 0),  # samples a second
        (b"fmt ", 12, "<I", 4_294_967_295),
        (b"fmt ", 12, "<I", 8000),
        (b"fmt ", 22, "<H", 0),  # bits
        (b"fmt ", 22, "<H", 24),
        (b"fmt ", 22, "<H", 65_535),
    ],
)
def test_wav_headers_that_lie(tag, offset, layout, value):
    refused(with_field(sound_file(tone()), tag, offset, layout, value))


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_streamed_wav_of_unknown_length_is_read_whole(stated):
    content = sound_file(tone())
    streamed = with_field(content, b"data", 4, "<I", stated)
    np.testing.assert_array_equal(read_recording(streamed).samples, read_recording(content).samples)


@pytest.mark.parametrize("kind", ["wav", "wav24", "wav8", "float"])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF, None])
@pytest.mark.parametrize("stated", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_of_a_pipe_is_read_whole(kind, riff, stated):
    """Its writer does not know the sizes when it writes them, and cannot go back."""
    content = sound_file(tone(), kind=kind)
    streamed = with_field(content, b"data", 4, "<I", stated)
    streamed = streamed if riff is None else with_field(streamed, b"RIFF", 4, "<I", riff)
    np.testing.assert_array_equal(read_recording(streamed).samples, read_recording(content).samples)
    # The pipe may break within a sample.
    assert read_recording(streamed[:-1]).samples.shape[1] >= RATE - 1


def test_a_wav_without_sound_stays_empty_whatever_notes_follow():
    empty = sound_file(tone()[:, :0])
    assert empty.endswith(b"data" + bytes(4))
    for notes in (b"", b"LIST\x04\0\0\0INFO", b"id3 \x03\0\0\0abc\0" + b"LIST\x04\0\0\0INFO"):
        assert "empty" in refused(empty + notes)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_of_a_pipe_is_read_whole(channels):
    content = sound_file(tone(6.0, channels=channels), kind="flac")
    streamed = bytearray(content)
    streamed[21] &= 0xF0  # 36 bits of length
    streamed[22:26] = bytes(4)
    np.testing.assert_array_equal(read_recording(bytes(streamed)).samples, read_recording(content).samples)
    refused(bytes(streamed[:-500]))


def test_a_flac_that_states_a_huge_length():
    content = bytearray(sound_file(tone(), kind="flac"))
    content[21] |= 0x0F  # the length has 36 bits
    content[22:26] = b"\xff" * 4
    refused(bytes(content))


def test_a_small_file_of_hours_is_refused():
    silence = np.zeros((1, (MAX_SECONDS + 1) * 1000), dtype=np.float32)
    content = sound_file(silence, 1000, "flac")
    assert len(content) < 20_000
    assert "longer" in refused(content)
    assert "longer" in refused(Recording(silence, 1000))


def test_an_mp3_without_its_index_is_not_cut_short_silently():
    """libsndfile guesses its length from the first frame and stops after about half of it."""
    content = sound_file(tone(10.0), kind="mp3")
    second = content.index(content[:2], 4)
    assert len(soundfile.read(io.BytesIO(content[second:]))[0]) < 0.7 * 10 * RATE
    assert "index" in refused(content[second:])


def test_tags_around_an_mp3_do_no_harm():
    content = sound_file(tone(), kind="mp3")
    before = b"ID3\x04\x00\x00\x00\x00\x0f\x00" + bytes(15 * 128)
    expected = read_recording(content).samples
    np.testing.assert_array_equal(read_recording(before + content + b"TAG" + bytes(125)).samples, expected)


def test_two_ogg_streams_in_one_file_are_not_taken_for_damage():
    content = sound_file(tone(0.5), kind="ogg")
    assert read_recording(content * 2).samples.shape[1] >= RATE // 2


@pytest.mark.parametrize("seconds", [0.06, 0.1, 0.149, 0.151, 1.0])
def test_an_offset_is_the_part_that_stays(seconds):
    sound = tone(seconds, channels=2)
    sound -= np.median(sound, axis=1, keepdims=True)
    offsets = np.float32([[0.2], [-0.05]])
    cleared = without_offset(sound + offsets, RATE)
    assert cleared.dtype == np.float32 and np.abs(cleared - sound).max() < 0.05 * (1 if seconds < 0.1 else 0.1)


def test_what_is_no_offset_is_left():
    """A drum's beginning pushes the mean, and not what follows; silence stays what it is."""
    time = np.arange(RATE) / RATE
    kick = (np.exp(-time / 0.05) * np.sin(2 * np.pi * 50 * time)).astype(np.float32)[None]
    kick[:, RATE // 2 :] = 0
    assert np.abs(kick.mean()) > 1e-3
    assert without_offset(kick, RATE) is kick
    np.testing.assert_allclose(without_offset(kick + np.float32(0.3), RATE), kick, atol=1e-5)
    short = np.ones((1, RATE // 20 - 1), np.float32)
    assert without_offset(short, RATE) is short
    loud = np.float32([[3e38, -3e38] * 1000]) + np.float32(1e37)
    assert np.isfinite(without_offset(loud, RATE)).all()


def test_channels_that_cancel_are_named_and_not_called_silent():
    left, right = tone(1.0, channels=2)
    np.testing.assert_allclose(mixed(np.stack([left, right])), [(left + right) / 2], atol=1e-7)
    np.testing.assert_array_equal(mixed(left[None]), [left])
    assert not mixed(np.zeros((2, 9), np.float32)).any()
    hiss = 0.001 * np.random.default_rng(1).standard_normal(len(left)).astype(np.float32)
    for other in (-left, hiss - left):
        with pytest.raises(UnusableSample, match="opposite phase"):
            mixed(np.stack([left, other]))
    assert mixed(np.stack([left, -0.5 * left])).any()
    loud = np.float32([[3e38] * 9] * 2)
    np.testing.assert_allclose(mixed(loud), loud[:1])
