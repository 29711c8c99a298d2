"""Recordings as data: folders, tables, the built-in drums, and a cache that leaves out what nobody could train on."""

import io
import json
import re
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image
from places import SHARED_DATA

import ganzoo
from ganzoo.data import Source, build_cache, load_data, open_source
from ganzoo.data.cache import open_cache, read_cache
from ganzoo.data.left_out import LeftOut, Reason, Tally
from ganzoo.data.sets.drums import KINDS, RANGES, drum_hit, drum_of
from ganzoo.errors import NotFoundError, UnusableSample, UserError
from ganzoo.processors import WaveformProcessor
from ganzoo.recipe.data import DataConfig

RATE = 8000
PLAIN = WaveformProcessor(length=800, sampling_rate=RATE, peak_normalize=False)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The cache folder of one test."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def tone(pitch, length=800):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(length) / RATE)).astype(np.float32)


def sound(pitch, length=800, **options):
    """A sine as the bytes of a sound file."""
    stream = io.BytesIO()
    soundfile.write(stream, tone(pitch, length), RATE, **{"format": "WAV", **options})
    return stream.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pitches(samples):
    """The frequency of each clip's highest spectral line, in Hz."""
    spectra = np.abs(np.fft.rfft(np.asarray(samples)[:, 0].astype(float)))
    return (spectra.argmax(1) * RATE / samples.shape[-1]).tolist()


def open_at(path, split=None, **options):
    return open_source(DataConfig(path=str(path), **options), split)


def listed(source):
    return [(file.name, label) for file, label in source.iterate()]


# ------------------------------------------------------------------------------------------------------------ folders


def test_folders_of_recordings_are_classes(tmp_path):
    write(tmp_path / "owl" / "a.wav", sound(1000))
    write(tmp_path / "cat" / "b.FLAC", sound(2000, format="FLAC"))
    write(tmp_path / "cat" / "young" / "c.ogg", sound(3000, format="OGG"))
    write(tmp_path / "dog" / "d.mp3", sound(500, format="MP3"))
    write(tmp_path / "dog" / "notes.txt", b"not a recording")
    source = open_at(tmp_path)
    assert source.class_names == ("cat", "dog", "owl") and source.length == 4
    assert listed(source) == [("b.FLAC", 0), ("c.ogg", 0), ("d.mp3", 1), ("a.wav", 2)]
    dataset = load_data(DataConfig(path=str(tmp_path)), PLAIN)
    assert pitches(dataset.samples) == [2000, 3000, 500, 1000]
    assert dataset.labels.tolist() == [0, 0, 1, 2] and dataset.left_out is None and dataset.num_classes == 3


def test_recordings_without_classes(tmp_path):
    for name in ("b.wav", "a.wav", "more/c.wav"):  # one folder beside files is no set of classes
        write(tmp_path / name, sound(1000))
    assert listed(open_at(tmp_path)) == [("a.wav", None), ("b.wav", None), ("c.wav", None)]
    assert load_data(DataConfig(path=str(tmp_path)), PLAIN).labels is None


def test_one_folder_that_holds_everything_is_a_class(tmp_path):
    write(tmp_path / "kick" / "a.wav", sound(1000))
    assert open_at(tmp_path).class_names == ("kick",)


def test_folders_named_by_split(tmp_path):
    write(tmp_path / "train" / "cat" / "1.wav", sound(100))
    write(tmp_path / "train" / "dog" / "2.wav", sound(200))
    write(tmp_path / "test" / "dog" / "3.wav", sound(300))
    assert listed(open_at(tmp_path)) == [("1.wav", 0), ("2.wav", 1)]
    assert open_at(tmp_path, "test").length == 1
    with pytest.raises(NotFoundError, match="has no split 'dev'; there is test, train"):
        open_at(tmp_path, "dev")


def test_one_long_recording_is_as_many_samples_as_it_has_slices(tmp_path):
    file = write(tmp_path / "album.wav", sound(500, 5 * 800))
    processor = PLAIN.revised(slices="all")
    data = load_data(DataConfig(path=str(file)), processor)
    assert len(data) == 5 * 800 // processor.length and data.labels is None
    assert pitches(data.samples) == pytest.approx([500] * len(data), abs=RATE / processor.length)
    with pytest.raises(NotFoundError, match="has no split 'test'; there is train"):
        open_at(file, "test")
    with pytest.raises(NotFoundError, match="has no split 'train'; there is test"):
        open_at(write(tmp_path / "test.flac", sound(100, format="FLAC")))


