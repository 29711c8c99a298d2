"""Prompted response: a sequence-to-sequence GAN for dialogue and continuation (Li et al., 2017).

Paper: https://arxiv.org/abs/1701.06547, section 3: an encoder-decoder answers a prompt, a discriminator reads prompt and
reply, its score is the reward of a policy gradient, and a teacher-forcing step on the human reply follows each one. Of
the paper's two rewards for every generated token (section 3.2) this is the cheap one, a discriminator that judges
prefixes: it reads the reply left to right, so one pass scores all of them. `judge_continuations` serves the other one,
Monte-Carlo search.

The decoder looks back at the prompt by Luong et al. (2015), https://arxiv.org/abs/1508.04025: global attention with the
"general" score, without input feeding, so that teacher forcing runs over all tokens at once. The paper's discriminator is
a hierarchical encoder over whole turns; this one is an encoder of the prompt whose last state starts the one of the reply.

Conditional models (`num_classes`) are not in the paper: the label is one more token in front of the prompt.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ganzoo.errors import UserError
from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.text import TextDiscriminator, TextGANConfig, TextGenerator, token_mask
from ganzoo.nn import check_labels
from ganzoo.nn.text import embed_tokens, recur
from ganzoo.registry import register_family

# The hidden vectors (B, H) of a recurrent layer: (h, c) of an LSTM, (h,) of a GRU.
Hidden = tuple[Tensor, ...]


class Seq2SeqConfig(TextGANConfig):
    """Config of the prompted pair."""

    reads_prompts: ClassVar[bool] = True

    max_prompt_length: int = Field(
        ge=1, le=4096, description="Tokens of a prompt at most, the end of the sentence included."
    )
    cell: Literal["lstm", "gru"] = Field("lstm", description="Recurrent layers of both networks.")
    bidirectional: bool = Field(True, description="The encoders read the prompt in both directions.")
    embedding_dim: int = Field(128, ge=1, le=2048, description="Size of the generator's token embeddings.")
    hidden_dim: int = Field(
        256, ge=1, le=4096, description="Units of the generator's decoder, and of its encoder in each direction."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout in the generator: of embeddings and before the output."
    )
    discriminator_embedding_dim: int = Field(
        128, ge=1, le=2048, description="Size of the discriminator's token embeddings."
    )
    discriminator_hidden_dim: int = Field(
        256, ge=1, le=4096, description="Units of the discriminator's two recurrent layers, in each direction."
    )
    discriminator_dropout: float = Field(
        0.2, ge=0, lt=1, description="Dropout in the discriminator: of embeddings and before the logits."
    )


class EncodedPrompt(NamedTuple):
    """What an encoder makes of prompts.

    Attributes:
        memory: (B, P, D) one vector a token, the label's first in a conditional model; zeros after the prompt's end.
        mask: (B, P) bool, the vectors that count.
        hidden: (B, H) each, where the reply's recurrent layer starts.
    """

    memory: Tensor
    mask: Tensor
    hidden: Hidden


class Recurrent(nn.Module):
    """One LSTM or GRU layer, over whole sequences or one token at a time with the same weights."""

    def __init__(self, cell: str, inputs: int, hidden: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        layer = nn.LSTM if cell == "lstm" else nn.GRU
        self.cell = cell
        self.layer = layer(inputs, hidden, batch_first=True, bidirectional=bidirectional)

    def forward(self, embedded: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """(B, T, E) -> outputs (B, T, H), and the hidden vectors after the last token."""
        start = tuple(vectors[None].contiguous() for vectors in hidden)
        outputs, end = recur(self.layer, embedded, start if self.cell == "lstm" else start[0])
        return outputs, tuple(vectors[0] for vectors in (end if self.cell == "lstm" else (end,)))

    def step(self, embedded: Tensor, hidden: Hidden) -> Hidden:
        """(B, E), one token -> the hidden vectors after it; the first of them is the output."""
        weights = (self.layer.weight_ih_l0, self.layer.weight_hh_l0, self.layer.bias_ih_l0, self.layer.bias_hh_l0)
        if self.cell == "lstm":
            return torch.lstm_cell(embedded, hidden, *weights)
        return (torch.gru_cell(embedded, hidden[0], *weights),)

    def encode(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, P, E) padded sequences -> outputs (B, P, D), 0 after the ends, and the last states (B, D) of h (and c)."""
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, end = recur(self.layer, packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=embedded.shape[1])
        return outputs, [states.transpose(0, 1).flatten(1) for states in (end if self.cell == "lstm" else (end,))]


