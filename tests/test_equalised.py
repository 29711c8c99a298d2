"""Equalised layers, pixel norm and minibatch standard deviation against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ganzoo.nn import HE_GAIN, EqualisedConv2d, EqualisedLinear, EqualisedUpsampleConv2d, PixelNorm, minibatch_std


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


# ----------------------------------------------------------------------------------------------------------- equalised


def test_linear_is_the_constant_times_the_weight_and_the_bias_alone():
    layer = EqualisedLinear(12, 5, gain=HE_GAIN, bias_init=1.0)
    assert layer.bias.tolist() == [1.0] * 5
    hidden = torch.randn(3, 12)
    expected = hidden @ layer.weight.T * math.sqrt(2 / 12) + 1.0
    torch.testing.assert_close(layer(hidden), expected)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, None), (3, 1, None), (4, 1, 0), (3, 2, 1)])
def test_convolution_is_the_constant_times_the_weight_and_the_bias_alone(kernel, stride, padding):
    layer = EqualisedConv2d(6, 5, kernel, stride=stride, padding=padding, gain=HE_GAIN, bias_init=-2.0)
    pictures = torch.randn(2, 6, 8, 8)
    constant = math.sqrt(2 / (6 * kernel**2))
    plain = nn.functional.conv2d(
        pictures, layer.weight, stride=stride, padding=kernel // 2 if padding is None else padding
    )
    torch.testing.assert_close(layer(pictures), plain * constant - 2.0)


def test_repeated_pixels_and_a_convolution_are_one_layer():
    layer = EqualisedUpsampleConv2d(6, 5, gain=HE_GAIN)
    nn.init.normal_(layer.bias)
    pictures = torch.randn(2, 6, 4, 4)
    repeated = pictures.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = nn.functional.conv2d(repeated, layer.weight * math.sqrt(2 / 54), layer.bias, padding=1)
    torch.testing.assert_close(layer(pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer", [EqualisedLinear(300, 400), EqualisedConv2d(60, 80, 5)], ids=["linear", "convolution"]
)
def test_weights_are_standard_normal(layer):
    number = layer.weight.numel()
    assert layer.weight.mean().item() == pytest.approx(0, abs=5 / number**0.5)
    assert layer.weight.std().item() == pytest.approx(1, abs=5 / (2 * number) ** 0.5)
    assert not layer.bias.any()


def test_variance_is_kept_through_rectified_layers():
    hidden = torch.randn(64, 256)
    with torch.no_grad():
        for _ in range(10):
            hidden = EqualisedLinear(256, 256, gain=HE_GAIN)(hidden).relu()
    assert hidden.square().mean().item() == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize("make", [EqualisedLinear, lambda *sizes, **how: EqualisedConv2d(*sizes, 3, **how)])
def test_learning_rate_multiplier_scales_the_speed_and_not_the_start(make):
    torch.manual_seed(1)
    plain = make(4, 3, bias_init=0.5)
    torch.manual_seed(1)
    slow = make(4, 3, bias_init=0.5, lr_multiplier=0.01)
    inputs = torch.randn(2, 4) if isinstance(plain, EqualisedLinear) else torch.randn(2, 4, 5, 5)
    before = plain(inputs).detach()
    torch.testing.assert_close(slow(inputs), before)
    # A step of sign descent (what Adam's first step is) of weights and biases.
    for layer in (plain, slow):
        layer(inputs).sum().backward()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter -= 1e-3 * parameter.grad.sign()
    torch.testing.assert_close(slow(inputs) - before, 0.01 * (plain(inputs) - before), rtol=1e-2, atol=1e-5)


def test_without_bias():
    assert EqualisedLinear(3, 4, bias=False).bias is None
    layer = EqualisedConv2d(3, 4, 3, bias=False)
    assert layer.bias is None and not layer(torch.zeros(1, 3, 4, 4)).any()


def test_second_derivatives_are_those_of_numbers():
    layers = nn.Sequential(EqualisedConv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), EqualisedLinear(48, 1)).double()
    pictures = torch.randn(2, 2, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(layers, (pictures,))


# ---------------------------------------------------------------------------------------------------------- pixel norm


@pytest.mark.parametrize("shape", [(3, 7), (2, 7, 4, 5)])
def test_pixel_norm_makes_the_mean_square_one(shape):
    hidden = 100 * torch.randn(shape)
    normed = PixelNorm()(hidden)
    torch.testing.assert_close(normed.square().mean(dim=1), torch.ones_like(hidden[:, 0]))
    torch.testing.assert_close(normed, hidden / (hidden.square().mean(dim=1, keepdim=True) + 1e-8).sqrt())
    assert not PixelNorm()(torch.zeros(shape)).any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixel_norm_has_both_derivatives(layout):
    hidden = torch.randn(2, 5, 3, 2, dtype=torch.double).to(memory_format=layout).requires_grad_()
    assert torch.autograd.gradcheck(PixelNorm(), (hidden,))
    assert torch.autograd.gradgradcheck(PixelNorm(), (hidden,))


@pytest.mark.parametrize(
    ("dtype", "size", "error"), [(torch.float32, 1, 1e-5), (torch.bfloat16, 1, 2e-2), (torch.float16, 1e-3, 2e-2)]
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixel_norm_of_every_type_and_layout(dtype, size, error, layout):
    hidden = (size * torch.randn(4, 8, 6, 6)).to(dtype).to(memory_format=layout).requires_grad_()
    gradient = torch.randn(4, 8, 6, 6).to(dtype).to(memory_format=layout)
    normed = PixelNorm()(hidden)
    normed.backward(gradient)
    with torch.no_grad():
        torch.testing.assert_close(PixelNorm()(hidden), normed, rtol=0, atol=0)
    wide = hidden.detach().double().requires_grad_()
    expected = wide / (wide.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    expected.backward(gradient.double())
    torch.testing.assert_close(normed.double(), expected, rtol=0, atol=error)
    torch.testing.assert_close(size * hidden.grad.double(), size * wide.grad, rtol=error, atol=5 * error)
    for tensor in (normed, hidden.grad):
        assert tensor.dtype == dtype and tensor.is_contiguous(memory_format=layout)


def test_pixel_norm_of_halves_neither_overflows_nor_vanishes():
    for size in (1e-4, 600.0):
        normed = PixelNorm()(torch.full((1, 8), size, dtype=torch.float16))
        assert normed.dtype == torch.float16
        torch.testing.assert_close(normed.float(), torch.ones(1, 8), rtol=0.5, atol=0)


# --------------------------------------------------------------------------------------------------------- minibatch std


def slow_minibatch_std(hidden, group, num_channels):
    """Sample by sample, in plain loops."""
    batch, channels, height, width = hidden.shape
    groups = batch // group
    share = channels // num_channels
    rows = []
    for index in range(batch):
        members = hidden[[(index % groups) + groups * place for place in range(group)]]
        planes = []
        for plane in range(num_channels):
            part = members[:, plane * share : (plane + 1) * share]
            value = ((part - part.mean(0)) ** 2).mean(0).add(1e-8).sqrt().mean()
            planes.append(value.expand(1, height, width))
        rows.append(torch.cat([hidden[index], *planes]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("batch", "wanted", "group"),
    [(8, 4, 4), (4, 4, 4), (8, 2, 2), (2, 4, 2), (6, 4, 3), (7, 4, 7), (10, 4, 2), (8, 99, 8)],
)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_minibatch_std_against_loops(batch, wanted, group, num_channels):
    hidden = torch.randn(batch, 6, 3, 2) * torch.arange(1, batch + 1)[:, None, None, None]
    appended = minibatch_std(hidden, wanted, num_channels)
    torch.testing.assert_close(appended, slow_minibatch_std(hidden, group, num_channels))


def test_equal_samples_deviate_by_nothing_and_one_alone_too():
    equal = torch.randn(1, 5, 4, 4).expand(8, -1, -1, -1)
    torch.testing.assert_close(minibatch_std(equal)[:, 5:], torch.full((8, 1, 4, 4), 1e-4))
    torch.testing.assert_close(minibatch_std(equal[:1])[:, 5:], torch.full((1, 1, 4, 4), 1e-4))
    hidden = equal.clone().requires_grad_()
    minibatch_std(hidden).sum().backward()
    assert hidden.grad.isfinite().all()


def test_minibatch_std_differentiates_twice():
    hidden = torch.randn(4, 2, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(minibatch_std, (hidden,))
