"""Text as data: lines, prompts, tables, the built-in sentences, oracles, and the share that is held out."""

from __future__ import annotations

import gzip
import logging
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from ganzoo.data import load_data, open_source
from ganzoo.data.lines import MAX_LINE
from ganzoo.errors import GanzooError, NotFoundError, UserError
from ganzoo.processors import ImageProcessor, TextProcessor, fit_text_processor
from ganzoo.recipe.data import DataConfig

SHARED = Path(__file__).parents[2] / "shared" / "data"
ORACLE = SHARED / "seqgan-oracle" / "oracle.safetensors"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


def open_at(path, split=None, **options):
    return open_source(DataConfig(path=str(path), **options), split)


def samples(source):
    found = list(source.iterate())
    assert len(found) == source.length
    return found


def texts(source):
    return [raw for raw, _ in samples(source)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# -------------------------------------------------------------------------------------------------------------- lines


def test_one_sample_a_line(tmp_path, caplog):
    file = write(tmp_path / "zoo.txt", "\ufeff a man \r\n\n\u00e9t\u00e9\t\n   \nlast")
    with caplog.at_level(logging.INFO):
        source = open_at(file)
    assert samples(source) == [("a man", None), ("été", None), ("last", None)]
    assert texts(source) == ["a man", "été", "last"]  # every pass starts anew
    assert (source.description, source.split, source.dropped, source.vocab_size) == ("zoo.txt", "train", 2, None)
    assert "2 blank lines left out" in caplog.text


def test_a_single_line_is_a_data_set(tmp_path):
    assert texts(open_at(write(tmp_path / "one.txt", "hello"))) == ["hello"]


def test_a_million_characters_are_cut_as_the_processor_says(tmp_path):
    source = open_at(write(tmp_path / "long.txt", "word " * 200_000 + "\n" + "x" * 1_000_000 + "\nend"))
    assert [len(text) for text in texts(source)] == [999_999, 1_000_000, 3]
    processor = fit_text_processor(texts(source))
    assert (processor.max_length, processor.vocab_size) == (64, 4 + 3)  # word, x times a hundred, end
    data = load_data(DataConfig(path=source_path(tmp_path)), processor)
    word, hundred = processor.encode_prompt("word " + "x" * 100)
    assert data.samples[:2].tolist() == [[word] * 64, [hundred] * 64]


def source_path(folder):
    return str(folder / "long.txt")


def test_a_line_that_is_no_line(tmp_path):
    file = write(tmp_path / "long.txt", b"fine\n" + b"x" * (MAX_LINE + 1))
    with pytest.raises(UserError, match=rf"{re.escape(str(file))}, line 2: longer than 16,777,216 characters"):
        open_at(file)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"one\ntwo\xff\n", r"line 2: not UTF-8 text \(invalid start byte\); save it as UTF-8"),
        ("één".encode("utf-16-le"), "line 1: a null byte|line 1: not UTF-8"),
        ("een\ntwee\n".encode("utf-16")[:-1], r"after line 1: not UTF-16 text \(truncated data\); save it as UTF-8"),
        (b"one\nt\0wo\n", "line 2: a null byte, so it is no UTF-8 text"),
        (b"", "holds no text: its files are empty"),
        (b"\n  \r\n\t\n", "holds no text: its files are empty"),
    ],
)
def test_files_that_are_no_text(content, message, tmp_path):
    file = write(tmp_path / "bad.txt", content)
    with pytest.raises(UserError, match=message) as caught:
        open_at(file)
    assert str(file) in str(caught.value)


TWO = [("a man", None), ("été", None)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "corpus", "a.TXT", "a.txt.gz", "a.md.gz", "corpus.gz", "packed.txt", "packed"]
)
def test_lines_in_any_file_of_text(name, encoding, tmp_path):
    content = "a man\r\n\nété\n".encode(encoding)
    packed = name.endswith(".gz") or name.startswith("packed")
    source = open_at(write(tmp_path / "in" / name, gzip.compress(content) if packed else content))
    assert samples(source) == TWO and source.dropped == 1
    split = write(tmp_path / "folder" / f"train{''.join(Path(name).suffixes)}", content)
    assert samples(open_at(split.parent)) == TWO


