"""What the tests of networks and losses share: counted weights; a discriminator whose gradient is known; text networks, their
tokens, their steps written out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.networks.base import DiscriminatorOutput
from ganzoo.registry import get_family

BOS, EOS, PAD = 0, 1, 2
WITH_END = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}


def tiny_networks(family, **changes):
    """A family's small networks, the same at each call, in evaluation mode."""
    torch.manual_seed(0)
    networks = ganzoo.create(family, **{**get_family(family).tiny, **changes})
    return [network.eval() for network in networks]


class LinearDiscriminator(nn.Module):
    """D(x) = w . x, whose input gradient is w everywhere."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        return [DiscriminatorOutput((samples * self.weight).flatten(1).sum(1), [])]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def random_tokens(config, rows=5, seed=0):
    shape = (rows, config.max_length)
    return torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def labels_for(config, rows=5):
    return None if config.num_classes is None else torch.arange(rows) % config.num_classes


def stepped(generator, tokens, labels):
    """Logits (B, T, V), one token at a time."""
    state = generator.begin(len(tokens), labels)
    last, logits = torch.full((len(tokens),), generator.config.bos_token_id), []
    for column in tokens.unbind(dim=1):
        predicted, state = generator.step(last, state)
        logits.append(predicted)
        last = column
    return torch.stack(logits, dim=1)
