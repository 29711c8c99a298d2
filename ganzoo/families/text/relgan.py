"""RelGAN: relational memory, relaxed tokens, many representations (Nie et al., 2019).

Paper: https://openreview.net/forum?id=rJedV3R5tm. The generator is a relational memory (section 3.1), or an LSTM to compare
with; the objective is the one of section 3.2, an adversarial loss on Gumbel-softmax samples; the discriminator looks at
the sentence through many small embeddings (section 3.3). The default sizes are those of the paper's experiments.

Conditional models (`num_classes`) are not in the paper: the label sets the generator's initial state, and weights the
discriminator's last hidden layer as in the projection discriminator (Miyato and Koyama, 2018, equation 3).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.text import CoreGenerator, TextDiscriminator, TextGANConfig
from ganzoo.nn import check_labels
from ganzoo.nn.memory import TokenMemory
from ganzoo.nn.text import Highway, TextCNN, TokenLSTM, embed_tokens
from ganzoo.registry import register_family

PAPER_WIDTHS = (2, 3, 4, 5)

Count = Annotated[int, Field(ge=1, le=4096)]

# Completed sequences that are judged at a time: each is as many rows as there are representations.
_SEQUENCES_AT_A_TIME = 64


class RelGANConfig(TextGANConfig):
    """Config of the RelGAN pair."""

    generator: Literal["memory", "lstm"] = Field("memory", description="The generator's recurrent core.")
    embedding_dim: int = Field(32, ge=1, le=4096, description="Size of the generator's token vectors.")
    memory_slots: int = Field(1, ge=1, le=64, description="Rows of the relational memory.")
    memory_heads: int = Field(2, ge=1, le=64, description="Attention heads of the relational memory.")
    head_size: int = Field(256, ge=1, le=1024, description="Size of a head in a row of the relational memory.")
    hidden_dim: int = Field(32, ge=1, le=4096, description="Size of the LSTM's state, with generator: lstm.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before and after the generator's recurrent core.")
    discriminator_embedding_dim: int = Field(
        64,
        ge=1,
        le=4096,
        description="Numbers that the discriminator embeds a token in, all representations together.",
    )
    num_representations: int = Field(
        64, ge=1, le=1024, description="Parts of the discriminator's embedding, each judged by itself."
    )
    filter_widths: list[Count] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Widths of the discriminator's windows, in tokens; left out, 2 to 5 as far as max_length allows.",
    )
    filter_count: int = Field(300, ge=1, le=4096, description="Filters of each width.")
    discriminator_hidden_dim: int = Field(
        100, ge=1, le=4096, description="Size of the discriminator's last hidden layer."
    )
    discriminator_dropout: float = Field(0.25, ge=0, lt=1, description="Dropout after the discriminator's highway.")

    @property
    def windows(self) -> list[tuple[int, int]]:
        """(width, filters) of the discriminator's convolutions."""
        fitting = [width for width in PAPER_WIDTHS if width <= self.max_length] or [1]
        return [(width, self.filter_count) for width in self.filter_widths or fitting]

    @model_validator(mode="after")
    def _possible(self) -> RelGANConfig:
        if self.discriminator_embedding_dim % self.num_representations:
            raise ValueError(
                f"discriminator_embedding_dim={self.discriminator_embedding_dim} cannot be split into "
                f"num_representations={self.num_representations} equal parts"
            )
        if max(self.filter_widths or [1]) > self.max_length:
            raise ValueError(
                f"filter_widths has a window of {max(self.filter_widths)} tokens, longer than "
                f"max_length={self.max_length}; leave the longer widths out"
            )
        return self


class RelGANGenerator(CoreGenerator):
    """A language model with a relational memory (or an LSTM) between embedding and logits."""

    def __init__(self, config: RelGANConfig) -> None:
        super().__init__(config)
        shared = {
            "dropout": config.dropout,
            "bos_token_id": config.bos_token_id,
            "num_classes": config.num_classes,
        }
        sizes = config.vocab_size, config.embedding_dim
        if config.generator == "lstm":
            self.model = TokenLSTM(*sizes, config.hidden_dim, **shared)
        else:
            self.model = TokenMemory(
                *sizes, slots=config.memory_slots, heads=config.memory_heads, head_size=config.head_size, **shared
            )
        _initialise(self, self.model.embedding)


