"""ScratchGAN: a language GAN trained from scratch, with a reward for every token (d'Autume et al., 2019).

Paper: https://arxiv.org/abs/1905.09922, section 3. What lets it do without maximum likelihood is a recurrent discriminator
that judges every prefix, large batches with a moving-average baseline, and a discriminator held back by layer normalisation,
dropout and weight decay (which is the optimiser's). The default sizes are those of the authors' released code, save that
all of an embedding is learned: theirs stands beside frozen GloVe vectors, which are a download of their own.

Conditional models (`num_classes`) are not in the paper: the label sets the initial state of both networks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.networks.text import TextDiscriminator, TextGANConfig, TextGenerator, token_mask
from ganzoo.nn import check_labels
from ganzoo.nn.text import recur
from ganzoo.registry import register_family

State = tuple[Tensor, ...]


class ScratchGANConfig(TextGANConfig):
    """Config of the ScratchGAN pair."""

    embedding_dim: int = Field(
        64, ge=1, le=4096, description="Size of the generator's token vectors, which read and predict."
    )
    hidden_dim: int = Field(512, ge=1, le=4096, description="Size of the state of each of the generator's layers.")
    num_layers: int = Field(2, ge=1, le=8, description="LSTM layers of the generator.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout of the generator's token vectors and of the layers' outputs."
    )
    discriminator_embedding_dim: int = Field(
        64, ge=1, le=4096, description="Size of the discriminator's token vectors."
    )
    discriminator_hidden_dim: int = Field(512, ge=1, le=4096, description="Size of the discriminator's state.")
    discriminator_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of the discriminator's embedding that a forward pass does without."
    )
    position_dim: int = Field(8, ge=1, le=256, description="Waves that tell the discriminator where a token stands.")


class ScratchGANGenerator(TextGenerator):
    """LSTM layers between one embedding, which the tokens are read by and predicted with.

    Every layer also reads the token itself, and the prediction is made of all layers. The state is h and c (B, H) of the
    first layer, h and c of the second, and so on.
    """

    def __init__(self, config: ScratchGANConfig) -> None:
        super().__init__(config)
        hidden, layers = config.hidden_dim, config.num_layers
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_dim)
        self.enter = nn.Linear(config.embedding_dim, hidden, bias=False)
        self.layers = nn.ModuleList(
            nn.LSTM(hidden * (2 if layer else 1), hidden, batch_first=True) for layer in range(layers)
        )
        self.leave = nn.Linear(layers * hidden, config.embedding_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.dropout = nn.Dropout(config.dropout)
        self.initial = None if config.num_classes is None else nn.Embedding(config.num_classes, 2 * layers * hidden)
        _initialise(self)

    def begin(self, batch_size: int, labels: Tensor | None = None, condition: Tensor | None = None) -> State:
        check_labels(labels, self.config.num_classes, batch_size)
        states = 2 * self.config.num_layers
        if self.initial is None:
            return (self.bias.new_zeros(batch_size, self.config.hidden_dim),) * states
        return self.initial(labels).tanh().chunk(states, dim=1)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        logits, state = self._read(tokens[:, None], state)
        return logits[:, 0], state

    def predict(self, tokens: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        before = F.pad(tokens[:, :-1], (1, 0), value=self.config.bos_token_id)
        return self._read(before, self.begin(len(tokens), labels))[0]

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads tokens (B, T) -> logits (B, T, V) of those that follow each, and the state after the last."""
        entered = self.enter(self.dropout(self.embedding(tokens)))
        inputs, outputs, after = entered, [], []
        for number, layer in enumerate(self.layers):
            start = tuple(vectors[None].contiguous() for vectors in state[2 * number : 2 * number + 2])
            output, end = recur(layer, inputs, start)
            outputs.append(self.dropout(output))
            after += [vectors[0] for vectors in end]
            inputs = torch.cat([entered, outputs[-1]], dim=2)
        left = self.leave(torch.cat(outputs, dim=2))
        return F.linear(left, self.embedding.weight, self.bias), tuple(after)


