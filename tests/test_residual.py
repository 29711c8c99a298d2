"""Residual blocks and class-conditional layers against their definitions, layer by layer in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ganzoo.nn import (
    ConditionalBatchNorm2d,
    DiscriminatorBlock,
    GeneratorBlock,
    Projection,
    init_xavier_,
    mean_pixels,
    normalisation,
    sum_pixels,
)
from ganzoo.nn.residual import ConvDownsample2d, UpsampleConv2d


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def conv(hidden: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
    return F.conv2d(hidden, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def repeat(hidden: torch.Tensor) -> torch.Tensor:
    return hidden.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def average(hidden: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = hidden.shape
    return hidden.reshape(batch, channels, height // 2, 2, width // 2, 2).mean(dim=(3, 5))


def assert_same(ours, theirs, parameters, hidden):
    """Values, first derivatives, and the derivative of a penalty on the input's."""
    results = []
    for function in (ours, theirs):
        inputs = hidden.clone().requires_grad_()
        outputs = function(inputs)
        first = torch.autograd.grad(outputs.square().sum(), [inputs, *parameters], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), parameters, allow_unused=True)
        results.append([outputs, *first, *(torch.zeros(()) if value is None else value for value in second)])
    for mine, expected in zip(*results, strict=True):
        # A gradient that PyTorch makes of zeros is no gradient here.
        torch.testing.assert_close(mine.expand_as(expected), expected.expand_as(mine), check_dtype=False)


@pytest.mark.parametrize("size", [(4, 4), (2, 6)])
def test_repeating_pixels_and_convolving_is_one_convolution(size):
    layer = UpsampleConv2d(3, 5).double()
    assert_same(layer, lambda x: conv(repeat(x), layer), list(layer.parameters()), pictures(2, 3, *size))


@pytest.mark.parametrize("size", [(4, 4), (2, 6)])
def test_convolving_and_averaging_is_one_convolution(size):
    layer = ConvDownsample2d(3, 5).double()
    assert_same(layer, lambda x: average(conv(x, layer)), list(layer.parameters()), pictures(2, 3, *size))


def test_generator_block():
    block = GeneratorBlock(3, 5, nn.BatchNorm2d).double()

    def slow(hidden):
        main = F.batch_norm(hidden, None, None, block.norm1.weight, block.norm1.bias, True)
        main = conv(repeat(main.relu()), block.conv1)
        main = F.batch_norm(main, None, None, block.norm2.weight, block.norm2.bias, True).relu()
        return conv(main, block.conv2) + conv(repeat(hidden), block.shortcut)

    assert_same(block, slow, list(block.parameters()), pictures(4, 3, 4, 4))


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "down", "first"),
    [(3, 5, True, True), (4, 6, True, False), (4, 4, True, False), (4, 4, False, False), (4, 6, False, False)],
)
def test_discriminator_block(norm, inputs, outputs, down, first):
    block = DiscriminatorBlock(
        inputs, outputs, down=down, first=first, norm=lambda channels: normalisation(norm, channels)
    ).double()
    resize = average if down else lambda hidden: hidden

    def normalise(layer, hidden):
        if isinstance(layer, nn.Identity):
            return hidden
        mean, var = hidden.mean((1, 2, 3), keepdim=True), hidden.var((1, 2, 3), keepdim=True, correction=0)
        return (hidden - mean) / (var + layer.eps).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    def slow(hidden):
        main = hidden if first else normalise(block.norm1, hidden).relu()
        main = normalise(block.norm2, conv(main, block.conv1)).relu()
        main = resize(conv(main, block.conv2))
        return main + resize(hidden if block.shortcut is None else conv(hidden, block.shortcut))

    assert (block.shortcut is None) == (not down and inputs == outputs)
    hidden = pictures(2, inputs, 4, 4)
    untouched = hidden.clone()
    assert_same(block, slow, list(block.parameters()), hidden)
    block(hidden)
    assert torch.equal(hidden, untouched), "a block that works in place must not change its input"


def test_initial_variances():
    """Glorot's 2 / (fan-in + fan-out), doubled in the main path; means and variances within five standard errors."""
    block = GeneratorBlock(64, 128, nn.BatchNorm2d)
    fans = {"conv1": (64 * 9, 128 * 9), "conv2": (128 * 9, 128 * 9), "shortcut": (64, 128)}
    for name, (fan_in, fan_out) in fans.items():
        weight = getattr(block, name).weight
        expected = 2 / (fan_in + fan_out) * (1 if name == "shortcut" else 2)
        # A uniform variable's squared deviation varies by its square times 4/5.
        assert weight.var().item() == pytest.approx(expected, rel=5 * (0.8 / weight.numel()) ** 0.5)
        assert weight.mean().item() == pytest.approx(0, abs=5 * (expected / weight.numel()) ** 0.5)
        assert not getattr(block, name).bias.any()


def test_conditional_batch_norm():
    """Each sample scaled and shifted by its class's rows after normalisation by the batch's statistics."""
    layer = ConditionalBatchNorm2d(3, 4).double()
    hidden, labels = pictures(5, 3, 2, 2), torch.tensor([0, 3, 3, 1, 0])
    torch.testing.assert_close(layer(hidden, labels), F.batch_norm(hidden, None, None, training=True))
    nn.init.normal_(layer.gain.weight), nn.init.normal_(layer.bias.weight)
    result = layer(hidden, labels)
    for number, label in enumerate(labels):
        for channel in range(3):
            values = hidden[:, channel]
            normalised = (hidden[number, channel] - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
            expected = layer.gain.weight[label, channel] * normalised + layer.bias.weight[label, channel]
            torch.testing.assert_close(result[number, channel], expected)
    assert {"norm.running_mean", "norm.running_var"} <= set(layer.state_dict())
    layer.eval()
    alone = layer(hidden[1:2], labels[1:2])
    torch.testing.assert_close(layer(hidden, labels)[1:2], alone)


def test_projection():
    layer = Projection(3, 4).double()
    features, labels = pictures(5, 3), torch.tensor([0, 3, 3, 1, 0])
    expected = [
        layer.linear.weight[0] @ vector + layer.linear.bias[0] + layer.embedding.weight[label] @ vector
        for vector, label in zip(features, labels, strict=True)
    ]
    torch.testing.assert_close(layer(features, labels), torch.stack(expected))
    plain = Projection(3, None).double()
    torch.testing.assert_close(plain(features), features @ plain.linear.weight[0] + plain.linear.bias)


def test_pools():
    hidden = torch.full((2, 3, 32, 32), 1.0, dtype=torch.bfloat16)
    assert torch.equal(sum_pixels(hidden), torch.full((2, 3), 1024.0))
    assert torch.equal(mean_pixels(hidden), torch.ones(2, 3))
    bare = nn.Linear(2, 2)
    nn.init.constant_(bare.bias, 3.0)
    init_xavier_(bare)
    assert not bare.bias.any()
