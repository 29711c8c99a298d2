"""Hostile text: whatever files, tokenizers and prompts hold, the answer is documented or one sentence.

"One sentence" is an error of ganzoo's own, one printable line; never another exception, and never a hang.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_helpers import Cases
from hypothesis import given
from hypothesis import strategies as st

import ganzoo
from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.checkpoints.repository import LocalRepository
from ganzoo.data import open_source
from ganzoo.errors import MAX_MESSAGE, CheckpointError, GanzooError, UserError
from ganzoo.processors import TextProcessor, fit_text_processor, processor_from_json
from ganzoo.recipe.data import DataConfig

SENTENCES = ["a man riding a horse.", 'two dogs aren\'t "here" (yet)!', "it's 3.50 at 11:59 a.m."]
cases = Cases()


@contextlib.contextmanager
def one_sentence(kind: type[GanzooError], *named: str) -> Iterator[None]:
    """Lets errors of `kind` pass, each one printable line in which every `named` thing occurs."""
    try:
        yield
    except kind as error:
        message = str(error)
        assert message and message.isprintable() and len(message) <= MAX_MESSAGE
        assert all(name in message for name in named), message


@pytest.fixture(scope="module")
def processor() -> TextProcessor:
    return fit_text_processor(SENTENCES, max_length=12)


def check_round_trip(processor: TextProcessor, text: Any) -> None:
    """A row is whole, and the sentence that it decodes to is read back as the same row."""
    row = processor.encode(text)
    assert row.shape == processor.sample_shape and row.dtype == np.int32
    assert 0 <= row.min() and row.max() < processor.vocab_size
    (decoded,) = processor.decode(torch.from_numpy(row)[None])
    assert "\n" not in decoded
    assert processor.encode(decoded).tolist() == row.tolist()


# --------------------------------------------------------------------------------------------------------- files of text

LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")),
        st.sampled_from(
            [b"a man", b"", b"  ", b"\t", b"a\tb", b"\xff", b"\0", b"\xef\xbb\xbf", b"<eos> <pad>", b"\r", b"'\"" * 30]
        ),
    ),
    max_size=6,
)


@cases(120)
@given(
    lines=LINES, suffix=st.sampled_from([".txt", ".TXT", ".tsv"]), separator=st.sampled_from([b"\n", b"\r\n", b"\n\n"])
)
def test_any_file_of_lines(lines, suffix, separator, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / f"data{suffix}"
    path.write_bytes(separator.join(lines))
    with one_sentence(UserError, str(path)):
        source = open_source(DataConfig(path=str(path)))
        samples = [raw for raw, _ in source.iterate()]
        assert len(samples) == source.length > 0
        with one_sentence(UserError):
            fitted = fit_text_processor(samples)
            for raw in samples:
                if isinstance(raw, tuple):
                    assert fitted.encode(raw).shape == fitted.sample_shape
                else:
                    check_round_trip(fitted, raw)


@cases(40)
@given(holdout=st.floats(0, 0.5), limit=st.integers(1, 40), length=st.integers(1, 30))
def test_any_share_held_out(holdout, limit, length, tmp_path_factory):
    path = tmp_path_factory.mktemp("held") / "data.txt"
    path.write_text("\n".join(map(str, range(length))))
    config = DataConfig(path=str(path), holdout=holdout, limit=limit)
    with one_sentence(UserError):
        train = [raw for raw, _ in open_source(config).iterate()]
        if holdout:
            held = [raw for raw, _ in open_source(config, "holdout").iterate()]
            assert held and train and sorted(train + held) == sorted(map(str, range(min(limit, length))))


# --------------------------------------------------------------------------------------------------------------- texts

PIECES = st.sampled_from(
    [*" '’\"“”().,;:!?-/<>%$#\t\n\r\0\u2028", "n't", "'s", "man", "a", "a.m.", "<eos>", "<unk>", "3.5", "\u0301"]
)
TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Lu", "Mn"]), max_size=20),
    st.lists(PIECES, max_size=40).map("".join),
)


@cases(200)
@given(text=TEXTS)
def test_any_text(text, processor):
    with one_sentence(UserError):
        check_round_trip(processor, text)


@cases(100)
@given(texts=st.lists(TEXTS, max_size=4), lowercase=st.booleans(), max_vocab=st.one_of(st.none(), st.integers(5, 12)))
def test_any_training_texts(texts, lowercase, max_vocab):
    with one_sentence(UserError):
        fitted = fit_text_processor(texts, lowercase=lowercase, max_vocab=max_vocab)
        assert max_vocab is None or fitted.vocab_size <= max_vocab
        for text in texts:
            check_round_trip(fitted, text)


@cases(100)
@given(prompt=st.one_of(TEXTS, st.sampled_from(["man " * 100_000, "x" * 1_000_000, None, 3, b"a man", ["a"]])))
def test_any_prompt(prompt, processor):
    with one_sentence(UserError):
        ids = processor.encode_prompt(prompt)
        assert all(0 <= id < processor.vocab_size and id not in (0, 1, 2) for id in ids)


@cases(60)
@given(rows=st.lists(st.lists(st.integers(0, 25), min_size=12, max_size=12), min_size=1, max_size=3))
def test_any_tokens(rows, processor):
    tokens = torch.tensor(rows) % processor.vocab_size
    texts = processor.decode(tokens)
    assert len(texts) == len(rows) and all("\n" not in text for text in texts)
    for text, ids in zip(texts, processor.decode(tokens, "ids"), strict=True):
        assert processor.encode_prompt(text) == ids if set(ids) - {3} else True


# ---------------------------------------------------------------------------------------------------------- tokenizers

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all nodes of a JSON value."""
    yield path
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def use(text: str, processor: TextProcessor) -> None:
    """Reads and writes with a tokenizer that a file holds, under the fields of `processor`."""
    with one_sentence(CheckpointError):
        fields = processor.model_dump(exclude={"tokenizer_sha256"})
        loaded = TextProcessor.with_tokenizer(text, **fields)
        assert loaded.tokenizer_sha256 == hashlib.sha256(text.encode()).hexdigest()
        with one_sentence(UserError):
            loaded.encode(SENTENCES[1])
            loaded.encode_prompt("a man")
        with one_sentence(UserError):
            loaded.decode(torch.arange(processor.vocab_size)[None])


