"""Tokenizers: the word-level one that data trains, pretrained ones by name, and strict reading of tokenizer files.

All are `tokenizers.Tokenizer`s, so a checkpoint's `tokenizer.json` opens in `transformers` as it is. Both directions of the
word-level one are in that file: words and punctuation marks apart, as a treebank has them (do n't, man 's, well-known, 3.50),
and back to what a person writes. Blanks beside punctuation carry no meaning, so every sentence of its words is read back as the
tokens that it was written from.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from ganzoo.errors import CheckpointError, GanzooError, UserError, shorten
from ganzoo.utils.files import read_json
from ganzoo.utils.layout import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ganzoo.utils.files import Files


PAD, BOS, EOS, UNK = SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
MAX_VOCAB = 300_000
MAX_TOKENIZER_BYTES = 64 << 20
# How much longer a tokenizer may make a text by its replacements: a few chained ones could otherwise fill any memory.
MAX_GROWTH = 100

# Every quantifier has a bound: a word of a million letters becomes words of a hundred.
_WORDS = "|".join(
    (
        UNK,
        r"(?:\p{L}\.){2,20}",  # a.m.
        r"n['’]t\b",
        r"['’](?:s|m|d|re|ve|ll)\b",
        r"\d{1,30}(?:[.,:]\d{1,30}){1,9}(?!\w)",  # 3.50, 1,000, 11:59
        r"(?:\w{1,100}?[-/]){0,5}\w{1,100}?(?=n['’]t\b)",  # the do of don't
        r"\w{1,100}(?:[-/]\w{1,100}){0,5}",  # well-known, tub/shower
        r"[^\w\s]",
    )
)
_PAIRS = r'(?:[^"]*"[^"]*")*[^"]*$'  # an even number of quotation marks follows
_LONE = r"(?<!\S)'(?!\S)"
_NO_LONE = rf"(?:(?!{_LONE}).)*"
_LONE_PAIRS = rf"(?:{_NO_LONE}{_LONE}{_NO_LONE}{_LONE})*{_NO_LONE}$"
# Blanks between tokens that a person does not write, in this order. Marks pair from the end of the sentence on.
_NOT_WRITTEN = (
    rf"(?<=')(?<!\S') (?!(?:s|m|d|re|ve|ll)\b)(?={_NO_LONE}{_LONE}{_LONE_PAIRS})",  # ' round ' -> 'round '
    r" (?='(?!\S))",  # 'round ' -> 'round', dogs ' tails -> dogs' tails
    rf'(?<=") (?=[^"]*"{_PAIRS})',
    rf' (?="{_PAIRS})',
    r" (?=[.,;:!?)\]}%…”»])",
    r"(?<=[(\[{“‘«]) ",
    r"(?<=[$£€#@]) (?=\d)",
    r" (?=['’](?:s|m|d|re|ve|ll)\b)",
    r"(?<!['’]\w)(?<!['’]\w\w)(?<=\p{L}) (?=n['’]t\b)",
)


class TokenizerOptions(BaseModel):
    """How a tokenizer comes from data: a recipe's `data.processor`. A pretrained one only has a name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenizer: str = Field(
        "word",
        min_length=1,
        max_length=4096,
        description="'word' for one that is trained on the data, or a fast tokenizer of transformers by name or folder.",
    )
    lowercase: bool = Field(True, description="Whether words lose their case.")
    min_count: int = Field(1, ge=1, le=10**9, description="Rarer words become <unk>.")
    max_vocab: int | None = Field(
        None, ge=5, le=MAX_VOCAB, description="Tokens at most, the most frequent ones, four special ones included."
    )


