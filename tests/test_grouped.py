"""Convolutions in groups and rectifiers with derivatives of their own, against PyTorch's: values, first and second derivatives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ganzoo.nn.grouped as grouped
from ganzoo.nn import GroupedConv2d, rectify
from ganzoo.nn.grouped import Geometry, convolve_transpose

GEOMETRIES = [  # inputs, outputs, kernel, stride, padding, dilation, groups
    (6, 9, 3, 1, 1, 1, 3),
    (4, 4, 3, 1, 1, 1, 4),
    (8, 4, 3, 2, 1, 1, 2),
    (3, 5, 1, 1, 0, 1, 1),
    (3, 5, 4, 2, 1, 1, 1),
    (4, 6, (3, 2), (1, 2), (2, 0), (2, 1), 2),
]


def pair(geometry: tuple, bias: bool, dtype: torch.dtype = torch.float64) -> tuple[nn.Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    inputs, outputs, kernel, stride, padding, dilation, groups = geometry
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    ours, theirs = (kind(inputs, outputs, kernel, **options).to(dtype) for kind in (GroupedConv2d, nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def derivatives(layer: nn.Module, pictures: torch.Tensor) -> list[torch.Tensor]:
    """Output; first derivatives; and those of a penalty on the input's."""
    inputs = pictures.clone().requires_grad_()
    parameters = list(layer.parameters())
    outputs = layer(inputs)
    direction = torch.randn(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(1))
    first = torch.autograd.grad((outputs * direction).sum(), [inputs, *parameters], retain_graph=True)
    (slopes,) = torch.autograd.grad(outputs.sin().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(slopes.square().sum(), [inputs, *parameters])
    return [outputs, *first, slopes, *second]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["channels-last", "plain"])
def test_values_and_both_derivatives_are_pytorchs(geometry, bias, layout):
    ours, theirs = pair(geometry, bias)
    pictures = torch.randn(2, geometry[0], 8, 6, dtype=torch.float64).contiguous(memory_format=layout)
    for mine, expected in zip(derivatives(ours, pictures), derivatives(theirs, pictures), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("geometry", GEOMETRIES[:3], ids=str)
def test_gradcheck_to_the_second_order(geometry):
    ours, _ = pair(geometry, True)

    def apply(pictures, weight, bias):
        return torch.func.functional_call(ours, {"weight": weight, "bias": bias}, pictures)

    inputs = (torch.randn(2, geometry[0], 4, 4, dtype=torch.float64, requires_grad=True), *ours.parameters())
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


def test_third_derivative():
    """Each of the three functions is differentiated by each of its arguments."""
    results = []
    for layer in pair((4, 4, 3, 1, 1, 1, 2), True):
        inputs = torch.linspace(-1, 1, 2 * 4 * 25, dtype=torch.float64).reshape(2, 4, 5, 5).requires_grad_()
        (first,) = torch.autograd.grad(layer(inputs).sin().sum(), inputs, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), layer.weight, create_graph=True)
        results.append(torch.autograd.grad(second.square().sum(), [inputs, layer.weight, layer.bias]))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected)


def test_transposed_convolution_is_pytorchs():
    torch.manual_seed(0)
    coarse, weight, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(2, 4, 3, 5), (4, 3, 4, 4), 6]
    )
    ours = convolve_transpose(coarse, weight, bias, Geometry((2, 2), (1, 1), (1, 1), 2))
    theirs = F.conv_transpose2d(coarse, weight, bias, 2, 1, groups=2)
    torch.testing.assert_close(ours, theirs)
    direction = torch.randn_like(theirs)
    for mine, expected in zip(
        *(torch.autograd.grad(result, [coarse, weight, bias], direction) for result in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(mine, expected)
    with torch.no_grad():
        torch.testing.assert_close(convolve_transpose(coarse, weight, bias, Geometry((2, 2), (1, 1), (1, 1), 2)), ours)


def test_gradients_that_nobody_asks_for_are_not_computed(monkeypatch):
    """A penalty differentiates by the pictures alone; what the weights' gradients would cost is saved."""
    layer, _ = pair((4, 4, 3, 1, 1, 1, 2), True)
    inputs = torch.randn(2, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    calls = []
    native = grouped._native_backward

    def counted(*arguments):
        calls.append(arguments[-1])
        return native(*arguments)

    monkeypatch.setattr(grouped, "_native_backward", counted)
    torch.autograd.grad(layer(layer(inputs)).sin().sum(), inputs, create_graph=True)
    assert calls == [(True, False, False)] * 2


def test_deep_layers_take_the_matrix_product_with_the_same_result():
    torch.manual_seed(0)
    ours = GroupedConv2d(256, 256, 3, padding=1)
    theirs = nn.Conv2d(256, 256, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    pictures = torch.randn(1, 256, 4, 4).contiguous(memory_format=torch.channels_last)
    for layer in (ours, theirs):
        layer(pictures).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-4, atol=1e-3)


def test_under_autocast_as_in_bfloat16():
    ours, theirs = pair((16, 16, 3, 1, 1, 1, 4), True, torch.float32)
    pictures = torch.randn(4, 16, 8, 8)
    for layer in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = layer(pictures)
        assert outputs.dtype == torch.bfloat16
        outputs.float().square().sum().backward()
        assert layer.weight.grad.dtype == torch.float32
    error = (ours.weight.grad - theirs.weight.grad).norm() / theirs.weight.grad.norm()
    assert error < 0.02  # bfloat16 has 8 bits


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("inplace", [True, False])
def test_rectifier_and_its_derivatives(slope, inplace):
    torch.manual_seed(0)
    inputs = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for activate in (lambda x: rectify(x, slope, inplace=inplace), lambda x: F.leaky_relu(x, slope)):
        outputs = activate(inputs * 2)
        (slopes,) = torch.autograd.grad(outputs.sin().sum(), inputs, create_graph=True)
        results.append([outputs, slopes, *torch.autograd.grad(slopes.square().sum(), inputs)])
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected)


def test_rectifier_sends_no_zeros_back():
    bias = torch.zeros(3, requires_grad=True)
    inputs = torch.randn(2, 3, requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    (slopes,) = torch.autograd.grad((rectify(inputs + bias, 0.2) * scale).sum(), inputs, create_graph=True)
    gradient, _ = torch.autograd.grad(slopes.square().sum(), (bias, scale), allow_unused=True)
    assert gradient is None