def test_a_file_without_an_ending_that_is_no_text(tmp_path):
    for content in (bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(9), "é".encode("latin-1") * 9, gzip.compress(bytes(99))):
        with pytest.raises(UserError, match=r"neither a folder nor a file .*\.csv.* without an ending"):
            open_at(write(tmp_path / "corpus", content))
    long = "é" * (1 << 16)  # the sniffed part ends within a character
    assert texts(open_at(write(tmp_path / "corpus", f"a{long}\nb"))) == [f"a{long}", "b"]


def test_a_packed_file_that_is_cut_off(tmp_path):
    packed = gzip.compress(np.random.default_rng(0).integers(97, 123, 9999, dtype=np.uint8).tobytes() + b"\nend")
    for name, content in {"a.txt.gz": packed[:-99], "b.txt.gz": packed[:-8] + bytes(8)}.items():
        with pytest.raises(UserError, match=rf"{name}, after line \d: damaged or cut off"):
            open_at(write(tmp_path / name, content))
    assert texts(open_at(write(tmp_path / "c.txt.gz", b"not packed at all"))) == ["not packed at all"]


def test_a_folder_has_one_file_a_split(tmp_path):
    write(tmp_path / "train-1.txt", "c")
    write(tmp_path / "train-0.txt", "a\nb")
    write(tmp_path / "valid.txt", "v")
    write(tmp_path / "README.txt", "not data")
    assert texts(open_at(tmp_path)) == ["a", "b", "c"]
    assert texts(open_at(tmp_path, "valid")) == ["v"]
    with pytest.raises(NotFoundError, match="has no split 'test'; there is train, valid"):
        open_at(tmp_path, "test")


def test_a_file_that_says_that_it_is_a_test_set(tmp_path):
    file = write(tmp_path / "test.txt", "t")
    assert texts(open_at(file, "test")) == ["t"]
    with pytest.raises(NotFoundError, match="has no split 'train'; there is test"):
        open_at(file)


def test_sub_folders_are_classes(tmp_path):
    for name, content in {"sad/train.txt": "oh\nno", "glad/train.txt": "yes", "glad/test.txt": "yay"}.items():
        write(tmp_path / name, content)
    source = open_at(tmp_path)
    assert source.class_names == ("glad", "sad")
    assert samples(source) == [("yes", 0), ("oh", 1), ("no", 1)]
    assert samples(open_at(tmp_path, "test")) == [("yay", 0)]
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    assert open_at(tmp_path.parent / "copy").fingerprint == source.fingerprint
    (tmp_path.parent / "copy" / "glad").rename(tmp_path.parent / "copy" / "happy")
    assert open_at(tmp_path.parent / "copy").fingerprint != source.fingerprint


def test_a_list_beside_pictures_is_not_taken_for_text(tmp_path):
    write(tmp_path / "train.txt", "1.png")
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    assert texts(open_at(tmp_path)) == [tmp_path / "1.png"]


def test_prompts_by_tab(tmp_path):
    source = open_at(write(tmp_path / "talk.tsv", "how are you?\tfine \n\nwho?\ta friend\n"))
    assert texts(source) == [("how are you?", "fine"), ("who?", "a friend")]
    for wrong in ("one", "a\tb\tc", "\tb", "a\t "):
        file = write(tmp_path / "bad.tsv", f"a\tb\n{wrong}\n")
        with pytest.raises(UserError, match=rf"{re.escape(str(file))}, line 2: not a prompt, one tab and a text"):
            open_at(file)
    write(tmp_path / "mixed" / "train-0.tsv", "a\tb")
    write(tmp_path / "mixed" / "train-1.txt", "a")
    with pytest.raises(UserError, match="has .txt and .tsv files; keep one kind"):
        open_at(tmp_path / "mixed")


