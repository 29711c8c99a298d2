"""The convolutions with their own weight gradient, against PyTorch's, value for value and derivative for derivative."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ganzoo.nn.convolution as convolution
from ganzoo.nn import Conv2d, ConvTranspose2d

GEOMETRIES = [  # kernel, stride, padding
    (4, 2, 1),
    (3, 1, 1),
    (3, 2, 0),
    (1, 1, 0),
    ((4, 3), (2, 1), (1, 2)),
    ((5, 2), 2, (2, 0)),
]


@pytest.fixture
def always(monkeypatch):
    """The matrix product for every layer, so that small ones test it; counts its calls."""
    calls = []
    product = convolution.weight_gradient
    monkeypatch.setattr(convolution, "WINDOWS_PER_CHANNEL_PAIR", {torch.float64: 1e9, torch.bfloat16: 1e9})
    monkeypatch.setattr(convolution, "weight_gradient", lambda *inputs: calls.append(1) or product(*inputs))
    return calls


def pair(ours: type, theirs: type, geometry: tuple, bias: bool, dtype: torch.dtype = torch.float64) -> tuple:
    torch.manual_seed(0)
    kernel, stride, padding = geometry
    layer = ours(3, 5, kernel, stride=stride, padding=padding, bias=bias).to(dtype)
    reference = theirs(3, 5, kernel, stride=stride, padding=padding, bias=bias).to(dtype)
    reference.load_state_dict(layer.state_dict())
    return layer, reference


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ours, theirs", [(Conv2d, nn.Conv2d), (ConvTranspose2d, nn.ConvTranspose2d)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_values_and_gradients_are_pytorchs(always, ours, theirs, geometry, bias, channels_last):
    layer, reference = pair(ours, theirs, geometry, bias)
    pictures = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    if channels_last:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    results = []
    for network in (layer, reference):
        inputs = pictures.clone().requires_grad_()
        outputs = network(inputs)
        weights = torch.randn(outputs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        (outputs * weights).sum().backward()
        results.append([outputs, inputs.grad, *(p.grad for p in network.parameters())])
    assert len(always) == 1
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("ours, theirs", [(Conv2d, nn.Conv2d), (ConvTranspose2d, nn.ConvTranspose2d)])
def test_a_gradient_penalty_goes_through(always, ours, theirs):
    """R1 on a layer followed by a nonlinearity: the penalty's own gradient in the weights."""
    layer, reference = pair(ours, theirs, (4, 2, 1), True)
    pictures = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    gradients = []
    for network in (layer, reference):
        inputs = pictures.clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.tanh(network(inputs)).sum(), inputs, create_graph=True)
        slope.square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for mine, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("ours", [Conv2d, ConvTranspose2d])
def test_gradcheck_to_the_second_order(always, ours):
    layer = ours(2, 3, 3, stride=2, padding=1).double()

    def apply(pictures, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, pictures)

    inputs = (torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True), *layer.parameters())
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


@pytest.mark.parametrize("ours, theirs", [(Conv2d, nn.Conv2d), (ConvTranspose2d, nn.ConvTranspose2d)])
def test_under_autocast_as_in_bfloat16(always, ours, theirs):
    layer, reference = pair(ours, theirs, (4, 2, 1), True, torch.float32)
    pictures = torch.randn(4, 3, 8, 8)
    gradients = []
    for network in (layer, reference):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(pictures)
        assert outputs.dtype == torch.bfloat16
        outputs.float().square().sum().backward()
        gradients.append(network.weight.grad)
        assert network.weight.grad.dtype == torch.float32
    assert len(always) == 1
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert error < 0.02  # bfloat16 has 8 bits


def test_shallow_layers_and_frozen_ones_go_pytorchs_way(monkeypatch):
    def refuse(*inputs):
        raise AssertionError("the matrix product was used")

    monkeypatch.setattr(convolution, "weight_gradient", refuse)
    Conv2d(3, 8, 4, stride=2, padding=1)(torch.randn(2, 3, 32, 32)).sum().backward()
    deep = Conv2d(64, 64, 4, stride=2, padding=1).requires_grad_(False)
    deep(torch.randn(1, 64, 4, 4, requires_grad=True)).sum().backward()


def test_a_deep_layer_takes_the_matrix_product(always, monkeypatch):
    monkeypatch.undo()
    layer = Conv2d(128, 128, 4, stride=2, padding=1)
    pictures = torch.randn(2, 128, 8, 8)
    outputs = layer(pictures)
    assert type(outputs.grad_fn).__name__ in ("AddBackward0", "_ConvolutionBackward")
    torch.testing.assert_close(outputs, F.conv2d(pictures, layer.weight, layer.bias, 2, 1))
