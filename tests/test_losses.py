"""Losses and penalties against closed forms in float64 and against finite differences."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import pytest
import torch
from network_helpers import LinearDiscriminator
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.losses.adversarial import adversarial_loss
from ganzoo.losses.kinds import ADVERSARIAL_LOSSES
from ganzoo.losses.matching import feature_matching
from ganzoo.losses.outputs import average_over_outputs
from ganzoo.losses.penalties import (
    clip_weights_,
    dragan_penalty,
    drift_penalty,
    gradient_penalty,
    zero_centred_penalty,
)


class Output(NamedTuple):
    logits: Tensor
    features: list[Tensor]


class Convolutional(nn.Module):
    """Convolution, batch norm, LeakyReLU, and two outputs: logits per patch and per image."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 4, 3, 1, 1), nn.Tanh()
        )
        self.patches = nn.Conv2d(4, 1, 1)
        self.image = nn.Linear(4, 1)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[Output]:
        hidden = self.body(samples)
        scale = 1.0 if labels is None else (1.0 + labels).view(-1, 1)
        return [
            Output(self.patches(hidden).flatten(1) * scale, [hidden]),
            Output(self.image(hidden.mean((2, 3))) * scale, [hidden]),
        ]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


REAL = [-3.0, -0.25, 0.5, 2.0]
FAKE = [1.5, -2.0, 0.125, -0.75]

