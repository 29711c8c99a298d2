"""The decode-once cache: right, built once, whole or not there at all.

This module imports no torch by itself (`data.load_data` does, when it is touched): the processes it starts import it.
"""

import json
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT, SHARED_DATA

from ganzoo import data
from ganzoo.data import Source, build_cache, open_source
from ganzoo.data.cache import cache_root, open_cache
from ganzoo.errors import GanzooError, UserError
from ganzoo.processors import ImageProcessor
from ganzoo.recipe.data import DataConfig

GREY = ImageProcessor(resolution=8, channels=1)


class Waves:
    """A processor of another kind: int16 waveforms, stored as they are."""

    modality = "waves"
    may_lack_labels = False
    storage_dtype = "int16"
    sample_shape = (5,)

    def __init__(self, gain=1):
        self.gain = gain

    def encode(self, raw):
        return np.asarray(raw, dtype=np.int16) * np.int16(self.gain)

    def encode_all(self, raw):
        return [self.encode(raw)]

    def fingerprint(self):
        return f"waves {self.gain}"


def waves(labels=(0, 2, 1), *, length=None, fingerprint="f", names=None, count=lambda: None):
    """A source of constant waveforms, one for each label; `count` is called for every pass."""

    def iterate():
        count()
        return ((np.full(5, -100 * index), label) for index, label in enumerate(labels))

    return Source("waves", "train", fingerprint, len(labels) if length is None else length, iterate, names)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The cache folder of one test."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def entries(root):
    """What lies in the cache, besides the lock files."""
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock") if root.exists() else []


# --------------------------------------------------------------------------------------------------------- content


def test_digits_end_to_end():
    dataset = data.load_data(DataConfig(), GREY)
    pairs = list(open_source(DataConfig()).iterate())
    assert len(dataset) == 1437 and dataset.num_classes == 10
    assert (dataset.description, dataset.split) == ("digits", "train")
    assert isinstance(dataset.samples, np.memmap) and not dataset.samples.flags.writeable
    assert np.array_equal(dataset.samples, np.stack([image[None] for image, _ in pairs]))
    assert dataset.labels.dtype == np.int64 and dataset.labels.tolist() == [label for _, label in pairs]
    test = data.load_data(DataConfig(), GREY, split="test")
    assert len(test) == 360 and test.split == "test" and test.fingerprint != dataset.fingerprint


def test_any_storage_type_and_a_limit(root):
    folder = build_cache(waves(), Waves(gain=2), limit=2)
    samples, labels = open_cache(folder)
    assert samples.dtype == np.int16 and samples.tolist() == [[0] * 5, [-200] * 5]
    assert labels.tolist() == [0, 2]
    assert entries(root) == [folder.name]
    assert sorted(os.listdir(folder)) == ["labels.npy", "meta.json", "samples.npy"]
    assert np.array_equal(np.load(folder / "samples.npy"), samples)  # an ordinary .npy file
    assert json.loads((folder / "meta.json").read_text())["description"] == "waves"


def test_a_second_build_decodes_nothing_and_a_limit_beyond_the_end_is_no_limit():
    passes = []
    first = build_cache(waves(count=lambda: passes.append(1)), Waves())
    assert build_cache(waves(count=lambda: passes.append(1)), Waves()) == first
    assert build_cache(waves(count=lambda: passes.append(1)), Waves(), limit=99) == first
    assert len(passes) == 1


def test_the_key_is_data_split_limit_and_processor():
    base = waves()
    other_split = Source("waves", "test", base.fingerprint, base.length, base.iterate)
    folders = {
        build_cache(base, Waves()),
        build_cache(waves(fingerprint="g"), Waves()),
        build_cache(other_split, Waves()),
        build_cache(base, Waves(), limit=2),
        build_cache(base, Waves(gain=2)),
    }
    assert len(folders) == 5


def test_samples_without_labels():
    for missing in (None, -1):  # the Hub writes -1 for the hidden labels of a test set
        samples, labels = open_cache(build_cache(waves([missing] * 3, fingerprint=f"{missing}"), Waves()))
        assert len(samples) == 3 and labels is None