def test_hidden_recordings_are_skipped(tmp_path):
    write(tmp_path / "a" / "1.wav", sound(100))
    write(tmp_path / "b" / "2.wav", sound(100))
    write(tmp_path / "b" / "._2.wav", b"a Mac's second half")
    write(tmp_path / ".trash" / "3.wav", sound(100))
    assert listed(open_at(tmp_path)) == [("1.wav", 0), ("2.wav", 1)]


def test_of_pictures_and_recordings_the_more_numerous_are_the_samples(tmp_path):
    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "png")
    write(tmp_path / "cover.png", picture.getvalue())
    write(tmp_path / "1.wav", sound(100))
    assert listed(open_at(tmp_path)) == [("cover.png", None)]  # as many: pictures
    write(tmp_path / "2.wav", sound(100))
    assert listed(open_at(tmp_path)) == [("1.wav", None), ("2.wav", None)]


def test_a_list_of_recordings_is_no_text(tmp_path):
    write(tmp_path / "1.wav", sound(100))
    write(tmp_path / "train.txt", b"1.wav one two three\n")
    assert listed(open_at(tmp_path)) == [("1.wav", None)]


def test_fingerprint_follows_content_and_classes(tmp_path):
    def fingerprint(name, **pitches):
        for file, pitch in pitches.items():
            write(tmp_path / name / f"{file.replace('_', '/')}.wav", sound(pitch))
        return open_at(tmp_path / name).fingerprint

    one = fingerprint("one", a_x=100, b_y=200)
    assert fingerprint("same", a_x=100, b_y=200) == one
    others = [fingerprint("sound", a_x=100, b_y=300), fingerprint("class", a_x=100, c_y=200)]
    assert len({one, *others}) == 3


def test_folder_with_nothing_to_read(tmp_path):
    write(tmp_path / "song.m4a", b"")
    with pytest.raises(UserError, match=r"none of what is read here: .*recordings \(.*\.wav\).*; found \.m4a\."):
        open_at(tmp_path)


# ------------------------------------------------------------------------------------------------------------- tables


def records(pitches_):
    return [{"bytes": sound(pitch), "path": f"{pitch}.wav"} for pitch in pitches_]


def write_table(path, columns, features=None):
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path)
    return path


def test_parquet_as_the_hub_has_it_without_any_decoder(tmp_path):
    """The features say which columns are meant; `datasets` would need torchcodec to decode, and is not asked to."""
    features = {"sound": {"_type": "Audio"}, "text": {"_type": "Value", "dtype": "string"}}
    features["kind"] = {"names": ["high", "low"], "_type": "ClassLabel"}
    write_table(
        tmp_path / "train.parquet",
        {"text": ["a", "b"], "sound": records([500, 2000]), "kind": [1, 0]},
        {name: features[name] for name in ("text", "sound", "kind")},
    )
    before = set(sys.modules)
    dataset = load_data(DataConfig(path=str(tmp_path)), PLAIN)
    assert pitches(dataset.samples) == [500, 2000]
    assert dataset.labels.tolist() == [1, 0] and dataset.class_names == ("high", "low")
    assert not {"torchcodec", "torchaudio"} & (set(sys.modules) - before)
    texts = open_at(tmp_path, sample_column="text")
    assert [raw for raw, _ in texts.iterate()] == ["a", "b"]


@pytest.mark.parametrize("name", ["audio", "recording", "speech"])
@pytest.mark.parametrize(
    "column", [records, lambda found: [sound(pitch) for pitch in found]], ids=["records", "bytes"]
)
def test_columns_of_recordings_are_found_by_name(name, column, tmp_path):
    write_table(tmp_path / "train.parquet", {"text": ["a", "b"], name: column([500, 2000]), "label": [4, 2]})
    dataset = load_data(DataConfig(path=str(tmp_path)), PLAIN)
    assert pitches(dataset.samples) == [500, 2000] and dataset.labels.tolist() == [4, 2]


