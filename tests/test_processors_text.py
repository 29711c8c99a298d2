"""The text processor: sentences to ids and back, vocabularies, pretrained tokenizers, and what a checkpoint keeps of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ganzoo
from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.checkpoints.repository import LocalRepository
from ganzoo.errors import CheckpointError, UserError
from ganzoo.processors import PROCESSORS, ImageProcessor, Processor, TextProcessor, fit_text_processor

COCO = Path(__file__).parents[2] / "shared" / "data" / "coco-captions"
SENTENCES = [
    "A man riding a horse.",
    "A man isn't riding the horse, is he?",
    'He said "hello" (twice) at 11:59 a.m.',
    "The dogs' tails are well-known; it's $3.50!",
]
# Everything that the rules of joining speak of, in one text.
ODD = """It isn't "the" dogs' tails; it's 3.50 at 11:59 a.m. (or p.m.)! We'd say 'round' well-known tub/shower s m d t re ve ll n
o'clock don’t she’s “a” ‘b’ $5 # 7 50% … [x] {y} - -- / < > <unk> e\u0301 \u0301 unk \u2014 can't n't 3n x9 _a 1,000 i'm you'll
they've we're u.s.a. ß İ ſ Ω 你好 \u200d🎉"""


def rows(processor, texts):
    return torch.from_numpy(np.stack([processor.encode(text) for text in texts]))


# --------------------------------------------------------------------------------------------------------- word level


def test_words_and_marks_are_split_as_in_a_treebank():
    processor = fit_text_processor(SENTENCES)

    def tokens(text):
        return [processor.backend.id_to_token(id) for id in processor.encode_prompt(text)]

    assert tokens("A man isn't he?") == ["a", "man", "is", "n't", "he", "?"]
    assert tokens('it\'s $3.50, "hello"') == ["it", "'s", "$", "3.50", ",", '"', "hello", '"']
    assert tokens("11:59 a.m. well-known dogs' (man)") == "11:59 a.m. well-known dogs ' ( man )".split()


@pytest.mark.parametrize("text", [*SENTENCES, 'A "man" and "horse".', "He's at 'the horse' (is he?)."])
def test_decoded_sentences_are_written_as_a_person_writes_them(text):
    processor = fit_text_processor([*SENTENCES, "and"])
    assert processor.decode(rows(processor, [text])) == [text.lower()]


def test_vocabulary_is_by_frequency_then_text_after_four_special_tokens():
    processor = fit_text_processor(["b b a", "c a b d <eos>"])
    vocabulary = processor.backend.get_vocab()
    assert sorted(vocabulary, key=vocabulary.get) == "<pad> <bos> <eos> <unk> b a < > c d eos".split()
    assert (processor.vocab_size, processor.max_length) == (11, 8)
    assert (processor.pad_token_id, processor.bos_token_id, processor.eos_token_id) == (0, 1, 2)


def test_vocabulary_is_the_same_in_every_process():
    code = "from ganzoo.processors import fit_text_processor as fit; print(fit(['b c a d e f g h', 'h']).tokenizer_sha256)"
    shown = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(shown) == 1


def test_options_of_the_vocabulary():
    texts = ["The cat", "the dog", "the Dog runs"]

    def words(**options):
        return set(fit_text_processor(texts, **options).backend.get_vocab()) - {"<pad>", "<bos>", "<eos>", "<unk>"}

    assert words() == {"the", "cat", "dog", "runs"}
    assert words(lowercase=False) == {"The", "the", "cat", "dog", "Dog", "runs"}
    assert words(min_count=2) == {"the", "dog"}
    assert words(max_vocab=5) == {"the"}
    assert words(max_vocab=300_000) == words()  # larger than the data


def test_unknown_words_and_special_tokens_in_a_text():
    processor = fit_text_processor(["the cat"], max_length=6)
    the, cat = processor.encode_prompt("the cat")
    assert processor.encode("the zebra cat").tolist() == [the, 3, cat, 2, 0, 0]
    # Letters are never taken for the end of a sentence.
    assert processor.encode("the <eos> cat").tolist() == [the, 3, 3, 3, cat, 2]
    assert processor.decode(torch.tensor([[the, 3, cat, 2, 0, 0]])) == ["the <unk> cat"]
    assert processor.encode("the <unk> cat").tolist() == [the, 3, cat, 2, 0, 0]


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_every_sentence_of_known_words_is_read_back(data):
    processor = ODD_PROCESSOR
    ids = data.draw(st.lists(st.integers(3, processor.vocab_size - 1), max_size=20))
    text = processor.decode(torch.tensor([[*ids, 2] + [0] * (23 - len(ids))]))[0]
    assert processor.encode(text).tolist() == [*ids, 2] + [0] * (23 - len(ids)), text


ODD_PROCESSOR = fit_text_processor([ODD], max_length=24)


@pytest.mark.skipif(not COCO.is_dir(), reason="no local copy of the captions beside the repository")
def test_captions():
    """The reference counts 4,659 words and 37 tokens at most with nltk's tokenizer, on the same file."""
    captions = (COCO / "train.txt").read_text().splitlines()
    processor = fit_text_processor(captions)
    assert abs(processor.vocab_size - 4 - 4659) < 20
    assert processor.max_length == 37 + 1
    encoded = rows(processor, captions[:2000])
    texts = processor.decode(encoded)
    assert torch.equal(rows(processor, texts), encoded)
    same = sum(text == " ".join(caption.split()) for text, caption in zip(texts, captions, strict=False))
    assert same > 1900  # the others have a blank before a comma and the like
    counted = Counter(word for caption in captions for word in re.findall(r"[a-z]+", caption))
    assert [processor.backend.id_to_token(id) for id in (4, 6)] == [word for word, _ in counted.most_common(2)]