def test_some_samples_without_labels(root):
    message = r"2 of 4 samples of waves \(train\) have no label .*, the first is sample 1; .* data\.label_column"
    with pytest.raises(UserError, match=message):
        build_cache(waves([0, None, 1, -1]), Waves())
    assert entries(root) == []


# -------------------------------------------------------------------------------------------------------- location


def test_location(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("GANZOO_CACHE", "~/mine")
    assert cache_root() == Path("/home/someone/mine/data")
    monkeypatch.delenv("GANZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast/disk")
    assert cache_root() == Path("/fast/disk/ganzoo/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path("/home/someone/.cache/ganzoo/data")


# -------------------------------------------------------------------------------------------------------- failures


def shorten(file, size):
    with open(file, "rb+") as stream:
        stream.truncate(size)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "samples.npy").unlink(),
        lambda folder: (folder / "labels.npy").unlink(),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: shorten(folder / "samples.npy", (folder / "samples.npy").stat().st_size - 1),
        lambda folder: shorten(folder / "samples.npy", 0),
        lambda folder: shorten(folder / "labels.npy", 140),
        lambda folder: shorten(folder / "meta.json", 20),
        lambda folder: (folder / "meta.json").write_text("[]"),
        lambda folder: (folder / "meta.json").write_text('{"labels": true}'),
        lambda folder: (folder / "meta.json").write_text('{"labels": true, "length": 3, "sample_shape": 5}'),
        lambda folder: (folder / "meta.json").write_bytes(b"\xff\xfe"),
        lambda folder: np.save(folder / "samples.npy", np.zeros((2, 5), np.int16)),
        lambda folder: np.save(folder / "samples.npy", np.zeros((3, 5), np.float32)),
        lambda folder: np.save(folder / "labels.npy", np.zeros(2, np.int64)),
    ],
)
def test_a_damaged_cache_is_noticed_and_built_again(damage, root, caplog):
    folder = build_cache(waves(), Waves())
    damage(folder)
    assert open_cache(folder) is None
    with caplog.at_level(logging.WARNING):
        assert build_cache(waves(), Waves()) == folder
    assert f"{folder} is damaged; it is built again" in caplog.text
    samples, labels = open_cache(folder)
    assert samples[:, 0].tolist() == [0, -100, -200] and labels.tolist() == [0, 2, 1]
    assert entries(root) == [folder.name]