class PromptEncoder(nn.Module):
    """Reads prompts, after the label where there is one, and prepares the state in which a reply begins.

    The embedding of tokens is the caller's: prompt and reply share it.
    """

    def __init__(self, config: Seq2SeqConfig, inputs: int, hidden: int) -> None:
        super().__init__()
        self.config = config
        self.label_embedding = None if config.num_classes is None else nn.Embedding(config.num_classes, inputs)
        self.recurrent = Recurrent(config.cell, inputs, hidden, bidirectional=config.bidirectional)
        self.memory_dim = hidden * (1 + config.bidirectional)
        # For each of h and c: both directions have a last state, the reply's layer one to start from.
        self.bridges = nn.ModuleList(nn.Linear(self.memory_dim, hidden) for _ in range(1 + (config.cell == "lstm")))

    def forward(self, embedded: Tensor, lengths: Tensor, labels: Tensor | None) -> EncodedPrompt:
        if self.label_embedding is not None:
            embedded = torch.cat([self.label_embedding(labels)[:, None], embedded], dim=1)
            lengths = lengths + 1
        memory, ends = self.recurrent.encode(embedded, lengths)
        mask = torch.arange(embedded.shape[1], device=embedded.device) < lengths[:, None]
        hidden = tuple(torch.tanh(bridge(end)) for bridge, end in zip(self.bridges, ends, strict=True))
        return EncodedPrompt(memory, mask, hidden)