# -------------------------------------------------------------------------------------------------------------- rows


def test_a_row_is_tokens_end_padding():
    processor = fit_text_processor(["a b c d"], max_length=4)
    a, b, c, d = processor.encode_prompt("a b c d")
    assert processor.encode("a b").tolist() == [a, b, 2, 0]
    assert processor.encode("a b c").tolist() == [a, b, c, 2]
    assert processor.encode("a b c d a").tolist() == [a, b, c, d]  # cut: no end
    assert processor.encode("  ").tolist() == [2, 0, 0, 0]
    assert processor.encode("a b").dtype == np.int32 and processor.sample_shape == (4,)
    assert processor.encode(np.array([a, b])).tolist() == [a, b, 2, 0]
    assert processor.encode(np.array([a, 2, 0, 0])).tolist() == [a, 2, 0, 0]


def test_length_is_that_of_the_longest_text_but_bounded():
    assert fit_text_processor(["a b c", "a"]).max_length == 4
    assert fit_text_processor(["a " * 500]).max_length == 64
    assert fit_text_processor(["a " * 500], max_length=100).max_length == 100


def test_separate_prompts():
    pairs = [("how are you?", "fine."), ("who?", "a friend.")]
    processor = fit_text_processor(pairs)
    assert (processor.max_prompt_length, processor.max_length, processor.sample_shape) == (5, 4, (9,))
    row = processor.encode(("who?", "fine."))
    who, mark = processor.encode_prompt("who?")
    fine, stop = processor.encode_prompt("fine.")
    assert row.tolist() == [who, mark, 2, 0, 0, fine, stop, 2, 0]
    stored = torch.from_numpy(row)[None]
    assert processor.decode(stored) == processor.decode(stored[:, 5:]) == ["fine."]
    assert processor.decode_prompts(stored) == ["who?"]
    assert processor.encode(np.array([who, mark, 2, 0, 0, fine])).tolist() == [who, mark, 2, 0, 0, fine, 2, 0, 0]
    with pytest.raises(UserError, match="the data has none; name their column by data.prompt_column"):
        processor.encode("fine.")
    with pytest.raises(UserError, match="the model's max_prompt_length is 0"):
        fit_text_processor(pairs, max_prompt_length=0).encode(pairs[0])


def test_ids_without_a_tokenizer():
    processor = TextProcessor(vocab_size=10, max_length=3)
    assert processor.encode(np.array([1, 0, 9])).tolist() == processor.encode("1 0 9").tolist() == [1, 0, 9]
    assert processor.decode(torch.tensor([[1, 0, 9]])) == ["1 0 9"]
    assert processor.decode(torch.tensor([[1, 0, 9]]), "ids") == [[1, 0, 9]]
    assert processor.tokenizer is None and processor.backend is None
    for wrong, message in [
        ("1 2", "a sample has 2 tokens, but without an end token all have 3"),
        ("1 2 10", "token id 10 is not in a vocabulary of 10"),
        ("1 2 -1", "token id -1 is not in"),
        ("1 2 cat", "no list of token ids"),
        (None, "None is no text"),
        (np.zeros((2, 3), dtype=np.int64), "is no text"),
    ]:
        with pytest.raises(UserError, match=message):
            processor.encode(wrong)


