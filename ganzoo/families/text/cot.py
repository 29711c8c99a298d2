"""CoT: cooperative training of a language model with a mediator (Lu et al., 2018).

Paper: https://arxiv.org/abs/1804.03782, section 3. In the discriminator's role stands the mediator, a second language model:
it learns the half-and-half mixture of real and generated sentences by maximum likelihood, and the generator minimises its
divergence from it, token by token over the whole vocabulary. Both steps follow the same estimate of the Jensen-Shannon
divergence, so nothing is adversarial and no reward is sampled.

Sizes and the mediator's dropout are those of the authors' code for the synthetic oracle: an LSTM of 32 and a mediator of
twice that; its dropout is on only while it learns, not while the generator learns from it.

Conditional models (`num_classes`) are not in the paper: the label sets the initial state of both.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.text import CoreGenerator, CorePredictions, TextDiscriminator, TextGANConfig
from ganzoo.nn.text import TokenLSTM
from ganzoo.registry import register_family


class CoTConfig(TextGANConfig):
    """Config of the generator and its mediator."""

    embedding_dim: int = Field(32, ge=1, le=4096, description="Size of the generator's token vectors.")
    hidden_dim: int = Field(32, ge=1, le=4096, description="Size of the generator's state.")
    num_layers: int = Field(1, ge=1, le=8, description="LSTM layers of the generator.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before, between and after the generator's layers.")
    mediator_embedding_dim: int = Field(64, ge=1, le=4096, description="Size of the mediator's token vectors.")
    mediator_hidden_dim: int = Field(64, ge=1, le=4096, description="Size of the mediator's state.")
    mediator_num_layers: int = Field(1, ge=1, le=8, description="LSTM layers of the mediator.")
    mediator_dropout: float = Field(
        0.5, ge=0, lt=1, description="Dropout before, between and after the mediator's layers."
    )


class CoTGenerator(CoreGenerator):
    """An LSTM language model."""

    def __init__(self, config: CoTConfig) -> None:
        super().__init__(config)
        self.model = _language_model(
            config, config.embedding_dim, config.hidden_dim, config.num_layers, config.dropout
        )


class CoTMediator(CorePredictions, TextDiscriminator):
    """An LSTM language model of the mixture of real and generated sentences (paper, section 3.1).

    Ids (B, T) or relaxed one-hot vectors (B, T, V), labels (B,) of a conditional model -> one output: as logits (B, T) the
    log-probability of every token given those before it, in nats; of a relaxed token the mean under its weights.
    """

    def __init__(self, config: CoTConfig) -> None:
        super().__init__(config)
        self.model = _language_model(
            config,
            config.mediator_embedding_dim,
            config.mediator_hidden_dim,
            config.mediator_num_layers,
            config.mediator_dropout,
        )
        self.model.embedding = _MixingEmbedding(config.vocab_size, config.mediator_embedding_dim)

    def predict(self, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """Logits (B, T, V): at position t those of the token there given the tokens (ids or relaxed) before it."""
        if not tokens.is_floating_point():
            return self.model.predict(tokens, labels)
        start = tokens.new_zeros(len(tokens), self.config.vocab_size)
        start[:, self.config.bos_token_id] = 1
        state, predicted = self.model.begin(len(tokens), labels), []
        for last in [start, *tokens[:, :-1].unbind(dim=1)]:
            logits, state = self.model.step(last, state)
            predicted.append(logits)
        return torch.stack(predicted, dim=1)

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        logits = self.predict(samples, labels).float()
        if samples.is_floating_point():
            chosen = (samples * logits).sum(dim=2)
        else:
            chosen = logits.gather(2, samples[..., None])[..., 0]
        return [DiscriminatorOutput(chosen - logits.logsumexp(dim=2), [logits])]


class _MixingEmbedding(nn.Embedding):
    """Token vectors of ids (...,), or mixtures of them by weights (..., V)."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens @ self.weight if tokens.is_floating_point() else super().forward(tokens)


def _language_model(config: CoTConfig, embedding: int, hidden: int, layers: int, dropout: float) -> TokenLSTM:
    return TokenLSTM(
        config.vocab_size,
        embedding,
        hidden,
        num_layers=layers,
        dropout=dropout,
        bos_token_id=config.bos_token_id,
        num_classes=config.num_classes,
    )


@register_family("cot", modality="text", paper="https://arxiv.org/abs/1804.03782")
class CoT:
    """The paper's training: mediator and generator in turn, from scratch."""

    config = CoTConfig
    generator = CoTGenerator
    discriminator = CoTMediator
    objective = {"type": "cooperative"}
    tiny = {
        "vocab_size": 20,
        "max_length": 6,
        "embedding_dim": 6,
        "hidden_dim": 8,
        "mediator_embedding_dim": 6,
        "mediator_hidden_dim": 8,
    }
