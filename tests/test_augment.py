"""DiffAugment: what each augmentation may do, and what it must leave alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganzoo.augmentation.diffaugment import (
    AUGMENTATIONS,
    diff_augment,
    instance_noise,
    parse_policy,
    random_color,
    random_cutout,
    random_translation,
)
from ganzoo.errors import UserError

ALL = "color,translation,cutout"
PICTURE_CHANGES = [name for name, record in AUGMENTATIONS.items() if record.pictures]


def images(count: int = 64, channels: int = 3, height: int = 16, width: int = 24) -> Tensor:
    """Values in [0.1, 1.1]: no zero that could be mistaken for a blanked pixel."""
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) + 0.1


def test_policy_is_parsed_in_order() -> None:
    assert parse_policy("cutout, color") == ("cutout", "color")
    assert parse_policy(ALL) == ("color", "translation", "cutout")
    assert {*AUGMENTATIONS} == {*parse_policy(ALL), "gain"}


@pytest.mark.parametrize(("policy", "message"), [("colour", "'colour'.*Did you mean 'color'"), ("", "''.*cutout")])
def test_policy_mistakes_are_explained(policy: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_policy(policy)
    with pytest.raises(UserError, match=message):
        diff_augment(images(), policy)


def test_only_images_are_augmented() -> None:
    with pytest.raises(UserError, match=r"\(16000,\)"):
        diff_augment(torch.zeros(4, 16000), ALL)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (28, 28), (9, 7)])
def test_translation_moves_by_at_most_an_eighth_and_pads_with_zeros(height: int, width: int) -> None:
    torch.manual_seed(0)
    samples = images(200, 2, height, width)
    moved = random_translation(samples)
    shifts, explained = [], torch.zeros(len(samples), dtype=torch.int64)
    for down in range(-height // 4, height // 4 + 1):
        for right in range(-width // 4, width // 4 + 1):
            expected = torch.zeros_like(samples)
            source = samples[..., max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            expected[..., max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)] = source
            matches = (expected == moved).flatten(1).all(1)
            explained += matches
            shifts += [(down, right)] * bool(matches.any())
    assert torch.equal(explained, torch.ones_like(explained)), "an image that is no shift of its original"
    max_down, max_right = height // 8, width // 8
    assert {down for down, _ in shifts} == set(range(-max_down, max_down + 1))
    assert {right for _, right in shifts} == set(range(-max_right, max_right + 1))


@pytest.mark.parametrize(("height", "width"), [(16, 24), (10, 7)])
def test_cutout_zeroes_a_half_size_square_clipped_at_the_borders(height: int, width: int) -> None:
    torch.manual_seed(0)
    samples = images(400, 3, height, width)
    cut = random_cutout(samples)
    seen = set()
    for before, after in zip(samples, cut, strict=True):
        zeros = (after == 0).all(0)
        assert torch.equal(after, before * ~zeros)
        rows, columns = zeros.any(1).nonzero().flatten(), zeros.any(0).nonzero().flatten()
        top, bottom, left, right = rows[0].item(), rows[-1].item() + 1, columns[0].item(), columns[-1].item() + 1
        assert zeros.sum() == (bottom - top) * (right - left), "not a rectangle"
        for start, stop, length in ((top, bottom, height), (left, right, width)):
            size = stop - start
            assert size == length // 2 or (size < length // 2 and (start == 0 or stop == length))
            assert size >= length // 2 // 2
        seen.add((top, bottom))
    # Every place of an axis: all the unclipped ones, and as many clipped at one border as at the other.
    assert sum(top == 0 for top, _ in seen) == sum(bottom == height for _, bottom in seen) > 1
    assert len([place for place in seen if place[1] - place[0] == height // 2]) == height - height // 2 + 1


def test_brightness_is_an_offset_within_a_half() -> None:
    torch.manual_seed(0)
    # A constant grey image has no saturation and no contrast.
    samples = torch.full((2000, 3, 4, 4), 0.25)
    offsets = (random_color(samples) - samples)[:, 0, 0, 0]
    assert torch.allclose(random_color(samples).std((1, 2, 3)), torch.zeros(2000), atol=1e-6)
    assert offsets.min() >= -0.5 and offsets.max() <= 0.5
    assert offsets.min() < -0.49 and offsets.max() > 0.49 and offsets.mean().abs() < 0.03


def test_saturation_and_contrast_scale_within_their_ranges() -> None:
    torch.manual_seed(0)
    samples = images(2000, 3, 4, 4)
    colored = random_color(samples)

    def grey_deviation(x: Tensor) -> Tensor:
        grey = x.mean(1)
        return grey - grey.mean((1, 2), keepdim=True)

    def colour_deviation(x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)

    # Contrast alone scales the grey picture; contrast times saturation scales the colours around it.
    contrast = (grey_deviation(colored) * grey_deviation(samples)).sum((1, 2)) / grey_deviation(samples).square().sum(
        (1, 2)
    )
    both = (colour_deviation(colored) * colour_deviation(samples)).sum((1, 2, 3))
    saturation = both / colour_deviation(samples).square().sum((1, 2, 3)) / contrast
    torch.testing.assert_close(grey_deviation(colored), contrast.view(-1, 1, 1) * grey_deviation(samples))
    torch.testing.assert_close(
        colour_deviation(colored), (contrast * saturation).view(-1, 1, 1, 1) * colour_deviation(samples)
    )
    for factor, low, high in ((contrast, 0.5, 1.5), (saturation, 0.0, 2.0)):
        assert low - 1e-4 <= factor.min() < low + 0.02 and high - 0.02 < factor.max() <= high + 1e-4
        assert (factor.mean() - 1).abs() < 0.05


def test_grey_images_keep_one_channel_and_lose_no_detail_to_saturation() -> None:
    torch.manual_seed(0)
    samples = images(500, channels=1)
    colored = random_color(samples)
    factor = colored.std((1, 2, 3)) / samples.std((1, 2, 3))
    assert colored.shape == samples.shape
    # A saturation near 0 would flatten the picture if it acted on the only channel.
    assert factor.min() >= 0.5 - 1e-4 and factor.max() <= 1.5 + 1e-4


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shape_dtype_and_memory_format_are_kept(
    channels: int, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    samples = images(channels=channels).to(dtype).contiguous(memory_format=layout)
    for result in (*(diff_augment(samples, name) for name in PICTURE_CHANGES), instance_noise(samples, 0.1)):
        assert result.shape == samples.shape and result.dtype == dtype
        assert result.is_contiguous(memory_format=layout)
        assert not torch.equal(result, samples)


@pytest.mark.parametrize("policy", [*PICTURE_CHANGES, ALL])
def test_the_layout_does_not_change_the_result(policy: str) -> None:
    samples = images()
    torch.manual_seed(5)
    expected = diff_augment(samples, policy)
    torch.manual_seed(5)
    torch.testing.assert_close(diff_augment(samples.contiguous(memory_format=torch.channels_last), policy), expected)


def test_the_global_seed_alone_decides() -> None:
    samples = images()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(diff_augment(samples, ALL))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", PICTURE_CHANGES)
def test_each_sample_has_its_own_draw(name: str) -> None:
    torch.manual_seed(0)
    augmented = diff_augment(images(1).expand(64, -1, -1, -1), name)
    assert augmented.flatten(1).unique(dim=0).shape[0] > 16


@pytest.mark.parametrize("policy", [*PICTURE_CHANGES, ALL])
def test_gradients_flow_and_are_right(policy: str) -> None:
    samples = images(2, 2, 8, 8).double().requires_grad_()

    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(4)
        return diff_augment(x, policy)

    assert torch.autograd.gradcheck(seeded, samples, fast_mode=True)
    assert torch.autograd.gradgradcheck(seeded, samples, fast_mode=True)
    (gradient,) = torch.autograd.grad(seeded(samples).sum(), samples)
    assert gradient.abs().sum((1, 2, 3)).min() > 0


def test_blanked_pixels_receive_no_gradient() -> None:
    samples = images().requires_grad_()
    torch.manual_seed(0)
    cut = random_cutout(samples)
    cut.sum().backward()
    assert torch.equal(samples.grad, (cut != 0).float())
    samples.grad = None
    moved = random_translation(samples)
    moved.sum().backward()
    # Each pixel still in the picture counts once; none is counted again for the border that it pads.
    assert set(samples.grad.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(samples.grad.sum((1, 2, 3)), (moved != 0).float().sum((1, 2, 3)))


def test_instance_noise() -> None:
    torch.manual_seed(0)
    samples = torch.full((8, 1000), 2.0, requires_grad=True)
    noisy = instance_noise(samples, 0.3)
    noise = (noisy - samples).detach()
    assert noise.std().item() == pytest.approx(0.3, rel=0.05) and noise.mean().abs() < 0.02
    noisy.sum().backward()
    assert torch.equal(samples.grad, torch.ones_like(samples))
    assert instance_noise(samples, 0.0) is samples
    with pytest.raises(UserError, match="0 or more"):
        instance_noise(samples, -0.1)