def test_decode_stops_at_the_end_and_skips_what_stands_for_nothing():
    processor = fit_text_processor(["a b"], max_length=6)
    tokens = torch.tensor([[4, 1, 5, 0, 2, 4], [2, 4, 4, 4, 4, 4], [4, 5, 4, 5, 4, 5]])
    assert processor.decode(tokens) == ["a b", "", "a b a b a b"]
    assert processor.decode(tokens, "ids") == [[4, 5], [], [4, 5, 4, 5, 4, 5]]
    assert processor.decode(tokens, "pt") is tokens
    with pytest.raises(UserError, match="unknown output_type 'pil'; it is one of text, ids, pt"):
        processor.decode(tokens, "pil")


def test_stored_and_back():
    processor = fit_text_processor(["a b"])
    stored = torch.tensor([[4, 5, 2]], dtype=torch.int32)
    samples = processor.normalize(stored)
    assert samples.dtype == torch.int64 and torch.equal(processor.to_stored(samples), stored)
    assert processor.to_stored(samples).dtype == torch.int32 == getattr(torch, processor.storage_dtype)


def test_prompts():
    processor = fit_text_processor(["a man riding a horse."])
    a, man = processor.encode_prompt("a man")
    assert processor.encode_prompt("A zebra man") == [a, 3, man]
    assert processor.encode_prompt("") == []
    for wrong, message in [
        ("zebra", "knows none of the words of the prompt 'zebra'"),
        (7, "a prompt is a text, not 7"),
    ]:
        with pytest.raises(UserError, match=message):
            processor.encode_prompt(wrong)
    with pytest.raises(UserError, match="cannot be read"):
        processor.encode_prompt("a \ud800 man")


# ------------------------------------------------------------------------------------------------------------- files


def test_files_for_people(tmp_path):
    processor = fit_text_processor(["a man", "a horse."])
    samples = processor.normalize(rows(processor, ["a man", "a horse."]))
    assert processor.show(samples) == "a man\na horse."
    assert processor.save_preview(samples, tmp_path, "step-1") == ["step-1.txt"]
    assert (tmp_path / "step-1.txt").read_text() == "a man\na horse.\n"
    assert processor.save_samples(samples, tmp_path / "x.txt") == [tmp_path / "x.txt"]
    assert processor.save_samples(samples, tmp_path / "folder") == [tmp_path / "folder" / "samples.txt"]
    assert (tmp_path / "folder" / "samples.txt").read_text() == (tmp_path / "x.txt").read_text() == "a man\na horse.\n"
    with pytest.raises(UserError, match="sentences are written as .txt"):
        processor.save_samples(samples, tmp_path / "x.png")


def test_output():
    processor = fit_text_processor(["a man"])
    samples = processor.normalize(rows(processor, ["a man"]))
    output = processor.output(samples, "text", labels=None, latents=torch.zeros(1, 3))
    assert output.texts == ["a man"] and torch.equal(output.tokens, samples) and output.latents.shape == (1, 3)


def checkpoint(folder, processor):
    """A checkpoint folder of a text model."""
    names = ("vocab_size", "max_length", "max_prompt_length", "bos_token_id", "eos_token_id", "pad_token_id")
    family = ganzoo.list_families(modality="text")[0]
    values = {**ganzoo.get_family(family).tiny, **{name: getattr(processor, name) for name in names}}
    ganzoo.create(family, **values)[0].save_pretrained(folder)
    processor.save_pretrained(folder)
    return LocalRepository(folder)


def test_saved_and_read_back(tmp_path):
    processor = fit_text_processor(SENTENCES)
    loaded = Checkpoint(checkpoint(tmp_path, processor)).processor
    assert loaded == processor and loaded.fingerprint() == processor.fingerprint()
    assert loaded.encode(SENTENCES[0]).tolist() == processor.encode(SENTENCES[0]).tolist()
    loaded.save_pretrained(tmp_path / "again")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_saved_without_a_tokenizer(tmp_path):
    processor = TextProcessor(vocab_size=10, max_length=3)
    assert Checkpoint(checkpoint(tmp_path, processor)).processor == processor
    assert not (tmp_path / "tokenizer.json").exists()


