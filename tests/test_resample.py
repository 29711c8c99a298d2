"""Resampling against a slow computation by its definition; its derivatives against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganzoo.nn.resample import blur, downsample, upsample

KERNELS = [(1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 2, 3), (1, 4, 6, 4, 1)]
# Operation -> (zeros between pixels, pixels skipped, what the filter sums to, one less than what a pixel's pads come to).
OPERATIONS = {blur: (1, 1, 1.0), upsample: (2, 1, 2.0), downsample: (1, 2, 1.0)}


def by_definition(pictures: Tensor, kernel: tuple[int, ...], up: int, down: int, total: float) -> Tensor:
    """Zeros between, zeros around, a correlation in double loops: as upsampling and downsampling are drawn in papers."""
    batch, channels, height, width = pictures.shape
    field = pictures.new_zeros(batch, channels, height * up, width * up)
    field[:, :, ::up, ::up] = pictures
    surplus = len(kernel) - max(up, down)
    before, after = (surplus + 1) // 2 + up - 1, surplus // 2
    field = F.pad(field, (before, after, before, after))
    weights = torch.tensor(kernel, dtype=pictures.dtype) * total / sum(kernel)
    rows, columns = ((size - len(kernel)) // down + 1 for size in field.shape[2:])
    result = pictures.new_zeros(batch, channels, rows, columns)
    for row, column in itertools.product(range(rows), range(columns)):
        for i, j in itertools.product(range(len(kernel)), repeat=2):
            result[:, :, row, column] += weights[i] * weights[j] * field[:, :, row * down + i, column * down + j]
    return result


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels-last"])
def test_values_and_layout(operation, kernel, layout):
    torch.manual_seed(0)
    pictures = torch.randn(2, 3, 8, 6, dtype=torch.float64).to(memory_format=layout)
    found = operation(pictures, kernel)
    torch.testing.assert_close(found, by_definition(pictures, kernel, *OPERATIONS[operation]))
    factor = {blur: 1, upsample: 2, downsample: 0.5}[operation]
    assert found.shape == (2, 3, 8 * factor, 6 * factor)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_derivatives_of_first_and_second_order(operation, kernel):
    torch.manual_seed(0)
    pictures = torch.randn(1, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: operation(x, kernel), pictures)
    # Linear maps have no second derivative: squared, they have one.
    assert torch.autograd.gradgradcheck(lambda x: operation(x, kernel).square(), pictures)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_bfloat16_goes_another_way_to_the_same_values(operation, kernel):
    torch.manual_seed(0)
    pictures = torch.randn(2, 3, 8, 6).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    exact = pictures.detach().float().requires_grad_()
    found, expected = operation(pictures, kernel), operation(exact, kernel)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
    found.float().square().sum().backward(), expected.square().sum().backward()
    torch.testing.assert_close(pictures.grad.float(), exact.grad, rtol=4e-2, atol=8e-2)


def test_known_special_cases():
    """[1, 3, 3, 1] is linear interpolation between pixels' centres, [1, 1] repeats or averages."""
    torch.manual_seed(0)
    pictures = torch.randn(1, 2, 6, 6)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    linear = F.interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(pictures)[inside], linear[inside])
    torch.testing.assert_close(upsample(pictures, (1, 1)), F.interpolate(pictures, scale_factor=2))
    torch.testing.assert_close(downsample(pictures, (1, 1)), F.avg_pool2d(pictures, 2))


def test_padding_of_ones_own():
    """After a transposed convolution a picture is one row and column too large."""
    pictures = torch.randn(1, 2, 9, 9)
    assert blur(pictures, (1, 3, 3, 1), padding=(1, 1)).shape == (1, 2, 8, 8)
