"""What a token is: words, what stands between blanks, characters, byte pairs; what comes back; and what the data decides."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ganzoo
from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.checkpoints.repository import LocalRepository
from ganzoo.data import DataConfig, open_source
from ganzoo.errors import UserError
from ganzoo.metrics.text import evaluate_texts, tokenize
from ganzoo.pipelines import TextPipeline
from ganzoo.processors import TextProcessor, fit_text_processor
from ganzoo.processors.choice import RULES, choose_tokenizer
from ganzoo.processors.text import sentence_line
from ganzoo.processors.vocabulary import LEARNED

HUB = Path(ganzoo.__file__).parents[1] / "hub"
LINES = [
    "x = y[3]",
    "return self.rows[3]",
    "see https://example.org/a?b=c#d",
    "  if x:  # why\tnot",
    "def f(x): return x",
]
CHINESE = ["今天天气很好。", "我们去公园散步,看花。", "他说:“你好!”", "猫坐在窗边。"]
PROMPT_FREE = ("vocab_size", "max_length", "max_prompt_length", "bos_token_id", "eos_token_id", "pad_token_id")
# Line ends of all kinds, blanks at the ends, joined emoji, marks to combine, letters of special tokens, signs that stand for bytes.
HARD = "\r\n \t  e\u0301 \u0301 👩🏽‍🚀🇨🇭 \u200b\ufeff\u2028 <eos><pad> <unk> <0x41> Ġ ▁ \0\x7f ﷽ İß don't  ' \ufffd  "
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def everything(processor: TextProcessor, text: str) -> str:
    """A text, encoded and decoded, however long it is."""
    ids = processor.encode_prompt(text)
    assert not {processor.bos_token_id, processor.eos_token_id, processor.pad_token_id} & {*ids}
    row = torch.tensor([[*ids, processor.eos_token_id]])
    return processor.decode(row)[0]


def pieces(processor: TextProcessor, text: str) -> list[str]:
    return processor.backend.encode(text, add_special_tokens=False).tokens


def pipeline_of(processor: TextProcessor) -> TextPipeline:
    torch.manual_seed(0)
    given = {name: getattr(processor, name) for name in PROMPT_FREE}
    generator, _ = ganzoo.create("seqgan", **{**ganzoo.get_family("seqgan").tiny, **given})
    return TextPipeline(generator, processor)


def texts_of(name: str, split: str = "train") -> list[str]:
    return [
        raw[-1] if isinstance(raw, tuple) else raw
        for raw, _ in open_source(DataConfig(dataset=name, split=split)).iterate()
    ]


EXACT = {name: fit_text_processor([*LINES, *CHINESE], tokenizer=name) for name in ("character", "bpe")}
WHITESPACE = fit_text_processor([*LINES, HARD], tokenizer="whitespace")


# ---------------------------------------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(text=ANY)
@example(text=HARD)
@example(text="".join(map(chr, range(0x300))))
def test_every_text_comes_back(name, text):
    assert everything(EXACT[name], text) == text


@pytest.mark.parametrize("name", EXACT)
def test_every_character_of_unicode_comes_back(name):
    text = "".join(chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000)
    assert all(
        everything(EXACT[name], text[start : start + 5000]) == text[start : start + 5000]
        for start in range(0, len(text), 5000)
    )


@pytest.mark.parametrize("name", EXACT)
def test_every_text_comes_back_in_transformers(name, tmp_path):
    from transformers import AutoTokenizer

    processor = EXACT[name]
    processor.save_pretrained(tmp_path)
    for tokenizer in (AutoTokenizer.from_pretrained(tmp_path), processor.tokenizer):
        assert len(tokenizer) == processor.vocab_size
        for text in (*LINES, *CHINESE, "👩🏽‍🚀 e\u0301\r\n\t x", " lead"):
            ids = tokenizer(text).input_ids
            assert ids == processor.encode_prompt(text)
            assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


@pytest.mark.parametrize("name", EXACT)
def test_half_a_surrogate_is_no_text(name):
    for read in (EXACT[name].encode, lambda text: fit_text_processor([text], tokenizer=name)):
        with pytest.raises(UserError, match="cannot be read"):
            read("a \ud800")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_whatever_stands_between_blanks_is_read_back(data):
    ids = data.draw(st.lists(st.integers(3, WHITESPACE.vocab_size - 1), max_size=20))
    text = WHITESPACE.decode(torch.tensor([[*ids, 2]]))[0]
    assert WHITESPACE.encode_prompt(text) == ids if {*ids} - {3} else True
    assert "\n" not in text


def test_between_blanks_all_stays_whole():
    assert (
        everything(WHITESPACE, "x  =\ty[3] see https://example.org/a?b=c#d")
        == "x = y[3] see https://example.org/a?b=c#d"
    )
    assert pieces(WHITESPACE, "return self.rows[3]") == ["return", "self.rows[3]"]
    assert pieces(WHITESPACE, "Return") == ["<unk>"]


def test_letters_of_special_tokens_end_nothing():
    processor = fit_text_processor(["a <eos> <pad>x <bos> b <unk>"], tokenizer="whitespace", lowercase=True)
    assert pieces(processor, "a <eos> <pad>x <BOS> b") == ["a", "<", "eos>", "<pad>x", "<", "bos>", "b"]
    assert processor.encode("a <eos> b").tolist().count(processor.eos_token_id) == 1
    for name in EXACT:
        assert everything(EXACT[name], "<eos> a <pad> <bos>") == "<eos> a <pad> <bos>"


@pytest.mark.parametrize("name", EXACT)
def test_no_blanks_come_between_chinese_characters(name):
    processor = EXACT[name]
    rows = processor.normalize(torch.from_numpy(np.stack([processor.encode(text) for text in CHINESE])))
    assert processor.decode(rows) == CHINESE and processor.show(rows) == "\n".join(CHINESE)


# ------------------------------------------------------------------------------------------------------ what is learned


def test_a_token_a_character_and_bytes_for_the_others():
    processor = fit_text_processor(["abca", "ab"], tokenizer="character")
    assert pieces(processor, "cab") == ["c", "a", "b"]
    assert pieces(processor, "aé") == ["a", "<0xC3>", "<0xA9>"]
    vocabulary = processor.backend.get_vocab()
    in_order = sorted(vocabulary, key=vocabulary.get)
    assert in_order == ["<pad>", "<bos>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "c"]
    assert (processor.vocab_size, processor.max_length, processor.unit) == (262, 5, "character")


def test_options_of_characters():
    texts = ["aaabbc", "É"]

    def known(**options):
        vocabulary = fit_text_processor(texts, tokenizer="character", **options).backend.get_vocab()
        return {token for token in vocabulary if len(token) == 1}

    assert known() == {*"abcÉ"} and known(lowercase=True) == {*"abcé"}
    assert known(min_count=2) == {*"ab"} and known(max_vocab=260) == {"a"} and known(max_vocab=259) == set()
    bytes_only = fit_text_processor(texts, tokenizer="character", max_vocab=259)
    assert everything(bytes_only, HARD) == HARD
    assert everything(fit_text_processor(texts, tokenizer="character", lowercase=True), "AÉ x") == "aé x"


def test_pairs_that_occur_often_are_merged():
    processor = fit_text_processor(["low low low lower", "newest newest"], tokenizer="bpe")
    assert processor.unit == "bpe" and pieces(processor, "newest low") == ["newest", "Ġlow"]
    assert len(pieces(processor, "zyx")) == 3  # bytes
    shorter = fit_text_processor(["low low low lower", "newest newest"], tokenizer="bpe", max_vocab=260)
    assert shorter.vocab_size == 260 and pieces(shorter, "low") == ["lo", "w"]
    rarer = fit_text_processor(["low low low lower", "newest newest"], tokenizer="bpe", min_count=4)
    assert pieces(rarer, "low newest") == ["low", *"Ġnewest"]
    assert fit_text_processor([" ".join(LINES)] * 3, tokenizer="bpe").vocab_size < 4096


@pytest.mark.parametrize("name", LEARNED)
def test_a_vocabulary_is_the_same_in_every_process(name):
    code = (
        "from ganzoo.processors import fit_text_processor as fit\n"
        f"print(fit({LINES * 2 + CHINESE!r}, tokenizer={name!r}).tokenizer_sha256)"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert shown == {fit_text_processor(LINES * 2 + CHINESE, tokenizer=name).tokenizer_sha256 + "\n"}


@pytest.mark.parametrize("name, longest", [("word", 64), ("whitespace", 64), ("character", 256), ("bpe", 128)])
def test_the_length_suits_the_tokens_and_what_is_cut_is_said(name, longest):
    texts = ["a b", "ab " * 400]
    processor = fit_text_processor(texts, tokenizer=name)
    assert processor.max_length == longest
    (decision,) = processor.decisions
    assert re.match(
        rf"50\.0% of the texts have more than model\.max_length={longest} tokens .*, and are cut; the longest has [\d,]+",
        decision,
    )
    assert "model.max_length=9 tokens" in fit_text_processor(texts, tokenizer=name, max_length=9).decisions[0]
    assert fit_text_processor(["a b"] * 99 + texts, tokenizer=name, max_length=9).decisions == ()  # a few are meant
    assert fit_text_processor(["a b"], tokenizer=name).decisions == ()


@pytest.mark.parametrize(
    "texts, options, message",
    [
        (["a"], {"tokenizer": "bpe", "max_vocab": 258}, r"max_vocab=258 has no room for the 256 bytes and 3 special tokens of the tokenizer 'bpe'; set it to 259 or more"),
        (["a"], {"tokenizer": "character", "max_vocab": 100}, r"max_vocab=100 has no room .* of the tokenizer 'character'"),
        (["", ""], {"tokenizer": "character"}, "the data holds no character"),
        ([""], {"tokenizer": "bpe"}, "the data holds no character"),
        ([" "], {"tokenizer": "whitespace"}, "the data holds no word"),
        (["a"], {"tokenizer": "whitespace", "min_count": 2}, "the data holds no word that occurs at least"),
        (["a"], {"tokenizer": "charcter"}, "'charcter' cannot be loaded: it is none of word, whitespace, character, bpe, .* Did you mean 'character'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(texts, options, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message):
        fit_text_processor(texts, **options)


# -------------------------------------------------------------------------------------------------- what the data decides

RNG = random.Random(0)
SENTENCE = 'The man who lives at {} said: "it isn\'t ours", and went to {} with {} dogs.'
KINDS = {
    "Chinese": ("character", CHINESE),
    "Japanese": ("character", ["これはペンです。", "東京へ行きました。"]),
    "Thai": ("character", ["สวัสดีครับ ยินดีที่ได้รู้จัก"]),
    "Korean": ("word", ["안녕하세요 반갑습니다", "오늘은 날씨가 좋아요"]),
    "DNA": ("character", ["".join(RNG.choices("ACGT", k=40)) for _ in range(60)]),
    "molecules": ("character", ["CC(=O)Oc1ccccc1C(=O)O" + "C" * number for number in range(60)]),
    "names": ("character", [f"{first}{second}" for first in ("An", "Be", "Cla", "Do", "El", "Fi") for second in "abcdefghijk"]),
    "labels": ("word", ["cat", "dog"] * 50),
    "a few": ("word", ["x = y[3]"] * 10),
    "sentences": ("word", [SENTENCE.format(f"No. {n}", "town", n % 7) for n in range(200)]),
    "taken apart": ("whitespace", [f'" It is n\'t true , " she said ( {n % 9} times ) .' for n in range(200)]),
    "code": ("bpe", [line.strip() for line in inspect.getsource(argparse).splitlines() if line.strip()]),
    "compounds": ("bpe", [" ".join("".join(RNG.choices("aeiklnstu", k=9)) for _ in range(8)) for _ in range(200)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_decides(kind):
    expected, texts = KINDS[kind]
    assert choose_tokenizer(texts)[0] == expected
    processor = fit_text_processor(texts)
    assert processor.unit == expected
    assert processor.decisions[0].startswith(
        f"data.processor.tokenizer is left out; the data decided for '{expected}': "
    )
    assert all(other in processor.decisions[0] for other in LEARNED)
    stated = fit_text_processor(texts, tokenizer=expected)
    assert stated == processor and not [decision for decision in stated.decisions if "tokenizer" in decision]


@pytest.mark.parametrize(
    "name, expected",
    [("python-docs", "word"), ("python-docstrings", "word"), ("python-names", "character"), ("python-lines", "bpe"), ("unicode-names", "word")],
)  # fmt: skip
def test_the_built_in_sets_decide(name, expected):
    assert choose_tokenizer(texts_of(name))[0] == expected


def test_the_order_and_the_number_of_the_texts_hardly_matter():
    sentences, code = KINDS["sentences"][1], KINDS["code"][1]
    assert choose_tokenizer(sentences * 20 + code)[0] == choose_tokenizer(code + sentences * 20)[0] == "word"
    assert choose_tokenizer(["", "  ", *CHINESE])[0] == "character" and choose_tokenizer(["", " "])[0] == "word"


def test_every_rule_is_written_down():
    import ganzoo.processors.choice as choice

    rows = [line for line in choice.__doc__.splitlines() if re.match(r"\| [^-w]", line) or line.startswith("| `word`")]
    written = [re.findall(r"`(\w+)`", row.split("|")[2])[0] for row in rows if "`" in row.split("|")[2]]
    assert written == [rule.tokenizer for rule in RULES]


# ------------------------------------------------------------------------------------------------------- the rest of the house


def test_a_run_says_once_what_the_data_decided(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(KINDS["names"][1]))
    recipe = {
        "name": "names",
        "model": {**ganzoo.get_family("seqgan").tiny, "family": "seqgan"},
        "data": {"path": str(tmp_path / "names.txt")},
        "objective": {"type": "likelihood"},
        "phases": [{"name": "likelihood", "updates": {"generator": 1}}],
        "training": {"steps": 2, "batch_size": 8, "precision": "fp32"},
    }
    for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"):
        recipe["model"].pop(name, None)
    recipe["model"]["max_length"] = None  # as left out
    run = ganzoo.train(recipe, output=tmp_path / "run", quiet=True)
    assert run.pipeline.processor.unit == "character"
    told = [message for message in run.warnings if "the data decided for 'character'" in message]
    assert len(told) == 1
    again = ganzoo.train(recipe, output=tmp_path / "run", quiet=True, resume=True)
    assert told[0] in again.warnings
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["message"] for row in rows if row.get("name") == "decided-by-data"] == told
    assert ganzoo.from_pretrained(tmp_path / "run" / "pipeline").processor == run.pipeline.processor
    with pytest.raises(
        UserError, match="the model reads by 'character', which data.processor.tokenizer=word cannot change"
    ):
        ganzoo.train({**recipe, "init": str(tmp_path / "run" / "pipeline"), "model": {"family": "seqgan"}, "data": {**recipe["data"], "processor": {"tokenizer": "word"}}}, output=tmp_path / "b", quiet=True)  # fmt: skip


def test_published_checkpoints_read_words():
    folders = [path.parent for path in HUB.glob("*/tokenizer.json")]
    assert folders
    for folder in folders:
        processor = Checkpoint(LocalRepository(folder)).processor
        assert (processor.unit, processor.counted, processor.decisions) == ("word", ("nltk", True), ())


def test_units_are_those_that_are_learned_and_pretrained():
    assert {*get_args(TextProcessor.model_fields["unit"].annotation)} == {*LEARNED, "pretrained"}


@pytest.mark.parametrize(
    "options, texts, rule, count",
    [
        ({"tokenizer": "character"}, CHINESE, "characters, case kept", list),
        ({"tokenizer": "whitespace"}, LINES, "whitespace words, case kept", str.split),
        ({"tokenizer": "bpe"}, LINES, "unicode words, case kept", lambda text: tokenize([text], "unicode", False)[0]),
        ({"tokenizer": "bpe", "lowercase": True}, LINES, "unicode words, lower case", lambda text: tokenize([text], "unicode")[0]),
    ],
)  # fmt: skip
def test_metrics_count_what_the_tokens_ask_for(options, texts, rule, count, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("\n".join(texts))
    pipe = pipeline_of(fit_text_processor(texts, max_length=20, **options))
    names = ["bleu_2", "distinct_2", "nll_test"]
    found = {
        r.name: r for r in ganzoo.evaluate(pipe, data={"path": str(tmp_path)}, metrics=names, num_samples=20, seed=0)
    }
    assert found["bleu_2"].embedder.startswith(rule)
    drawn = pipe(num_samples=20, seed=0).texts
    lowercase = "lower" in rule
    expected = evaluate_texts(
        drawn, texts, metrics=["bleu_2"], tokenizer=pipe.processor.counted[0], lowercase=lowercase
    )
    assert found["bleu_2"].value == expected[0].value
    counted = [count(text) for text in drawn]
    pairs = [pair for words in counted for pair in zip(words, words[1:], strict=False)]
    assert found["distinct_2"].value == pytest.approx(len({*pairs}) / len(pairs) if pairs else 0.0)
    details = found["nll_test"].details
    if options["tokenizer"] == "whitespace":
        assert "bits_per_character" not in details
    else:
        rows = [pipe.processor.encode(text.strip()) for text in texts]
        characters = sum(map(len, pipe.processor.decode(torch.from_numpy(np.stack(rows)))))
        nats = found["nll_test"].value * details["tokens"]
        assert details["bits_per_character"] == pytest.approx(nats / math.log(2) / characters)


def test_unicode_words():
    assert tokenize(["x_1 = y[3], déjà"], "unicode") == [["x_1", "=", "y", "[", "3", "]", ",", "déjà"]]
    assert tokenize(["我有3个cats。"], "unicode") == [["我", "有", "3", "个", "cats", "。"]]
    assert tokenize(["ไป 안녕"], "unicode") == [["ไ", "ป", "안녕"]]
    assert tokenize(["a b"], "character") == [["a", " ", "b"]]


def test_joined_emoji_and_letters_stay_joined_on_a_line():
    assert sentence_line("👩‍🚀 می‌روم\n\x1b[31m") == "👩‍🚀 می‌روم \\x1b[31m"
    assert sentence_line("a‍" * 400, limit=300).endswith("...") and len(sentence_line("a" * 400, limit=300)) == 300
    assert sentence_line("‍‍") == "‍‍" and sentence_line("") == ""


def test_any_beginning_is_a_prompt_where_all_is_read():
    pipe = pipeline_of(fit_text_processor(CHINESE, tokenizer="character", max_length=20))
    assert all(text.startswith(" 今") for text in pipe(" 今", num_samples=3, seed=0).texts)
    party = pipe.processor.encode_prompt("🎉")
    assert len(party) == 4 and pipe("🎉", num_samples=3, seed=0).tokens[:, :4].tolist() == [party] * 3
    assert pipe._opening(["今天天气", "x"]) == "今天"
    assert pipe._opening(["get the item", ""]) == "get the" and pipe._opening(["ab", "\x1b\x1bc"]) == ""
    words = pipeline_of(fit_text_processor(["a man walks"], tokenizer="word"))
    assert words._opening(["a man walks"]) == "a man" and words._opening(["walks"]) == ""


def test_the_card_shows_texts_as_they_are(tmp_path):
    pipe = pipeline_of(fit_text_processor(["今天天气很好。"], tokenizer="character", max_length=20))
    pipe.save_pretrained(tmp_path)
    lines = (tmp_path / "samples" / "samples.txt").read_text().splitlines()
    assert lines == [sentence_line(text) for text in pipe._sentences(len(lines), 0)]
    card = (tmp_path / "README.md").read_text()
    assert lines[0] in card and f"pipe({json.dumps(pipe._opening(lines), ensure_ascii=False)}, " in card


# -------------------------------------------------------------------------------------------------------- the built-in sets


@pytest.mark.parametrize(
    "name, least, shape",
    [
        ("python-names", 3000, r"[A-Za-z]\w{2,39}"),
        ("python-lines", 20_000, r"\S.{6,58}\S"),
        ("unicode-names", 15_000, r"[A-Z]+([ -]+[A-Z]+)*"),
    ],
)  # fmt: skip
def test_a_set_made_of_python(name, least, shape):
    train, test = texts_of(name), texts_of(name, "test")
    everything = train + test
    assert len(everything) > least and len({*everything}) == len(everything)
    assert 0.07 < len(test) / len(everything) < 0.13
    assert [text for text in everything if not re.fullmatch(shape, text)] == []
    with pytest.raises(UserError, match=f"'{name}' has no split 'dev'; there is test, train"):
        open_source(DataConfig(dataset=name, split="dev"))


def test_lines_of_python_are_python():
    import ast

    lines = texts_of("python-lines", "test")
    for line in lines[:500]:
        ast.parse(f"def f():\n {line}")
    assert any("[" in line for line in lines) and not any(line.startswith(("'''", '"""')) for line in lines)
