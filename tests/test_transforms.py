"""Flips and crops against what they are defined as, one sample at a time."""

import pytest
import torch
from torch.nn.functional import pad

from ganzoo.augmentation.transforms import random_crop, random_flip, random_segment
from ganzoo.errors import UserError


def numbered(batch=64, channels=3, height=6, width=5, dtype=torch.float32):
    """Samples in which every pixel is different (modulo 256 for uint8)."""
    return torch.arange(batch * channels * height * width).view(batch, channels, height, width).to(dtype)


DTYPES = [torch.uint8, torch.int16, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_flip_with_certainty_and_never(dtype):
    samples = numbered(dtype=dtype)
    flipped = random_flip(samples, 1.0)
    assert flipped.dtype == dtype
    assert torch.equal(flipped, samples.flip(-1))
    state = torch.get_rng_state()
    assert random_flip(samples, 0.0) is samples
    assert torch.equal(torch.get_rng_state(), state)


def test_each_sample_is_flipped_whole_and_on_its_own():
    torch.manual_seed(0)
    samples = numbered(batch=2000)
    flipped = random_flip(samples, 0.3)
    mirrored = (flipped == samples.flip(-1)).flatten(1).all(1)
    untouched = (flipped == samples).flatten(1).all(1)
    assert torch.equal(mirrored, ~untouched)
    assert 520 < mirrored.sum() < 680  # 600 expected, standard deviation 20.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [1, 3, 4])
def test_a_crop_is_a_window_of_the_reflection_padded_sample(dtype, padding):
    torch.manual_seed(1)
    samples = numbered(dtype=dtype)
    cropped = random_crop(samples, padding)
    assert cropped.dtype == dtype and cropped.shape == samples.shape and cropped.is_contiguous()
    padded = pad(samples.float(), [padding] * 4, mode="reflect").to(dtype)
    height, width = samples.shape[2:]
    for crop, whole in zip(cropped, padded, strict=True):
        windows = whole.unfold(1, height, 1).unfold(2, width, 1)  # (C, rows, columns, H, W)
        assert (windows == crop[:, None, None]).all(-1).all(-1).all(0).any()


def test_every_place_is_drawn_equally_often_and_independently():
    torch.manual_seed(2)
    samples = torch.arange(36.0).view(1, 1, 6, 6).expand(9000, 1, 6, 6)
    corners = random_crop(samples, 1)[:, 0, 2, 2]  # a pixel off the border tells the offset
    places, counts = corners.unique(return_counts=True)
    assert places.tolist() == [7, 8, 9, 13, 14, 15, 19, 20, 21]
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1  # chi-squared, 8 degrees of freedom, 99.9 % quantile


def test_crop_zero_draws_nothing():
    samples = numbered()
    state = torch.get_rng_state()
    assert random_crop(samples, 0) is samples
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_generator_decides():
    samples = numbered()
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(random_crop(random_flip(samples, 0.5), 2))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_padding_must_be_smaller_than_the_sample():
    assert random_crop(numbered(height=6, width=5), 4).shape == (64, 3, 6, 5)
    with pytest.raises(
        UserError, match=r"data\.crop_padding=5 must be smaller than the samples, which are 6x5 pixels"
    ):
        random_crop(numbered(height=6, width=5), 5)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_excerpts_are_windows_of_the_sound_each_equally_often(dtype):
    clip = torch.zeros(2, 10, dtype=dtype)
    clip[:, :6] = torch.arange(1, 13).view(2, 6)  # six samples of sound in two channels, then silence
    clip[0, 2] = 0  # silence within it is a part of it
    excerpts = random_segment(clip.expand(3000, 2, 10), 4)
    starts = (excerpts[:, 1, 0] - 7).long()
    for excerpt, start in zip(excerpts[:50], starts, strict=False):
        assert torch.equal(excerpt, clip[:, start : start + 4])
    counts = starts.bincount(minlength=3)
    assert len(counts) == 3, "the sound ends after the excerpt that begins at its third sample"
    assert counts.min() > 900  # of 1000 +- 26


def test_excerpts_of_short_sounds_and_of_silence():
    clips = torch.zeros(200, 1, 8)
    clips[:100, 0, 0] = 1  # a click, shorter than the excerpt
    excerpts = random_segment(clips, 4)
    assert (excerpts[:100, 0, 0] == 1).all() and not excerpts[100:].any()
    assert torch.equal(random_segment(clips, 8), clips)
    with pytest.raises(UserError, match=r"data\.segment=9 must be at most the length of the clips, 8"):
        random_segment(clips, 9)


def test_no_excerpt_draws_nothing():
    state = torch.get_rng_state()
    clips = torch.ones(2, 1, 8)
    assert random_segment(clips, None) is clips
    assert torch.equal(torch.get_rng_state(), state)
