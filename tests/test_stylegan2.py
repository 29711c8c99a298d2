"""StyleGAN2 against its paper: sizes, modulation, demodulation, noise, styles, truncation, path lengths."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
import torch.nn.functional as F
from network_helpers import count
from torch import Tensor, nn

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.image.stylegan2 import StyleGAN2Config
from ganzoo.networks.base import Generator
from ganzoo.nn.modulated import ModulatedConv2d
from ganzoo.nn.resample import blur
from ganzoo.objectives.path_length import PathLength, PathLengthConfig, path_lengths
from ganzoo.training.ema import EMA
from ganzoo.training.trackers import read_rows
from ganzoo.utils.files import load_tensors

TINY = {"resolution": 16, "channels": 1, "width": 8, "latent_dim": 16, "mapping_layers": 2}


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def on_meta(**config):
    with torch.device("meta"):
        return ganzoo.create("stylegan2", **config)


def build(**config):
    return ganzoo.create("stylegan2", **{**TINY, **config})


# ------------------------------------------------------------------------------------------------------------------ sizes


def generator_size(channels: list[int], style: int = 512) -> int:
    """By the paper's figures 2 and 7: mapping 8 x (512 x 512 + 512); a field of 4x4; for each 3x3 convolution its kernel,
    biases, one noise strength, and the affine layer from style to scales; for each resolution a 1x1 convolution to RGB."""

    def affine(inputs: int) -> int:
        return style * inputs + inputs

    def convolution(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs + 1 + affine(inputs)

    pairs = list(zip(channels, channels[1:], strict=False))
    convolutions = [(channels[0], channels[0]), *pairs, *((outputs, outputs) for _, outputs in pairs)]
    return (
        8 * affine(style)
        + 16 * channels[0]
        + sum(convolution(*pair) for pair in convolutions)
        + sum(3 * number + 3 + affine(number) for number in channels)
    )


def discriminator_size(channels: list[int]) -> int:
    """From RGB by 1x1; for each halving two 3x3 convolutions, and a 1x1 one without bias; the standard deviation's channel,
    a 3x3 convolution, and two fully connected layers."""
    pairs = list(zip(channels[1:], channels, strict=False))
    blocks = sum(9 * i * i + i + 9 * i * o + o + i * o for i, o in pairs)
    last = channels[0]
    head = 9 * (last + 1) * last + last + 16 * last * last + last + last + 1
    return 3 * channels[-1] + channels[-1] + blocks + head


@pytest.mark.parametrize(
    ("resolution", "width", "sizes"),
    # The paper's 1024x1024, and the same network without its two largest resolutions.
    [(1024, 32, (30_370_060, 29_012_513)), (256, 128, (30_034_338, 28_864_129))],
)
def test_parameter_counts(resolution, width, sizes):
    generator, discriminator = on_meta(resolution=resolution, width=width)
    channels = generator.config.hidden_channels
    assert channels == [512, 512, 512, 512, 512, 256, 128, 64, 32][: resolution.bit_length() - 2]
    assert sizes == (generator_size(channels), discriminator_size(channels))
    assert sizes == (count(generator), count(discriminator))
    assert count(generator.mapping) == 8 * (512 * 512 + 512)


def test_defaults_are_the_papers():
    generator, discriminator = on_meta()
    assert (count(generator), count(discriminator)) == (30_370_060, 29_012_513)
    assert StyleGAN2Config().num_styles == 18


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize(("channels", "num_classes"), [(1, None), (4, 5)])
def test_every_power_of_two_and_any_channels(resolution, channels, num_classes):
    generator, discriminator = on_meta(
        resolution=resolution, channels=channels, num_classes=num_classes, width=4, max_channels=16, latent_dim=8
    )
    labels = None if num_classes is None else torch.zeros(2, dtype=torch.long, device="meta")
    samples = generator(torch.zeros(2, 8, device="meta"), labels)
    assert samples.shape == (2, channels, resolution, resolution)
    (output,) = discriminator(samples, labels)
    assert output.logits.shape == (2,)
    assert [feature.shape[-1] for feature in output.features] == [
        *(resolution >> level for level in range(1, resolution.bit_length() - 2)),
        4,
    ]


# ------------------------------------------------------------------------------------------------------------- modulation


def with_weights_of_its_own(layer: ModulatedConv2d, picture: Tensor, style: Tensor) -> Tensor:
    """Equations 1 to 3 for one sample: its weights are made, then used."""
    weight = layer.convolution.weight * layer.scale
    if layer.up:
        weight = weight.transpose(0, 1)
    scales = layer.to_scales(style[None])[0]
    modulated = weight * scales[None, :, None, None]
    if layer.demodulate:
        modulated = modulated * torch.rsqrt(modulated.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
    if not layer.up:
        return F.conv2d(picture[None], modulated, padding=layer.convolution.padding)[0]
    enlarged = F.conv_transpose2d(picture[None], modulated.transpose(0, 1), stride=2)
    # The filter sums to 4: of four pixels three were zeros.
    return 4 * blur(enlarged, (1, 3, 3, 1), padding=(1, 1))[0]


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [True, False])
def test_shared_convolution_equals_weights_of_each_samples_own(kernel_size, up, demodulate):
    if up and kernel_size == 1:
        pytest.skip("enlarging is done by 3x3 convolutions")
    layer = ModulatedConv2d(5, 7, kernel_size, 6, up=up, demodulate=demodulate).double()
    pictures = torch.randn(3, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    styles = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([with_weights_of_its_own(layer, *one) for one in zip(pictures, styles, strict=True)])
    found = layer(pictures, styles)
    assert found.shape == (3, 7, 8, 8) if up else (3, 7, 4, 4)
    torch.testing.assert_close(found, expected)
    direction = torch.randn_like(found)
    inputs = (pictures, styles, *layer.parameters())
    for one, other in zip(
        *(torch.autograd.grad(result, inputs, direction, create_graph=True) for result in (found, expected)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_offset_and_gain():
    layer = ModulatedConv2d(5, 7, 3, 6, gain=1.5)
    pictures, style, offset = torch.randn(2, 5, 4, 4), torch.randn(2, 6), torch.randn(7, 1, 1)
    layer.gain = 1.0
    plain = layer(pictures, style)
    layer.gain = 1.5
    torch.testing.assert_close(layer(pictures, style, offset), 1.5 * plain + offset)


@pytest.mark.parametrize("up", [False, True])
def test_demodulation_keeps_the_deviation_whatever_the_style(up):
    """Independent inputs of deviation 1 come out with deviation 1; without demodulation it would be the style's size."""
    layer = ModulatedConv2d(64, 64, 3, 8, up=up)
    pictures = torch.randn(4, 64, 32, 32)
    for strength in (0.1, 10.0):
        with torch.no_grad():
            found = layer(pictures, strength * torch.randn(4, 8))[:, :, 4:-4, 4:-4]
        assert found.std().item() == pytest.approx(math.sqrt(variance_after_up()) if up else 1.0, rel=0.05)