class ScratchGANDiscriminator(TextDiscriminator):
    """A normalised LSTM that judges every token given those before it.

    Ids (B, T) or relaxed one-hot vectors (B, T, V), labels (B,) of a conditional model -> one output, logits (B, T): at t
    those of the prefix that ends with token t.
    """

    def __init__(self, config: ScratchGANConfig) -> None:
        super().__init__(config)
        hidden = config.discriminator_hidden_dim
        self.embedding = nn.Embedding(config.vocab_size, config.discriminator_embedding_dim)
        self.enter = nn.Linear(config.discriminator_embedding_dim + config.position_dim, hidden)
        self.reader = NormalisedLSTM(hidden, hidden)
        self.output = nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(config.discriminator_dropout)
        self.initial = None if config.num_classes is None else nn.Embedding(config.num_classes, 2 * hidden)
        _initialise(self)

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        batch, config = len(samples), self.config
        check_labels(labels, config.num_classes, batch)
        # The numbers that drop out of a token's vector are the same wherever it stands, as in the authors' code.
        vectors = self.dropout(self.embedding.weight)
        embedded = samples @ vectors if samples.is_floating_point() else F.embedding(samples, vectors)
        waves = position_waves(config.max_length, config.position_dim, device=samples.device).to(embedded.dtype)
        positions = waves[: samples.shape[1]].expand(batch, -1, -1)
        inputs = self.enter(torch.cat([embedded, positions], dim=2))
        if self.initial is None:
            state = (inputs.new_zeros(batch, config.discriminator_hidden_dim),) * 2
        else:
            state = self.initial(labels).tanh().chunk(2, dim=1)
        outputs = self.reader(inputs, *state)
        return [DiscriminatorOutput(self.output(outputs)[..., 0], [outputs])]

    def judge_continuations(
        self, tokens: Tensor, continuations: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Logits (T - 1, N, B) of whole sequences: those at their last tokens."""
        sequences = continuations.flatten(0, 2)
        repeated = None if labels is None else labels.repeat(len(sequences) // len(tokens))
        last = token_mask(sequences, self.config).sum(dim=1, keepdim=True) - 1
        return self(sequences, repeated)[0].logits.gather(1, last).view(continuations.shape[:3])


class NormalisedLSTM(nn.Module):
    """An LSTM layer whose gates are layer-normalised before their nonlinearities (Ba et al., 2016, section 3.1).

    All four gates of a step are normalised together, as one layer; the normalisation's shift is the gates' bias, and opens
    the forget gate at first. The order of the gates is `nn.LSTM`'s: input, forget, cell, output.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, 4 * hidden, bias=False)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.norm = nn.LayerNorm(4 * hidden)
        with torch.no_grad():
            self.norm.bias[hidden : 2 * hidden] = 1.0

    def forward(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """Inputs (B, T, I), h and c (B, H) before them -> outputs (B, T, H)."""
        outputs = []
        for gates in self.inputs(inputs).unbind(dim=1):
            i, f, g, o = self.norm(gates + self.recurrent(hidden)).chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)


def position_waves(length: int, count: int, *, device: torch.device | None = None) -> Tensor:
    """Cosines of the position, (length, count), half a period from 2 tokens to the whole length, even on a log scale.

    As in the authors' code; the phases, spread over a full turn, keep the first position from being all ones.
    """
    half_periods = torch.linspace(math.log(2.0), math.log(max(length, 2)), count, device=device).exp()
    phases = torch.linspace(0.0, 2.0, count, device=device)
    return torch.cos(math.pi * (torch.arange(length, device=device)[:, None] / half_periods + phases))


def _initialise(network: nn.Module) -> None:
    """Token vectors of length about 1, forget gates of `nn.LSTM` open at first, output bias 0; the rest is torch's."""
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0.0, module.embedding_dim**-0.5)
        elif isinstance(module, nn.LSTM):
            with torch.no_grad():
                module.bias_ih_l0[module.hidden_size : 2 * module.hidden_size] += 1.0


@register_family("scratchgan", modality="text", paper="https://arxiv.org/abs/1905.09922")
class ScratchGAN:
    """The paper's training: no maximum likelihood; every token earns 2D - 1, discounted by 0.23, less a moving average."""

    config = ScratchGANConfig
    generator = ScratchGANGenerator
    discriminator = ScratchGANDiscriminator
    objective = {
        "type": "policy-gradient",
        "reward": "token",
        "scale": "centred",
        "discount": 0.23,
        "baseline": "ewma",
        "baseline_decay": 0.08,
    }
    tiny = {
        "vocab_size": 20,
        "max_length": 6,
        "embedding_dim": 8,
        "hidden_dim": 8,
        "discriminator_embedding_dim": 8,
        "discriminator_hidden_dim": 8,
        "position_dim": 4,
    }