def make_tokenizer(texts: Iterable[str], options: TokenizerOptions) -> tuple[Tokenizer, dict[str, int]]:
    """The tokenizer that `options` ask for, with the ids of its bos, eos and pad tokens.

    Raises:
        UserError: No word is left in the texts, or there is no such pretrained tokenizer.
    """
    if options.tokenizer != "word":
        return _pretrained_tokenizer(options.tokenizer)
    tokenizer = _train_words(texts, options)
    return tokenizer, {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _train_words(texts: Iterable[str], options: TokenizerOptions) -> Tokenizer:
    """<pad> 0, <bos> 1, <eos> 2, <unk> 3, then words by falling frequency, ties by text."""
    from tokenizers import trainers

    trained = _empty_word_tokenizer({UNK: 0}, options.lowercase)
    trainer = trainers.WordLevelTrainer(
        vocab_size=MAX_VOCAB, min_frequency=options.min_count, special_tokens=[], show_progress=False
    )
    with explained("the texts cannot be read", UserError):
        trained.train_from_iterator(texts, trainer)
    vocabulary = trained.get_vocab()
    words = sorted(vocabulary.keys() - set(SPECIAL_TOKENS), key=vocabulary.__getitem__)
    words = words[: (options.max_vocab or MAX_VOCAB) - len(SPECIAL_TOKENS)]
    if not words:
        raise UserError(
            f"the data holds no word that occurs at least data.processor.min_count={options.min_count} times"
        )
    tokens = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *words))}
    tokenizer = _empty_word_tokenizer(tokens, options.lowercase)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _empty_word_tokenizer(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    cases = [normalizers.Lowercase()] if lowercase else []
    controls = normalizers.Replace(Regex(r"\p{Cc}"), " ")
    tokenizer.normalizer = normalizers.Sequence([controls, *cases, normalizers.NFC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    # WordPiece puts the blanks between tokens; no token begins with the control character that is its prefix here.
    joined = [decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*joined, *(decoders.Replace(Regex(blank), "") for blank in _NOT_WRITTEN)])
    return tokenizer


def _pretrained_tokenizer(name: str) -> tuple[Tokenizer, dict[str, int]]:
    """A fast tokenizer of `transformers`, with the ids of its bos, eos and pad tokens.

    Its own special tokens are kept; a separator stands in for a missing end, a class token for a missing beginning. What is
    still missing is added at the end of the vocabulary (<bos>, <eos>, <pad>), and so is a <pad> where padding was the end.

    Args:
        name: A name on the Hub, or a folder.

    Raises:
        UserError: There is no such tokenizer, or it has no fast version.
    """
    from transformers import AutoTokenizer

    with explained(f"the tokenizer {shorten(name)} cannot be loaded", UserError):
        loaded = AutoTokenizer.from_pretrained(name, use_fast=True)
    if not getattr(loaded, "is_fast", False):
        raise UserError(f"the tokenizer {shorten(name)} has no fast version (a tokenizer.json); choose one that has")
    end = loaded.eos_token or loaded.sep_token or EOS
    padding = loaded.pad_token if loaded.pad_token not in (None, end) else PAD
    tokens = {"bos": loaded.bos_token or loaded.cls_token or BOS, "eos": end, "pad": padding}
    tokenizer = load_tokenizer(loaded.backend_tokenizer.to_str())
    tokenizer.add_special_tokens(list(tokens.values()))
    return tokenizer, {f"{role}_token_id": tokenizer.token_to_id(token) for role, token in tokens.items()}


def load_tokenizer(text: str) -> Tokenizer:
    """Builds the tokenizer that the text of a `tokenizer.json` describes; nothing in it is code.

    Text is never taken for a special token: a sample that holds the letters `<eos>` does not end there.

    Raises:
        CheckpointError: It describes none, or one that does not work.
    """
    from tokenizers import Tokenizer

    _check_growth(text)
    with explained(f"{TOKENIZER_FILE} is damaged", CheckpointError):
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        tokenizer.encode("a \ue000.", add_special_tokens=False)
        tokenizer.decode([0, 1], skip_special_tokens=False)
    return tokenizer


def read_tokenizer_files(repository: Files) -> tuple[str, dict[str, Any]]:
    """The text of a checkpoint's `tokenizer.json`, at most 64 MiB, and the content of its `tokenizer_config.json`.

    Raises:
        CheckpointError: One of them is missing, too large, no UTF-8 text, or no JSON.
    """
    paths = {name: repository.find(name) for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)}
    for name, path in paths.items():
        if path is None:
            raise CheckpointError(
                f"{repository.name} has no {name}, without which its model can neither read nor write"
            )
    return _read_text(paths[TOKENIZER_FILE]), read_json(paths[TOKENIZER_CONFIG_FILE])


def vocab_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: a pretrained vocabulary may have holes."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_TOKENIZER_BYTES:,} bytes; it is no tokenizer")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: not UTF-8 text ({error})") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None


def _check_growth(text: str) -> None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{TOKENIZER_FILE} is damaged: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{TOKENIZER_FILE} is damaged: it holds a {type(values).__name__}, not an object")
    growth = 1
    open_values: list[Any] = [values.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    while open_values:
        value = open_values.pop()
        if isinstance(value, dict):
            content = value.get("content")
            if value.get("type") == "Replace" and isinstance(content, str):
                growth *= max(1, len(content))
            elif value.get("type") == "Precompiled":
                growth *= 20
            open_values.extend(value.values())
        elif isinstance(value, list):
            open_values.extend(value)
        if growth > MAX_GROWTH:
            raise CheckpointError(f"{TOKENIZER_FILE} makes texts more than {MAX_GROWTH} times longer; it is hostile")


@contextlib.contextmanager
def explained(what: str, kind: type[GanzooError]) -> Iterator[None]:
    """Turns whatever the tokenizer's own code raises, its panics included, into one sentence."""
    try:
        yield
    except GanzooError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise kind(f"{what} ({lines[0]})") from None