def test_transformers_opens_the_same_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    processor = fit_text_processor(SENTENCES)
    checkpoint(tmp_path, processor)
    for tokenizer in (AutoTokenizer.from_pretrained(tmp_path), processor.tokenizer):
        special = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id
        assert special == (1, 2, 0, 3) and len(tokenizer) == processor.vocab_size
        for text in SENTENCES:
            assert tokenizer(text).input_ids == processor.encode_prompt(text)
            assert tokenizer.decode(processor.encode(text), skip_special_tokens=True) == text.lower()


def test_reading_and_writing_text_imports_no_transformers(tmp_path):
    checkpoint(tmp_path, fit_text_processor(SENTENCES))
    code = f"""
import sys
from pathlib import Path
from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.checkpoints.repository import LocalRepository
import torch
processor = Checkpoint(LocalRepository(Path({str(tmp_path)!r}))).processor
processor.decode(torch.tensor([[4, 5, 2]]))
processor.encode_prompt("a man")
assert "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fingerprint_follows_the_vocabulary():
    one, same, other = (fit_text_processor([text]) for text in ("a b", "a b", "a c"))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one == same != other


def test_revised():
    processor = fit_text_processor(["a b c d"])
    shorter = processor.revised(max_length=2, min_count=3, tokenizer="word")
    assert shorter.encode("a b c").tolist() == processor.encode_prompt("a b")
    assert processor.revised() == processor
    with pytest.raises(UserError, match="unknown key 'max_lenght'. Did you mean 'max_length'"):
        processor.revised(max_lenght=2)
    with pytest.raises(UserError, match="has a vocabulary of 8 tokens, not of 9"):
        processor.revised(vocab_size=9)
    assert ImageProcessor(resolution=8).revised(fit="pad") == ImageProcessor(resolution=8, fit="pad")


def test_every_processor_is_registered():
    assert {"image": ImageProcessor, "text": TextProcessor}.items() <= PROCESSORS.all().items()
    assert all(issubclass(kind, Processor) and kind.processor_type == name for name, kind in PROCESSORS.all().items())


# -------------------------------------------------------------------------------------------------- pretrained tokenizers


def byte_level(folder, **special):
    """A byte-level BPE tokenizer, as GPT-2 has one, saved by transformers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=alphabet,
        special_tokens=[*dict.fromkeys(special.values())],
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return str(folder)


def test_a_pretrained_tokenizer_keeps_its_own_special_tokens(tmp_path):
    name = byte_level(tmp_path / "t", bos_token="<s>", eos_token="</s>", pad_token="[PAD]")
    processor = fit_text_processor(SENTENCES, tokenizer=name)
    tokens = [
        processor.backend.id_to_token(id)
        for id in (processor.bos_token_id, processor.eos_token_id, processor.pad_token_id)
    ]
    assert tokens == ["<s>", "</s>", "[PAD]"]
    assert processor.vocab_size == 300
    assert processor.decode(rows(processor, SENTENCES)) == SENTENCES  # case and all: nothing is unknown to bytes
    assert processor.encode("</s>")[0] != processor.eos_token_id


