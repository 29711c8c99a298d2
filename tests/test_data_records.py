"""Tables in text files: columns, labels, encodings, packing, and what is no table."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ganzoo.data import load_data, open_source
from ganzoo.errors import NotFoundError, UserError
from ganzoo.processors import fit_text_processor
from ganzoo.recipe.data import DataConfig

ROWS = [("a man", "photo", 1), ('she said "no", twice', "news", 0), ("two\nlines", "news", 2), ("été", "photo", 1)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


def open_at(path, split=None, **options):
    return open_source(DataConfig(path=str(path), **options), split)


def samples(source):
    found = list(source.iterate())
    assert len(found) == source.length and found == list(source.iterate())
    return found


def write(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode(encoding)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def as_csv(path: Path, rows=ROWS, names=("sentence", "kind", "label"), delimiter=",", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", **{"encoding": "utf-8", **options}) as file:
        csv.writer(file, delimiter=delimiter).writerows([names, *rows])
    return path


def as_json(rows=ROWS, names=("sentence", "kind", "label")) -> list[dict]:
    return [dict(zip(names, row, strict=True)) for row in rows]


EXPECTED = [(row[0], row[2]) for row in ROWS]
KINDS = {
    "a.csv": lambda rows: None,
    "a.jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "a.ndjson": lambda rows: "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
    "a.json": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "array.json": json.dumps,
    "pretty.json": lambda rows: "\n" + json.dumps(rows, indent=2),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_kind_of_table_is_read(name, packed, tmp_path):
    content = KINDS[name](as_json())
    content = as_csv(tmp_path / "plain").read_bytes().decode() if content is None else content
    file = write(tmp_path / "data" / (f"{name}.gz" if packed else name), content)
    assert samples(open_at(file)) == EXPECTED
    assert samples(open_at(file, label_column="kind")) == [
        (text, ["news", "photo"].index(kind)) for text, kind, _ in ROWS
    ]
    assert [text for text, _ in samples(open_at(file, sample_column="kind"))] == [kind for _, kind, _ in ROWS]
    with pytest.raises(
        NotFoundError, match=r"no column 'kinds' \(data.sample_column\); there is sentence, kind, label"
    ):
        open_at(file, sample_column="kinds")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_other_programs(encoding, delimiter, tmp_path):
    file = as_csv(tmp_path / "a.csv", delimiter=delimiter, encoding=encoding)
    assert samples(open_at(file)) == EXPECTED


@pytest.mark.parametrize("column", ["text", "sentence", "caption", "captions", "Text", "CAPTION"])
def test_the_column_of_the_texts_is_found(column, tmp_path):
    file = as_csv(tmp_path / "a.csv", names=("id", column), rows=[(1, "a man"), (2, "a dog")])
    assert samples(open_at(file)) == [("a man", None), ("a dog", None)]


def test_a_table_without_a_column_of_texts_says_what_it_has(tmp_path):
    file = as_csv(tmp_path / "a.csv", names=("id", "title"), rows=[(1, "a man")])
    with pytest.raises(
        UserError, match=r"a\.csv has no column text, sentence, .* by data\.sample_column \(there is id, title\)"
    ):
        open_at(file)
    assert samples(open_at(file, sample_column="title")) == [("a man", None)]
    with pytest.raises(NotFoundError, match="Did you mean 'title'"):
        open_at(file, sample_column="titel")
    for option in ("label_column", "prompt_column"):
        with pytest.raises(NotFoundError, match=rf"no column 'x' \(data\.{option}\); there is id, title"):
            open_at(file, sample_column="title", **{option: "x"})


def test_strings_of_json_are_texts(tmp_path):
    for name, content in {"a.jsonl": '"a man"\n"a dog"\n', "b.json": '["a man", "a dog"]'}.items():
        assert samples(open_at(write(tmp_path / name, content))) == [("a man", None), ("a dog", None)]


def test_rows_without_a_text_are_left_out_and_counted(tmp_path):
    file = write(tmp_path / "a.csv", "text,n\na man,1\n,2\n\n   ,3\na dog,4\n")
    source = open_at(file)
    assert (samples(source), source.dropped) == ([("a man", None), ("a dog", None)], 3)
    file = write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": null}\n{"other": 1}\n{"text": "b"}')
    source = open_at(file)
    assert ([text for text, _ in samples(source)], source.dropped) == (["a", "b"], 2)
    with pytest.raises(UserError, match="holds no text in its column 'text'"):
        open_at(write(tmp_path / "b.csv", "text\n\n"))


def test_prompts_of_tables(tmp_path):
    file = as_csv(tmp_path / "a.csv", names=("question", "text"), rows=[("who?", "me"), ("where?", "here"), ("", "")])
    source = open_at(file, prompt_column="question")
    assert samples(source) == [(("who?", "me"), None), (("where?", "here"), None)]
    assert source.fingerprint != open_at(file).fingerprint
    with pytest.raises(UserError, match=r"a\.csv, line 2: a text without a prompt in its column 'question'"):
        open_at(as_csv(tmp_path / "a.csv", names=("question", "text"), rows=[("", "me")]), prompt_column="question")


def test_tabs_with_and_without_names(tmp_path):
    pairs = write(tmp_path / "pairs.tsv", "who?\tme\nwhere?\there\n")
    assert [raw for raw, _ in samples(open_at(pairs))] == [("who?", "me"), ("where?", "here")]
    content = 'id\tsentence\tlabel\n1\t"quoted" it is\t0\n2\thalf a "quote\t1\n'
    for name in ("table.tsv", "table.tsv.gz"):
        assert samples(open_at(write(tmp_path / name, content))) == [('"quoted" it is', 0), ('half a "quote', 1)]
    named = write(tmp_path / "named.tsv", "q\ta\nwho?\tme\n")
    assert samples(open_at(named, prompt_column="q", sample_column="a")) == [(("who?", "me"), None)]


# Labels


@pytest.mark.parametrize(
    ("labels", "expected", "names"),
    [
        (["0", "2", "1"], [0, 2, 1], None),
        (["1.0", "-1", " 3 "], [1, -1, 3], None),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        (["1", "cat", "1"], [0, 1, 0], ("1", "cat")),
        (["0", "", "1"], [0, None, 1], None),
        (["cat", "", "dog"], [0, None, 1], ("cat", "dog")),
        (["0.5", "0.25", "1"], [None, None, None], None),  # ratings are no classes
    ],
)
def test_labels_are_numbers_or_names(labels, expected, names, tmp_path):
    rows = [(f"text {i}", label) for i, label in enumerate(labels)]
    source = open_at(as_csv(tmp_path / "a.csv", rows=rows, names=("text", "label")))
    assert [label for _, label in samples(source)] == expected and source.class_names == names
    if expected == [None] * 3:
        with pytest.raises(UserError, match="column 'label' of .* holds neither whole numbers nor"):
            open_at(tmp_path / "a.csv", label_column="label")


def test_labels_of_json(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0.0}, {"text": "c", "label": None}, {"text": "d"}]
    file = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [label for _, label in samples(open_at(file))] == [1, 0, None, None]
    rows = [{"text": "a", "label": ["several"]}]
    file = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)))
    assert samples(open_at(file)) == [("a", None)]
    with pytest.raises(UserError, match="holds neither"):
        open_at(file, label_column="label")


def test_a_class_has_one_number_in_every_split(tmp_path):
    as_csv(tmp_path / "train.csv", names=("text", "label"), rows=[("a", "owl"), ("b", "cat"), ("c", "dog")])
    as_csv(tmp_path / "test.csv", names=("text", "label"), rows=[("x", "owl"), ("y", "dog")])
    train, test = open_at(tmp_path), open_at(tmp_path, "test")
    assert train.class_names == test.class_names == ("cat", "dog", "owl")
    assert samples(train) == [("a", 2), ("b", 0), ("c", 1)] and samples(test) == [("x", 2), ("y", 1)]


def test_more_names_than_there_can_be_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("ganzoo.data.readers.records.MAX_CLASSES", 3)
    file = as_csv(tmp_path / "a.csv", names=("text", "label"), rows=[(f"t{i}", f"n{i}") for i in range(4)])
    assert samples(open_at(file))[0] == ("t0", None)
    with pytest.raises(UserError, match="nor up to 3 names"):
        open_at(file, label_column="label")
    whole = as_csv(tmp_path / "b.csv", names=("text", "label"), rows=[(f"t{i}", i) for i in range(9)])
    assert [label for _, label in samples(open_at(whole))] == list(range(9))


def test_rows_and_labels_in_the_cache(tmp_path):
    file = as_csv(tmp_path / "a.csv", names=("text", "label"), rows=[("a man", "b"), ("a dog", "a")])
    data = load_data(DataConfig(path=str(file)), fit_text_processor(["a man", "a dog"]))
    assert data.samples.shape[0] == 2 and data.labels.tolist() == [1, 0] and data.class_names == ("a", "b")
    assert data.labels.dtype == np.int64


# Folders


def test_a_folder_of_tables_by_split(tmp_path):
    as_csv(tmp_path / "train-0.csv", names=("text",), rows=[("a",)])
    as_csv(tmp_path / "train-1.csv", names=("text",), rows=[("b",)])
    write(tmp_path / "valid.jsonl.gz", '{"text": "v"}')
    write(tmp_path / "info.json", "{}")
    assert [text for text, _ in samples(open_at(tmp_path))] == ["a", "b"]
    assert [text for text, _ in samples(open_at(tmp_path, "valid"))] == ["v"]
    with pytest.raises(NotFoundError, match="has no split 'test'; there is train, valid"):
        open_at(tmp_path, "test")
    with pytest.raises(NotFoundError, match="has no split 'train'; there is valid"):
        open_at(tmp_path / "valid.jsonl.gz")


def test_fingerprint_of_tables(tmp_path):
    def fingerprint(content, **options):
        return open_at(write(tmp_path / "a.csv", content), **options).fingerprint

    content = "text,title,label\na,b,1\n"
    prints = [
        fingerprint(content),
        fingerprint("text,title,label\na,c,1\n"),
        fingerprint(content, sample_column="title"),
        fingerprint(content, label_column="title"),
    ]
    assert len(set(prints)) == 4 and fingerprint(content) == prints[0]


# What is no table


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "Split 'train' of data.path=.*a.csv holds no rows"),
        ("a.csv", "text,label\n", "holds no rows"),
        (
            "a.csv",
            "text,label\nfine,1\nno, not, fine,2\n",
            r"line 3: 4 columns where the first line has 2; .* ',' stands",
        ),
        ("a.csv", 'text,n\n"a\nb",1\nshort\n', "line 4: 1 columns where the first line has 2"),
        ("a.csv", 'text\nfine\n"open\n', "line 3: no CSV"),
        ("a.csv", 'text\n"a" man\n', "line 2: no CSV"),
        ("a.csv", "text,text\na,b\n", "two columns have the name 'text'"),
        ("a.csv", "text\na\0b\n", "line 2: a null byte"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', r"line 2: no JSON \(Expecting value\)"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', r"line 2: \[1\] is neither an object nor a string"),
        ("a.jsonl", '{"text": "a"}\n{"text": 5}\n', "line 2: the column 'text' holds 5, which is no text"),
        ("a.json", '{\n "text": "a"\n}\n', "line 1: no JSON .*; an object or a string a line, or one array"),
        ("a.json", '["a",\n "b"\n', "line 3: no JSON"),
        ("a.json", "[" * 100_000, "line 1: no JSON .nested too deeply"),
        ("a.json", "", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
    ],
)
def test_files_that_are_no_tables(name, content, message, tmp_path):
    file = write(tmp_path / name, content)
    with pytest.raises(UserError, match=message) as caught:
        samples(open_at(file))
    assert name in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "latin.csv").write_bytes("text\nfine\nété\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.csv, line 3: not UTF-8 text .*; save it as UTF-8"):
        open_at(tmp_path / "latin.csv")
    packed = gzip.compress(("text\n" + "a man\n" * 10_000).encode())
    for name, content in {"cut.csv.gz": packed[: len(packed) // 2], "bad.csv.gz": packed[:-8] + bytes(8)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{re.escape(name)}, after line \d+: damaged or cut off"):
            open_at(tmp_path / name)


# The command line


def test_training_on_a_table_by_command(ok, fails, inside):
    rows = [(f"the {a} is {b}.", b) for a in ("cat", "dog", "owl") for b in ("good", "bad", "old")]
    as_csv(Path("zoo.csv"), names=("phrase", "mood"), rows=rows)
    run = ["train", "mle-coco", "data.path=zoo.csv", "training.steps=1", "training.batch_size=2", "--output", "run"]
    fails(*run, code=2, said=("zoo.csv has no column text", "there is phrase, mood"))
    fails(*run, "data.sample_column=phrases", code=2, said=("Did you mean 'phrase'", "there is phrase, mood"))
    Path("bad.csv").write_text('phrase\n"a" cat\n')
    fails(*run, "data.path=bad.csv", "data.sample_column=phrase", code=2, said=("bad.csv, line 2: no CSV",))
    Path("data").write_bytes(bytes(range(256)))
    fails(*run, "data.path=data", code=2, said=("data.path=data is neither",))
    assert not Path("run").exists()
