"""SeqGAN: sequence GAN with policy gradient (Yu et al., 2017).

Paper: https://arxiv.org/abs/1609.05473, section 3 and, for the networks, section 4 and appendix A. The generator is an LSTM
(333,320 parameters at 5,000 tokens), the discriminator a convolutional encoder with one highway layer: the default has the
paper's twelve window widths and 1,720 filters (7,045,402 parameters at 5,000 tokens); widths 1 to 5 with 64 filters each
(587,842) are a twelfth of the work.

Conditional models (`num_classes`) are not in the paper: the label sets the generator's initial state, and its embedding
stands beside the discriminator's features.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.text import CoreGenerator, TextDiscriminator, TextGANConfig, token_mask
from ganzoo.nn import check_labels
from ganzoo.nn.text import CompletedPrefixes, Highway, TextCNN, TokenLSTM, embed_tokens
from ganzoo.registry import register_family

# (width, filters): paper, appendix A, and the reference code.
PAPER_WINDOWS = (
    *((1, 100), (2, 200), (3, 200), (4, 200), (5, 200), (6, 100)),
    *((7, 100), (8, 100), (9, 100), (10, 100), (15, 160), (20, 160)),
)

# Completed sequences that are judged at a time on a CPU.
_SEQUENCES_AT_A_TIME = 1024

Count = Annotated[int, Field(ge=1, le=4096)]


class SeqGANConfig(TextGANConfig):
    """Config of the SeqGAN pair."""

    embedding_dim: int = Field(32, ge=1, le=4096, description="Size of the generator's token vectors.")
    hidden_dim: int = Field(32, ge=1, le=4096, description="Size of the generator's state.")
    num_layers: int = Field(1, ge=1, le=8, description="LSTM layers of the generator.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before, between and after the LSTM layers.")
    discriminator_embedding_dim: int = Field(
        64, ge=1, le=4096, description="Size of the discriminator's token vectors."
    )
    filter_widths: list[Count] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Widths of the discriminator's windows, in tokens; null for the paper's, as far as max_length allows.",
    )
    filter_counts: list[Count] | None = Field(
        None, min_length=1, max_length=64, description="Filters of each width; null for the paper's."
    )
    discriminator_dropout: float = Field(
        0.25, ge=0, lt=1, description="Dropout before the discriminator's last layer."
    )
    label_dim: int = Field(32, ge=1, le=1024, description="Size of the discriminator's label vectors.")

    @property
    def windows(self) -> list[tuple[int, int]]:
        """(width, filters) of the discriminator's convolutions."""
        if self.filter_widths is None:
            return [(width, count) for width, count in PAPER_WINDOWS if width <= self.max_length]
        return list(zip(self.filter_widths, self.filter_counts, strict=True))

    @model_validator(mode="after")
    def _windows_fit(self) -> SeqGANConfig:
        widths, counts = self.filter_widths or [], self.filter_counts or []
        if len(widths) != len(counts):
            raise ValueError(
                f"filter_widths has {len(widths)} entries and filter_counts {len(counts)}; "
                "give one count for every width, or leave both out"
            )
        if max(widths, default=0) > self.max_length:
            raise ValueError(
                f"filter_widths has a window of {max(widths)} tokens, longer than max_length={self.max_length}; "
                "leave the longer widths out, with their filter_counts"
            )
        return self


class SeqGANGenerator(CoreGenerator):
    """An LSTM language model. Every weight ~ N(0, 0.1), as in the reference code."""

    def __init__(self, config: SeqGANConfig) -> None:
        super().__init__(config)
        self.model = TokenLSTM(
            config.vocab_size,
            config.embedding_dim,
            config.hidden_dim,
            num_layers=config.num_layers,
            dropout=config.dropout,
            bos_token_id=config.bos_token_id,
            num_classes=config.num_classes,
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.1)


class SeqGANDiscriminator(TextDiscriminator):
    """Convolutions over token vectors, a highway layer, and a softmax over {generated, real}.

    Ids (B, T) or relaxed one-hot vectors (B, T, V), labels (B,) of a conditional model -> one output: the logit (B,) is the
    difference of the softmax's two, so that its sigmoid is the probability of real (paper, equation 9).
    """

    def __init__(self, config: SeqGANConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.discriminator_embedding_dim)
        self.encoder = TextCNN(config.discriminator_embedding_dim, config.windows)
        conditional = config.num_classes is not None
        self.label_embedding = nn.Embedding(config.num_classes, config.label_dim) if conditional else None
        features = self.encoder.features + (config.label_dim if conditional else 0)
        self.highway = Highway(features)
        self.dropout = nn.Dropout(config.discriminator_dropout)
        self.output = nn.Linear(features, 2)
        self._initialise()

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        check_labels(labels, self.config.num_classes, len(samples))
        features = self.encoder(embed_tokens(self.embedding, samples))
        return [DiscriminatorOutput(self._judge(features, labels), [features])]

    def judge_continuations(
        self, tokens: Tensor, continuations: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """As the base class says. Windows inside a prefix are computed once a sentence, whatever its completions; those of
        prefixes that have ended, which have none, not at all."""
        logits = self(tokens, labels)[0].logits.expand(continuations.shape[:3]).clone()
        completed = CompletedPrefixes(self.encoder, self.embedding.weight, tokens, continuations.shape[1])
        unfinished = token_mask(tokens, self.config)
        at_a_time = _SEQUENCES_AT_A_TIME if tokens.device.type == "cpu" else continuations.shape[1] * len(tokens)
        for prefix, (whole, into) in enumerate(zip(continuations.flatten(1, 2), logits.flatten(1), strict=True), 1):
            rows = unfinished[:, prefix].repeat(continuations.shape[1]).nonzero()[:, 0]
            for part in rows.split(at_a_time):
                which = part % len(tokens)
                features = completed.features(whole[part], which, prefix)
                into[part] = self._judge(features, None if labels is None else labels[which])
        return logits

    def _judge(self, features: Tensor, labels: Tensor | None) -> Tensor:
        if self.label_embedding is not None:
            features = torch.cat([features, self.label_embedding(labels).to(features.dtype)], dim=1)
        generated, real = self.output(self.dropout(self.highway(features))).unbind(dim=1)
        return real - generated

    def _initialise(self) -> None:
        """As in the reference code: embeddings U(-1, 1), filters and last layer N(0, 0.1) cut at 0.2 with biases 0.1,
        highway uniform by Glorot with biases 0."""
        nn.init.uniform_(self.embedding.weight, -1.0, 1.0)
        for layer in (*self.encoder.filters, self.output):
            nn.init.trunc_normal_(layer.weight, 0.0, 0.1, -0.2, 0.2)
            nn.init.constant_(layer.bias, 0.1)
        for layer in (self.highway.transform, self.highway.gate):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


@register_family("seqgan", modality="text", paper="https://arxiv.org/abs/1609.05473")
class SeqGAN:
    """The paper's training: maximum likelihood, a discriminator warm-up, then policy gradient with rollouts."""

    config = SeqGANConfig
    generator = SeqGANGenerator
    discriminator = SeqGANDiscriminator
    objective = {"type": "policy-gradient"}
    tiny = {
        "vocab_size": 20,
        "max_length": 6,
        "embedding_dim": 8,
        "hidden_dim": 8,
        "discriminator_embedding_dim": 8,
        "filter_widths": [1, 2, 3],
        "filter_counts": [4, 4, 4],
        "label_dim": 4,
    }
