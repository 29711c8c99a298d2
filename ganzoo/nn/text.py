"""Layers of text networks: a recurrent language model, and a convolutional sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.nn.layers import check_labels

State = tuple[Tensor, ...]


class TokenLSTM(nn.Module):
    """A language model over token ids: embedding, a stack of LSTM layers, a linear map to the vocabulary's logits.

    The cell's equations and weights are `nn.LSTM`'s (gates in the order input, forget, cell, output) with one bias a
    gate, `bias_ih`: the second that `nn.LSTM` adds can express nothing more. A class, where there are classes, sets the
    initial state.

    Args:
        vocab_size: Tokens of the vocabulary.
        embedding_dim: Size of a token's vector.
        hidden_dim: Size of every layer's state.
        num_layers: LSTM layers.
        dropout: Share of the embeddings, of the outputs between layers and of the last outputs that are dropped in
            training.
        bos_token_id: What is read before the first token.
        num_classes: Number of classes; None for none.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        *,
        num_layers: int = 1,
        dropout: float = 0.0,
        bos_token_id: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        self.bos_token_id, self.num_classes = bos_token_id, num_classes
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        for layer in range(num_layers):
            inputs = hidden_dim if layer else embedding_dim
            self.register_parameter(f"weight_ih_l{layer}", _uniform(4 * hidden_dim, inputs, bound=hidden_dim**-0.5))
            self.register_parameter(
                f"weight_hh_l{layer}", _uniform(4 * hidden_dim, hidden_dim, bound=hidden_dim**-0.5)
            )
            self.register_parameter(f"bias_ih_l{layer}", _uniform(4 * hidden_dim, bound=hidden_dim**-0.5))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_dim, vocab_size)
        self.initial = None if num_classes is None else nn.Embedding(num_classes, 2 * num_layers * hidden_dim)

    def begin(self, batch_size: int, labels: Tensor | None = None) -> State:
        """The state before anything is read: h and c of the first layer, h and c of the second, ..., each (B, H)."""
        check_labels(labels, self.num_classes, batch_size)
        if self.initial is None:
            return (self.output.weight.new_zeros(batch_size, self.hidden_dim),) * (2 * self.num_layers)
        return self.initial(labels).tanh().chunk(2 * self.num_layers, dim=1)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one token (B,) a sequence -> logits (B, V) of the next one, and the new state."""
        hidden, after = self.embedding(tokens), []
        for layer in range(self.num_layers):
            w_ih, w_hh, bias = self._weights(layer)
            hidden = self.dropout(hidden)
            hidden, cell = torch.lstm_cell(hidden, state[2 * layer : 2 * layer + 2], w_ih, w_hh, bias)
            after += [hidden, cell]
        return self._project(self.dropout(hidden)), tuple(after)

    def read(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """The last layer's outputs (B, T, H): at position t after BOS and the tokens before t (teacher forcing)."""
        state = self.begin(len(tokens), labels)
        before = F.pad(tokens[:, :-1], (1, 0), value=self.bos_token_id)
        weights = [w for layer in range(self.num_layers) for w in self._nn_lstm_weights(layer)]
        outputs, _, _ = torch.lstm(
            self.dropout(self.embedding(before)),
            (torch.stack(state[::2]), torch.stack(state[1::2])),
            weights,
            True,  # biases
            self.num_layers,
            self.dropout.p,
            self.training,
            False,  # bidirectional
            True,  # batch first
        )
        return self.dropout(outputs)

    def predict(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B, T, V): at position t those of `tokens[:, t]` given the tokens before it."""
        return self.output(self.read(tokens, labels))

    def predict_where(self, mask: Tensor, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits (N, V) where `mask` (B, T) is true: the rest is not projected to the vocabulary, the costly part."""
        return self.output(self.read(tokens, labels)[mask])

    def _project(self, hidden: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.output(hidden)
        # With many more outputs than inputs, the matrix product that begins with the bias takes twice as long on a CPU.
        return (hidden @ self.output.weight.T).add_(self.output.bias)

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih"))

    def _nn_lstm_weights(self, layer: int) -> tuple[Tensor, ...]:
        *weights, bias = self._weights(layer)
        return *weights, bias, torch.zeros_like(bias)


def _uniform(*shape: int, bound: float) -> nn.Parameter:
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


def embed_tokens(embedding: nn.Embedding, samples: Tensor) -> Tensor:
    """Token vectors (B, T, E) of ids (B, T), or the mixtures of them that relaxed one-hot vectors (B, T, V) stand for."""
    return samples @ embedding.weight if samples.is_floating_point() else embedding(samples)


class Highway(nn.Module):
    """A highway layer (Srivastava et al., 2015, equation 3): t * relu(W x + b) + (1 - t) * x, t = sigmoid(U x + c)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.transform = nn.Linear(size, size)
        self.gate = nn.Linear(size, size)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.sigmoid(self.gate(inputs)) * (F.relu(self.transform(inputs)) - inputs)


class TextCNN(nn.Module):
    """Convolutions of several widths over token vectors, each filter's largest response kept (Kim, 2014, section 2).

    A convolution is one matrix product over unfolded windows. The bias and the ReLU do not change which window is the
    largest, so they come after the maximum.

    Args:
        embedding_dim: Size of a token's vector.
        windows: (tokens in a window, filters) of each convolution; no window longer than the sequences.
    """

    def __init__(self, embedding_dim: int, windows: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.widths = tuple(width for width, _ in windows)
        self.features = sum(count for _, count in windows)
        self.filters = nn.ModuleList(nn.Linear(width * embedding_dim, count) for width, count in windows)

    def forward(self, embedded: Tensor) -> Tensor:
        """Token vectors (B, T, E) -> features (B, sum of filters)."""
        responses = (self._respond(filters, embedded, width) for width, filters in self._by_width())
        return self._activate([response.amax(dim=1) for response in responses])

    def running_maxima(self, embedded: Tensor) -> list[Tensor]:
        """For each width, the largest response up to every window of whole sequences (B, T, E): (B, windows, filters)."""
        return [self._respond(filters, embedded, width).cummax(dim=1).values for width, filters in self._by_width()]

    def continued(self, maxima: Sequence[Tensor], embedded: Tensor, rows: Tensor, prefix: int) -> Tensor:
        """Features of sequences that share their first tokens with others, whose windows are not computed again.

        Args:
            maxima: `running_maxima` of the others, B sequences.
            embedded: (R, T, E), the continued sequences.
            rows: (R,) which of the others each one shares its first tokens with.
            prefix: How many tokens they share; fewer than T.

        Returns:
            (R, sum of filters), what `forward(embedded)` returns.
        """
        largest = []
        for (width, filters), shared in zip(self._by_width(), maxima, strict=True):
            own = self._respond(filters, embedded[:, max(0, prefix - width + 1) :], width).amax(dim=1)
            largest.append(own if prefix < width else torch.maximum(own, shared[:, prefix - width][rows]))
        return self._activate(largest)

    def _by_width(self) -> zip:
        return zip(self.widths, self.filters, strict=True)

    @staticmethod
    def _respond(filters: nn.Linear, embedded: Tensor, width: int) -> Tensor:
        return unfold_windows(embedded, width) @ filters.weight.T

    def _activate(self, largest: list[Tensor]) -> Tensor:
        return F.relu(torch.cat(largest, dim=1) + torch.cat([filters.bias for filters in self.filters]))


def unfold_windows(embedded: Tensor, width: int) -> Tensor:
    """Windows of `width` neighbouring vectors: (B, T, E) -> (B, T - width + 1, width * E)."""
    if not (torch.is_grad_enabled() and embedded.requires_grad):
        return embedded.unfold(1, width, 1).transpose(2, 3).flatten(2)
    # The same windows; the backward pass of this is some copies, that of unfold an element-wise loop.
    count = embedded.shape[1] - width + 1
    return torch.cat([embedded[:, start : start + count] for start in range(width)], dim=2)