class Attention(nn.Module):
    """Global attention (Luong et al., 2015, section 3.1): what the decoder reads of the prompt at every token.

    score(h, m) = h W m (the equation's "general"), softmax over the prompt's tokens, and the attentional vector
    tanh(W_c [context; h]) of equation 5.
    """

    def __init__(self, hidden: int, memory: int) -> None:
        super().__init__()
        self.score = nn.Linear(hidden, memory, bias=False)
        self.combine = nn.Linear(memory + hidden, hidden, bias=False)

    def forward(self, hidden: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Decoder outputs (B, T, H), memory (B, P, D), mask (B, P) -> attentional vectors (B, T, H), weights (B, T, P)."""
        scores = self.score(hidden) @ memory.transpose(1, 2)
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(dim=2)
        return torch.tanh(self.combine(torch.cat([weights @ memory, hidden], dim=2))), weights


class Seq2SeqGenerator(TextGenerator):
    """Answers prompts: encoder, attention, decoder; one embedding for prompt and reply.

    The condition are prompts (B, P) with P <= max_prompt_length; labels (B,) of a conditional model. The state is (memory, mask, h) and,
    of an LSTM, c.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.encoder = PromptEncoder(config, config.embedding_dim, config.hidden_dim)
        self.decoder = Recurrent(config.cell, config.embedding_dim, config.hidden_dim)
        self.attention = Attention(config.hidden_dim, self.encoder.memory_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.to_logits = nn.Linear(config.hidden_dim, config.vocab_size)
        _init_embeddings(self)

    def begin(self, batch_size: int, labels: Tensor | None = None, condition: Tensor | None = None) -> Hidden:
        check_labels(labels, self.config.num_classes, batch_size)
        check_prompts(condition, self.config, batch_size)
        embedded = self.dropout(self.embedding(condition))
        memory, mask, hidden = self.encoder(embedded, prompt_lengths(condition, self.config), labels)
        return (memory, mask, *hidden)

    def step(self, tokens: Tensor, state: Hidden) -> tuple[Tensor, Hidden]:
        memory, mask, *hidden = state
        hidden = self.decoder.step(self.dropout(self.embedding(tokens)), tuple(hidden))
        return self._logits(hidden[0][:, None], memory, mask)[:, 0], (memory, mask, *hidden)

    def predict(self, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        memory, mask, *hidden = self.begin(len(tokens), labels, condition)
        start = tokens.new_full((len(tokens), 1), self.config.bos_token_id)
        read = torch.cat([start, tokens[:, :-1]], dim=1)
        outputs, _ = self.decoder(self.dropout(self.embedding(read)), tuple(hidden))
        return self._logits(outputs, memory, mask)

    def _logits(self, outputs: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        return self.to_logits(self.dropout(self.attention(outputs, memory, mask)[0]))


class Seq2SeqDiscriminator(TextDiscriminator):
    """Judges every prefix of a reply to a prompt (section 3.2).

    Replies as ids (B, T) or relaxed one-hot vectors (B, T, V), prompts (B, P) as condition, labels (B,) of a conditional model -> one
    output, logits (B, T): at t those of the prefix that ends with token t.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__(config)
        inputs, hidden = config.discriminator_embedding_dim, config.discriminator_hidden_dim
        self.embedding = nn.Embedding(config.vocab_size, inputs)
        self.encoder = PromptEncoder(config, inputs, hidden)
        self.reader = Recurrent(config.cell, inputs, hidden)
        self.dropout = nn.Dropout(config.discriminator_dropout)
        self.to_logit = nn.Linear(hidden, 1)
        _init_embeddings(self)

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        outputs, logits = self._read(samples, self._encode(len(samples), labels, condition))
        return [DiscriminatorOutput(logits, [outputs])]

    def judge_continuations(
        self,
        tokens: Tensor,
        continuations: Tensor,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Logits (T - 1, N, B) of whole replies, each at its last token; every prompt is encoded once."""
        copies = continuations.shape[0] * continuations.shape[1]
        hidden = tuple(vectors.repeat(copies, 1) for vectors in self._encode(len(tokens), labels, condition))
        replies = continuations.flatten(0, 2)
        _, logits = self._read(replies, hidden)
        last = token_mask(replies, self.config).sum(dim=1, keepdim=True) - 1
        return logits.gather(1, last).view(continuations.shape[:3])

    def _encode(self, batch_size: int, labels: Tensor | None, condition: Tensor | None) -> Hidden:
        check_labels(labels, self.config.num_classes, batch_size)
        check_prompts(condition, self.config, batch_size)
        embedded = self.dropout(self.embedding(condition))
        return self.encoder(embedded, prompt_lengths(condition, self.config), labels).hidden

    def _read(self, samples: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor]:
        outputs, _ = self.reader(self.dropout(embed_tokens(self.embedding, samples)), hidden)
        return outputs, self.to_logit(self.dropout(outputs))[..., 0]


def prompt_lengths(prompts: Tensor, config: TextGANConfig) -> Tensor:
    """(B,) tokens of each prompt up to and including EOS, or up to the first PAD of one without; at least 1."""
    counts = token_mask(prompts, config)
    if config.pad_token_id is not None:
        counts = counts & ((prompts == config.pad_token_id).cumsum(dim=1) == 0)
    return counts.sum(dim=1).clamp(min=1)


def check_prompts(prompts: Tensor | None, config: TextGANConfig, batch_size: int) -> None:
    """Refuses prompts that are missing or of the wrong shape (their values are not read: that would wait for the device).

    Raises:
        UserError: What is wrong.
    """
    limit = config.max_prompt_length
    if prompts is None:
        raise UserError(
            f"this model answers prompts: pass them as condition, {batch_size} rows of at most {limit} token ids"
        )
    fits = prompts.ndim == 2 and len(prompts) == batch_size and 1 <= prompts.shape[1] <= limit
    if not fits or prompts.is_floating_point():
        raise UserError(
            f"prompts must be {batch_size} rows of 1 to {limit} token ids, got {prompts.dtype} of shape "
            f"{tuple(prompts.shape)}"
        )


def _init_embeddings(network: nn.Module) -> None:
    """Vectors of length about 1; with torch's N(0, 1) the embedding drowns the recurrent state at its start."""
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0.0, module.embedding_dim**-0.5)


@register_family("seq2seq", modality="text", paper="https://arxiv.org/abs/1701.06547")
class Seq2Seq:
    """The paper's training with the cheap per-token reward; teacher forcing is mixed in after each policy-gradient step."""

    config = Seq2SeqConfig
    generator = Seq2SeqGenerator
    discriminator = Seq2SeqDiscriminator
    objective = {"type": "policy-gradient", "reward": "token", "baseline": "batch", "likelihood_weight": 0.5}
    tiny = {
        "vocab_size": 24,
        "max_length": 6,
        "max_prompt_length": 5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "embedding_dim": 6,
        "hidden_dim": 8,
        "discriminator_embedding_dim": 6,
        "discriminator_hidden_dim": 8,
    }
