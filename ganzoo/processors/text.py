"""Text: sentences to rows of token ids and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from ganzoo.errors import CheckpointError, UserError, one_line, shorten
from ganzoo.processors.base import Processor
from ganzoo.processors.tokenizer import MAX_VOCAB, explained, load_tokenizer, read_tokenizer_files, vocab_size
from ganzoo.processors.vocabulary import LEARNED, TokenizerOptions, unit_of
from ganzoo.processors.words import Words
from ganzoo.utils.files import write_text
from ganzoo.utils.layout import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from ganzoo.utils.files import Files

MAX_LINE = 100_000
_JOINERS = "\u200c\u200d"
_ROLES = ("bos", "eos", "pad")


@dataclass
class TextOutput:
    """What a text pipeline returns.

    Attributes:
        texts: By `output_type`: list of strings, list of lists of token ids (without the end and what follows it), or
            int64 (B, T) tensor.
        tokens: int64 (B, T): tokens up to and including EOS, then PAD.
        labels: (B,) classes of a conditional model, else None.
        latents: (B, max_length), with which each sample can be made again.
    """

    texts: Any
    tokens: torch.Tensor
    labels: torch.Tensor | None
    latents: torch.Tensor


def sentence_line(text: str, *, limit: int = MAX_LINE) -> str:
    """A sentence on one line: control characters escaped, but for the joiners that Persian, Hindi and emoji are written with."""
    parts = re.split(f"([{_JOINERS}])", text[:limit])
    shown = "".join(part if part in _JOINERS else one_line(part, limit=limit) for part in parts)
    return shown if len(text) <= limit and len(shown) <= limit else f"{shown[: limit - 3]}..."


class TextProcessor(Processor):
    """Token ids: int32 in storage, int64 in the networks; tokens up to and including EOS, then PAD.

    A row is (max_length,), or (max_prompt_length + max_length,) with the prompt first where a model has a separate one. A text
    that is too long is cut and then has no EOS: a cut sentence does not end. Without a tokenizer, a text is its ids, joined by
    blanks. The tokenizer is no field; it comes by `fit_text_processor`, `with_tokenizer` or from a checkpoint.
    """

    processor_type: ClassVar[str] = "text"
    modality: ClassVar[str] = "text"
    written: ClassVar[tuple[str, str]] = ("sentences are", ".txt")
    storage_dtype: ClassVar[str] = "int32"
    output_types: ClassVar[tuple[str, ...]] = ("text", "ids", "pt")
    words: ClassVar[Words] = Words(
        noun="sentence",
        given="sentences",
        drawn=("texts = pipe(num_samples=8, seed=0).texts",),
        hub_task="text-generation",
        floor="Real text",
        protocol="Protocol",
        floor_note="Real text is what training sentences score in place of the generated ones or, compared with the training "
        "sentences, test sentences.",
        lists_settings=True,
    )

    remarks_only: ClassVar[tuple[str, ...]] = ("class_names", "default_temperature", "unit")

    vocab_size: int = Field(ge=2, le=MAX_VOCAB, description="Tokens of the vocabulary.")
    max_length: int = Field(ge=1, le=4096, description="Tokens of a sample at most, the end included.")
    max_prompt_length: int = Field(0, ge=0, le=4096, description="Tokens of a separate prompt; 0 for none.")
    bos_token_id: int = Field(0, ge=0, description="What the first step reads; never stored.")
    eos_token_id: int | None = Field(None, ge=0, description="Ends a sequence; null for fixed length.")
    pad_token_id: int | None = Field(None, ge=0, description="Fills up after the end; null for fixed length.")
    tokenizer_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="Checksum of tokenizer.json; null for token ids without texts."
    )
    unit: Literal["word", "whitespace", "character", "bpe", "pretrained"] = Field(
        "word", description="What a token is; checkpoints from before there was a choice do not say."
    )

    default_temperature: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Divides the logits unless a call says otherwise: that of the published numbers.",
    )

    _tokenizer_json: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _tokens_exist(self) -> TextProcessor:
        for role, value in self._special_ids().items():
            if value is not None and value >= self.vocab_size:
                raise ValueError(f"{role}_token_id={value} is not in a vocabulary of {self.vocab_size} tokens")
        if (self.eos_token_id is None) != (self.pad_token_id is None):
            raise ValueError("eos_token_id and pad_token_id go together: set both, or neither for fixed length")
        if self.eos_token_id is not None and self.eos_token_id == self.pad_token_id:
            raise ValueError("eos_token_id and pad_token_id must differ")
        return self

    def _special_ids(self) -> dict[str, int | None]:
        return {role: getattr(self, f"{role}_token_id") for role in _ROLES}

    # ------------------------------------------------------------------------------------------------------ the tokenizer

    @classmethod
    def with_tokenizer(cls, tokenizer_json: str, **fields: Any) -> TextProcessor:
        """A processor with the tokenizer that the text of a `tokenizer.json` describes.

        Raises:
            UserError: Wrong fields.
            CheckpointError: No such tokenizer, or one of another vocabulary.
        """
        digest = hashlib.sha256(tokenizer_json.encode()).hexdigest()
        processor = cls.from_dict({**fields, "tokenizer_sha256": digest})
        processor._tokenizer_json = tokenizer_json
        processor._check_tokenizer()
        return processor

    @cached_property
    def backend(self) -> Tokenizer | None:
        """The tokenizer of the `tokenizers` package; None for token ids without texts."""
        if self.tokenizer_sha256 is None:
            return None
        if self._tokenizer_json is None:
            raise CheckpointError(f"this processor lacks its {TOKENIZER_FILE}; load it together with its checkpoint")
        return load_tokenizer(self._tokenizer_json)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """The tokenizer as `transformers` knows it, freshly made; None for token ids without texts."""
        if self.backend is None:
            return None
        from transformers import PreTrainedTokenizerFast

        values = self._tokenizer_config()
        values.pop("tokenizer_class")
        return PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(self._tokenizer_json), **values)

    def _tokenizer_config(self) -> dict[str, Any]:
        named = {
            f"{role}_token": self.backend.id_to_token(id) for role, id in self._special_ids().items() if id is not None
        }
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **named,
            **({} if self._unknown is None else {"unk_token": self._unknown}),
            "model_max_length": self.max_length,
            "clean_up_tokenization_spaces": False,
        }

    @property
    def _unknown(self) -> str | None:
        """The token of words that the vocabulary lacks; None where bytes stand in for them, or without a tokenizer."""
        return None if self.backend is None else getattr(self.backend.model, "unk_token", None)

    @property
    def reads_all(self) -> bool:
        """Whether there is no text that the vocabulary lacks."""
        return self.backend is not None and self._unknown is None

    @property
    def counted(self) -> tuple[str, bool]:
        """What metrics of sentences count, and whether they see letters without their case."""
        words = unit_of(self.unit).words
        normalizer = None if self.backend is None else self.backend.normalizer
        return words, words == "nltk" or (normalizer is not None and normalizer.normalize_str("A") == "a")

    @cached_property
    def decisions(self) -> tuple[str, ...]:
        """What a fit has decided; it is not stored, and no part of what makes two processors equal."""
        return ()

    def _check_tokenizer(self) -> None:
        size = vocab_size(self.backend)
        if size != self.vocab_size:
            raise CheckpointError(f"{TOKENIZER_FILE} has a vocabulary of {size} tokens, not of {self.vocab_size}")
        for role, value in self._special_ids().items():
            if value is not None and self.backend.id_to_token(value) is None:
                raise CheckpointError(f"{TOKENIZER_FILE} has no token {value}, which {role}_token_id names")

    def with_files(self, repository: Files) -> TextProcessor:
        if self.tokenizer_sha256 is None:
            if repository.find(TOKENIZER_FILE) is not None:
                raise CheckpointError(f"{repository.name}: the processor does not name its {TOKENIZER_FILE}")
            return self
        text, values = read_tokenizer_files(repository)
        try:
            complete = self.with_tokenizer(text, **self.model_dump(exclude={"tokenizer_sha256"}))
        except CheckpointError as error:
            raise CheckpointError(f"{repository.name}: {error}") from None
        if complete.tokenizer_sha256 != self.tokenizer_sha256:
            raise CheckpointError(
                f"{repository.name}: {TOKENIZER_FILE} is not the one its processor was made with (another checksum); fetch it again"
            )
        for role, value in self._special_ids().items():
            stated = values.get(f"{role}_token")
            stated = stated.get("content") if isinstance(stated, dict) else stated
            expected = None if value is None else complete.backend.id_to_token(value)
            if stated != expected:
                raise CheckpointError(
                    f"{repository.name}: {TOKENIZER_CONFIG_FILE} says {role}_token={shorten(stated)}, the processor {expected!r}"
                )
        return complete

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `processor_config.json`, `tokenizer.json` and `tokenizer_config.json`: `transformers` opens the last two."""
        super().save_pretrained(folder)
        if self.backend is not None:
            write_text(Path(folder) / TOKENIZER_FILE, self._tokenizer_json)
            write_text(Path(folder) / TOKENIZER_CONFIG_FILE, json.dumps(self._tokenizer_config(), indent=2) + "\n")

    def revised(self, **overrides: Any) -> TextProcessor:
        """A copy with some fields changed; options of the fit (`tokenizer`, `min_count`, ...) are behind it and change nothing.

        Raises:
            UserError: One sentence that lists every wrong key, or the tokenizer cannot be another.
        """
        wanted = overrides.get("tokenizer")
        if wanted in LEARNED and wanted != self.unit:
            raise UserError(f"the model reads by '{self.unit}', which data.processor.tokenizer={wanted} cannot change")
        changed = {name: value for name, value in overrides.items() if name not in TokenizerOptions.model_fields}
        revised = self.from_dict({**self.model_dump(), **changed})
        revised.__dict__["decisions"] = self.decisions
        if self._tokenizer_json is not None:
            revised._tokenizer_json = self._tokenizer_json
            try:
                revised._check_tokenizer()
            except CheckpointError as error:
                raise UserError(str(error)) from None
        return revised

    def informed(self, *, class_names: tuple[str, ...] | None, temperature: float) -> TextProcessor:
        return (
            super().informed(class_names=class_names, temperature=temperature).revised(default_temperature=temperature)
        )

    def difference(self, other: Processor) -> str | None:
        names = [name for name in type(self).model_fields if name not in ("tokenizer_sha256", *self.remarks_only)]
        for name in names:
            own, others = getattr(self, name), getattr(other, name, None)
            if own != others:
                return f"says {name}={own}, the network {others}"
        return None

    # ----------------------------------------------------------------------------------------------------- texts to tokens

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.max_prompt_length + self.max_length,)

    def parts(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rows -> tokens (B, max_length) and, with a separate prompt, the prompts (B, max_prompt_length), else None."""
        length = self.max_prompt_length
        return (samples[:, length:], samples[:, :length]) if length else (samples, None)

    def encode(self, raw: Any) -> np.ndarray:
        """Turns a text into a row of ids, int32 (max_prompt_length + max_length,).

        Args:
            raw: A text; (prompt, text) with a separate prompt; or the ids themselves, an array of integers, with a separate
                prompt its `max_prompt_length` ids first. Whatever is too long is cut, without an EOS then.

        Raises:
            UserError: It is no such thing, or too short for a model of fixed length.
        """
        prompt, text = self._prompt_and_text(raw)
        row = self._row(self._ids(text), self.max_length)
        if not self.max_prompt_length:
            return row
        return np.concatenate([self._row(self._ids(prompt), self.max_prompt_length), row])

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of the words a sample begins with, or of a separate prompt: without EOS, of any length.

        A word that the vocabulary lacks becomes <unk>; an empty text has no ids.

        Raises:
            UserError: The vocabulary has none of its words, or it is no text.
        """
        if not isinstance(text, str):
            raise UserError(f"a prompt is a text, not {shorten(text)}")
        ids = self._ids(text)
        if ids and self._unknown is not None:
            unknown = self.backend.token_to_id(self._unknown)
            if all(id == unknown for id in ids):
                raise UserError(
                    f"the model knows none of the words of the prompt {shorten(text)}; use words of its data"
                )
        return ids

    def _prompt_and_text(self, raw: Any) -> tuple[Any, Any]:
        if isinstance(raw, np.ndarray) and self.max_prompt_length:
            return raw[: self.max_prompt_length], raw[self.max_prompt_length :]
        if isinstance(raw, tuple) and len(raw) == 2:
            if not self.max_prompt_length:
                raise UserError("the data has prompts (data.prompt_column), but the model's max_prompt_length is 0")
            return raw
        if self.max_prompt_length:
            raise UserError(
                "the model answers prompts, but the data has none; name their column by data.prompt_column"
            )
        return None, raw

    def _ids(self, text: Any) -> list[int]:
        if isinstance(text, np.ndarray) and text.ndim == 1 and text.dtype.kind in "iu":
            return self._known(text.tolist())
        if not isinstance(text, str):
            raise UserError(f"{shorten(text)} is no text; name the column of the texts by data.sample_column")
        if self.backend is None:
            try:
                ids = [int(part) for part in text.split()]
            except ValueError:
                raise UserError(f"{shorten(text)} is no list of token ids, and the model has no tokenizer") from None
            return self._known(ids)
        with explained(f"the text {shorten(text)} cannot be read", UserError):
            return self.backend.encode(text, add_special_tokens=False).ids

    def _known(self, ids: list[int]) -> list[int]:
        for id in ids:
            if not 0 <= id < self.vocab_size:
                raise UserError(f"the token id {shorten(id)} is not in a vocabulary of {self.vocab_size} tokens")
        return ids if self.eos_token_id is None else [*takewhile(lambda id: id != self.eos_token_id, ids)]

    def _row(self, ids: Sequence[int], length: int) -> np.ndarray:
        if self.eos_token_id is None:
            if len(ids) < length:
                raise UserError(f"a sample has {len(ids)} tokens, but without an end token all have {length}")
            return np.array(ids[:length], dtype=np.int32)
        row = np.full(length, self.pad_token_id, dtype=np.int32)
        ended = [*ids, self.eos_token_id][:length]
        row[: len(ended)] = ended
        return row

    # ----------------------------------------------------------------------------------------------------- tokens to texts

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        """int32 ids -> int64."""
        return stored.long()

    def to_stored(self, samples: torch.Tensor) -> torch.Tensor:
        """int64 ids -> int32."""
        import torch

        return samples.to(torch.int32)

    def decode(self, tokens: torch.Tensor, output_type: str = "text") -> Any:
        """Turns ids into sentences.

        Args:
            tokens: (B, T), T <= max_length; or whole rows with their prompts, which are left out.
            output_type: `"text"`: list of strings; `"ids"`: list of lists of ids, without EOS and what follows it; `"pt"`: the
                tensor as it is.

        Raises:
            UserError: Unknown output type.
        """
        self.check_output_type(output_type)
        if output_type == "pt":
            return tokens
        if self.max_prompt_length and tokens.shape[1] > self.max_length:
            tokens = tokens[:, self.max_prompt_length :]
        return self._decode(tokens, output_type)

    def decode_prompts(self, tokens: torch.Tensor) -> list[str]:
        """The texts of separate prompts: ids (B, max_prompt_length), or whole rows that begin with them."""
        return self._decode(tokens[:, : self.max_prompt_length], "text")

    def _decode(self, tokens: torch.Tensor, output_type: str) -> Any:
        rows = [self._content(row) for row in tokens.tolist()]
        if output_type == "ids":
            return rows
        if self.backend is None:
            return [" ".join(map(str, row)) for row in rows]
        with explained("the tokens cannot be turned into text", UserError):
            return self.backend.decode_batch(rows, skip_special_tokens=False)

    def _content(self, row: list[int]) -> list[int]:
        """The tokens before the end, without those that stand for nothing."""
        if self.eos_token_id is None:
            return row
        nothing = (self.bos_token_id, self.pad_token_id)
        return [id for id in takewhile(lambda id: id != self.eos_token_id, row) if id not in nothing]

    def output(self, samples: torch.Tensor, output_type: str, *, labels: Any, latents: Any) -> TextOutput:
        return TextOutput(self.decode(samples, output_type), samples, labels, latents)

    def show(self, samples: torch.Tensor) -> str:
        """One sentence a line, control characters escaped."""
        return "\n".join(sentence_line(text) for text in self.decode(samples, "text"))

    def save_preview(self, samples: torch.Tensor, folder: Path, name: str) -> list[str]:
        """Writes one sentence a line."""
        write_text(folder / f"{name}.txt", self.show(samples) + "\n")
        return [f"{name}.txt"]

    def save_samples(self, samples: torch.Tensor, target: Path) -> list[Path]:
        """Writes one sentence a line to `target` if it names a text file, else to `samples.txt` in the folder `target`.

        Raises:
            UserError: The file name has another ending than .txt.
        """
        if not self.names_a_file(target):
            target = target / "samples.txt"
        write_text(target, self.show(samples) + "\n")
        return [target]


PROCESSOR = TextProcessor