def test_missing_special_tokens_are_added(tmp_path):
    """GPT-2 has one token for both ends, and none to pad with."""
    name = byte_level(tmp_path / "t", bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    processor = fit_text_processor(SENTENCES, tokenizer=name)
    assert processor.bos_token_id == processor.eos_token_id == 0
    assert (processor.pad_token_id, processor.vocab_size) == (300, 301)
    padded = fit_text_processor(SENTENCES, tokenizer=byte_level(tmp_path / "p", eos_token="<e>", pad_token="<e>"))
    special = (padded.eos_token_id, padded.bos_token_id, padded.pad_token_id)
    assert [padded.backend.id_to_token(id) for id in special] == ["<e>", "<bos>", "<pad>"]
    assert padded.vocab_size == 302
    assert Checkpoint(checkpoint(tmp_path / "c", padded)).processor == padded


@pytest.mark.parametrize("name", ["nowhere/at-all", "/nowhere", "not a name", "\0"])
def test_a_tokenizer_that_does_not_exist(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="the tokenizer .* cannot be loaded"):
        fit_text_processor(SENTENCES, tokenizer=name)


# -------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "texts, options, message",
    [
        ([], {}, "there is no text to learn a vocabulary from"),
        (["", " "], {}, "the data holds no word"),
        (["a"], {"min_count": 2}, r"no word that occurs at least data\.processor\.min_count=2 times"),
        (["a", None], {}, r"sample 1 is None, no text; name the column .* data\.sample_column"),
        ([("a", None)], {}, "sample 0 is .*, no text"),
        (["a", ("a", "b")], {}, "some samples have a prompt"),
        (["a \ud800"], {}, "the texts cannot be read"),
        (["a"], {"lowercas": True}, r"data\.processor: unknown key 'lowercas'. Did you mean 'lowercase'"),
        (["a"], {"min_count": 0}, r"data\.processor: min_count=0"),
        (["a"], {"max_vocab": 4}, r"data\.processor: max_vocab=4"),
        (["a"], {"tokenizer": ""}, r"data\.processor: tokenizer=''"),
        (["a"], {"max_length": 0}, "max_length=0"),
        (["a"], {"max_prompt_length": -1}, "max_prompt_length=-1"),
    ],
)
def test_a_fit_that_makes_no_sense(texts, options, message):
    with pytest.raises(UserError, match=message):
        fit_text_processor(texts, **options)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"eos_token_id": 5}, "go together"),
        ({"eos_token_id": 5, "pad_token_id": 5}, "must differ"),
        ({"bos_token_id": 10}, "bos_token_id=10 is not in a vocabulary of 10"),
        ({"max_length": 5000}, "max_length=5000"),
        ({"tokenizer_sha256": "x"}, "tokenizer_sha256"),
    ],
)
def test_fields_that_make_no_sense(values, message):
    with pytest.raises(UserError, match=message):
        TextProcessor.from_dict({"vocab_size": 10, "max_length": 3, **values})


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
        (lambda f: (f / "tokenizer_config.json").unlink(), r"has no tokenizer_config\.json"),
        (lambda f: change(f, "tokenizer.json", version="1.0"), "another checksum"),
        (lambda f: (f / "tokenizer.json").write_text("[" * 100_000), "not valid JSON"),
        (lambda f: (f / "tokenizer.json").write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda f: (f / "tokenizer.json").write_text("[]"), "holds a list"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), r"tokenizer\.json is damaged"),
        (
            lambda f: change(f, "tokenizer_config.json", eos_token="<pad>"),
            "says eos_token='<pad>', the processor '<eos>'",
        ),
        (lambda f: change(f, "tokenizer_config.json", pad_token={"content": ["<pad>"]}), "says pad_token="),
        (lambda f: change(f, "processor_config.json", vocab_size=25), r"says vocab_size=25, the network \d+"),
        (lambda f: change(f, "processor_config.json", max_length=5), r"says max_length=5, the network \d+"),
        (lambda f: change(f, "processor_config.json", eos_token_id=3), "says eos_token_id=3, the network 2"),
        (lambda f: change(f, "processor_config.json", tokenizer_sha256=None), r"does not name its tokenizer\.json"),
        (lambda f: ImageProcessor(resolution=8).save_pretrained(f), "is for image, the network is for text"),
    ],
)
def test_files_that_do_not_fit(damage, message, tmp_path):
    repository = checkpoint(tmp_path, fit_text_processor(SENTENCES))
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        assert Checkpoint(repository).processor


def test_another_models_tokenizer(tmp_path):
    """Even if its checksum is made to fit."""
    repository = checkpoint(tmp_path, fit_text_processor(["a b c d"]))
    other = fit_text_processor(["a b c d e"])
    (tmp_path / "tokenizer.json").write_text(other._tokenizer_json)
    change(tmp_path, "processor_config.json", tokenizer_sha256=other.tokenizer_sha256)
    with pytest.raises(CheckpointError, match="a vocabulary of 9 tokens, not of 8"):
        assert Checkpoint(repository).processor


def test_a_huge_tokenizer_is_not_read(tmp_path):
    repository = checkpoint(tmp_path, fit_text_processor(["a b c d"]))
    with open(tmp_path / "tokenizer.json", "wb") as file:
        file.truncate(1 << 40)  # a hole, not a terabyte
    with pytest.raises(CheckpointError, match="is larger than 67,108,864 bytes"):
        assert Checkpoint(repository).processor


def test_a_tokenizer_that_fills_the_memory_is_not_run():
    values = json.loads(fit_text_processor(["a"])._tokenizer_json)
    grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    values["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 12}
    with pytest.raises(CheckpointError, match="makes texts more than 100 times longer"):
        TextProcessor.with_tokenizer(json.dumps(values), vocab_size=5, max_length=3)