# Per loss: the real term, the fake term and the generator's, of one logit, straight from the papers' formulas.
CLOSED_FORMS = {
    "minimax": (
        lambda r: -math.log(sigmoid(r)),
        lambda f: -math.log(1 - sigmoid(f)),
        lambda f: math.log(1 - sigmoid(f)),
    ),
    "non-saturating": (
        lambda r: -math.log(sigmoid(r)),
        lambda f: -math.log(1 - sigmoid(f)),
        lambda f: -math.log(sigmoid(f)),
    ),
    "least-squares": (lambda r: (r - 1) ** 2 / 2, lambda f: f**2 / 2, lambda f: (f - 1) ** 2 / 2),
    "hinge": (lambda r: max(0, 1 - r), lambda f: max(0, 1 + f), lambda f: -f),
    "wasserstein": (lambda r: -r, lambda f: f, lambda f: -f),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_adversarial_losses_equal_their_closed_forms(name: str, dtype: torch.dtype) -> None:
    loss = adversarial_loss(name)
    # The logits above are exact in bfloat16: if it were the loss that ran in bfloat16, the tolerance would not hold.
    real, fake = torch.tensor(REAL, dtype=dtype), torch.tensor(FAKE, dtype=dtype)
    real_form, fake_form, generator_form = CLOSED_FORMS[name]
    terms = loss.discriminator(real, fake)
    assert set(terms) == {"real", "fake"}
    assert terms["real"].item() == pytest.approx(mean([real_form(r) for r in REAL]), rel=1e-6)
    assert terms["fake"].item() == pytest.approx(mean([fake_form(f) for f in FAKE]), rel=1e-6)
    assert loss.generator(fake).item() == pytest.approx(mean([generator_form(f) for f in FAKE]), rel=1e-6)
    wide = torch.promote_types(dtype, torch.float32)
    assert terms["real"].dtype == terms["fake"].dtype == loss.generator(fake).dtype == wide


def test_relativistic_loss_equals_its_closed_form() -> None:
    loss = adversarial_loss("relativistic")
    real, fake = torch.tensor(REAL).bfloat16(), torch.tensor(FAKE).bfloat16()
    terms = loss.discriminator(real, fake)
    pairs = list(zip(REAL, FAKE, strict=True))
    assert set(terms) == {"pair"}
    assert terms["pair"].item() == pytest.approx(mean([-math.log(sigmoid(r - f)) for r, f in pairs]), rel=1e-6)
    assert loss.generator(fake, real).item() == pytest.approx(
        mean([-math.log(sigmoid(f - r)) for r, f in pairs]), rel=1e-6
    )


def test_relativistic_loss_is_antisymmetric_and_sees_differences_only() -> None:
    loss = adversarial_loss("relativistic")
    real, fake = torch.randn(2, 16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pair = loss.discriminator(real, fake)["pair"]
    torch.testing.assert_close(loss.generator(real, fake), pair)
    torch.testing.assert_close(loss.discriminator(real + 7, fake + 7)["pair"], pair)
    # softplus(-d) - softplus(d) = -d
    torch.testing.assert_close(pair - loss.generator(fake, real), (fake - real).mean())


def test_relativistic_loss_refuses_missing_and_unpaired_logits() -> None:
    loss = adversarial_loss("relativistic")
    assert [name for name, record in ADVERSARIAL_LOSSES.all().items() if record.needs_real] == ["relativistic"]
    with pytest.raises(UserError, match="compares with real samples.*real_logits"):
        loss.generator(torch.zeros(4))
    with pytest.raises(UserError, match=r"\(4,\) and \(4, 1\)"):
        loss.discriminator(torch.zeros(4), torch.zeros(4, 1))
    with pytest.raises(UserError, match="one shape"):
        loss.generator(torch.zeros(3), torch.zeros(4))


def test_generators_push_logits_up_and_differ_in_where_they_are_steep() -> None:
    def slope(name: str, logit: float) -> float:
        logits = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
        adversarial_loss(name).generator(logits, torch.zeros_like(logits)).backward()
        return logits.grad.item()

    for name in ADVERSARIAL_LOSSES.names():
        assert slope(name, -1.0) < 0, name
    for logit in (-6.0, 0.0, 3.0):
        assert slope("minimax", logit) == pytest.approx(-sigmoid(logit))
        assert slope("non-saturating", logit) == pytest.approx(-sigmoid(-logit))


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES.names())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    loss = adversarial_loss(name)
    for sign in (1.0, -1.0):
        real = (sign * torch.tensor([1e4, -1e4])).to(dtype).requires_grad_()
        fake = (sign * torch.tensor([-1e4, -1e4])).to(dtype).requires_grad_()
        terms = loss.discriminator(real, fake, label_smoothing=0.1 if loss.has_target else 0.0)
        total = sum(terms.values()) + loss.generator(fake, real)
        total.backward()
        assert total.isfinite() and real.grad.isfinite().all() and fake.grad.isfinite().all()


@pytest.mark.parametrize("name", ["minimax", "non-saturating", "least-squares"])
def test_label_smoothing_lowers_the_real_target_only(name: str) -> None:
    def smoothed(logit: float) -> float:
        if name == "least-squares":
            return (logit - 0.9) ** 2 / 2
        return -0.9 * math.log(sigmoid(logit)) - 0.1 * math.log(1 - sigmoid(logit))

    loss = adversarial_loss(name)
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    terms = loss.discriminator(real, fake, label_smoothing=0.1)
    assert terms["real"].item() == pytest.approx(mean([smoothed(r) for r in REAL]), rel=1e-6)
    assert terms["fake"] == loss.discriminator(real, fake)["fake"]


def test_label_smoothing_is_refused_where_it_means_nothing() -> None:
    for name in ("hinge", "wasserstein", "relativistic"):
        with pytest.raises(UserError, match="has no target.*least-squares"):
            adversarial_loss(name).discriminator(torch.zeros(2), torch.zeros(2), label_smoothing=0.1)
    for value in (-0.1, 1.0):
        with pytest.raises(UserError, match="label_smoothing"):
            adversarial_loss("minimax").discriminator(torch.zeros(2), torch.zeros(2), label_smoothing=value)


def test_lookup_suggests_the_close_name() -> None:
    with pytest.raises(UserError, match="'wasserstien'.*Did you mean 'wasserstein'.*hinge"):
        adversarial_loss("wasserstien")


def test_average_over_outputs() -> None:
    # Outputs of different sizes weigh the same.
    real = [Output(torch.tensor([1.0, 2.0]), []), Output(torch.tensor([[5.0]]), [])]
    fake = [Output(torch.tensor([0.0, -2.0]), []), Output(torch.tensor([[3.0]]), [])]
    loss = adversarial_loss("wasserstein")
    terms = average_over_outputs(loss.discriminator, real, fake)
    assert {name: term.item() for name, term in terms.items()} == {"real": -3.25, "fake": 1.0}
    assert average_over_outputs(loss.generator, fake).item() == -1.0
    assert average_over_outputs(drift_penalty, real).item() == (2.5 + 25.0) / 2
    smoothed = average_over_outputs(
        partial(adversarial_loss("least-squares").discriminator, label_smoothing=0.5), real, fake
    )
    assert smoothed["real"].item() == ((0.25 + 2.25) / 4 + 4.5**2 / 2) / 2
    pair = average_over_outputs(adversarial_loss("relativistic").generator, fake, real)
    expected = [mean([math.log1p(math.exp(d)) for d in (1.0, 4.0)]), math.log1p(math.exp(2.0))]
    assert pair.item() == pytest.approx(mean(expected), rel=1e-6)


# -------------------------------------------------------------------------------------------------------- penalties


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 4, 6), (2, 3, 2, 2)], ids=lambda shape: f"rank{len(shape) + 1}")
@pytest.mark.parametrize("target", [1.0, 750.0])
def test_gradient_penalty_of_a_linear_discriminator_is_exact(shape: tuple[int, ...], target: float) -> None:
    torch.manual_seed(0)
    discriminator = LinearDiscriminator(torch.randn(shape, dtype=torch.float64))
    real, fake = torch.randn(2, 7, *shape, dtype=torch.float64)
    penalty = gradient_penalty(discriminator, real, fake, target=target)
    weight = discriminator.weight.detach()
    norm = weight.norm()
    torch.testing.assert_close(penalty.detach(), (norm - target) ** 2 / target**2)
    penalty.backward()
    torch.testing.assert_close(discriminator.weight.grad, 2 * (norm - target) * weight / norm / target**2)


