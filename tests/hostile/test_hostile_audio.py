"""Odd sound files: each is read right, or left out, counted and named; nothing else ever happens.

Every case goes through the data cache, as a file in a folder of its own and as a record in a parquet file, labelled by its
number. What comes of it is compared with the signal that it was made from.
"""

import dataclasses
import io
import json
import struct
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from ganzoo.data import left_out, load_data
from ganzoo.processors import WaveformProcessor
from ganzoo.recipe.data import DataConfig

RATE, LENGTH = 8000, 800
TIMES = np.arange(20_000) / RATE
# Two channels that no mistake in rate, order or type makes anything alike of.
LEFT = 0.5 * np.sin(2 * np.pi * (300 * TIMES + 150 * TIMES**2)) + 0.2 * np.cos(2 * np.pi * 1111 * TIMES)
RIGHT = 0.6 * np.sin(2 * np.pi * 470 * TIMES) * np.cos(2 * np.pi * 3 * TIMES)
STEREO = np.stack([LEFT, RIGHT])
SIXTEEN, COARSE = 2 / 32768, 1.5 / 128


@dataclasses.dataclass
class Case:
    """A file, and what must come of it.

    `signal` (C, T) is what it was made from, and `within` how near the clip has to come. Must be `used`: True, False
    (left out), or None: left out, or used as far as it goes, that is, right up to some sample and silent behind it.
    """

    name: str
    content: bytes
    used: bool | None = False
    signal: np.ndarray = dataclasses.field(default_factory=lambda: LEFT[None, :LENGTH])
    within: float = SIXTEEN
    suffix: str = ".wav"
    options: dict = dataclasses.field(default_factory=dict)


def encoded(samples, rate=RATE, **options):
    """Samples (T,) or (C, T) as the bytes of a sound file."""
    stream = io.BytesIO()
    soundfile.write(stream, np.asarray(samples).T, rate, **{"format": "WAV", "subtype": "PCM_16", **options})
    return stream.getvalue()


GOOD = encoded(LEFT[:LENGTH])
CODINGS = {
    "8-bit": ({"subtype": "PCM_U8"}, COARSE),
    "16-bit": ({}, SIXTEEN),
    "24-bit": ({"subtype": "PCM_24"}, SIXTEEN),
    "32-bit": ({"subtype": "PCM_32"}, SIXTEEN),
    "float32": ({"subtype": "FLOAT"}, SIXTEEN),
    "float64": ({"subtype": "DOUBLE"}, SIXTEEN),
    "mu-law": ({"subtype": "ULAW"}, 0.03),
    "a-law": ({"subtype": "ALAW"}, 0.03),
    "extensible": ({"format": "WAVEX"}, SIXTEEN),
    "extensible-float": ({"format": "WAVEX", "subtype": "FLOAT"}, SIXTEEN),
    "rf64": ({"format": "RF64"}, SIXTEEN),
    "w64": ({"format": "W64"}, SIXTEEN),
    "aiff": ({"format": "AIFF"}, SIXTEEN),
    "au": ({"format": "AU"}, SIXTEEN),
    "caf": ({"format": "CAF"}, SIXTEEN),
    "big-endian": ({"endian": "BIG"}, SIXTEEN),
    "flac-8": ({"format": "FLAC", "subtype": "PCM_S8"}, COARSE),
    "flac-16": ({"format": "FLAC"}, SIXTEEN),
    "flac-24": ({"format": "FLAC", "subtype": "PCM_24"}, SIXTEEN),
    "vorbis": ({"format": "OGG", "subtype": "VORBIS"}, 0.1),
}
ENDINGS = {"flac-8": ".flac", "flac-16": ".flac", "flac-24": ".FLAC", "vorbis": ".ogg"}


