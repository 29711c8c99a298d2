"""The pipeline of text: sentences from nothing, from the words they begin with, or in reply to a prompt."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ganzoo.errors import GanzooError, UserError, shorten
from ganzoo.pipelines.base import CARD_SAMPLES, Pipeline
from ganzoo.pipelines.drawing import check_positive, count_samples
from ganzoo.pipelines.generation import GANPipeline, Labels, Samples
from ganzoo.processors.text import sentence_line
from ganzoo.utils.files import read_text, write_text
from ganzoo.utils.terminal import PATIENCE, bar

if TYPE_CHECKING:
    from ganzoo.data.dataset import ArrayDataset

DEFAULT_SAMPLES = 5
CARD_SENTENCES = 16
PROMPT_WORDS = 2
PROMPT_CHARACTERS = 2
MAX_OPENING = 30
PROMPTS_FILE = "samples/prompts.txt"


class TextPipeline(GANPipeline):
    """Writes sentences with a text generator.

    Example:
        >>> pipe = ganzoo.from_pretrained("seqgan-coco")
        >>> pipe("a man riding", num_samples=5, seed=0).texts
    """

    _example_prompts: list[str] | None = None

    def __call__(
        self,
        prompt: str | Sequence[str] | Tensor | None = None,
        num_samples: int | None = None,
        *,
        labels: Labels = None,
        max_length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "text",
        batch_size: int = 256,
    ) -> Any:
        """Writes sentences.

        Sample i depends on its own seed alone: with `seed=s` it is the sample of seed s + i, whatever the number of
        samples or the batch size. Token t is drawn with the t-th number of the sample's latents, prompted or not. The
        global random state is never touched.

        Args:
            prompt: What the sentences begin with (empty or None: nothing), or, for a model that answers, what they answer
                (required). A list has one for each sample; a shorter one is repeated. A word that the model does not
                know is read as its token for unknown words; a prompt of nothing else is refused.
            num_samples: How many; by default as many as latents, generators, prompts or labels are given, else 5.
            labels: Class of every sample, or of each: its number or, where the data named it (`processor.class_names`), its
                name; a shorter list is repeated. Class-conditional models draw it at random, from the sample's seed, when it is
                left out.
            max_length: Tokens of a sample at most, its beginning and its end included; by default the model's own limit.
            temperature: Divides the logits: below 1 the text is safer, above more varied, at 0 always the most probable
                token. By default the one with which the checkpoint's published numbers were measured, else 1.
            top_k: Draw among the so many most probable tokens only.
            top_p: Draw among the most probable tokens that together reach this probability (Holtzman et al., 2020).
            seed: From 0; by default a random one.
            generator: Instead of a seed: one `torch.Generator`, from which the samples are drawn one after another, or
                a list with one for each.
            latents: Instead of either: (num_samples, max_length of the model) numbers in [0, 1), one a token.
            output_type: `"text"`: strings; `"ids"`: lists of token ids; `"pt"`: (B, max_length) int64.
            batch_size: Samples computed at once.

        Returns:
            An object with `.texts`, the `tokens`, `labels` and `latents`.

        Raises:
            UserError: Arguments out of bounds, that contradict each other or the model, or a prompt that is too long.
        """
        drawn = self.sample(
            num_samples,
            prompt=prompt,
            labels=labels,
            max_length=max_length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            generator=generator,
            latents=latents,
            batch_size=batch_size,
        )
        return self.processor.output(drawn.samples, output_type, labels=drawn.labels, latents=drawn.latents)

    def generate(
        self,
        prompt: str | Sequence[str] | Tensor | None = None,
        num_samples: int | None = None,
        max_length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Any:
        """Writes sentences: the call under the name, and with the arguments, that users of language models expect."""
        return self(
            prompt,
            num_samples,
            max_length=max_length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )

    @torch.inference_mode()
    def sample(
        self,
        num_samples: int | None = None,
        *,
        prompt: str | Sequence[str] | Tensor | None = None,
        labels: Labels = None,
        max_length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        batch_size: int = 256,
    ) -> Samples:
        """Draws sentences as the call does, and returns them as the network gives them: (B, max_length) token ids.

        Args:
            prompt: As in the call; for a model that answers also its ids as the data holds them, (B, max_prompt_length).
        """
        count = count_samples(num_samples, latents, generator, prompt, labels, default=DEFAULT_SAMPLES)
        check_positive("batch_size", batch_size)
        length = self._length(max_length)
        how = self._how(temperature, top_k, top_p)
        beginnings, prompts = self._read_prompts(prompt, count, length)
        drawn, chosen = self.inputs(count, labels=labels, seed=seed, generator=generator, latents=latents)
        model, samples = self.network, torch.empty((count, length), dtype=torch.int64, device=self.device)

        def rows_of(tensor: Tensor | None, rows: Tensor) -> Tensor | None:
            return None if tensor is None else tensor[rows].to(model.device)

        batches = [(begun, rows) for begun, same in _by_length(beginnings).items() for rows in same.split(batch_size)]
        for begun, rows in bar(batches, desc="drawing", unit=" batches", delay=PATIENCE):
            prefix = torch.tensor([beginnings[row] for row in rows.tolist()], device=model.device) if begun else None
            # Uniform numbers stay float32 in a half-precision model: rounded, they could become 1.
            uniforms = drawn[rows, begun:length].float().to(model.device)
            conditions = rows_of(chosen, rows), rows_of(prompts, rows)
            samples[rows.to(model.device)] = model(uniforms, *conditions, prefix=prefix, **how)
        return Samples(samples, chosen, drawn)

    @property
    def temperature(self) -> float:
        """The default one: that of the numbers in the card; 1 where nobody says it."""
        if self.processor.default_temperature is not None:
            return self.processor.default_temperature
        try:
            # Of checkpoints from before the processor held it.
            return self.recipe.evaluation.temperature if self.recipe else 1.0
        except GanzooError:
            return 1.0  # sampling needs no recipe

    @property
    def example_prompts(self) -> list[str]:
        """What the samples of the card answer; empty for a model that continues."""
        if self._example_prompts is None and self.repository is not None:
            path = self.repository.find(PROMPTS_FILE) if self.config.max_prompt_length else None
            self.example_prompts = read_text(path).splitlines() if path else []
        return self._example_prompts or []

    @example_prompts.setter
    def example_prompts(self, prompts: Sequence[str]) -> None:
        self._example_prompts = [" ".join(prompt.split()) for prompt in prompts if prompt.strip()]

    def take_examples(self, dataset: ArrayDataset) -> None:
        """The first prompts of the data, for the previews and the card of a model that answers."""
        length = self.config.max_prompt_length
        if length:
            stored = torch.from_numpy(dataset.samples[:CARD_SAMPLES, :length].copy())
            self.example_prompts = list(dict.fromkeys(self.processor.decode_prompts(stored)))

    def _length(self, max_length: int | None) -> int:
        limit = self.config.max_length
        if max_length is None:
            return limit
        check_positive("max_length", max_length)
        if max_length > limit:
            raise UserError(f"max_length={max_length} is more than the {limit} tokens that this model writes at most")
        return max_length

    def _how(self, temperature: float | None, top_k: int | None, top_p: float | None) -> dict[str, Any]:
        """The options of `draw_tokens`, within their bounds."""
        if temperature is None:
            temperature = self.temperature
        if not _is_number(temperature) or temperature < 0:
            raise UserError(f"temperature must be a number from 0 (always the best token), not {shorten(temperature)}")
        if top_k is not None:
            check_positive("top_k", top_k)
        if top_p is not None and (not _is_number(top_p) or not 0 < top_p <= 1):
            raise UserError(f"top_p must be a number above 0 and at most 1, not {shorten(top_p)}")
        return {"temperature": float(temperature), "top_k": top_k, "top_p": top_p}

    def _read_prompts(self, prompt: Any, count: int, length: int) -> tuple[list[list[int]], Tensor | None]:
        """The tokens with which every sample begins, and the separate prompts (count, max_prompt_length) or None."""
        config, nothing = self.config, [[] for _ in range(count)]
        if not config.max_prompt_length:
            return (nothing if prompt is None else self._encode_prompts(prompt, count, length - 1)), None
        if prompt is None:
            raise UserError("this model answers; give it a prompt")
        if isinstance(prompt, Tensor):
            expected = (count, config.max_prompt_length)
            if prompt.shape != expected or not ((prompt >= 0) & (prompt < config.vocab_size)).all():
                raise UserError(f"prompts as ids must have the shape {expected}, each below {config.vocab_size}")
            return nothing, prompt.long()
        # The end of the prompt takes one token.
        encoded = self._encode_prompts(prompt, count, config.max_prompt_length - 1)
        if not all(encoded):
            raise UserError("this model answers; give it a prompt that is not empty")
        rows = torch.full((count, config.max_prompt_length), config.pad_token_id)
        for row, tokens in zip(rows, encoded, strict=True):
            row[: len(tokens) + 1] = torch.tensor([*tokens, config.eos_token_id])
        return nothing, rows

    def _encode_prompts(self, prompt: Any, count: int, room: int) -> list[list[int]]:
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"prompt must be a text or a list of texts, not {shorten(prompt)}")
        if not 1 <= len(texts) <= count:
            raise UserError(f"{len(texts)} prompts for {count} samples; give one for all, or at most one for each")
        encoded = [self._encode_prompt(text, room) for text in texts]
        return [encoded[row % len(encoded)] for row in range(count)]

    def _encode_prompt(self, text: str, room: int) -> list[int]:
        tokens = self.processor.encode_prompt(text)
        if len(tokens) > room:
            raise UserError(f"the prompt {shorten(text)} has {len(tokens)} tokens; here it can have {room} at most")
        if self.config.eos_token_id is not None and {self.config.eos_token_id, self.config.pad_token_id} & {*tokens}:
            raise UserError(
                f"the prompt {shorten(text)} holds a token that stands at or after the end of sentences only"
            )
        return tokens

    def _draw(self, sources: Any, latents: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
        drawn, labels = super()._draw(sources, latents, count)
        if latents is not None and not ((drawn >= 0) & (drawn < 1)).all():
            raise UserError("the latents of a text model are numbers from 0 up to, not including, 1")
        return drawn, labels

    def save_preview(self, folder: Path, name: str, *, num_samples: int = CARD_SAMPLES, seed: int = 0) -> list[str]:
        """Writes one sentence a line, behind the one that it answers where there is one."""
        lines = [sentence_line(text) for text in self._sentences(num_samples, seed)]
        write_text(folder / f"{name}.txt", "\n".join(lines) + "\n")
        return [f"{name}.txt"]

    def _sentences(self, count: int, seed: int) -> list[str]:
        prompts = self.example_prompts[:count] or None
        texts = self.processor.decode(self._preview(count, seed, prompt=prompts).samples, "text")
        return [f"{prompts[index % len(prompts)]} → {text}" for index, text in enumerate(texts)] if prompts else texts

    def _save_examples(self, folder: Path) -> dict[str, Any]:
        Pipeline._save_examples(self, folder)
        answers, prompts = self.config.max_prompt_length > 0, self.example_prompts
        if answers and not prompts:
            return {"answers": True}
        if answers:
            write_text(folder / PROMPTS_FILE, "\n".join(prompts) + "\n")
        names = self.save_preview(folder / "samples", "samples")
        sentences = self._sentences(CARD_SENTENCES, 0)
        return {
            "samples": [f"samples/{name}" for name in names],
            "sentences": sentences,
            "prompt": prompts[0] if answers else self._opening(sentences),
            "answers": answers,
        }

    def _opening(self, sentences: list[str]) -> str:
        """A prompt to try: the first words of a sentence or, where there are no words and all texts are read, characters."""
        openings = [" ".join(words[:PROMPT_WORDS]) for words in map(str.split, sentences) if len(words) > PROMPT_WORDS]
        if self.processor.reads_all:
            spelled = [text[:PROMPT_CHARACTERS] for text in sentences if len(text) > PROMPT_CHARACTERS]
            openings = [text for text in openings if len(text) <= MAX_OPENING] or [*filter(str.isprintable, spelled)]
        return openings[0] if openings else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _by_length(beginnings: list[list[int]]) -> dict[int, Tensor]:
    """Rows that begin with equally many tokens: these are drawn together."""
    rows = defaultdict(list)
    for row, tokens in enumerate(beginnings):
        rows[len(tokens)].append(row)
    return {length: torch.tensor(same) for length, same in rows.items()}


PIPELINE = TextPipeline