@pytest.mark.parametrize("option", ["sample_column", "label_column", "prompt_column"])
def test_lines_have_no_columns(option, tmp_path):
    with pytest.raises(UserError, match="Lines of text have no columns"):
        open_at(write(tmp_path / "zoo.txt", "a"), **{option: "x"})


def test_fingerprint_of_lines(tmp_path):
    prints = [
        open_at(write(tmp_path / name, text)).fingerprint
        for name, text in [("a.txt", "a\nb"), ("b.txt", "a\nb"), ("a.txt", "a\nc")]
    ]
    assert len(set(prints)) == 3
    assert open_at(write(tmp_path / "a.txt", "a\nb")).fingerprint == prints[0]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data beside the repository")
def test_real_files():
    source = open_at(SHARED / "coco-captions")
    assert (source.description, source.length, source.dropped) == ("coco-captions", 10_000, 0)
    assert texts(source)[0] == "a bicycle replica with a clock as the front wheel."
    assert len(set(texts(source))) == 9956
    assert open_at(SHARED / "emnlp-news", "valid").length == 10_000


# -------------------------------------------------------------------------------------------------------------- tables


def table(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("column", ["text", "sentence", "caption", "captions"])
def test_text_columns_are_found(column, tmp_path):
    table(tmp_path / "train.parquet", n=[1, 2], **{column: ["a man", "a dog"]}, label=[1, 0])
    assert samples(open_at(tmp_path)) == [("a man", 1), ("a dog", 0)]


def test_prompt_column(tmp_path):
    table(tmp_path / "train.parquet", question=["who?", "where?"], text=["me", "here"], label=[0, 1])
    source = open_at(tmp_path, prompt_column="question")
    assert samples(source) == [(("who?", "me"), 0), (("where?", "here"), 1)]
    assert source.fingerprint != open_at(tmp_path).fingerprint
    assert texts(open_at(tmp_path, prompt_column="text", sample_column="question"))[0] == ("me", "who?")
    with pytest.raises(NotFoundError, match=r"no column 'questions' \(data.prompt_column\).* Did you mean 'question'"):
        open_at(tmp_path, prompt_column="questions")


def test_a_column_of_numbers_is_no_text(tmp_path):
    table(tmp_path / "train.parquet", text=[1, 2])
    with pytest.raises(UserError, match="has no image or text column"):
        open_at(tmp_path)
    with pytest.raises(
        UserError, match=r"sample 0 is 1, no text; name the column of the texts by data\.sample_column"
    ):
        fit_text_processor(texts(open_at(tmp_path, sample_column="text")))


def test_a_missing_text_is_named(tmp_path):
    table(tmp_path / "train.parquet", text=["a", None])
    with pytest.raises(UserError, match=r"Sample 1 of .* \(train\) cannot be used: None is no text"):
        load_data(DataConfig(path=str(tmp_path)), fit_text_processor(["a"]))


# ------------------------------------------------------------------------------------------------------ through the cache


def test_rows_and_labels_in_the_cache(tmp_path):
    table(tmp_path / "train.parquet", text=["a man", "a dog."], label=[1, 0])
    processor = fit_text_processor(["a man", "a dog."])
    data = load_data(DataConfig(path=str(tmp_path)), processor)
    assert data.samples.dtype == np.int32 and data.samples.shape == (2, 4)
    assert data.labels.tolist() == [1, 0] and data.num_classes == 2
    stored, labels = data.batch(np.array([1, 0]))
    assert processor.decode(processor.normalize(stored)) == ["a dog.", "a man"] and labels.tolist() == [0, 1]


def test_another_vocabulary_is_another_cache(tmp_path):
    path = write(tmp_path / "zoo.txt", "a man\na dog")
    rows = [
        load_data(DataConfig(path=str(path)), fit_text_processor([first, "a man", "a dog"])).samples
        for first in ("dog", "man")
    ]
    assert not np.array_equal(*rows)


def test_prompts_in_the_cache(tmp_path):
    path = write(tmp_path / "talk.tsv", "who?\tme\nwhere are you?\there.")
    config = DataConfig(path=str(path))
    processor = fit_text_processor(texts(open_source(config)))
    data = load_data(config, processor)
    assert data.samples.shape == (2, 5 + 3)
    assert processor.decode_prompts(torch.from_numpy(np.array(data.samples))) == ["who?", "where are you?"]
    assert processor.decode(torch.from_numpy(np.array(data.samples))) == ["me", "here."]


# ------------------------------------------------------------------------------------------------------------ python-docs


def test_python_docs_are_real_sentences():
    train, test = (
        texts(open_source(DataConfig(dataset="python-docs"))),
        texts(open_source(DataConfig(dataset="python-docs", split="test"))),
    )
    everything = train + test
    assert len(everything) > 4000
    assert len({sentence.lower() for sentence in everything}) == len(everything)
    assert 0.08 < len(test) / len(everything) < 0.12
    assert all(
        3 <= len(sentence.split()) <= 20 and sentence[0].isupper() and sentence[-1] in ".?!" for sentence in everything
    )
    words = " ".join(everything).lower().split()
    assert 0.05 < sum(word in ("the", "a", "an") for word in words) / len(words) < 0.2  # English, that is
    with pytest.raises(NotFoundError, match="'python-docs' has no split 'dev'; there is test, train"):
        open_source(DataConfig(dataset="python-docs"), "dev")


def test_python_docs_are_the_same_in_every_pass():
    from ganzoo.data.sets.python_docs import _python_sentences

    before = open_source(DataConfig(dataset="python-docs"))
    _python_sentences.cache_clear()
    after = open_source(DataConfig(dataset="python-docs"))
    assert before.fingerprint == after.fingerprint and texts(before) == texts(after)


def test_a_python_without_documentation(monkeypatch, tmp_path):
    from ganzoo.data import python_library
    from ganzoo.data.sets import python_docs as builtin

    monkeypatch.setattr(python_library.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    builtin._python_sentences.cache_clear()
    try:
        with pytest.raises(UserError, match="comes without its sources or documentation"):
            open_source(DataConfig(dataset="python-docs"))
    finally:
        builtin._python_sentences.cache_clear()


# --------------------------------------------------------------------------------------------------------------- oracles


def test_a_fresh_oracle_by_seed(monkeypatch):
    assert open_source(DataConfig(dataset="oracle")).length == 10_000
    monkeypatch.setattr("ganzoo.data.sets.oracle.SEQUENCES", 200)
    train = open_source(DataConfig(dataset="oracle"))
    assert (train.description, train.length, train.vocab_size) == ("oracle 0", 200, 5000)
    rows = np.stack(texts(train))
    assert rows.shape == (200, 20) and 0 <= rows.min() and rows.max() < 5000
    assert np.array_equal(rows, np.stack(texts(open_source(DataConfig(dataset="oracle", name="0")))))
    others = [open_source(DataConfig(dataset="oracle"), "test"), open_source(DataConfig(dataset="oracle", name="1"))]
    assert all(not np.array_equal(rows, np.stack(texts(other))) for other in others)
    assert len({train.fingerprint, *(other.fingerprint for other in others)}) == 3
    with pytest.raises(NotFoundError, match="has no split 'dev'; there is test, train, validation"):
        open_source(DataConfig(dataset="oracle"), "dev")
    for wrong in ("x", "-1", "1" * 30, "²"):
        with pytest.raises(UserError, match="is its seed, a whole number"):
            open_source(DataConfig(dataset="oracle", name=wrong))


@pytest.mark.skipif(not ORACLE.is_file(), reason="no shared data beside the repository")
def test_the_oracle_of_a_file(monkeypatch):
    monkeypatch.setattr("ganzoo.data.sets.oracle.SEQUENCES", 2000)
    source = open_at(ORACLE, dataset="seqgan-oracle")
    assert (source.description, source.length, source.vocab_size) == ("seqgan-oracle", 2000, 5000)
    data = load_data(DataConfig(path=str(ORACLE)), TextProcessor(vocab_size=5000, max_length=20), split="validation")
    assert data.samples.shape == (2000, 20)
    from ganzoo.data.sets.oracle import Oracle

    nll = Oracle.from_file(ORACLE).nll(torch.from_numpy(np.array(data.samples)))
    assert abs(float(nll.mean()) - 5.756) < 4 * float(nll.std()) / 2000**0.5  # the reference: its entropy


def test_a_file_that_is_no_oracle(tmp_path):
    with pytest.raises(GanzooError):
        open_at(write(tmp_path / "x.safetensors", b"nothing"))


# --------------------------------------------------------------------------------------------------------------- held out


def lines(tmp_path, count):
    return write(tmp_path / "lines.txt", "\n".join(f"line {i}" for i in range(count)))


def test_held_out_samples_are_never_trained_on(tmp_path):
    path = lines(tmp_path, 200)
    everything = texts(open_at(path))
    train, held = open_at(path, holdout=0.1), open_at(path, "holdout", holdout=0.1)
    assert (train.length, held.length, train.split, held.split) == (180, 20, "train", "holdout")
    assert sorted(texts(train) + texts(held)) == sorted(everything)
    assert texts(train) == [text for text in everything if text in {*texts(train)}]  # in order
    assert texts(held) != everything[:20] and texts(held) != everything[-20:]
    assert texts(open_at(path, "holdout", holdout=0.1)) == texts(held)
    assert (
        len({open_at(path).fingerprint, train.fingerprint, held.fingerprint, open_at(path, holdout=0.2).fingerprint})
        == 4
    )


def test_other_splits_are_left_alone(tmp_path):
    write(tmp_path / "train.txt", "a\nb")
    write(tmp_path / "test.txt", "c\nd")
    assert texts(open_at(tmp_path, "test", holdout=0.5)) == ["c", "d"]
    assert {*texts(open_at(tmp_path, holdout=0.5)), *texts(open_at(tmp_path, "holdout", holdout=0.5))} == {"a", "b"}
    with pytest.raises(NotFoundError, match="has no split 'holdout'"):
        open_at(tmp_path, "holdout")


def test_a_limit_comes_before_the_share(tmp_path):
    path = lines(tmp_path, 200)
    processor = fit_text_processor(texts(open_at(path)))
    config = DataConfig(path=str(path), holdout=0.25, limit=100)
    train, held = load_data(config, processor), load_data(config, processor, split="holdout")
    assert (len(train), len(held), held.split) == (75, 25, "holdout")
    rows = processor.decode(torch.from_numpy(np.concatenate([train.samples, held.samples])))
    assert sorted(rows) == sorted(texts(open_at(path))[:100])


def test_one_sample_cannot_be_shared(tmp_path):
    with pytest.raises(UserError, match="holdout=0.1 leaves nothing of 1 sample"):
        open_at(lines(tmp_path, 1), holdout=0.1)


def test_digits_can_be_held_out():
    processor, config = ImageProcessor(resolution=8, channels=1), DataConfig(holdout=0.1)
    train, held = load_data(config, processor), load_data(config, processor, split="holdout")
    assert (len(train), len(held)) == (1293, 144) and held.labels is not None
    whole = load_data(DataConfig(), processor).samples
    joined = np.concatenate([train.samples, held.samples])
    assert sorted(row.tobytes() for row in joined) == sorted(row.tobytes() for row in whole)