def test_gradient_penalty_looks_between_real_and_fake_at_one_place_per_sample() -> None:
    seen = []

    def discriminator(samples: Tensor, labels: Tensor | None = None) -> list[Output]:
        seen.append(samples.detach().clone())
        return [Output(samples.sum((1, 2)), [])]

    real, fake = torch.ones(64, 2, 3), -torch.ones(64, 2, 3)
    rng = torch.Generator().manual_seed(3)
    gradient_penalty(discriminator, real, fake, generator=rng)
    gradient_penalty(discriminator, real, fake, generator=rng.manual_seed(3))
    places = seen[0]
    assert torch.equal(places, seen[1])
    assert torch.equal(places, places[:, :1, :1].expand_as(places))
    assert places.min() >= -1 and places.max() <= 1
    assert places[:, 0, 0].unique().numel() == 64 and abs(places.mean()) < 0.25 and places.std() > 0.4


def test_gradient_penalty_refuses_unpaired_samples_and_a_zero_target() -> None:
    discriminator = LinearDiscriminator(torch.ones(3))
    with pytest.raises(UserError, match="gradient penalty.*one shape"):
        gradient_penalty(discriminator, torch.zeros(4, 3), torch.zeros(2, 3))
    with pytest.raises(UserError, match="target"):
        gradient_penalty(discriminator, torch.zeros(4, 3), torch.zeros(4, 3), target=0.0)


def test_gradient_penalty_of_a_flat_discriminator_has_a_finite_gradient() -> None:
    discriminator = LinearDiscriminator(torch.zeros(3))
    penalty = gradient_penalty(discriminator, torch.ones(4, 3), torch.zeros(4, 3))
    penalty.backward()
    assert penalty == 1 and discriminator.weight.grad.isfinite().all()


