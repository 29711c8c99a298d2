"""Which tokenizer a text asks for, where nobody has said: measured on the text, by one list of rules.

At most 2,000 texts are looked at, evenly chosen, and of each the first 1,000 characters; *words* are what stands between white
space. The first rule that holds decides:

| what is measured | tokenizer | such as |
|---|---|---|
| at least 30 % of the characters are of scripts that are written without blanks | `character` | Chinese, Japanese, Thai |
| 50 texts or more, with words of over 15 characters on average | `character` | molecules, DNA |
| 50 texts or more, of fewer than 1.5 words, more than half of which are different | `character` | names |
| fewer than 1,000 words: too few to tell anything | `word` | a trial |
| more than half of the words (10,000 at most are counted) are different | `bpe` | long compounds, identifiers |
| `word` gives back at least half of the texts (case and runs of white space apart) | `word` | sentences |
| at most 30 % of the words are different | `whitespace` | text that was taken apart before |
| otherwise | `bpe` | code, addresses |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ganzoo.processors.vocabulary import TokenizerOptions, make_tokenizer

_MOST_TEXTS = 2000
_MOST_CHARACTERS = 1000
_MOST_WORDS = 10_000
_FEWEST_TEXTS = 50
_FEWEST_WORDS = 1000
# Thai, Lao, Tibetan, Burmese, Khmer; kana and Chinese characters, with their marks and extensions.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3001-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Evidence:
    """What some texts show.

    Attributes:
        texts: Texts, none of them empty of anything but white space.
    """

    texts: Sequence[str]

    @cached_property
    def words(self) -> list[str]:
        return [word for text in self.texts for word in text.split()]

    @cached_property
    def characters(self) -> int:
        """White space apart."""
        return sum(map(len, self.words))

    @cached_property
    def unspaced(self) -> float:
        """The share in [0, 1] of the characters that are of scripts without blanks."""
        return len(UNSPACED.findall(" ".join(self.words))) / self.characters

    @cached_property
    def distinct(self) -> float:
        """Different words by all, in (0, 1], of the first 10,000: the share of more is smaller in every language."""
        counted = self.words[:_MOST_WORDS]
        return len(set(counted)) / len(counted)

    @cached_property
    def word_length(self) -> float:
        return self.characters / len(self.words)

    @cached_property
    def words_a_text(self) -> float:
        return len(self.words) / len(self.texts)

    @cached_property
    def given_back(self) -> float:
        """The share in [0, 1] of the texts that 'word' decodes as they are, case and runs of white space apart."""
        tokenizer, _ = make_tokenizer(self.texts, TokenizerOptions(tokenizer="word"))
        rows = [row.ids for row in tokenizer.encode_batch_fast(list(self.texts), add_special_tokens=False)]
        pairs = zip(tokenizer.decode_batch(rows, skip_special_tokens=False), self.texts, strict=True)
        return sum(decoded == " ".join(text.lower().split()) for decoded, text in pairs) / len(self.texts)


class Rule(NamedTuple):
    """A tokenizer, when it is chosen, and why in words."""

    tokenizer: str
    holds: Callable[[Evidence], bool]
    because: Callable[[Evidence], str]


RULES = (
    Rule(
        "character",
        lambda seen: seen.unspaced >= 0.3,
        lambda seen: f"{seen.unspaced:.0%} of the characters are of scripts that are written without blanks",
    ),
    Rule(
        "character",
        lambda seen: len(seen.texts) >= _FEWEST_TEXTS and seen.word_length > 15,
        lambda seen: f"what stands between blanks has {seen.word_length:,.0f} characters on average",
    ),
    Rule(
        "character",
        lambda seen: len(seen.texts) >= _FEWEST_TEXTS and seen.words_a_text < 1.5 and seen.distinct > 0.5,
        lambda seen: f"a text is {seen.words_a_text:.1f} words on average, {seen.distinct:.0%} of them different",
    ),
    Rule(
        "word",
        lambda seen: len(seen.words) < _FEWEST_WORDS,
        lambda seen: f"{len(seen.words):,} words are too few to tell anything",
    ),
    Rule(
        "bpe",
        lambda seen: seen.distinct > 0.5,
        lambda seen: f"{seen.distinct:.0%} of the words are different",
    ),
    Rule(
        "word",
        lambda seen: seen.given_back >= 0.5,
        lambda seen: f"words and marks give back {seen.given_back:.0%} of the texts",
    ),
    Rule(
        "whitespace",
        lambda seen: seen.distinct <= 0.3,
        lambda seen: (
            f"the marks of {1 - seen.given_back:.0%} of the texts do not stand as in sentences, and words recur"
        ),
    ),
    Rule(
        "bpe",
        lambda seen: True,
        lambda seen: f"words and marks give back only {seen.given_back:.0%} of the texts",
    ),
)


def choose_tokenizer(texts: Sequence[str]) -> tuple[str, str]:
    """The tokenizer that texts ask for, and why, by the rules above.

    Args:
        texts: Those that are written; not the prompts.

    Returns:
        A name of `vocabulary.LEARNED`, and the end of a sentence.
    """
    step = max(1, -(-len(texts) // _MOST_TEXTS))
    chosen = [text[:_MOST_CHARACTERS] for text in texts[::step]]
    seen = Evidence([text for text in chosen if text.strip()])
    if not seen.texts:
        return "word", "there is no text"
    rule = next(rule for rule in RULES if rule.holds(seen))
    return rule.tokenizer, rule.because(seen)