def test_a_column_of_words_named_audio_is_not_taken_for_recordings(tmp_path):
    write_table(tmp_path / "train.parquet", {"audio": ["1.wav"], "sentence": ["hello"]})
    assert [raw for raw, _ in open_at(tmp_path).iterate()] == ["hello"]


def test_pictures_come_before_recordings_and_any_column_can_be_named(tmp_path):
    write_table(tmp_path / "train.parquet", {"audio": records([500]), "image": [{"bytes": b"x", "path": None}]})
    assert next(open_at(tmp_path).iterate())[0]["bytes"] == b"x"
    assert next(open_at(tmp_path, sample_column="audio").iterate())[0]["path"] == "500.wav"


@pytest.mark.parametrize("decode", [True, False])
def test_parquet_written_by_datasets(decode, tmp_path):
    import datasets

    features = datasets.Features(
        {"clip": datasets.Audio(sampling_rate=RATE, decode=decode), "kind": datasets.ClassLabel(names=["a", "b"])}
    )
    # Built as an Arrow table: what `from_dict` does with an Audio column needs torchcodec.
    table = pyarrow.table({"clip": records([500, 1000]), "kind": [1, 0]}).cast(features.arrow_schema)
    datasets.Dataset(table).to_parquet(tmp_path / "train.parquet")
    dataset = load_data(DataConfig(path=str(tmp_path)), PLAIN)
    assert pitches(dataset.samples) == [500, 1000]
    assert dataset.labels.tolist() == [1, 0] and dataset.class_names == ("a", "b")


def test_hub_data_set_of_recordings_through_the_real_client(tmp_path):
    from hub_server import Handler, HubServer
    from huggingface_hub import HfApi
    from test_data_sources import ask_the_hub

    class DatasetHandler(Handler):  # the test server's model repositories, by the address of data sets
        def match(self):
            self.path = self.path.replace("/api/datasets/", "/api/models/", 1).replace("/datasets/", "/", 1)
            return super().match()

    features = {"audio": {"sampling_rate": RATE, "_type": "Audio"}, "label": {"dtype": "int64", "_type": "Value"}}
    columns = {"audio": records([500, 2000, 1000]), "label": [2, 0, 1]}
    file = write_table(tmp_path / "upload.parquet", columns, features)
    with HubServer() as server:
        server.RequestHandlerClass = DatasetHandler
        api = HfApi(endpoint=server.endpoint, token="hf_alice")
        api.create_repo("alice/tones", repo_type="dataset")
        name = "data/train-00000-of-00001.parquet"
        api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id="alice/tones", repo_type="dataset")
        (answer,) = ask_the_hub(
            [{"dataset": "alice/tones"}], tmp_path / "home", HF_ENDPOINT=server.endpoint, HF_TOKEN="hf_alice"
        )
    assert answer[0] == "alice/tones" and answer[2] == 3
    assert answer[3] == [
        [len(record["bytes"]), label] for record, label in zip(columns["audio"], [2, 0, 1], strict=True)
    ]


# ---------------------------------------------------------------------------------------------- what cannot be used


class Parts:
    """A processor to whom a raw sample is a list of the samples that come of it, or a message of what is wrong."""

    storage_dtype, sample_shape, modality, may_lack_labels = "int16", (2,), "audio", True

    def encode_all(self, raw):
        if isinstance(raw, str):
            raise UnusableSample(raw)
        return [np.full(2, value, dtype=np.int16) for value in raw]

    def fingerprint(self):
        return "parts"


def parts(*pairs, name="parts"):
    pairs = [pair if isinstance(pair, tuple) else (pair, None) for pair in pairs]
    return Source(name, "train", json.dumps(pairs), len(pairs), lambda: iter(pairs))