def variance_after_up() -> float:
    """What the filter leaves of the variance of white noise, spread by a kernel of independent weights."""
    filter_ = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8 * 2
    total = 0.0
    for parity in (0, 1):  # of the output, in one dimension
        for tap in range(3):
            # Through this tap a pixel is seen at every second place of the filter: between them are zeros.
            places = [place for place in range(4) if (parity + place - tap) % 2 == 0]
            total += sum(filter_[place].item() ** 2 for place in places) / 2
    return (total / 3) ** 2


# ------------------------------------------------------------------------------------------------------- noise and styles


def test_noise_is_fresh_in_training_and_fixed_afterwards():
    generator, _ = build(style_mixing=0.0)
    for layer in generator.layers:
        nn.init.constant_(layer.noise.strength, 0.5)
    latents = generator.sample_latents(3)
    with torch.no_grad():
        assert not torch.equal(generator(latents), generator(latents))
        generator.eval()
        torch.testing.assert_close(generator(latents), generator(latents), rtol=0, atol=0)
        torch.testing.assert_close(generator(latents)[1:2], generator(latents[1:2]), rtol=1e-4, atol=1e-5)
        with_noise = generator(latents)
        for layer in generator.layers:
            layer.noise.fixed.zero_()
        assert (generator(latents) - with_noise).abs().max() > 0.01


def test_latents_are_a_direction():
    """The mapping network normalises its input: how long latents are does not matter."""
    generator, _ = build()
    generator.eval()
    latents = generator.sample_latents(2)
    torch.testing.assert_close(generator.styles(latents), generator.styles(3 * latents))


def test_a_picture_is_made_of_its_styles():
    generator, _ = build(num_classes=3)
    generator.eval()
    latents, labels = generator.sample_latents(3), torch.arange(3)
    styles = generator.styles(latents, labels)
    assert styles.shape[1:] == generator.style_shape == (6, 16)
    torch.testing.assert_close(generator(styles, labels), generator(latents, labels))
    # Coarse layers first: another last style leaves everything below the full resolution alone.
    other = torch.cat([styles[:, :-1], styles.roll(1, dims=0)[:, -1:]], dim=1)
    assert not torch.allclose(generator(other, labels), generator(styles, labels))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_styles_are_mixed_in_training_alone(share):
    generator, _ = build(style_mixing=share)
    latents = generator.sample_latents(2000)
    pure = generator.eval().styles(latents)
    assert torch.equal(pure, pure[:, :1].expand_as(pure))
    mixed = generator.train().styles(latents)
    is_own = (mixed - pure).abs().amax(dim=2) < 1e-5
    assert is_own[:, 0].all(), "the first layer keeps its style"
    # From the first foreign layer on all are foreign, and of one style.
    assert torch.equal(is_own, is_own.cummin(dim=1).values)
    foreign = ~is_own[:, -1]
    assert torch.equal(mixed[foreign][:, -1], mixed[foreign][torch.arange(int(foreign.sum())), -1])
    assert foreign.float().mean().item() == pytest.approx(share, abs=0.05)
    if share == 1.0:
        starts = is_own.sum(dim=1).bincount(minlength=7)[1:6] / 2000
        assert ((starts - 1 / 5).abs() < 0.04).all(), "every place is as likely"


