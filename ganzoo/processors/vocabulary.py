"""Vocabularies: what a token of a text is (a word, what stands between blanks, a character, a piece of bytes), learned from data.

Every tokenizer is a `tokenizers.Tokenizer` that holds both directions, so a checkpoint's `tokenizer.json` opens in `transformers`
as it is.

- `word`: words and punctuation marks apart, as a treebank has them (do n't, man 's, well-known, 3.50), and back to what a person
  writes. Blanks beside punctuation carry no meaning, so every sentence of its words is read back as the tokens that it was
  written from.
- `whitespace`: what stands between white space, whole (`y[3]`, a URL); joined again by one blank.
- `character`: Unicode characters, the blank among them; exact for every text. A character that the vocabulary lacks is its UTF-8
  bytes.
- `bpe`: byte pairs that occur often, merged (Sennrich et al., 2016, over bytes as in GPT-2); exact for every text.
- Any other name is that of a pretrained one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.processors.tokenizer import BOS, EOS, MAX_VOCAB, PAD, UNK, explained, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.normalizers import Normalizer

SPECIAL_TOKENS = (PAD, BOS, EOS, UNK)
# Where bytes stand in for what is unknown, nothing is.
BYTE_SPECIAL_TOKENS = (PAD, BOS, EOS)
_NUM_BYTES = 256
# Byte pairs would go on merging until every text is one token.
DEFAULT_PIECES = 4096


class TokenizerOptions(BaseModel):
    """How a tokenizer comes from data: a recipe's `data.processor`. A pretrained one only has a name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokenizer: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="What a token is: 'word', 'whitespace', 'character' or 'bpe', learned from the data; or a fast tokenizer of "
        "transformers by name or folder. Left out, the data decides, and the run says what.",
    )
    lowercase: bool | None = Field(
        None, description="Whether letters lose their case; left out, they do with 'word' and keep it with the others."
    )
    min_count: int = Field(
        1,
        ge=1,
        le=10**9,
        description="Rarer words become <unk>, rarer characters bytes; rarer pairs of 'bpe' (or such that occur once) are not "
        "merged.",
    )
    max_vocab: int | None = Field(
        None,
        ge=5,
        le=MAX_VOCAB,
        description="Tokens at most, the most frequent ones, the special ones included; at least 259 with 'character' and 'bpe', "
        "which have all bytes. Left out, all there are, and 4,096 of 'bpe'.",
    )


class Trained(NamedTuple):
    """A tokenizer, and its `bos_token_id`, `eos_token_id` and `pad_token_id`."""

    tokenizer: Tokenizer
    special: dict[str, int]


class Unit(NamedTuple):
    """What a token is.

    Attributes:
        train: `(texts, options)` -> the tokenizer.
        longest: What `max_length` is at most when it is taken from the data.
        lowercase: Whether letters lose their case unless the options say.
        words: What metrics of sentences count: a name of `ganzoo.metrics.text.tokens.TOKENIZERS`. Models compare by units that do
            not depend on their vocabularies.
    """

    train: Callable[[Sequence[str], TokenizerOptions], Trained]
    longest: int
    lowercase: bool
    words: str


def make_tokenizer(texts: Sequence[str], options: TokenizerOptions) -> Trained:
    """The tokenizer that `options` name.

    Raises:
        UserError: Nothing is left of the texts, the vocabulary has no room for what it must hold, or there is no such
            pretrained tokenizer.
    """
    unit = unit_of(options.tokenizer)
    if options.lowercase is None:
        options = options.model_copy(update={"lowercase": unit.lowercase})
    return unit.train(texts, options)


def unit_of(name: str) -> Unit:
    """The unit of a tokenizer's name."""
    return LEARNED.get(name, PRETRAINED)


# ------------------------------------------------------------------------------------------------------- words

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
# Between white space, but a special token's letters are no token: `<eos>` becomes `<` and `eos>`. A kilobyte at most.
_BETWEEN_BLANKS = r"<(?=(?:pad|bos|eos)>(?!\S))|\S{1,1000}"


def _words(
    texts: Sequence[str], options: TokenizerOptions, *, pattern: str, not_written: Sequence[str] = ()
) -> Trained:
    """<pad> 0, <bos> 1, <eos> 2, <unk> 3, then what `pattern` finds, by falling frequency, ties by text."""
    from tokenizers import trainers

    trained = _empty_words({UNK: 0}, options.lowercase, pattern, not_written)
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
    numbered = _numbered(SPECIAL_TOKENS, words)
    return _finished(_empty_words(numbered, options.lowercase, pattern, not_written), SPECIAL_TOKENS)


