"""Layers of text networks: a recurrent language model, and a convolutional sentence encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import PackedSequence

from ganzoo.nn.draws import rows_at_a_time
from ganzoo.nn.layers import check_labels
from ganzoo.utils.precision import lacks_recurrence, widen

State = tuple[Tensor, ...]

# Numbers in a table of CompletedPrefixes at most, 256 MB; so that an index fits int32 as well.
_LARGEST_TABLE = 1 << 26


class LanguageModel(nn.Module):
    """What predicts each token from those before it: a core with a state, and `output`, a linear map to the logits."""

    output: nn.Linear

    def begin(self, batch_size: int, labels: Tensor | None = None) -> State:
        """The state before anything is read."""
        raise NotImplementedError

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one token (B,) a sequence -> what `output` projects, (B, H), and the new state."""
        raise NotImplementedError

    def read(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """What `output` projects, (B, T, H): at position t after BOS and the tokens before t (teacher forcing)."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one token (B,) a sequence -> logits (B, V) of the next one, and the new state."""
        hidden, state = self.advance(tokens, state)
        return self.output(hidden), state

    def predict(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B, T, V): at position t those of `tokens[:, t]` given the tokens before it."""
        return self.output(self.read(tokens, labels))

    def predict_where(self, mask: Tensor, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits (N, V) where `mask` (B, T) is true: the rest is not projected to the vocabulary, the costly part."""
        return self.output(self.read(tokens, labels)[mask])

    def weighted_nll(
        self,
        mask: Tensor,
        tokens: Tensor,
        weights: Tensor,
        labels: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """As `ganzoo.networks.text.TextGenerator.weighted_nll`; the logits (N, V) never exist whole."""
        hidden = self.read(tokens, labels)[mask]
        weight, bias = self.output.weight, self.output.bias
        if temperature != 1:
            weight, bias = weight / temperature, bias / temperature
        return _WeightedNLL.apply(hidden, weight, bias, tokens[mask], weights)


def recur(layer: Callable[..., Any], inputs: Any, *others: Any) -> Any:
    """Calls a recurrent layer under autocast: in float32 on processors for which there is none in autocast's type.

    Args:
        layer: `nn.LSTM`, `nn.GRU` or their functions.
        inputs: (B, T, D), or a `PackedSequence`.
        *others: Its other arguments; tensors may lie in tuples and lists.
    """
    if not lacks_recurrence("cpu" if not inputs.is_cuda else "cuda"):
        return layer(inputs, *others)
    with torch.autocast("cpu", enabled=False):
        return layer(_widened(inputs), *map(_widened, others))


def _widened(value: Any) -> Any:
    if isinstance(value, PackedSequence):
        return value.float()
    if isinstance(value, tuple | list):
        return type(value)(map(_widened, value))
    return widen(value) if isinstance(value, Tensor) and value.is_floating_point() else value


class TokenLSTM(LanguageModel):
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

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, after = self.embedding(tokens), []
        for layer in range(self.num_layers):
            hidden, cell = torch.lstm_cell(
                self.dropout(hidden), state[2 * layer : 2 * layer + 2], *self._weights(layer)
            )
            after += [hidden, cell]
        return self.dropout(hidden), tuple(after)

    def read(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        state = self.begin(len(tokens), labels)
        before = F.pad(tokens[:, :-1], (1, 0), value=self.bos_token_id)
        weights = [w for layer in range(self.num_layers) for w in self._nn_lstm_weights(layer)]
        outputs, _, _ = recur(
            torch.lstm,
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

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih"))

    def _nn_lstm_weights(self, layer: int) -> tuple[Tensor, ...]:
        *weights, bias = self._weights(layer)
        return *weights, bias, torch.zeros_like(bias)


def _uniform(*shape: int, bound: float) -> nn.Parameter:
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


class _WeightedNLL(torch.autograd.Function):
    """sum over n of w_n (ln sum exp(W h_n + b) - (W h_n + b)[t_n]), and the summands.

    The gradient follows from the softmax that the value needs, so it is made in the forward pass, a few rows at a time:
    logits (N, V) never exist whole, and what is in the cache is not written to memory and read again.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, tokens: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        nll = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        wanted = any(ctx.needs_input_grad)
        gradients = [torch.zeros_like(part, dtype=torch.float32) for part in (hidden, weight, bias)] if wanted else []
        rows = rows_at_a_time(hidden.device, len(weight))
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = weight.float(), bias.float()
            for start in range(0, len(hidden), rows):
                part = slice(start, start + rows)
                inputs, chosen, factors = hidden[part].float(), tokens[part, None], weights[part, None].float()
                logits = (inputs @ weight.T).add_(bias)
                top = logits.amax(dim=1, keepdim=True)
                nll[part] = (top - logits.gather(1, chosen))[:, 0]
                totals = logits.sub_(top).exp_().sum(dim=1, keepdim=True)
                nll[part] += totals.log()[:, 0]
                if wanted:
                    slopes = logits.mul_(factors / totals).scatter_add_(1, chosen, -factors)
                    torch.mm(slopes, weight, out=gradients[0][part])
                    gradients[1].addmm_(slopes.T, inputs)
                    gradients[2].add_(slopes.sum(dim=0))
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(nll)
        return (nll * weights).sum(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        parts = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *((gradient * slope).to(dtype) for gradient, dtype in parts), None, None


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
        products = (unfold_windows(embedded, w) @ filters.weight.T for w, filters in self.by_width())
        return self.activate([product.amax(dim=1) for product in products])

    def by_width(self) -> zip[tuple[int, nn.Linear]]:
        return zip(self.widths, self.filters, strict=True)

    def activate(self, largest: list[Tensor]) -> Tensor:
        """The features of each width's largest responses (B, filters)."""
        return F.relu(torch.cat(largest, dim=1) + torch.cat([filters.bias for filters in self.filters]))


class CompletedPrefixes:
    """What a TextCNN says of many sequences that share their first tokens with a few others.

    Windows inside a shared prefix are computed once, and a running maximum holds what they give each prefix. For the others
    every token's part in every response is tabulated, where there are more windows than tokens in the vocabulary: a
    response is a sum of rows then, not a matrix product.

    Args:
        encoder: The convolutions.
        vectors: (V, E) token vectors.
        tokens: (B, T) ids of the few.
        repeats: How many completions of each prefix there will be, to choose the faster way.
    """

    def __init__(self, encoder: TextCNN, vectors: Tensor, tokens: Tensor, repeats: int) -> None:
        self.encoder = encoder
        batch, length = tokens.shape
        self.respond: list[Callable[[Tensor], Tensor]] = []
        for width, filters in encoder.by_width():
            windows = batch * repeats * sum(min(length - width + 1, length - p) for p in range(1, length))
            table = len(vectors) * len(filters.weight) * width
            way = _sum_rows if windows > len(vectors) and table <= _LARGEST_TABLE else _multiply_windows
            self.respond.append(way(filters.weight, vectors, width))
        self.maxima = [respond(tokens).cummax(dim=1).values for respond in self.respond]

    def features(self, tokens: Tensor, rows: Tensor, prefix: int) -> Tensor:
        """Features (R, sum of filters), as of `encoder`.

        Args:
            tokens: (R, T) ids.
            rows: (R,) which of the few each one shares its first tokens with.
            prefix: How many tokens they share; fewer than T.
        """
        largest = []
        for width, respond, shared in zip(self.encoder.widths, self.respond, self.maxima, strict=True):
            own = respond(tokens[:, max(0, prefix - width + 1) :]).amax(dim=1)
            largest.append(own if prefix < width else torch.maximum(own, shared[:, prefix - width][rows]))
        return self.encoder.activate(largest)


def _multiply_windows(weight: Tensor, vectors: Tensor, width: int) -> Callable[[Tensor], Tensor]:
    """Ids (R, T) -> responses (R, T - width + 1, filters), by the definition."""
    return lambda tokens: unfold_windows(F.embedding(tokens, vectors), width) @ weight.T


def _sum_rows(weight: Tensor, vectors: Tensor, width: int) -> Callable[[Tensor], Tensor]:
    """The same responses: every token has a row of a table for every place in a window."""
    places = weight.view(len(weight), width, -1).permute(1, 2, 0)
    table = torch.matmul(vectors, places).flatten(0, 1)
    offsets = len(vectors) * torch.arange(width, dtype=torch.int32, device=vectors.device)

    def respond(tokens: Tensor) -> Tensor:
        indices = tokens.to(torch.int32).unfold(1, width, 1) + offsets
        return F.embedding_bag(indices.flatten(0, 1), table, mode="sum").view(*indices.shape[:2], table.shape[1])

    return respond


def unfold_windows(embedded: Tensor, width: int) -> Tensor:
    """Windows of `width` neighbouring vectors: (B, T, E) -> (B, T - width + 1, width * E)."""
    if not (torch.is_grad_enabled() and embedded.requires_grad):
        return embedded.unfold(1, width, 1).transpose(2, 3).flatten(2)
    # The same windows; the backward pass of this is some copies, that of unfold an element-wise loop.
    count = embedded.shape[1] - width + 1
    return torch.cat([embedded[:, start : start + count] for start in range(width)], dim=2)