def codings():
    """Every coding, mono and stereo into mono and stereo."""
    for name, (options, within) in CODINGS.items():
        for found, wanted in ((1, 1), (2, 1), (1, 2), (2, 2)):
            samples = STEREO[:found, :LENGTH]
            expected = samples.mean(0, keepdims=True) if wanted == 1 else np.broadcast_to(samples, (2, LENGTH))
            yield Case(
                f"{name}-{found}-into-{wanted}",
                encoded(samples, **options),
                True,
                expected,
                within,
                ENDINGS.get(name, ".wav"),
                {"channels": wanted},
            )
    for found in (3, 6):
        yield Case(f"{found}-channels", encoded(np.repeat(STEREO[:1, :LENGTH], found, axis=0)))
        surround = np.repeat(STEREO[:1, :LENGTH], found, axis=0)
        yield Case(f"{found}-channels-kept", encoded(surround), True, surround, options={"channels": found})


def lengths():
    for length in (0, 1, 2, 15, 79, 80, 399, 400, 799, 800, 801, 5000, 20_000):
        for name, options in {"wav": {}, "float": {"subtype": "FLOAT"}, "flac": {"format": "FLAC"}}.items():
            content = encoded(LEFT[:length], **options)
            # Of 0.05 s, the least that is used, and of none.
            yield Case(f"{name}-of-{length}", content, length >= 400, LEFT[None, :length])
            yield Case(
                f"{name}-of-{length}-and-no-minimum",
                content,
                length > 0,
                LEFT[None, :length],
                options={"min_seconds": 0},
            )