class RelGANDiscriminator(TextDiscriminator):
    """One convolutional judge, shared by many representations of the sentence (section 3.3).

    Ids (B, T) or relaxed one-hot vectors (B, T, V), labels (B,) of a conditional model -> one output a representation,
    logits (B,): the paper averages their losses, not their logits, so that each has to see the difference by itself.
    """

    def __init__(self, config: RelGANConfig) -> None:
        super().__init__(config)
        hidden = config.discriminator_hidden_dim
        self.representation_dim = config.discriminator_embedding_dim // config.num_representations
        self.embedding = nn.Embedding(config.vocab_size, config.discriminator_embedding_dim)
        self.encoder = TextCNN(self.representation_dim, config.windows)
        self.highway = Highway(self.encoder.features)
        self.dropout = nn.Dropout(config.discriminator_dropout)
        # No activation between the last two layers, as in the authors' code.
        self.hidden = nn.Linear(self.encoder.features, hidden)
        self.output = nn.Linear(hidden, 1)
        self.label_embedding = None if config.num_classes is None else nn.Embedding(config.num_classes, hidden)
        _initialise(self, self.embedding)

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        logits, features = self._judge(samples, labels)
        pairs = zip(logits.unbind(dim=1), features.unbind(dim=1), strict=True)
        return [DiscriminatorOutput(judgement, [seen]) for judgement, seen in pairs]

    def judge_continuations(
        self, tokens: Tensor, continuations: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Logits (T - 1, N, B), averaged over the representations."""
        check_labels(labels, self.config.num_classes, len(tokens))
        copies = continuations.shape[0] * continuations.shape[1]
        parts = continuations.flatten(0, 2).split(_SEQUENCES_AT_A_TIME)
        their_labels = [None] * len(parts) if labels is None else labels.repeat(copies).split(_SEQUENCES_AT_A_TIME)
        logits = [self._judge(part, some)[0].mean(dim=1) for part, some in zip(parts, their_labels, strict=True)]
        return torch.cat(logits).view(continuations.shape[:3])

    def _judge(self, samples: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits (B, S) and features (B, S, F) of the S representations."""
        embedded = embed_tokens(self.embedding, samples).unflatten(2, (-1, self.representation_dim))
        features = self.encoder(embedded.transpose(1, 2).flatten(0, 1)).unflatten(0, embedded.shape[:3:2])
        hidden = self.hidden(self.dropout(self.highway(features)))
        logits = self.output(hidden)[..., 0]
        if self.label_embedding is not None:
            logits = logits + (hidden @ self.label_embedding(labels).to(hidden.dtype)[..., None])[..., 0]
        return logits, features


def _initialise(network: nn.Module, tokens: nn.Embedding) -> None:
    """As in the authors' code, save that its distributions are cut at two deviations.

    Weights N(0, 1 / inputs), token vectors N(0, 1 / tokens) like those of a layer that reads one-hot vectors, biases 0,
    filters N(0, 2 / inputs) for the ReLU behind them. Label vectors, which are ours, have a length of about 1.
    """
    filters = [layer for module in network.modules() if isinstance(module, TextCNN) for layer in module.filters]
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            variance = 1 / (module.num_embeddings if module is tokens else module.embedding_dim)
            nn.init.normal_(module.weight, 0.0, variance**0.5)
        elif isinstance(module, nn.Linear):
            gain = 2 if module in filters else 1
            nn.init.normal_(module.weight, 0.0, (gain / module.in_features) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@register_family("relgan", modality="text", paper="https://openreview.net/forum?id=rJedV3R5tm")
class RelGAN:
    """The paper's training: maximum likelihood, then the relativistic loss on ever sharper relaxed samples."""

    config = RelGANConfig
    generator = RelGANGenerator
    discriminator = RelGANDiscriminator
    objective = {"type": "gumbel", "loss": "relativistic"}
    tiny = {
        "vocab_size": 20,
        "max_length": 6,
        "embedding_dim": 8,
        "memory_slots": 2,
        "memory_heads": 2,
        "head_size": 4,
        "hidden_dim": 8,
        "discriminator_embedding_dim": 8,
        "num_representations": 4,
        "filter_widths": [2, 3],
        "filter_count": 4,
        "discriminator_hidden_dim": 6,
    }
