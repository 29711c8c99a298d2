"""Relational memory: a recurrent core whose slots attend to each other and to the input (Santoro et al., 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.nn.layers import check_labels
from ganzoo.nn.text import LanguageModel, State


class RelationalMemory(nn.Module):
    """One step of memory M (B, slots, heads x head_size) under an input x: attention, then a gated update.

    Santoro et al. 2018, "Relational recurrent neural networks", sections 3.2 to 3.4, as RelGAN uses it (Nie et al. 2019,
    section 3.1). With e = W_e x + b_e in the space of a slot, and for every head queries, keys and values Q, K, V:

        A = softmax(Q(M) K([M; e])^T / sqrt(head_size)) V([M; e])     the heads beside each other
        H = norm(M + A)
        C = norm(H + mlp(H))                                          two layers of the memory's width
        M' = sigmoid(I) * tanh(C) + sigmoid(F + 1) * M                [I, F] = W_g e + U_g tanh(M)

    Both papers leave open where the normalisations stand; as in their authors' code, one more is on the concatenated
    queries, keys and values of a row, and the gates have no biases of their own but the 1. Those codes also update the
    input's row and throw it away: here it only lends its keys and values.

    Args:
        input_size: Numbers of an input.
        slots: Rows of the memory.
        heads: Attention heads.
        head_size: Numbers of a head in a slot.
    """

    def __init__(self, input_size: int, *, slots: int = 1, heads: int = 2, head_size: int = 256) -> None:
        super().__init__()
        self.slots, self.heads, self.head_size = slots, heads, head_size
        self.size = heads * head_size
        self.enter = nn.Linear(input_size, self.size)
        self.project = nn.Linear(self.size, 3 * self.size, bias=False)
        self.project_norm = nn.LayerNorm(3 * self.size)
        self.attended_norm = nn.LayerNorm(self.size)
        self.mlp = nn.Sequential(nn.Linear(self.size, self.size), nn.ReLU(), nn.Linear(self.size, self.size))
        self.mlp_norm = nn.LayerNorm(self.size)
        self.input_gates = nn.Linear(self.size, 2 * self.size, bias=False)
        self.memory_gates = nn.Linear(self.size, 2 * self.size, bias=False)
        self._initialise()

    @property
    def output_size(self) -> int:
        """Numbers of the whole memory, which is what a step puts out."""
        return self.slots * self.size

    def begin(self, batch_size: int) -> Tensor:
        """The memory before the first input, (B, slots, size): rows of the identity, so that no two slots are alike."""
        weight = self.enter.weight
        identity = torch.eye(self.slots, self.size, dtype=weight.dtype, device=weight.device)
        return identity.expand(batch_size, -1, -1)

    def read(self, inputs: Tensor) -> Tensor:
        """All that a step needs of its input, (..., input_size) -> (..., 4 x size): for many steps at once.

        The input's keys, its values and its part of the gates.
        """
        # One linear map after another, of an input that is narrow: the product of their weights is cheaper than the rows'.
        weights = torch.cat([self.project.weight, self.input_gates.weight])
        read = F.linear(inputs, weights @ self.enter.weight, weights @ self.enter.bias)
        projected, gates = read.split([3 * self.size, 2 * self.size], dim=-1)
        return torch.cat([self.project_norm(projected)[..., self.size :], gates], dim=-1)

    def update(self, reading: Tensor, memory: Tensor) -> Tensor:
        """The memory after an input.

        Args:
            reading: (B, 4 x size), of `read`.
            memory: (B, slots, size).

        Returns:
            (B, slots, size).
        """
        lent, gates = reading[:, None].split(2 * self.size, dim=-1)
        attended = self.attended_norm(memory + self._attend(memory, lent))
        candidate = self.mlp_norm(attended + self.mlp(attended))
        take, keep = (gates + self.memory_gates(torch.tanh(memory))).chunk(2, dim=-1)
        return torch.sigmoid(take) * torch.tanh(candidate) + torch.sigmoid(keep + 1) * memory

    def forward(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """One step: inputs (B, input_size), memory (B, slots, size) -> the new memory (B, slots, size)."""
        return self.update(self.read(inputs), memory)

    def _attend(self, memory: Tensor, lent: Tensor) -> Tensor:
        """What the slots (B, N, size) gather from themselves and from the input's keys and values (B, 1, 2 x size)."""
        queries, own = self.project_norm(self.project(memory)).split([self.size, 2 * self.size], dim=-1)
        keys, values = torch.cat([own, lent], dim=1).chunk(2, dim=-1)
        queries, keys, values = (self._heads(rows) for rows in (queries, keys, values))
        weights = (queries @ keys.transpose(-1, -2) * self.head_size**-0.5).softmax(dim=-1)
        return (weights @ values).transpose(1, 2).flatten(2)

    def _heads(self, rows: Tensor) -> Tensor:
        """(B, N, size) -> (B, heads, N, head_size)."""
        return rows.unflatten(-1, (self.heads, self.head_size)).transpose(1, 2)

    def _initialise(self) -> None:
        """Weights N(0, 1 / inputs), biases 0, as in RelGAN's code (which cuts the normal distribution at 2 deviations)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class TokenMemory(LanguageModel):
    """A language model over token ids: embedding, a relational memory, a linear map to the vocabulary's logits.

    The counterpart of `ganzoo.nn.text.TokenLSTM`. A class, where there are classes, is added to the initial memory.

    Args:
        vocab_size: Tokens of the vocabulary.
        embedding_dim: Size of a token's vector.
        slots, heads, head_size: Of the memory.
        dropout: Share of the embeddings and of the memory's outputs that are dropped in training.
        bos_token_id: What is read before the first token.
        num_classes: Number of classes; None for none.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        *,
        slots: int = 1,
        heads: int = 2,
        head_size: int = 256,
        dropout: float = 0.0,
        bos_token_id: int = 0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.bos_token_id, self.num_classes = bos_token_id, num_classes
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.memory = RelationalMemory(embedding_dim, slots=slots, heads=heads, head_size=head_size)
        self.output = nn.Linear(self.memory.output_size, vocab_size)
        self.initial = None if num_classes is None else nn.Embedding(num_classes, self.memory.output_size)

    def begin(self, batch_size: int, labels: Tensor | None = None) -> tuple[Tensor]:
        """The state before anything is read: the memory (B, slots, size) alone."""
        check_labels(labels, self.num_classes, batch_size)
        memory = self.memory.begin(batch_size)
        return (memory if self.initial is None else memory + self.initial(labels).view(memory.shape),)

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        memory = self.memory(self.dropout(self.embedding(tokens)), *state)
        return self.dropout(memory.flatten(1)), (memory,)

    def read(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        (memory,) = self.begin(len(tokens), labels)
        before = F.pad(tokens[:, :-1], (1, 0), value=self.bos_token_id)
        outputs = []
        for reading in self.memory.read(self.dropout(self.embedding(before))).unbind(dim=1):
            memory = self.memory.update(reading, memory)
            outputs.append(memory.flatten(1))
        return self.dropout(torch.stack(outputs, dim=1))