def test_one_recording_may_become_any_number_of_samples(root):
    folder = build_cache(parts(([1, 2, 3], 0), ([4], 1), ([5, 6], 0)), Parts())
    samples, labels = open_cache(folder)
    assert samples.tolist() == [[value] * 2 for value in range(1, 7)]
    assert labels.tolist() == [0, 0, 0, 1, 0, 0]
    expected = io.BytesIO()
    np.save(expected, np.repeat(np.arange(1, 7, dtype=np.int16), 2).reshape(6, 2))
    assert (folder / "samples.npy").read_bytes() == expected.getvalue()  # the head was written anew
    assert "left_out" not in json.loads((folder / "meta.json").read_text())
    assert build_cache(parts(([1, 2, 3], 0), ([4], 1), ([5, 6], 0)), Parts()) == folder


def test_a_limit_counts_recordings():
    source = parts([1, 2, 3], "nothing to hear", [4])
    samples, _ = open_cache(build_cache(source, Parts(), limit=2))
    assert samples[:, 0].tolist() == [1, 2, 3]


def test_more_samples_than_the_head_has_room_for_at_first():
    samples, _ = open_cache(build_cache(parts(list(range(12_345))), Parts()))
    assert samples.shape == (12_345, 2) and samples[-1].tolist() == [12_344] * 2


def test_what_cannot_be_used_is_counted_and_named():
    source = parts(([1], 0), ("no sound", 1), ([], 1), ("no sound", 0), ([2], 1), *[("12.5 s is too long", 1)] * 5)
    content = read_cache(build_cache(source, Parts()))
    assert content.samples[:, 0].tolist() == [1, 2] and content.labels.tolist() == [0, 1]
    assert content.left_out == LeftOut(
        10,
        (
            Reason("no sound", 2, ("sample 1", "sample 3")),
            Reason("no sample comes of it", 1, ("sample 2",)),
            Reason("12.5 s is too long", 5, ("sample 5", "sample 6", "sample 7")),
        ),
    )
    assert content.left_out.total == 8
    assert content.left_out.sentence("parts (train)") == (
        "8 of 10 recordings of parts (train) had to be left out: no sound (2: sample 1, sample 3); no sample comes of it "
        "(1: sample 2); 12.5 s is too long (5: sample 5, sample 6, sample 7, ...)"
    )


def test_recordings_without_a_label_among_labelled_ones_are_left_out():
    source = parts(([1], None), ([2, 3], 4), ([4], -1), ([5, 6], None), ([7], 0), ("broken", 0), ([8], None))
    folder = build_cache(source, Parts())
    content = read_cache(folder)
    assert content.samples.tolist() == [[2, 2], [3, 3], [7, 7]] and content.labels.tolist() == [4, 4, 0]
    assert (folder / "samples.npy").stat().st_size == content.samples.offset + 3 * 2 * 2
    assert [(reason.count, reason.examples) for reason in content.left_out.reasons] == [
        (1, ("sample 5",)),
        (4, ("sample 0", "sample 2", "sample 3")),
    ]
    assert "no label" in content.left_out.reasons[1].reason


def test_what_is_broken_has_said_all_the_same_that_there_are_labels():
    with pytest.raises(UserError, match=r"Nothing is left to use: 2 of 2 recordings .* broken .* no label"):
        build_cache(parts(("broken", 1), ([1], None)), Parts())


def test_nothing_left(root):
    with pytest.raises(
        UserError, match=r"Nothing is left to use: 3 of 3 recordings of parts \(train\) had to be left out:"
    ):
        build_cache(parts("too long", "too short", "too long"), Parts())
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == []


def test_other_modalities_still_refuse_both(root):
    pictures = Parts()
    pictures.modality, pictures.may_lack_labels = "image", False
    with pytest.raises(UserError, match=r"1 of 2 samples of parts \(train\) have no label"):
        build_cache(parts(([1], 0), ([2], None)), pictures)


def test_damaged_notes_of_what_is_left_out_mean_a_damaged_cache(root):
    folder = build_cache(parts([1], "broken"), Parts())
    meta = json.loads((folder / "meta.json").read_text())
    for wrong in (
        3,
        {},
        {"of": "x", "reasons": []},
        {"of": 2, "reasons": [{"reason": "a"}]},
        {"of": 1e999, "reasons": []},
    ):
        (folder / "meta.json").write_text(json.dumps({**meta, "left_out": wrong}))
        assert read_cache(folder) is None
    assert read_cache(build_cache(parts([1], "broken"), Parts())).left_out.total == 1