def test_running_mean_of_the_styles():
    generator, _ = build(style_mixing=0.0)
    with torch.no_grad():
        truth = generator.eval().styles(generator.sample_latents(20_000))[:, 0].mean(dim=0)
        for _ in range(800):
            generator.train().styles(generator.sample_latents(64))
    deviation = (generator.mapping.running_mean[0] - truth).norm() / truth.norm()
    assert deviation < 0.05
    before = generator.mapping.running_mean.clone()
    generator.eval().styles(generator.sample_latents(8))
    assert torch.equal(generator.mapping.running_mean, before)


def test_every_class_has_its_own_mean():
    generator, _ = build(num_classes=3, style_mixing=0.0)
    latents, labels = generator.sample_latents(5), torch.tensor([0, 2, 2, 0, 2])
    styles = generator.eval().styles(latents, labels)[:, 0]
    generator.train().styles(latents, labels)
    expected = torch.zeros(3, 16)
    for label in (0, 2):
        expected[label] = 0.005 * styles[labels == label].mean(dim=0)
    torch.testing.assert_close(generator.mapping.running_mean, expected)


def test_average_of_the_weights_has_the_average_of_the_means():
    generator, _ = build()
    average = EMA(generator, half_life=100, rampup=1.0)
    generator.mapping.running_mean.fill_(1.0)
    average.update(100, 1000)
    torch.testing.assert_close(average.average.mapping.running_mean, torch.full((1, 16), 0.5))


# --------------------------------------------------------------------------------------------------------------- truncation


@pytest.fixture
def pipe():
    generator, _ = build(num_classes=3)
    for _ in range(20):
        generator.styles(generator.sample_latents(32), torch.arange(32) % 3)
    return ganzoo.GANPipeline(generator, generator.config.processor())


def test_truncation_moves_styles_towards_the_mean_of_their_class(pipe):
    generator = pipe.generator
    latents, labels = generator.sample_latents(3), torch.tensor([2, 0, 2])
    styles, means = generator.styles(latents, labels), generator.mapping.running_mean[labels][:, None]
    torch.testing.assert_close(generator.truncate(latents, 0.7, labels), means + 0.7 * (styles - means))
    torch.testing.assert_close(generator.truncate(styles, 0.7, labels), means + 0.7 * (styles - means))
    torch.testing.assert_close(generator.truncate(latents, 1, labels), styles)


def test_truncation_of_a_call(pipe):
    free, none = pipe.sample(4, seed=0, labels=[0, 1]), pipe.sample(4, seed=0, labels=[0, 1], truncation=1.0)
    torch.testing.assert_close(free.samples, none.samples)
    mean = pipe.sample(4, seed=0, labels=[0, 1], truncation=0.0)
    torch.testing.assert_close(mean.samples[0], mean.samples[2])
    assert not torch.allclose(mean.samples[0], mean.samples[1]), "classes keep apart"
    cut = pipe.sample(4, seed=0, labels=[0, 1], truncation=0.5)
    assert cut.latents.shape == (4, 6, 16)
    again = pipe.sample(latents=cut.latents, labels=cut.labels)
    torch.testing.assert_close(again.samples, cut.samples)
    with pytest.raises(UserError, match="share that is left of the distance from the mean style: 0 or more, not -1"):
        pipe.sample(1, truncation=-1)
    with pytest.raises(UserError, match=r"the shape \(1, 16\) or \(1, 6, 16\), not \(1, 7\)"):
        pipe.sample(1, latents=torch.zeros(1, 7))


def test_pictures_are_cut_to_their_range_but_keep_a_gradient():
    generator, _ = build()
    nn.init.constant_(generator.to_picture[-1].bias, 5.0)
    latents = generator.sample_latents(2)
    assert generator.train()(latents).max() > 3
    pictures = generator.eval()(latents)
    assert pictures.max() == 1
    pictures.sum().backward()
    assert generator.to_picture[-1].bias.grad.item() == pytest.approx(pictures.numel())


# ------------------------------------------------------------------------------------------------------------ path lengths


