"""From texts to the processor that reads them: vocabulary, lengths, and a word on what was decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ganzoo.errors import UserError, shorten
from ganzoo.processors.choice import choose_tokenizer
from ganzoo.processors.text import TextProcessor
from ganzoo.processors.tokenizer import explained, vocab_size
from ganzoo.processors.vocabulary import LEARNED, TokenizerOptions, make_tokenizer, unit_of
from ganzoo.utils.validation import explain

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 10_000
# Where a length is stated, it is judged by some of the texts, and a few longer ones are meant.
_SOME = 2000
_TOLERATED = 0.1


def fit_text_processor(
    texts: Iterable[str | tuple[str, str]],
    *,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    **options: Any,
) -> TextProcessor:
    """Makes the processor of a data set: a tokenizer that is learned from it, or a pretrained one, and lengths that fit.

    What was decided here is in the processor's `decisions`.

    Args:
        texts: The training texts, or (prompt, text) pairs.
        max_length: Tokens of a sample, EOS included; by default those of the longest text, but at most 64, of `bpe` 128, of
            `character` 256.
        max_prompt_length: The same of the prompts; 0 without prompts.
        **options: The fields of `TokenizerOptions`: `tokenizer` (left out, as `choice` finds), `lowercase`, `min_count=1`,
            `max_vocab=None`.

    Raises:
        UserError: There is no text, a sample is no text, an option is wrong, or the tokenizer does not exist.
    """
    try:
        validated = TokenizerOptions.model_validate(options)
    except ValidationError as error:
        raise UserError(f"data.processor: {explain(error, TokenizerOptions)}") from None
    prompts, samples = _prompts_and_samples(texts)
    decisions = []
    if validated.tokenizer is None:
        name, because = choose_tokenizer(samples)
        validated = validated.model_copy(update={"tokenizer": name})
        decisions.append(_chosen(name, because))
    name, most = validated.tokenizer, unit_of(validated.tokenizer).longest
    backend, special = make_tokenizer([*prompts, *samples], validated)
    if max_prompt_length is None:
        max_prompt_length = min(max(_lengths(backend, prompts)), most) if prompts else 0
    is_stated = max_length is not None
    lengths = _lengths(backend, samples[:: -(-len(samples) // _SOME)] if is_stated else samples)
    if not is_stated:
        max_length = min(max(lengths), most)
    cut = sum(length > max_length for length in lengths) / len(lengths)
    if cut > (_TOLERATED if is_stated else 0):
        decisions.append(_cut(cut, max_length, max(lengths)))
    processor = TextProcessor.with_tokenizer(
        backend.to_str(),
        vocab_size=vocab_size(backend),
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        unit=name if name in LEARNED else "pretrained",
        **special,
    )
    processor.__dict__["decisions"] = tuple(decisions)  # a cached property
    return processor


def _chosen(name: str, because: str) -> str:
    others = " or ".join(other for other in LEARNED if other != name)
    return (
        f"data.processor.tokenizer is left out; the data decided for '{name}': {because}. Set it to {name} to keep that, or to "
        f"{others}"
    )


def _cut(share: float, max_length: int, longest: int) -> str:
    return (
        f"{share:.1%} of the texts have more than model.max_length={max_length} tokens with their end, and are cut; the longest "
        f"has {longest:,}"
    )


def _prompts_and_samples(texts: Iterable[str | tuple[str, str]]) -> tuple[list[str], list[str]]:
    prompts: list[str] = []
    samples: list[str] = []
    for index, raw in enumerate(texts):
        parts = raw if isinstance(raw, tuple) and len(raw) == 2 else (raw,)
        if not all(isinstance(part, str) for part in parts):
            raise UserError(
                f"sample {index} is {shorten(raw)}, no text; name the column of the texts by data.sample_column"
            )
        prompts.extend(parts[:-1])
        samples.append(parts[-1])
    if not samples:
        raise UserError("there is no text to learn a vocabulary from")
    if prompts and len(prompts) != len(samples):
        raise UserError("some samples have a prompt and others have none")
    return prompts, samples


def _lengths(backend: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text with its EOS."""
    lengths: list[int] = []
    with explained("the texts cannot be read", UserError):
        for start in range(0, len(texts), _BATCH):
            encoded = backend.encode_batch_fast(texts[start : start + _BATCH], add_special_tokens=False)
            lengths.extend(len(row.ids) + 1 for row in encoded)
    return lengths