def rates():
    """A tone at another rate is the same tone, but for the edges."""
    for rate in (1000, 8001, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000):
        times = np.arange(rate // 4) / rate
        resampled = np.sin(2 * np.pi * 200 * np.arange(LENGTH) / RATE)
        yield Case(
            f"{rate}-hz",
            encoded(0.5 * np.sin(2 * np.pi * 200 * times), rate),
            True,
            0.5 * resampled[None],
            0.02,
        )
    for rate in (1, 999, 800_000, 2**31 - 1):
        yield Case(f"{rate}-hz-is-no-rate", encoded(LEFT[:LENGTH], rate))


def not_numbers():
    for subtype, values in {"FLOAT": (np.nan, np.inf, -np.inf), "DOUBLE": (np.nan, np.inf, -np.inf, 1e300)}.items():
        for value in values:
            for position in (0, 400, 799):
                samples = LEFT[:LENGTH].astype(np.float64 if subtype == "DOUBLE" else np.float32)
                samples[position] = value
                yield Case(f"{value}-in-{subtype.lower()}-at-{position}", encoded(samples, subtype=subtype))
    yield Case("silence", encoded(np.zeros(LENGTH)))
    yield Case("whisper", encoded(LEFT[:LENGTH] * 1e-6, subtype="FLOAT"))
    yield Case("loud", encoded(LEFT[:LENGTH] * 1e6, subtype="FLOAT"))
    peak = np.abs(LEFT[:LENGTH]).max()
    for scale in (1e-2, 1.0, 1e6, 1e30):
        yield Case(
            f"scaled-by-{scale:g}",
            encoded(LEFT[:LENGTH] * scale, subtype="FLOAT"),
            True,
            LEFT[None, :LENGTH] * 0.95 / peak,
            options={"peak_normalize": True},
        )


def cut_off():
    """Headers at every length, and bodies at some."""
    for name, options in {"wav": {}, "extensible": {"format": "WAVEX"}, "float": {"subtype": "FLOAT"}}.items():
        content = encoded(LEFT[:LENGTH], **options)
        header = content.index(b"data") + 8
        for length in [*range(header + 1), header + 1, header + 2, header + 801, len(content) - 2, len(content) - 1]:
            yield Case(f"{name}-cut-at-{length}", content[:length])
    lossless = {"flac": ({"format": "FLAC"}, SIXTEEN, 90), "aiff": ({"format": "AIFF"}, SIXTEEN, 60)}
    lossy = {"vorbis": ({"format": "OGG", "subtype": "VORBIS"}, 0.1, 60)}
    for name, (options, within, dense) in {**lossless, **lossy}.items():
        content = encoded(LEFT[:4000], **options)
        for length in [*range(0, dense, 3), *np.linspace(dense, len(content) - 1, 12).astype(int)]:
            yield Case(f"{name}-cut-at-{length}", content[:length], None, LEFT[None, :LENGTH], within)
    content = encoded(LEFT[:8000], 8000, format="MP3", subtype="MPEG_LAYER_III")
    for length in (0, 1, 3, 4, 10, 40, 100, 143):
        yield Case(f"mp3-cut-at-{length}", content[:length], suffix=".mp3")


def contradictions():
    """Every field of a WAV header, with values that are not its own."""
    fields = {
        "riff-size": (4, "<I", (0, 1, 36, 10**6, 2**31, 2**32 - 1)),
        "fmt-size": (16, "<I", (0, 1, 15, 17, 40, 10**6, 2**32 - 1)),
        "format": (20, "<H", (0, 2, 3, 6, 7, 17, 85, 0x2000, 0xFFFE, 0xFFFF)),
        "channels": (22, "<H", (0, 2, 3, 255, 1024, 65_535)),
        "rate": (24, "<I", (0, 1, 7999, 16_000, 192_000, 2**31, 2**32 - 1)),
        "byte-rate": (28, "<I", (0, 1, 8000, 32_000, 2**32 - 1)),
        "block": (32, "<H", (0, 1, 3, 4, 65_535)),
        "bits": (34, "<H", (0, 1, 8, 15, 17, 24, 32, 64, 65_535)),
        "data-tag": (36, "4s", (b"DATA", b"\0\0\0\0", b"junk")),
        "data-size": (40, "<I", (0, 1, 2, 1598, 1601, 3200, 10**6, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)),
    }
    for name, (position, kind, values) in fields.items():
        for value in values:
            content = bytearray(GOOD)
            struct.pack_into(kind, content, position, value)
            yield Case(f"{name}-of-{value!r}", bytes(content), None)
    for position in range(44):
        content = bytearray(GOOD)
        content[position] ^= 0x80
        yield Case(f"bit-flipped-at-{position}", bytes(content), None)


def something_else():
    noise = np.random.RandomState(0)
    heads = {"wav": GOOD[:44], "flac": b"fLaC\0\0\0\x22", "ogg": b"OggS\0\2", "mp3": b"ID3\3\0\0\0\0\0\x7f"}
    for length in (1, 3, 7, 16, 64, 300, 4096, 20_000):
        yield Case(f"noise-of-{length}", noise.bytes(length))
        for name, head in heads.items():
            if name == "wav":  # a header that states more than there is, or less: noise is then a sound
                yield Case(f"wav-head-and-noise-of-{length}", head[:40] + b"\xff\xff\xff\x70" + noise.bytes(length))
            else:
                yield Case(f"{name}-head-and-noise-of-{length}", head + noise.bytes(length), suffix=f".{name}")
    others = {
        "empty": b"",
        "text": b"This file was renamed.\n" * 50,
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "json": json.dumps({"audio": [0.0] * 50}).encode(),
        "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "compressed": zlib.compress(GOOD),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "riff-avi": b"RIFF\x24\0\0\0AVI LIST" + bytes(100),
        "twice-riff": b"RIFF\x24\0\0\0WAVERIFF\x24\0\0\0WAVE",
        "chunks-for-ever": b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\0\0\0\0" * 5000,
        "voc": b"Creative Voice File\x1a" + bytes(50),
        "gsm": b"\xd2" * 33 * 20,
    }
    for name, content in others.items():
        for suffix in (".wav", ".flac", ".ogg", ".mp3"):
            yield Case(f"{name}-as{suffix}", content, suffix=suffix)


CASES = [*codings(), *lengths(), *rates(), *not_numbers(), *cut_off(), *contradictions(), *something_else()]


def in_folders(root, cases):
    for number, case in cases.items():
        (root / number).mkdir(parents=True)
        (root / number / f"odd{case.suffix}").write_bytes(case.content)


def in_a_table(root, cases):
    root.mkdir()
    rows = [{"bytes": case.content, "path": f"{number}/odd{case.suffix}"} for number, case in cases.items()]
    kind = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = {"audio": pyarrow.array(rows, kind), "label": list(range(len(rows)))}
    pyarrow.parquet.write_table(pyarrow.table(table), root / "train.parquet")


# What is read is compared with what was written: neither louder, nor cut, nor centred.
AS_RECORDED = {"peak_normalize": False, "trim_db": None, "remove_offset": False}


@pytest.fixture(scope="module", params=[in_folders, in_a_table])
def outcomes(request, tmp_path_factory):
    """Name of a case -> the clips that came of it, and the reasons why none did."""
    root, found = tmp_path_factory.mktemp("hostile"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_CACHE", str(root / "cache"))
        patch.setattr(left_out, "MAX_REASONS", 10**6)  # all of them, with all names
        patch.setattr(left_out, "NUM_EXAMPLES", 10**6)
        for group, options in enumerate({json.dumps(case.options): case.options for case in CASES}.values()):
            cases = {f"{number:04d}": case for number, case in enumerate(CASES) if case.options == options}
            request.param(root / str(group), cases)
            processor = WaveformProcessor(**{"length": LENGTH, "sampling_rate": RATE, **AS_RECORDED, **options})
            dataset = load_data(DataConfig(path=str(root / str(group))), processor)
            reasons = dataset.left_out.reasons if dataset.left_out else ()
            for label, (number, case) in enumerate(cases.items()):
                clips = dataset.samples[dataset.labels == label]
                name = f"{number}/odd{case.suffix}"
                found[case.name] = clips, [row for row in reasons if name in row.examples]
            assert sum(row.count for row in reasons) + len(dataset) == len(cases)
    return found


def agrees(clip, case):
    """Whether a clip (C, L) is the case's signal, or as much of it as there is."""
    signal = np.zeros(clip.shape)
    length = min(case.signal.shape[1], clip.shape[1])
    signal[:, :length] = case.signal[:, :length]
    sounding = np.flatnonzero(clip.any(0))
    end = clip.shape[1] if case.used else sounding[-1] + 1
    inside = slice(100, end - 100) if case.name.endswith("-hz") else slice(0, end)  # filters ring at the edges
    return np.abs(clip / 32767 - signal)[:, inside].max() <= case.within


def test_there_are_enough_cases():
    assert len(CASES) >= 300 and len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_read_right_or_left_out(case, outcomes):
    clips, reasons = outcomes[case.name]
    assert len(clips) + len(reasons) == 1
    assert case.used in (len(clips) == 1, None)
    if len(clips):
        assert agrees(clips[0], case)
    else:
        reason = reasons[0].reason
        assert 10 < len(reason) <= 300 and reason.isprintable() and "odd." not in reason


def test_what_is_good_among_all_that_is_not(tmp_path, monkeypatch):
    """A labelled set keeps it, with its labels, and tells the rest in one sentence."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    odd = [case for case in CASES if case.used is False and not case.options]
    rows = [(case.content, f"{case.name}{case.suffix}", index % 3) for index, case in enumerate(odd)]
    for index in range(0, len(rows), 50):
        rows.insert(index, (GOOD, f"good-{index}.wav", 7))
    rows.insert(5, (GOOD, "unlabelled.wav", None))
    table = {
        "audio": [{"bytes": content, "path": name} for content, name, _ in rows],
        "label": [label for _, _, label in rows],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet")
    processor = WaveformProcessor(length=LENGTH, sampling_rate=RATE, **AS_RECORDED)
    dataset = load_data(DataConfig(path=str(tmp_path)), processor)
    good = [row for row in rows if row[1].startswith("good")]
    assert len(dataset) == len(good) and dataset.labels.tolist() == [7] * len(good)
    expected = np.rint(soundfile.read(io.BytesIO(GOOD), dtype="float32")[0] * 32767)
    assert np.array_equal(dataset.samples[:, 0], np.tile(expected, (len(good), 1)))
    assert dataset.left_out.total == len(odd) + 1 == dataset.left_out.of - len(good)
    assert any("no label" in row.reason and row.examples == ("unlabelled.wav",) for row in dataset.left_out.reasons)
    sentence = dataset.left_out.sentence("the set")
    assert sentence.startswith(f"{len(odd) + 1} of {len(rows)} recordings of the set had to be left out: ")
    assert sentence.isprintable() and len(sentence) < 4000