def test_messages_that_differ_in_numbers_are_one_reason_and_reasons_are_bounded():
    tally = Tally()
    for seconds in (0.25, 0.5, 1e-05):
        tally.add(f"lasts {seconds} s, less than 2", f"{seconds}.wav")
    assert tally.result(9).reasons == (Reason("lasts ... s, less than 2", 3, ("0.25.wav", "0.5.wav", "1e-05.wav")),)
    for letter in "abcdefghijklmnop":
        tally.add(f"wrong in the way {letter}", "x\n" + letter * 1000)
    reasons = tally.result(99).reasons
    assert len(reasons) == 9 and reasons[-1].reason == "other reasons" and sum(row.count for row in reasons) == 19
    assert all("\n" not in name and len(name) <= 100 for row in reasons for name in row.examples)


def test_a_folder_with_things_that_are_no_recordings(tmp_path):
    folder = tmp_path / "drums"
    for kind, pitch in {"hat": 3000, "kick": 100}.items():
        for number in range(3):
            write(folder / kind / f"{number}.wav", sound(pitch))
        whole = (folder / kind / "0.wav").read_bytes()
        for cut in (1000, 1001, 1002):
            write(folder / kind / f"cut-{cut}.wav", whole[:cut])
    write(folder / "kick" / "song.mp3", b"a text that was given another name")
    write(folder / "stray.wav", sound(1000))
    dataset = load_data(DataConfig(path=str(folder)), PLAIN)
    assert pitches(dataset.samples) == [3000] * 3 + [100] * 3 and dataset.labels.tolist() == [0] * 3 + [1] * 3
    assert dataset.class_names == ("hat", "kick")
    cut, song, stray = dataset.left_out.reasons
    assert (cut.count, cut.examples) == (6, ("hat/cut-1000.wav", "hat/cut-1001.wav", "hat/cut-1002.wav"))
    assert re.match(r"the file is cut off: .*1,600 .*\.\.\.", cut.reason)
    assert (song.count, song.examples) == (1, ("kick/song.mp3",)) and "the file" in song.reason
    assert (stray.count, stray.examples) == (1, ("drums/stray.wav",)) and "no label" in stray.reason
    assert dataset.left_out.of == 14 and dataset.left_out.total == 8


def test_a_training_run_says_once_what_it_could_not_use(tmp_path):
    folder = tmp_path / "tones"
    for number in range(8):
        write(folder / f"{number}.wav", sound(100 * number + 100))
    write(folder / "empty.wav", b"")
    model = {"family": "wavegan", "length": 1024, "sampling_rate": RATE, "start": 4, "width": 2}
    run = ganzoo.train(
        "dcgan-digits",
        output=tmp_path / "run",
        quiet=True,
        **{"model": model, "data": {"path": str(folder)}, "training.steps": 1, "evaluation.metrics": []},
    )
    told = [message for message in run.warnings if "recordings" in message]
    assert len(told) == 1
    assert (
        told[0].startswith("1 of 9 recordings of tones (train) had to be left out: ") and "tones/empty.wav" in told[0]
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["message"] for row in rows if row.get("name") == "left-out-recordings"] == told
    assert "empty.wav" in (tmp_path / "run" / "report.html").read_text()


# -------------------------------------------------------------------------------------------------------------- drums