@cases(150)
@given(data=st.data())
def test_any_damage_to_the_content_of_a_tokenizer(data, processor):
    values = json.loads(processor._tokenizer_json)
    path = data.draw(st.sampled_from(list(places(values))))
    use(json.dumps(replaced(values, path, data.draw(VALUES))), processor)


@cases(80)
@given(position=st.integers(0, 10**6), new=st.text(max_size=3), cut=st.integers(0, 20))
def test_any_damage_to_the_text_of_a_tokenizer(position, new, cut, processor):
    text = processor._tokenizer_json
    position %= len(text)
    with contextlib.suppress(UnicodeEncodeError):  # no file holds half a surrogate
        use(text[:position] + new + text[position + cut :], processor)


@cases(60)
@given(
    pattern=st.sampled_from(
        ["(a+)+$", "(a", "", "(?=", "\\", "(?R)", "a{1,99999}", "(?<=a*)b", ".*", "(x+x+)+y", "[", "(?i)", "\\p{No}"]
    ),
    behavior=st.sampled_from(["Removed", "Isolated", "MergedWithPrevious", "Contiguous"]),
    text=st.sampled_from(["a" * 60 + "b", "x" * 60, "a man", ""]),
)
def test_any_pattern_of_a_tokenizer(pattern, behavior, text, processor):
    """A pattern that takes for ever is given up by the regular expressions' own limit."""
    values = json.loads(processor._tokenizer_json)
    values["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}
    with one_sentence(CheckpointError):
        loaded = TextProcessor.with_tokenizer(json.dumps(values), **processor.model_dump(exclude={"tokenizer_sha256"}))
        with one_sentence(UserError):
            loaded.encode(text)


@pytest.fixture(scope="module")
def checkpoint(processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    names = ("vocab_size", "max_length", "max_prompt_length", "bos_token_id", "eos_token_id", "pad_token_id")
    family = ganzoo.list_families(modality="text")[0]
    own = {name: getattr(processor, name) for name in names}
    ganzoo.create(family, **{**ganzoo.get_family(family).tiny, **own})[0].save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cases(120)
@given(data=st.data(), name=st.sampled_from(["processor_config.json", "tokenizer_config.json", "tokenizer.json"]))
def test_any_damage_to_the_files_of_a_checkpoint(data, name, checkpoint, processor):
    path = checkpoint / name
    original = path.read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 20)))
    path.write_bytes(original[:start] + data.draw(st.binary(max_size=4)) + original[end:])
    try:
        with one_sentence(CheckpointError):
            assert Checkpoint(LocalRepository(checkpoint)).processor == processor
    finally:
        path.write_bytes(original)


@cases(60)
@given(
    values=st.dictionaries(
        st.sampled_from([*TextProcessor.model_fields, "unknown"]),
        st.one_of(st.integers(-1, 10), st.integers(-(2**70), 2**70), VALUES),
        max_size=5,
    )
)
def test_any_fields(values):
    base = {"processor_type": "text", "vocab_size": 9, "max_length": 3}
    with one_sentence(CheckpointError, "here"):
        made = processor_from_json({**base, **values}, where="here")
        with one_sentence(GanzooError):
            made.encode("1 2 3")


@cases(60)
@given(
    options=st.dictionaries(
        st.sampled_from(["tokenizer", "lowercase", "min_count", "max_vocab", "max_words"]),
        st.one_of(VALUES, st.integers(0, 9)).filter(lambda value: not isinstance(value, str)),  # a name is looked up
        max_size=3,
    )
)
def test_any_options_of_a_fit(options):
    with one_sentence(UserError):
        fit_text_processor(SENTENCES, **options)


def test_there_are_enough_cases():
    assert sum(cases.numbers.values()) >= 1000
