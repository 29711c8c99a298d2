"""Text networks: language models as generators, discriminators of token sequences.

Samples are int64 token ids (B, max_length): the tokens up to and including EOS, then PAD; BOS is what the first step
reads and is never stored. Without an EOS (`eos_token_id` null) every sequence fills the length. Latents are uniform
numbers in [0, 1), one a token: see `ganzoo.networks.sequences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.config import GANConfig
from ganzoo.networks.sequences import continue_sequences

if TYPE_CHECKING:
    from typing_extensions import Self

    from ganzoo.nn.text import LanguageModel
    from ganzoo.processors import Processor


class TextGANConfig(GANConfig):
    """What every text family has: a vocabulary, a length, and the tokens with a meaning of their own."""

    vocab_size: int = Field(ge=2, le=300_000, description="Tokens of the vocabulary; a recipe on text leaves it out.")
    max_length: int = Field(
        ge=1, le=4096, description="Tokens of a sample at most, the end included; left out, that of the longest."
    )
    max_prompt_length: int = Field(
        0,
        ge=0,
        le=4096,
        description="Tokens of a separate prompt that the networks read; 0 for none, as most families.",
    )
    bos_token_id: int = Field(0, ge=0, lt=300_000, description="What the first step reads.")
    eos_token_id: int | None = Field(None, ge=0, lt=300_000, description="Ends a sequence; null for fixed length.")
    pad_token_id: int | None = Field(
        None, ge=0, lt=300_000, description="Fills up after the end; null for fixed length."
    )

    # Families whose networks read a separate prompt say so.
    reads_prompts: ClassVar[bool] = False

    @model_validator(mode="after")
    def _tokens_exist(self) -> TextGANConfig:
        if self.max_prompt_length and not self.reads_prompts:
            raise ValueError(f"{self.family} reads no separate prompt; leave max_prompt_length out")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(self, name)
            if value is not None and value >= self.vocab_size:
                raise ValueError(f"{name}={value} is not in a vocabulary of {self.vocab_size} tokens")
        if (self.eos_token_id is None) != (self.pad_token_id is None):
            raise ValueError("eos_token_id and pad_token_id go together: set both, or neither for fixed length")
        if self.eos_token_id is not None and self.eos_token_id == self.pad_token_id:
            raise ValueError("eos_token_id and pad_token_id must differ")
        return self

    @classmethod
    def from_source(
        cls, values: Mapping[str, Any], source: Any, overrides: Mapping[str, Any]
    ) -> tuple[Self, Processor]:
        """Learns the vocabulary from the data, unless the data are token ids already.

        Args:
            overrides: The recipe's `data.processor`: tokenizer, lowercase, min_count, max_vocab.
        """
        from ganzoo.processors.fitting import fit_text_processor

        values = dict(values)
        if source.vocab_size is not None:
            config = cls.from_dict({"vocab_size": source.vocab_size, **values}, where="recipe section 'model'")
            return config, config.processor(**overrides)
        learned = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}
        if stated := sorted(learned & values.keys()):
            raise UserError(f"model.{stated[0]} is learned from the data's text; leave it out")
        lengths = {name: values[name] for name in ("max_length", "max_prompt_length") if name in values}
        processor = fit_text_processor((raw for raw, _ in source.iterate()), **lengths, **overrides)
        values |= {name: getattr(processor, name) for name in (*learned, "max_length", "max_prompt_length")}
        return cls.from_dict(values, where="recipe section 'model'"), processor

    @classmethod
    def processor_type(cls, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        return "text"

    def processor(self, **overrides: Any) -> Processor:
        """The processor of token ids; that of a text comes with its tokenizer, from the data or a checkpoint."""
        from ganzoo.processors.text import TextProcessor

        names = ("vocab_size", "max_length", "max_prompt_length", "bos_token_id", "eos_token_id", "pad_token_id")
        own = {name: getattr(self, name) for name in names}
        if fixed := sorted(own.keys() & overrides.keys()):
            raise UserError(f"the processor's {' and '.join(fixed)} is the model's; set model.{fixed[0]} instead")
        return TextProcessor.from_dict({**own, **overrides})


def token_mask(tokens: Tensor, config: TextGANConfig) -> Tensor:
    """(B, T) bool: the tokens that count, up to and including EOS."""
    if config.eos_token_id is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    ends = tokens == config.eos_token_id
    return (ends.cumsum(dim=1) - ends.long()) == 0


def trimmed(tokens: Tensor, config: TextGANConfig) -> tuple[Tensor, Tensor]:
    """Tokens (B, T) and the mask of those that count, without the columns in which none does."""
    mask = token_mask(tokens, config)
    if tokens.device.type != "cpu":  # the question would wait for the device
        return tokens, mask
    longest = int(mask.sum(dim=1).max()) if len(tokens) else tokens.shape[1]
    return tokens[:, :longest], mask[:, :longest]


@contextmanager
def undropped(network: nn.Module) -> Iterator[None]:
    """No dropout, also while the network is trained."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """No gradients and no dropout: samples and judgements are those of the network itself, also while it is trained."""
    with undropped(network), torch.no_grad():
        yield


class TextGenerator(Generator):
    """A language model: predicts each token from those before it, and draws sequences from its predictions.

    A family implements `begin`, `step` and `predict`; drawing, scoring and prefixes follow from them.
    """

    task = "continuation"

    def begin(self, batch_size: int, labels: Tensor | None = None, condition: Tensor | None = None) -> Any:
        """The state before anything is read: a tuple of tensors whose first dimension is the batch.

        Args:
            labels: (B,) of a conditional model.
            condition: (B, max_prompt_length) ids of prompts, EOS-ended and padded, of a model that reads them apart.
        """
        raise NotImplementedError

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Reads one token (B,) a sequence -> logits (B, V) of the next, and the new state."""
        raise NotImplementedError

    def predict(self, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Logits (B, T, V): at position t those of `tokens[:, t]` given the tokens before it (teacher forcing)."""
        raise NotImplementedError

    def predict_where(
        self, mask: Tensor, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Logits (N, V) of the N tokens where `mask` (B, T) is true. A family may spare the others their projection."""
        return self.predict(tokens, labels, condition)[mask]

    def weighted_nll(
        self,
        mask: Tensor,
        tokens: Tensor,
        weights: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the negative log-likelihoods, in nats, of the N tokens where `mask` (B, T) is true.

        Args:
            weights: (N,), constants: 1 / N for a mean, the advantages for a policy gradient.
            temperature: Divides the logits.

        Returns:
            The sum, with its graph, and the N values, without.
        """
        logits = self.predict_where(mask, tokens, labels, condition).float() / temperature
        values = F.cross_entropy(logits, tokens[mask], reduction="none")
        return (values * weights).sum(), values.detach()

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        prefix: Tensor | None = None,
        **how: Any,
    ) -> Tensor:
        """Draws sequences.

        Args:
            latents: (B, S) uniforms in [0, 1), one a token to draw; S <= max_length.
            labels: (B,) classes of a conditional model.
            condition: (B, max_prompt_length) ids of prompts, of a model that reads them apart.
            prefix: (B, P) tokens that the sequences begin with; P + S <= max_length.
            **how: `temperature`, `top_k`, `top_p`.

        Returns:
            (B, P + S) int64 token ids.
        """
        with undisturbed(self):
            state = self.begin(len(latents), labels, condition)
            last = torch.full((len(latents),), self.config.bos_token_id, device=latents.device)
            if prefix is None:
                return continue_sequences(self, state, last, latents, **how)
            for column in range(prefix.shape[1]):
                _, state = self.step(last, state)
                last = prefix[:, column]
            return torch.cat([prefix, continue_sequences(self, state, last, latents, **how)], dim=1)

    def log_probs(
        self,
        tokens: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """Log-probability (B, T) of every token given those before it, in nats; 0 after the end."""
        short, mask = trimmed(tokens, self.config)
        if torch.is_grad_enabled():
            logits = self.predict_where(mask, short, labels, condition).float() / temperature
            chosen = -F.cross_entropy(logits, short[mask], reduction="none")
        else:
            weights = torch.ones((), device=tokens.device).expand(int(mask.sum()))
            _, nll = self.weighted_nll(mask, short, weights, labels, condition, temperature=temperature)
            chosen = -nll
        values = torch.zeros(short.shape, device=tokens.device).masked_scatter(mask, chosen)
        return F.pad(values, (0, tokens.shape[1] - short.shape[1]))

    noise = staticmethod(torch.rand)

    @property
    def latent_size(self) -> int:
        """One number in [0, 1) a token."""
        return self.config.max_length

    def truncate(self, latents: Tensor, truncation: float, labels: Tensor | None = None) -> Tensor:
        raise UserError("text models have no truncation; use temperature, top_k or top_p")

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        return _examples("tokens", self.config, num_samples, generator)

    def replay(self, tokens: Tensor, **others: Tensor) -> Tensor:
        """Log-probabilities of given tokens: drawn ones could flip where a uniform falls on a boundary."""
        return self.log_probs(tokens, **others)


class CorePredictions:
    """Predictions by a `model` (a `ganzoo.nn.text.LanguageModel`) that does the work; it reads no separate prompts."""

    model: LanguageModel

    def predict(self, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Tokens (B, T) -> logits (B, T, V) of each, given those before it."""
        return self.model.predict(tokens, labels)

    def predict_where(
        self, mask: Tensor, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Logits (N, V) of the N tokens of (B, T) where `mask` (B, T) is true, in its order."""
        return self.model.predict_where(mask, tokens, labels)

    def weighted_nll(
        self,
        mask: Tensor,
        tokens: Tensor,
        weights: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of the negative log-likelihoods of the N tokens where `mask` (B, T) is true: weights (N,)."""
        return self.model.weighted_nll(mask, tokens, weights, labels, temperature=temperature)


class CoreGenerator(CorePredictions, TextGenerator):
    """A text generator whose `model` does the work."""

    def begin(self, batch_size: int, labels: Tensor | None = None, condition: Tensor | None = None) -> Any:
        return self.model.begin(batch_size, labels)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.step(tokens, state)

    # What the fast sampler on CPUs asks for: `ganzoo.networks.sequences`.

    @property
    def projection(self) -> nn.Linear:
        return self.model.output

    def advance(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.advance(tokens, state)


def _examples(name: str, config: TextGANConfig, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens under `name`, and the labels and prompts (the condition) of a model that takes them."""

    def tokens(length: int) -> Tensor:
        return torch.randint(config.vocab_size, (num_samples, length), generator=generator)

    examples = {name: tokens(config.max_length)}
    if config.num_classes is not None:
        examples["labels"] = torch.arange(num_samples) % config.num_classes
    if config.max_prompt_length:
        examples["condition"] = tokens(config.max_prompt_length)
    return examples


class TextDiscriminator(Discriminator):
    """Judges token sequences: ids (B, T), or relaxed one-hot vectors (B, T, V) through which gradients flow.

    Logits are (B,) for whole sequences or (B, T) for every token.
    """

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        raise NotImplementedError

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        return _examples("samples", self.config, num_samples, generator)

    def judge_continuations(
        self,
        tokens: Tensor,
        continuations: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Logits of completed prefixes, for Monte-Carlo rollouts.

        Args:
            tokens: (B, T) whole sequences.
            continuations: (T - 1, N, B, T): `continuations[p, n, b]` begins with the first p + 1 tokens of `tokens[b]`.

        Returns:
            (T - 1, N, B). A network may override this with something faster, not with something else.
        """
        prefixes, repeats = continuations.shape[:2]

        def repeat(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else rows.repeat(prefixes * repeats, *[1] * (rows.ndim - 1))

        completed = continuations.flatten(0, 2)
        logits = self(completed, repeat(labels), repeat(condition))[0].logits
        if logits.ndim == 2:  # one a token: the last has seen the whole sequence
            last = token_mask(completed, self.config).sum(dim=1) - 1
            logits = logits.gather(1, last[:, None])[:, 0]
        return logits.view(prefixes, repeats, len(tokens))