def test_drums_are_what_their_function_says():
    train, test = open_source(DataConfig(dataset="drums")), open_source(DataConfig(dataset="drums"), "test")
    assert (train.length, test.length) == (1500, 300) and train.class_names == KINDS == ("kick", "snare", "hat")
    assert train.fingerprint != test.fingerprint
    for source in (train, test):
        pairs = list(source.iterate())
        assert len(pairs) == source.length
        assert np.bincount([label for _, label in pairs]).tolist() == [source.length // 3] * 3
        for index in (0, 1, 2, source.length - 1):
            recording, label = pairs[index]
            hit = drum_of(source.split, index)
            assert recording.sampling_rate == 8000 and recording.samples.shape == (1, 4000)
            assert np.array_equal(recording.samples[0], drum_hit(*hit)) and hit.kind == KINDS[label]
    with pytest.raises(NotFoundError, match="'drums' has no split 'dev'; there is test, train"):
        open_source(DataConfig(dataset="drums"), "dev")


def test_drums_end_to_end_and_for_ever():
    processor = WaveformProcessor(length=4000, sampling_rate=8000)
    dataset = load_data(DataConfig(dataset="drums", limit=30), processor)
    assert dataset.samples.shape == (30, 1, 4000) and dataset.left_out is None
    assert dataset.labels.tolist() == [0, 1, 2] * 10
    # Published numbers depend on it that nobody changes a formula or a seed.
    assert drum_of("train", 0)[1:3] == pytest.approx((62.42269477160883, 0.09351753295729634), rel=1e-12)
    assert drum_of("test", 2)[1:3] == pytest.approx((2495.241727890778, 0.051727336151444654), rel=1e-12)


def test_drums_are_all_different_and_within_their_ranges():
    hits = [drum_of(split, index) for split, length in (("train", 1500), ("test", 300)) for index in range(length)]
    assert len({hit.seed for hit in hits}) == len({hit.pitch for hit in hits}) == 1800
    for kind, ((lowest, highest), (shortest, longest)) in RANGES.items():
        values = np.array([hit[1:3] for hit in hits if hit.kind == kind])
        assert lowest <= values[:, 0].min() < lowest * 1.05 and highest / 1.05 < values[:, 0].max() <= highest
        assert shortest <= values[:, 1].min() < shortest * 1.05 and longest / 1.05 < values[:, 1].max() <= longest


def analytic(wave):
    """The analytic signal: the Fourier transform without its negative frequencies."""
    spectrum = np.fft.fft(wave, 4 * len(wave))
    spectrum[len(spectrum) // 2 :] = 0
    return 2 * np.fft.ifft(spectrum)[: len(wave)]


@pytest.mark.parametrize("pitch, decay", [(40, 0.12), (60, 0.08), (90, 0.05)])
def test_a_kick_sweeps_down_to_its_pitch_and_decays(pitch, decay):
    """Against the formula, measured from the samples: frequency from the phase, decay from the envelope."""
    rate = 8000
    signal = analytic(drum_hit("kick", pitch, decay, sampling_rate=rate, seconds=1.0).astype(float))
    times = np.arange(rate) / rate
    frequency = np.gradient(np.unwrap(np.angle(signal))) * rate / (2 * np.pi)
    expected = pitch * (1 + 3 * np.exp(-times / 0.03))
    window = np.hanning(int(rate / pitch)) / np.hanning(int(rate / pitch)).sum()  # a period: Bedrosian's ripple
    seen = (times > 0.02) & (times < 0.25)
    measured = np.convolve(frequency, window, "same")[seen]
    assert np.abs(measured / np.convolve(expected, window, "same")[seen] - 1).max() < 0.05
    late = (times > 0.15) & (times < 0.3)
    assert np.median(frequency[late]) == pytest.approx(pitch, rel=0.02)
    slope = np.polyfit(times[late], np.log(np.abs(signal[late])), 1)[0]
    assert -1 / slope == pytest.approx(decay, rel=0.03)


def test_a_kick_is_the_formula_integrated_numerically():
    rate, pitch, decay = 8000, 55.0, 0.1
    middles = (np.arange(4000 * 8) + 0.5) / (rate * 8)
    swept = np.cumsum(2 * np.pi * pitch * (1 + 3 * np.exp(-middles / 0.03))) / (rate * 8)
    phase = np.concatenate([[0.0], swept[7:-1:8]])  # up to each sample: the midpoint rule with eight steps
    expected = np.exp(-np.arange(4000) / rate / decay) * np.sin(phase)
    assert np.abs(drum_hit("kick", pitch, decay) - expected / np.abs(expected).max()).max() < 1e-5


@pytest.mark.parametrize("pitch", [1800, 2400, 3000])
@pytest.mark.parametrize("decay", [0.01, 0.08])
def test_a_hat_lies_above_its_cutoff(pitch, decay):
    waves = np.stack([drum_hit("hat", pitch, decay, seed) for seed in range(20)]).astype(float)
    power = (np.abs(np.fft.rfft(waves)) ** 2).mean(0)
    frequencies = np.fft.rfftfreq(4000, 1 / 8000)
    assert power[frequencies >= pitch].sum() / power.sum() > 0.97
    assert power[frequencies < pitch - 300].sum() / power.sum() < 0.01
    energy = (waves**2).mean(0).reshape(-1, 40).sum(1)[: int(decay * 3 * 200)]  # 5 ms, up to three decays
    slope = np.polyfit(np.arange(len(energy)) * 0.005, np.log(energy), 1)[0]
    assert -2 / slope == pytest.approx(decay, rel=0.25)


@pytest.mark.parametrize("pitch, decay", [(150, 0.09), (200, 0.05), (260, 0.03)])
def test_a_snare_is_a_tone_in_noise(pitch, decay):
    waves = np.stack([drum_hit("snare", pitch, decay, seed) for seed in range(400)]).astype(float)
    mean = analytic(waves.mean(0))  # the noise averages out
    times = np.arange(4000) / 8000
    seen = (times > 0.01) & (times < 2 * decay)
    frequency = np.gradient(np.unwrap(np.angle(mean))) * 8000 / (2 * np.pi)
    assert np.median(frequency[seen]) == pytest.approx(pitch, rel=0.02)
    assert -1 / np.polyfit(times[seen], np.log(np.abs(mean[seen])), 1)[0] == pytest.approx(decay, rel=0.1)
    # Of the power, 0.4^2 / 2 is the tone's and 0.6^2 / 3 the noise's.
    tone_power, power = np.abs(mean[seen]) ** 2 / 2, (waves**2).mean(0)[seen]
    assert (tone_power.sum() / power.sum()) == pytest.approx(0.08 / 0.2, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hit_depends_on_its_arguments_alone(kind):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    pitch = RANGES[kind][0][0]
    hit = drum_hit(kind, pitch, 0.05, 3)
    assert hit.dtype == np.float32 and np.abs(hit).max() == 1 and np.isfinite(hit).all()
    assert np.array_equal(hit, drum_hit(kind, pitch, 0.05, 3))
    assert np.array_equal(before, np.random.get_state()[1])
    assert np.array_equal(hit, drum_hit(kind, pitch, 0.05, 4)) == (kind == "kick")  # a kick has no noise
    assert drum_hit(kind, pitch, 0.05, 3, sampling_rate=16_000, seconds=0.25).shape == (4000,)


@pytest.mark.parametrize(
    "wrong",
    [("cowbell", 100, 0.1), ("kick", 0, 0.1), ("kick", 1000, 0.1), ("hat", 4000, 0.1), ("snare", 100, 0.0)]
    + [("snare", float("nan"), 0.1), ("snare", 100, float("nan")), ("snare", 100, 0.1, 0, 8000, 0.0)]
    + [("snare", 100, 0.1, 0, 8000, seconds) for seconds in (float("nan"), float("inf"), 1e-9)],
)
def test_impossible_hits(wrong):
    with pytest.raises(UserError, match="no drum 'cowbell'|cannot be"):
        drum_hit(*wrong)


# ------------------------------------------------------------------------------------------- real recordings: FSDD


FSDD = SHARED_DATA / "fsdd"


@pytest.mark.skipif(not FSDD.is_dir(), reason="no local copy of the Free Spoken Digit Dataset beside the repository")
def test_fsdd():
    processor = WaveformProcessor(length=8192, sampling_rate=8000, peak_normalize=False, remove_offset=False)
    dataset = load_data(DataConfig(path=str(FSDD), limit=300), processor, split="test")
    assert dataset.samples.shape == (300, 1, 8192) and dataset.num_classes == 10 and dataset.left_out is None
    assert np.bincount(dataset.labels).tolist() == [30] * 10
    table = pyarrow.parquet.read_table(FSDD / "test.parquet")
    for index in (0, 17, 299):
        record = table["audio"][index].as_py()
        wave, rate = soundfile.read(io.BytesIO(record["bytes"]), dtype="int16")
        clip, length = dataset.samples[index, 0], min(len(wave), 8192)
        assert rate == 8000 and np.abs(clip[:length].astype(int) - wave[:length]).max() <= 1
        assert not clip[length:].any() and dataset.labels[index] == int(record["path"][0])