class LinearGenerator(Generator):
    """Latents (B, D) -> pictures (B, 2, H, W), by one matrix: its derivative is that matrix."""

    def __init__(self, latent_dim: int, side: int) -> None:
        super().__init__(StyleGAN2Config(latent_dim=latent_dim))
        self.matrix = nn.Parameter(torch.randn(2 * side * side, latent_dim))
        self.side = side

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return (latents @ self.matrix.T).view(-1, 2, self.side, self.side)


def test_path_lengths_of_a_linear_generator():
    """|J^T y| with J = A: its mean square over y is the sum of A's squares, divided by the number of pixels."""
    generator = LinearGenerator(5, side=4)
    latents = torch.randn(20_000, 5)
    torch.manual_seed(1)
    lengths = path_lengths(generator, latents)
    torch.manual_seed(1)
    noise = torch.randn(20_000, 2, 4, 4).flatten(1) / 4
    torch.testing.assert_close(lengths, torch.linalg.vector_norm(noise @ generator.matrix, dim=1))
    expected = generator.matrix.square().sum().item() / 16
    assert lengths.square().mean().item() == pytest.approx(expected, rel=0.02)


def test_path_length_penalty_and_its_gradient():
    generator = LinearGenerator(5, side=4)
    penalty = PathLength(PathLengthConfig(decay=0.1, batch_share=0.5))
    mean = torch.zeros(())
    for round_ in range(3):
        torch.manual_seed(round_)
        value = penalty(generator, torch.randn(8, 5), None)
        (gradient,) = torch.autograd.grad(value, generator.matrix)
        torch.manual_seed(round_)
        torch.randn(8, 5)
        noise = torch.randn(4, 2, 4, 4).flatten(1) / 4  # half of the batch
        lengths = torch.linalg.vector_norm(noise @ generator.matrix, dim=1)
        mean = mean + 0.1 * (lengths.detach().mean() - mean)
        torch.testing.assert_close(penalty.mean, mean)
        expected = (lengths - mean).square().mean()
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, generator.matrix)[0])


def test_path_lengths_of_styles_are_means_over_the_layers():
    """With one style a layer, |J^T y|^2 is averaged over the layers, not added up: against the derivatives one by one."""
    generator, _ = build(style_mixing=0.0)
    latents = generator.sample_latents(3)
    torch.manual_seed(1)
    lengths = path_lengths(generator, latents)
    torch.manual_seed(1)
    styles = generator.styles(latents).detach().requires_grad_()
    pictures = generator(styles)
    noise = torch.randn_like(pictures) / 16
    (gradients,) = torch.autograd.grad((pictures * noise).sum(), styles)
    torch.testing.assert_close(lengths, gradients.square().sum(dim=2).mean(dim=1).sqrt(), rtol=1e-4, atol=1e-6)


RUN = {
    "name": "styled",
    "model": {"family": "stylegan2", **TINY, "width": 4, "latent_dim": 8},
    "data": {"dataset": "digits"},
    "objective": {
        "penalties": [{"type": "r1", "weight": 0.1, "interval": 2}],
        "path_length": {"weight": 2, "interval": 2, "decay": 0.5},
    },
    "training": {
        "steps": 4,
        "batch_size": 8,
        "precision": "fp32",
        "ema_half_life": 100,
        "log_every": 1,
        "sample_every": None,
        "num_preview_samples": 4,
        "checkpoint_every": 3,
    },
    "evaluation": {"metrics": []},
}


def test_a_run_keeps_the_mean_length_and_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)
    ganzoo.train(RUN, output=tmp_path / "whole", quiet=True)
    rows = [row for row in read_rows(tmp_path / "whole" / "metrics.jsonl") if "generator/loss" in row]
    assert [("generator/loss_path_length" in row, "discriminator/loss_r1" in row) for row in rows] == [
        (True, True),
        (False, False),
        (True, True),
        (False, False),
    ]
    states = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    assert [state.name for state in states] == ["step-00000003", "step-00000004"]
    # The newest is lost: the run goes on from the one before.
    reference = {path.name: load_tensors(path)[0] for path in (states[1] / "training_state").glob("*.safetensors")}
    (mean,) = (tensors["mean"] for tensors in reference.values() if "mean" in tensors)
    assert mean > 0
    shutil.rmtree(states[1])
    ganzoo.train(RUN, output=tmp_path / "whole", quiet=True, resume=True)
    for path in (states[1] / "training_state").glob("*.safetensors"):
        for name, tensor in load_tensors(path)[0].items():
            assert torch.equal(tensor, reference[path.name][name]), (path.name, name)


def test_text_has_no_path_lengths():
    with pytest.raises(UserError, match="path_length differentiates pictures"):
        ganzoo.load_recipe("relgan-coco", {"objective.path_length": {"weight": 2}})
