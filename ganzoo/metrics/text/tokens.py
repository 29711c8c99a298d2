"""From sentences to words, and from words to integers: all that the text metrics read."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ganzoo.errors import UserError, did_you_mean, require, shorten

Sentences = Sequence[Sequence[Hashable]]


def tokenize(texts: Sequence[str], tokenizer: str = "nltk", lowercase: bool = True) -> list[list[str]]:
    """Splits sentences into words.

    Args:
        texts: One sentence each.
        tokenizer: `"nltk"`: nltk's word tokeniser, which sets punctuation and clitics apart (regular expressions only:
            nothing is downloaded). `"whitespace"`: `str.split`. `"character"`: every character, blanks too. `"unicode"`:
            runs of letters and digits, and every other mark alone; so is each character of scripts that are written without
            blanks (Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer).
        lowercase: Lower the case first.

    Returns:
        The words of each sentence; none for an empty one.

    Raises:
        UserError: An unknown tokeniser, or `texts` is no sequence of strings.
        MissingPackageError: nltk is not installed.
    """
    if tokenizer not in TOKENIZERS:
        known = ", ".join(TOKENIZERS)
        hint = did_you_mean(tokenizer, TOKENIZERS)
        raise UserError(f"there is no tokenizer {shorten(tokenizer)}.{hint} The tokenizers are: {known}")
    if isinstance(texts, str):
        raise UserError("texts must be a sequence of sentences, not one string; put it into a list")
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f"a sentence must be a string, not {shorten(text)}")
    split = TOKENIZERS[tokenizer].load()
    return [split(text.lower() if lowercase else text) for text in texts]


def _nltk() -> Callable[[str], list[str]]:
    return require("nltk.tokenize", extra="train", purpose="the 'nltk' word tokenizer").NLTKWordTokenizer().tokenize


def _unicode() -> Callable[[str], list[str]]:
    from ganzoo.processors.choice import UNSPACED

    unspaced = UNSPACED.pattern
    return re.compile(rf"{unspaced}|(?:(?!{unspaced})\w)+|[^\w\s]").findall


class Split(NamedTuple):
    """A way to take sentences apart: what comes of it in words, and what makes the function that does it."""

    what: str
    load: Callable[[], Callable[[str], list[str]]]


TOKENIZERS: dict[str, Split] = {
    "nltk": Split("nltk words", _nltk),
    "whitespace": Split("whitespace words", lambda: str.split),
    "character": Split("characters", lambda: list),
    "unicode": Split("unicode words", _unicode),
}


@dataclass(frozen=True)
class Encoded:
    """Sentences as integers, end to end.

    Attributes:
        tokens: `(T,)` int64 in `[0, size)`: equal tokens have equal numbers.
        offsets: `(N + 1,)` int64: sentence i is `tokens[offsets[i] : offsets[i + 1]]`.
        size: Distinct tokens.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    size: int

    @property
    def lengths(self) -> np.ndarray:
        """`(N,)` tokens in each sentence."""
        return np.diff(self.offsets)


def encode(sentences: Sentences) -> Encoded:
    """Numbers the tokens of sentences, contiguously, in the order of their first appearance.

    Args:
        sentences: Tokenised: words, or the ids of any tokeniser.

    Raises:
        UserError: A sentence is a string: its characters would be taken for its words.
    """
    check_tokenised(sentences)
    numbers: dict[Hashable, int] = {}
    tokens = [numbers.setdefault(token, len(numbers)) for sentence in sentences for token in sentence]
    offsets = np.zeros(len(sentences) + 1, np.int64)
    np.cumsum([len(sentence) for sentence in sentences], out=offsets[1:])
    return Encoded(np.array(tokens, np.int64), offsets, len(numbers))


def check_tokenised(sentences: Sentences) -> None:
    """Raises a UserError for sentences that are strings, or a string."""
    if isinstance(sentences, str) or any(isinstance(sentence, str) for sentence in sentences):
        raise UserError("sentences must be lists of words, not strings; call tokenize(texts) first")