def _empty_words(vocabulary: dict[str, int], lowercase: bool, pattern: str, not_written: Sequence[str]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    controls = normalizers.Replace(Regex(r"\p{Cc}"), " ")
    tokenizer.normalizer = normalizers.Sequence([controls, *_cases(lowercase), normalizers.NFC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    # WordPiece puts the blanks between tokens; no token begins with the control character that is its prefix here.
    joined = [decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*joined, *(decoders.Replace(Regex(blank), "") for blank in not_written)])
    return tokenizer


def _cases(lowercase: bool) -> list[Normalizer]:
    from tokenizers import normalizers

    return [normalizers.Lowercase()] if lowercase else []


# -------------------------------------------------------------------------------------------- characters and bytes


def _characters(texts: Sequence[str], options: TokenizerOptions) -> Trained:
    """<pad> 0, <bos> 1, <eos> 2, the bytes, then characters by falling frequency, ties by code point."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    _check_room("character", texts, options)
    normalizer = normalizers.Sequence(_cases(options.lowercase))
    counts: Counter[str] = Counter()
    with explained("the texts cannot be read", UserError):
        for text in texts:
            counts.update(normalizer.normalize_str(text) if options.lowercase else text)
        common = [character for character, count in counts.items() if count >= options.min_count]
        common.sort(key=lambda character: (-counts[character], character))
        spelled = [f"<0x{byte:02X}>" for byte in range(_NUM_BYTES)]
        room = (options.max_vocab or MAX_VOCAB) - len(BYTE_SPECIAL_TOKENS) - _NUM_BYTES
        vocabulary = _numbered(BYTE_SPECIAL_TOKENS, [*spelled, *common[:room]])
        # Byte pairs of which none are merged: every character is a token of its own.
        tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _finished(tokenizer, BYTE_SPECIAL_TOKENS)


def _byte_pairs(texts: Sequence[str], options: TokenizerOptions) -> Trained:
    """<pad> 0, <bos> 1, <eos> 2, the bytes, then merged pairs in the order in which they were merged."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    _check_room("bpe", texts, options)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(_cases(options.lowercase))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=options.max_vocab or DEFAULT_PIECES,
        min_frequency=max(options.min_count, 2),
        special_tokens=list(BYTE_SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    with explained("the texts cannot be read", UserError):
        tokenizer.train_from_iterator(texts, trainer)
    return _finished(tokenizer, BYTE_SPECIAL_TOKENS)


def _check_room(name: str, texts: Sequence[str], options: TokenizerOptions) -> None:
    least = len(BYTE_SPECIAL_TOKENS) + _NUM_BYTES
    if options.max_vocab is not None and options.max_vocab < least:
        raise UserError(
            f"data.processor.max_vocab={options.max_vocab} has no room for the {_NUM_BYTES} bytes and "
            f"{len(BYTE_SPECIAL_TOKENS)} special tokens of the tokenizer '{name}'; set it to {least} or more, or leave it out"
        )
    if not any(texts):
        raise UserError("the data holds no character: all its texts are empty")


def _numbered(special: Sequence[str], others: Sequence[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate((*special, *others))}


def _finished(tokenizer: Tokenizer, special: Sequence[str]) -> Trained:
    tokenizer.add_special_tokens(list(special))
    tokenizer.encode_special_tokens = True
    return Trained(tokenizer, {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})


# -------------------------------------------------------------------------------------------------- pretrained ones


def _pretrained(texts: Sequence[str], options: TokenizerOptions) -> Trained:
    """A fast tokenizer of `transformers`, by its name on the Hub or its folder.

    Its own special tokens are kept; a separator stands in for a missing end, a class token for a missing beginning. What is
    still missing is added at the end of the vocabulary (<bos>, <eos>, <pad>), and so is a <pad> where padding was the end.

    Raises:
        UserError: There is no such tokenizer, or it has no fast version.
    """
    from transformers import AutoTokenizer

    name, hint = options.tokenizer, did_you_mean(options.tokenizer, LEARNED)
    what = f"it is none of {', '.join(LEARNED)}, nor the name or folder of a pretrained one.{hint}"
    with explained(f"the tokenizer {shorten(name)} cannot be loaded: {what}", UserError):
        loaded = AutoTokenizer.from_pretrained(name, use_fast=True)
    if not getattr(loaded, "is_fast", False):
        raise UserError(f"the tokenizer {shorten(name)} has no fast version (a tokenizer.json); choose one that has")
    end = loaded.eos_token or loaded.sep_token or EOS
    padding = loaded.pad_token if loaded.pad_token not in (None, end) else PAD
    tokens = {"bos": loaded.bos_token or loaded.cls_token or BOS, "eos": end, "pad": padding}
    tokenizer = load_tokenizer(loaded.backend_tokenizer.to_str())
    tokenizer.add_special_tokens(list(tokens.values()))
    return Trained(tokenizer, {f"{role}_token_id": tokenizer.token_to_id(token) for role, token in tokens.items()})


# Name -> unit; any other name is that of a pretrained tokenizer.
LEARNED: dict[str, Unit] = {
    "word": Unit(partial(_words, pattern=_WORDS, not_written=_NOT_WRITTEN), longest=64, lowercase=True, words="nltk"),
    "whitespace": Unit(partial(_words, pattern=_BETWEEN_BLANKS), longest=64, lowercase=False, words="whitespace"),
    "character": Unit(_characters, longest=256, lowercase=False, words="character"),
    "bpe": Unit(_byte_pairs, longest=128, lowercase=False, words="unicode"),
}
PRETRAINED = Unit(_pretrained, longest=64, lowercase=False, words="nltk")