def test_an_unreadable_image_is_named_and_nothing_is_left(tmp_path, root):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in "abc":
        Image.new("L", (8, 8)).save(pictures / f"{name}.png")
    content = (pictures / "b.png").read_bytes()
    for broken in (b"not a picture", content[: len(content) // 2], b""):
        (pictures / "b.png").write_bytes(broken)
        with pytest.raises(UserError, match=rf"Sample 1, {pictures}/b\.png, of pictures \(train\) cannot be used"):
            data.load_data(DataConfig(path=str(pictures)), GREY)
        assert entries(root) == []


def test_a_processor_that_breaks_its_word(root):
    processor = Waves()
    processor.sample_shape = (6,)
    with pytest.raises(GanzooError, match=r"Sample 0 of waves \(train\) became int16 \(5,\), not int16 \(6,\)"):
        build_cache(waves(), processor)
    assert entries(root) == []


def test_a_source_that_ends_early(root):
    with pytest.raises(UserError, match=r"waves \(train\) ended after 3 of 7 samples"):
        build_cache(waves(length=7), Waves())
    assert entries(root) == []


def test_a_cache_larger_than_the_disk_is_refused_before_decoding(root):
    passes = []
    source = waves(length=10**15, count=lambda: passes.append(1))
    with pytest.raises(GanzooError, match=rf"cannot be written to {root} \(No space left on device\).* GANZOO_CACHE"):
        build_cache(source, Waves())
    assert not passes and entries(root) == []


def test_a_disk_that_fills_up_while_decoding(root):
    """The limit on the size of a file stops a write in the middle, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            GanzooError, match=rf"cannot be written to {root} \(File too large\).* GANZOO_CACHE"
        ) as caught:
            build_cache(waves(range(20_000)), Waves())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert isinstance(caught.value.__cause__, OSError)
    assert entries(root) == []


def test_a_cache_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(GanzooError, match=r"cannot be written to .*/file/data \(Not a directory\).* GANZOO_CACHE"):
        build_cache(waves(), Waves())


# ------------------------------------------------------------------------------------------------- several processes


def slow_waves(log, pause):
    """A source that takes its time and writes a line into a file for every sample it is asked for."""

    def iterate():
        for index in range(30):
            with open(log, "a") as stream:
                stream.write(f"{os.getpid()}\n")
            time.sleep(pause)
            yield np.full(5, index), index % 3

    return Source("slow waves", "train", "slow", 30, iterate)


def build_in_a_process(log, pause, ready, answers):
    ready.wait()
    samples, labels = open_cache(build_cache(slow_waves(log, pause), Waves()))
    answers.put((samples[:, 0].tolist(), labels.tolist()))


def test_processes_that_build_at_once_build_it_once(tmp_path, root):
    context = multiprocessing.get_context("spawn")
    log, ready, answers = tmp_path / "log", context.Barrier(2), context.Queue()
    processes = [context.Process(target=build_in_a_process, args=(log, 0.02, ready, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert results == [(list(range(30)), [0, 1, 2] * 10)] * 2
    lines = log.read_text().split()
    assert len(lines) == 30 and len(set(lines)) == 1
    assert len(entries(root)) == 1


def test_a_killed_builder_leaves_nothing_that_anybody_would_take_for_a_cache(tmp_path, root):
    log = tmp_path / "log"
    code = f"import test_data_cache as t; t.build_cache(t.slow_waves({str(log)!r}, 0.2), t.Waves())"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    process = subprocess.Popen([sys.executable, "-c", code], env=variables)
    deadline = time.monotonic() + 60
    while not (log.exists() and len(log.read_text().split()) >= 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (leftover,) = entries(root)
    assert leftover.startswith(".tmp-")

    folder = build_cache(slow_waves(log, 0), Waves())  # the lock died with its owner
    assert entries(root) == [folder.name]
    assert open_cache(folder)[0][:, 0].tolist() == list(range(30))


# -------------------------------------------------------------------------------------------------------- progress


def test_progress_is_shown_when_asked_and_never_in_a_log(capfd):
    build_cache(waves(), Waves())
    assert capfd.readouterr() == ("", "")
    build_cache(waves(), Waves(gain=2), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "Decoding waves (train)" in err and "3/3" in err and "samples/s" in err


# --------------------------------------------------------------------------------------------------------- dataset


def test_a_batch_is_a_copy_in_the_order_asked_for():
    dataset = data.load_data(DataConfig(limit=50), GREY)
    indices = np.array([49, 0, 7, 7, 3])
    samples, labels = dataset.batch(indices)
    assert str(samples.dtype) == "torch.uint8" and samples.shape == (5, 1, 8, 8)
    assert str(labels.dtype) == "torch.int64" and labels.shape == (5,)
    for row, index in enumerate(indices):
        assert np.array_equal(samples[row].numpy(), dataset.samples[index])
        assert labels[row] == dataset.labels[index]
    samples.zero_()  # its own memory: the data is untouched
    assert dataset.batch(indices)[0].any()


def test_number_of_classes():
    array = np.zeros((4, 1), np.uint8)
    assert data.ArrayDataset(array).num_classes is None
    assert data.ArrayDataset(array, labels=np.array([0, 5, 2, 1])).num_classes == 6
    assert data.ArrayDataset(array, labels=np.array([0, 1, 2, 1]), class_names=tuple("abcdefg")).num_classes == 7
    assert data.ArrayDataset(array).batch(np.array([1]))[1] is None


MNIST = SHARED_DATA / "mnist"


@pytest.mark.skipif(not MNIST.is_dir(), reason="no local copy of MNIST beside the repository")
def test_mnist():
    config = DataConfig(dataset="ylecun/mnist", path=str(MNIST), limit=500)
    dataset = data.load_data(config, ImageProcessor(resolution=32, channels=1, fit="pad"))
    assert dataset.samples.shape == (500, 1, 32, 32)
    assert dataset.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    border = np.ones((32, 32), bool)
    border[2:30, 2:30] = False
    assert not dataset.samples[:, 0, border].any()
    assert 25 < dataset.samples[:, :, 2:30, 2:30].mean() < 42  # MNIST's mean is 33.3
