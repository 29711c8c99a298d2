"""The classifier of pictures: its sizes, and what each choice of its stages means, against the plain network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ganzoo.errors import UserError
from ganzoo.families.image.image_classifier import ImageClassifier, ImageClassifierConfig
from ganzoo.recipe.reading import load_recipe

TINY = {"resolution": 16, "channels": 3, "width": 4, "num_classes": 3, "feature_dim": 8}


def classifier(**changes) -> ImageClassifier:
    """In eval mode, with weights and statistics that differ from layer to layer; every scale of a norm is positive."""
    torch.manual_seed(0)
    network = ImageClassifier(ImageClassifierConfig(**{**TINY, **changes})).eval()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)):
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return network


def pictures(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def size(name: str) -> int:
    config = {key: value for key, value in load_recipe(name).model.items() if key != "family"}
    with torch.device("meta"):
        network = ImageClassifier(ImageClassifierConfig(**config))
    return sum(tensor.numel() for tensor in network.state_dict().values())


def test_the_recipes_sizes():
    # Convolutions, four numbers and a counter of each norm, features, logits.
    digits = 9 * (32 + 32**2 + 32 * 64 + 64**2 + 64 * 128 + 128**2) + 2 * (4 * (32 + 64 + 128) + 3)
    assert size("digit-classifier") == digits + 2048 * 128 + 128 + 128 * 10 + 10
    whitening = 12 * 3 * 2 * 2 + 2 * 12 + 1
    convolutions = 9 * (24 * 96 + 96 * 192 + 192 * 256 + (96**2 + 192**2 + 256**2))
    norms = 4 * (2 * (96 + 192 + 256) + 256) + 7
    assert size("cifar10-classifier") == whitening + convolutions + norms + 256 * 256 + 256 + 256 * 10 + 10
    assert 4 * size("cifar10-classifier") < 7_000_000, "its file in the hub is small"


def test_whitening_leaves_hardly_any_correlation_in_smooth_colours():
    # What photographs are like: the colours go together, and so do neighbours (a blur of noise).
    noise = torch.randn(64, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    mixed = torch.einsum("ck,bkhw->bchw", torch.tensor([[1, 0.3, 0.2], [1, 0.0, -0.3], [1, -0.3, 0.2]]), noise)
    smooth = nn.functional.avg_pool2d(mixed, 5, stride=1)
    network = classifier(whiten=True, resolution=32).train()
    white = network.stages[0](smooth)
    assert white.shape == (64, 24, 36, 36)
    signed = (white[:, :12] - white[:, 12:])[:, :, :-1, :-1]  # the rectified halves put together, without the border
    assert correlation(signed) < 0.15
    patches = nn.functional.unfold(smooth, 2).unflatten(2, (35, 35))
    assert correlation(patches) > 0.8
    assert signed.var(dim=(0, 2, 3)).sub(1).abs().max() < 0.3  # the border and the epsilon are in the norm


def correlation(channels: torch.Tensor) -> float:
    """The largest between two different channels, in absolute value."""
    matrix = torch.corrcoef(channels.transpose(0, 1).flatten(1))
    return float((matrix - torch.eye(len(matrix))).abs().max())


def test_a_flat_grey_is_one_number_to_the_whitening():
    basis = classifier(whiten=True).stages[0].basis
    answers = torch.einsum("ocij->o", basis * 0.7)
    assert answers[0] == pytest.approx(0.7)
    torch.testing.assert_close(answers[1:], torch.zeros(11))


def test_whitening_is_for_colours():
    with pytest.raises(UserError, match="three colours, not of channels=1"):
        ImageClassifierConfig.from_dict({"whiten": True, "channels": 1})


def test_halving_first_is_the_same_where_the_norms_scales_are_positive():
    last, first = classifier(depth=1), classifier(depth=1, halve="first")
    parts = [[m for m in network.stages if not isinstance(m, nn.MaxPool2d)] for network in (last, first)]
    for one, other in zip(*parts, strict=True):
        other.load_state_dict(one.state_dict())
    torch.testing.assert_close(first.stages(pictures()), last.stages(pictures()))


@pytest.mark.parametrize("halve", ["first", "last"])
def test_a_residual_stage_adds_to_its_first_convolution(halve):
    plain = classifier(depth=1, halve=halve, stem=5)
    residual = classifier(depth=3, halve=halve, stem=5, residual=True)
    skipped = [m for m in residual.stages if isinstance(m, nn.Sequential)]
    assert len(skipped) == 2 and all(len(m) == 6 for m in skipped), "two convolutions each, with norm and rectifier"
    parts = [m for m in residual.stages if m not in skipped]
    for one, other in zip(plain.stages, parts, strict=True):
        other.load_state_dict(one.state_dict())
    # Rectified before it is added: a correction far below zero is none.
    for correction in skipped:
        nn.init.constant_(correction[4].bias, -1e6)
    torch.testing.assert_close(residual.stages(pictures()), plain.stages(pictures()))
    nn.init.constant_(skipped[-1][4].weight, 0.0)
    nn.init.constant_(skipped[-1][4].bias, 2.0)
    torch.testing.assert_close(residual.stages(pictures()), plain.stages(pictures()) + 2)


@pytest.mark.parametrize("readout", ["flatten", "mean", "max"])
def test_the_feature_layer_sees_all_pixels_their_mean_or_their_largest(readout):
    network = classifier(readout=readout)
    pixels = network.stages(pictures()).detach().numpy()
    assert pixels.shape == (3, 8, 4, 4)
    read = {"flatten": pixels.reshape(3, -1), "mean": pixels.mean((2, 3)), "max": pixels.max((2, 3))}[readout]
    expected = network.to_features(torch.from_numpy(read)).relu()
    found = network(pictures())
    torch.testing.assert_close(found.features, expected)
    torch.testing.assert_close(found.logits, network.to_logits(expected))


def test_features_are_normalised_before_the_rectifier():
    network = classifier(feature_norm=True)
    features = network.to_features(network.stages(pictures()).flatten(1))
    scale = network.norm.weight / (network.norm.running_var + 1e-5).sqrt()
    expected = ((features - network.norm.running_mean) * scale + network.norm.bias).relu()
    torch.testing.assert_close(network(pictures()).features, expected)
    assert "norm.weight" not in classifier().state_dict()


def test_mirror_images_have_the_same_features_outside_training():
    network, plain = classifier(mirror=True, dropout=0), classifier(dropout=0)
    views = [plain(view).features for view in (pictures(), pictures().flip(-1))]
    torch.testing.assert_close(network(pictures()).features, (views[0] + views[1]) / 2)
    torch.testing.assert_close(network(pictures()).logits, network(pictures().flip(-1)).logits)
    torch.testing.assert_close(network.train()(pictures()).features, plain.train()(pictures()).features)