def test_zero_centred_penalty_of_a_linear_discriminator_is_exact() -> None:
    discriminator = LinearDiscriminator(
        torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    penalty = zero_centred_penalty(discriminator, torch.zeros(7, 3, 4, dtype=torch.float64))
    penalty.backward()
    torch.testing.assert_close(penalty.detach(), discriminator.weight.detach().square().sum() / 2)
    torch.testing.assert_close(discriminator.weight.grad, discriminator.weight.detach())


def test_zero_centred_penalty_of_a_quadratic_discriminator_is_exact() -> None:
    # D(x) = x' A x / 2 with symmetric A: the gradient is A x, the penalty E |A x|^2 / 2, and its derivative A E[x x'].
    torch.manual_seed(0)
    half = torch.randn(4, 4, dtype=torch.float64)
    matrix = (half + half.T).requires_grad_()
    samples = torch.randn(9, 4, dtype=torch.float64)

    def discriminator(samples: Tensor, labels: Tensor | None = None) -> list[Output]:
        symmetric = (matrix + matrix.T) / 2
        return [Output(((samples @ symmetric) * samples).sum(1) / 2, [])]

    penalty = zero_centred_penalty(discriminator, samples)
    (gradient,) = torch.autograd.grad(penalty, matrix)
    fixed = matrix.detach()
    torch.testing.assert_close(penalty.detach(), (samples @ fixed).square().sum(1).mean() / 2)
    product = fixed @ (samples.T @ samples) / 9
    torch.testing.assert_close(gradient, (product + product.T) / 2)


PENALTIES = {
    "gradient": lambda discriminator, real, fake, labels: gradient_penalty(
        discriminator, real, fake, labels, generator=torch.Generator().manual_seed(1)
    ),
    "dragan": lambda discriminator, real, fake, labels: dragan_penalty(
        discriminator, real, labels, generator=torch.Generator().manual_seed(1)
    ),
    "zero-centred": lambda discriminator, real, fake, labels: zero_centred_penalty(discriminator, real, labels),
}


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return *torch.randn(2, 4, 3, 8, 8, generator=rng), torch.arange(4)


@pytest.fixture
def discriminator() -> Convolutional:
    torch.manual_seed(0)
    return Convolutional()


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_double_backward_through_convolutions_and_batch_norm(penalty, discriminator, batch) -> None:
    real, fake, labels = (tensor.double() for tensor in batch)
    discriminator.double()
    penalty(discriminator, real, fake, labels).backward()
    torch.manual_seed(2)
    for name, parameter in discriminator.named_parameters():
        direction = torch.randn_like(parameter)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * 1e-5)
            values.append(penalty(discriminator, real, fake, labels).item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * 1e-5)
        # The last biases add a constant to the logits: they have no gradient at all.
        slope = 0.0 if parameter.grad is None else (parameter.grad * direction).sum().item()
        assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8), name
    assert discriminator.body[0].weight.grad.abs().max() > 1e-6


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_penalties_add_up_all_logits_of_all_outputs(penalty, discriminator, batch) -> None:
    real, fake, labels = batch

    def one_logit(samples: Tensor, labels: Tensor | None = None) -> list[Output]:
        patches, image = discriminator(samples, labels)
        return [Output(patches.logits.sum(1) + image.logits[:, 0], [])]

    expected = penalty(one_logit, real, fake, labels)
    torch.testing.assert_close(penalty(discriminator, real, fake, labels), expected)
    assert not torch.isclose(penalty(discriminator, real, fake, None), expected)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_penalties_are_float32_inside_autocast(penalty, discriminator, batch) -> None:
    real, fake, labels = batch
    expected = penalty(discriminator, real, fake, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # Fills autocast's cache of bfloat16 weights, as the adversarial loss of the same step does.
        assert discriminator(real)[1].logits.dtype == torch.bfloat16
        value = penalty(discriminator, real, fake, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    # A generator under autocast hands bfloat16 samples over.
    narrow = penalty(discriminator, real.bfloat16(), fake.bfloat16(), labels)
    widened = penalty(discriminator, real.bfloat16().float(), fake.bfloat16().float(), labels)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, widened)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_penalties_leave_nothing_on_their_inputs(penalty, discriminator, batch) -> None:
    real, fake, labels = batch
    weight = torch.ones((), requires_grad=True)
    generated = fake * weight
    penalty(discriminator, real, generated, labels).backward()
    assert not real.requires_grad and real.grad is None
    assert weight.grad is None
    real.requires_grad_()
    penalty(discriminator, real, real, labels).backward()
    assert real.grad is None


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_penalties_accept_channels_last(penalty, discriminator, batch) -> None:
    real, fake, labels = batch
    expected = penalty(discriminator, real, fake, labels)
    expected_gradient = torch.autograd.grad(expected, discriminator.body[0].weight)[0]
    discriminator.to(memory_format=torch.channels_last)
    real, fake = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (real, fake))
    layouts = []
    discriminator.register_forward_pre_hook(
        lambda module, inputs: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    value = penalty(discriminator, real, fake, labels)
    gradient = torch.autograd.grad(value, discriminator.body[0].weight)[0]
    assert layouts == [True]
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_drift_penalty() -> None:
    penalty = drift_penalty(torch.tensor([[3.0], [-1.0]], dtype=torch.bfloat16))
    assert penalty.item() == 5.0 and penalty.dtype == torch.float32


def test_feature_matching_against_hand_computation() -> None:
    real = [
        Output(torch.zeros(2), [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0], [1.0]])]),
        Output(torch.zeros(2), [torch.tensor([[10.0], [20.0]])]),
    ]
    fake = [
        Output(torch.zeros(2), [torch.tensor([[1.0, 0.0], [3.0, 8.0]]), torch.tensor([[2.0], [1.0]])]),
        Output(torch.zeros(2), [torch.tensor([[14.0], [19.0]])]),
    ]
    tensors = [feature.requires_grad_() for output in (*real, *fake) for feature in output.features]
    value = feature_matching(real, fake)
    # Layers: (0 + 2 + 0 + 4) / 4 and (2 + 0) / 2, added up; the other output: (4 + 1) / 2; then the outputs' mean.
    assert value.item() == ((1.5 + 1.0) + 2.5) / 2
    value.backward()
    assert all(feature.grad is None for feature in tensors[:3])
    assert torch.equal(tensors[3].grad, torch.tensor([[0.0, -1.0], [0.0, 1.0]]) / 8)
    assert torch.equal(tensors[5].grad, torch.tensor([[1.0], [-1.0]]) / 4)


def test_feature_matching_widens_and_refuses_what_it_cannot_compare() -> None:
    one, other = torch.full((2, 3), 256.0).bfloat16(), torch.full((2, 3), 0.5).bfloat16()
    value = feature_matching([Output(one, [one])], [Output(one, [other])])
    assert value.dtype == torch.float32 and value.item() == 255.5  # 256 in bfloat16
    with pytest.raises(UserError, match="returns none"):
        feature_matching([Output(one, [])], [Output(one, [])])
    with pytest.raises(UserError, match="one shape"):
        feature_matching([Output(one, [one])], [Output(one, [one[:1]])])


def test_clip_weights() -> None:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.0, 0.005, 1.0], [0.01, -0.02, 0.0]]))
        layer.bias.fill_(5.0)
    clip_weights_(layer.parameters(), 0.01)
    assert torch.equal(layer.weight.detach(), torch.tensor([[-0.01, 0.005, 0.01], [0.01, -0.01, 0.0]]))
    assert torch.equal(layer.bias.detach(), torch.full((2,), 0.01))
    assert layer.weight.requires_grad and layer.weight.is_leaf
    with pytest.raises(UserError, match="above 0"):
        clip_weights_(layer.parameters(), 0.0)
