"""Adaptive augmentation: what each operation may do, that it does not leak, and how its probability finds its way."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from training_helpers import make_trainer

from ganzoo.augmentation.ada import (
    OPERATIONS,
    AdaConfig,
    AugmentProbability,
    ada_augment,
    color,
    flip,
    geometric,
    rotate,
    translate,
)
from ganzoo.errors import UserError
from ganzoo.training.distributed import World
from ganzoo.training.state import load_checkpoint, save_checkpoint

ALWAYS, HALF, NEVER = (torch.tensor(value) for value in (1.0, 0.5, 0.0))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def pictures(count: int = 64, channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(count, channels, height, width) * 2 - 1


def changed(before: Tensor, after: Tensor) -> Tensor:
    return (before != after).flatten(1).any(dim=1)


# ---------------------------------------------------------------------------------------------------------- the pipeline


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_never_changes_nothing_and_always_changes_everything(channels, layout, dtype) -> None:
    samples = pictures(channels=channels).to(dtype).contiguous(memory_format=layout)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same, other = ada_augment(samples, NEVER), ada_augment(samples, ALWAYS)
    assert torch.equal(same, samples)
    assert changed(samples, other).all()
    for result in (same, other):
        assert result.dtype == dtype and result.is_contiguous(memory_format=layout) and result.isfinite().all()


@pytest.mark.parametrize("name", ["geometric", "color"])
def test_continuous_operations_change_every_picture(name) -> None:
    samples = pictures(500)
    assert changed(samples, ada_augment(samples, ALWAYS, [name])).all()


def test_the_order_is_the_papers_and_pixels_are_moved_all_at_once() -> None:
    """Shuffled operations would leak (the paper's appendix C): what is drawn for a picture must not depend on the policy."""
    samples = pictures()
    torch.manual_seed(1)
    expected = samples
    for operation in (flip, rotate, translate, geometric, color):
        expected = operation(expected, HALF)
    for policy in (tuple(OPERATIONS), tuple(reversed(OPERATIONS))):
        torch.manual_seed(1)
        torch.testing.assert_close(ada_augment(samples, HALF, policy), expected, rtol=0, atol=1e-6)
    assert list(OPERATIONS) == ["flip", "rotate", "translate", "geometric", "color"]
    assert AdaConfig().policy == tuple(OPERATIONS)


def test_only_square_pictures_are_turned_and_only_pictures_augmented() -> None:
    with pytest.raises(UserError, match=r"\(1, 100\)"):
        ada_augment(torch.zeros(4, 1, 100), HALF)
    with pytest.raises(UserError, match="square pictures, not 8x16"):
        ada_augment(torch.zeros(4, 1, 8, 16), HALF)
    assert ada_augment(torch.zeros(4, 1, 8, 16), HALF, ["flip", "translate", "geometric"]).shape == (4, 1, 8, 16)


@pytest.mark.parametrize("name", [*OPERATIONS, "all"])
def test_gradients_are_right(name) -> None:
    samples = pictures(4, 3, 8, 8).double().requires_grad_()
    policy = list(OPERATIONS) if name == "all" else [name]

    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return ada_augment(x, torch.tensor(0.8), policy)

    assert torch.autograd.gradcheck(seeded, samples, fast_mode=True)
    assert changed(samples.detach(), seeded(samples).detach()).any()


def test_the_global_seed_alone_decides() -> None:
    samples = pictures()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(ada_augment(samples, HALF))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


# -------------------------------------------------------------------------------------------------------- the operations


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_flip_mirrors_half_of_those_it_is_applied_to(probability) -> None:
    samples = pictures(4000, 1, 4, 4)
    flipped = flip(samples, torch.tensor(probability))
    mirrored = changed(samples, flipped)
    assert torch.equal(flipped[mirrored], samples[mirrored].flip(3))
    assert mirrored.float().mean().item() == pytest.approx(probability / 2, abs=0.03)


def _shares_of_turns(probability: float) -> Tensor:
    samples = pictures(8000, 1, 4, 4)
    turned = rotate(samples, torch.tensor(probability))
    matches = torch.stack([~changed(samples.rot90(number, (2, 3)), turned) for number in range(4)])
    assert torch.equal(matches.sum(dim=0), torch.ones(8000, dtype=torch.int64)), "neither a quarter turn nor another"
    return matches.float().mean(dim=1)


def test_rotate_turns_by_quarters_and_leaks_only_at_probability_one() -> None:
    """What the generator sees of a distribution over four orientations is T times it; it leaks where T has no inverse."""
    for probability in (0.3, 0.8, 1.0):
        shares = _shares_of_turns(probability)
        expected = torch.full((4,), probability / 4) + torch.tensor([1 - probability, 0, 0, 0])
        torch.testing.assert_close(shares, expected, rtol=0, atol=0.02)
        transition = torch.stack([shares.roll(number) for number in range(4)], dim=1)
        smallest = torch.linalg.eigvals(transition).abs().min().item()
        assert smallest == pytest.approx(1 - probability, abs=0.03)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (9, 7)])
def test_translate_moves_by_at_most_an_eighth_and_reflects(height, width) -> None:
    samples = pictures(400, 2, height, width)
    moved = translate(samples, ALWAYS)
    down, right = round(height / 8), round(width / 8)
    padded = F.pad(samples, (right, right, down, down), mode="reflect")
    explained, seen = torch.zeros(400, dtype=torch.int64), set()
    for y in range(-down, down + 1):
        for x in range(-right, right + 1):
            window = padded[..., down - y : down - y + height, right - x : right - x + width]
            matches = ~changed(window, moved)
            explained += matches
            seen |= {(y, x)} if matches.any() else set()
    assert torch.equal(explained, torch.ones_like(explained))
    assert len(seen) == (2 * down + 1) * (2 * right + 1)
    # Sideways, up and down are decided each on its own.
    still = ~changed(samples, translate(samples, HALF))
    alone = 0.5 * (1 + _share_of_zero(height)), 0.5 * (1 + _share_of_zero(width))
    assert still.float().mean().item() == pytest.approx(alone[0] * alone[1], abs=0.08)


def _share_of_zero(length: int) -> float:
    """How often a uniform shift of up to an eighth is rounded to none."""
    return min(1.0, 0.5 / (length / 8))


def _maps_of_geometric(count: int, height: int, width: int, probability: Tensor) -> tuple[Tensor, Tensor]:
    """The affine maps (N, 2, 2) and (N, 2) of pixels to where they come from, read off pictures of the coordinates."""
    y, x = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    coordinates = torch.stack([x, y]).expand(count, -1, -1, -1).contiguous()
    moved = geometric(coordinates, probability)
    middle = moved[:, :, height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1]
    across = (middle[..., 1] - middle[..., 0]).mean(dim=2)
    along = (middle[..., 1, :] - middle[..., 0, :]).mean(dim=2)
    offset = middle.mean(dim=(2, 3))
    linear = torch.stack([across, along], dim=2)
    # A centre from beyond an edge, four standard deviations away, is seen in the mirror; one from the edge is bent.
    inside = (offset.abs() < torch.tensor([width / 2 - 3, height / 2 - 3])).all(dim=1) & (linear.det() > 0)
    return linear[inside], offset[inside]


def test_geometric_scales_stretches_turns_and_moves_as_the_paper_does() -> None:
    # Wide enough that hardly any centre is reflected; not square, so that turns mixed up with the sides would be seen.
    height, width = 96, 128
    linear, offset = _maps_of_geometric(3000, height, width, ALWAYS)
    assert len(linear) > 2950
    scale = linear.det().log2() / 2
    assert scale.mean().abs() < 0.02 and scale.std().item() == pytest.approx(0.2, rel=0.05)
    values = torch.linalg.svdvals(linear)
    stretch = (values[:, 0] / values[:, 1]).log2() / 2
    assert stretch.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.05)
    shift = torch.linalg.solve(linear, offset) / torch.tensor([width, height])
    for direction in shift.unbind(dim=1):
        assert direction.mean().abs() < 0.01 and direction.std().item() == pytest.approx(1 / 8, rel=0.06)
    left, _, right = torch.linalg.svd(linear)
    turn = left @ right
    angle = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    for harmonic in (1, 2):  # uniform
        assert (harmonic * angle).cos().mean().abs() < 0.05 and (harmonic * angle).sin().mean().abs() < 0.05


def test_geometric_leaves_the_others_alone() -> None:
    samples = pictures(4000, 1, 8, 8)
    same = ~changed(samples, geometric(samples, HALF))
    # Neither scaled nor stretched nor moved nor turned, each with 1 - p; the two turns together make one p.
    assert same.float().mean().item() == pytest.approx(0.5**4, abs=0.015)


def _maps_of_color(channels: int, probability: Tensor, count: int = 4000) -> tuple[Tensor, Tensor]:
    """The affine maps of a picture's channels (N, C, C) and (N, C), by least squares."""
    samples = pictures(count, channels, 4, 4).double()
    pixels = torch.cat([samples.flatten(2), torch.ones(count, 1, 16)], dim=1).transpose(1, 2)
    colored = color(samples, probability).flatten(2).transpose(1, 2)
    maps = torch.linalg.lstsq(pixels, colored).solution
    torch.testing.assert_close(pixels @ maps, colored)  # it is affine, and the same for all pixels
    maps = maps.float()
    return maps[:, :-1].transpose(1, 2), maps[:, -1]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_color_changes_brightness_contrast_luma_hue_and_saturation(channels) -> None:
    linear, offset = _maps_of_color(channels, ALWAYS)
    grey = torch.ones(channels)
    luma = (linear @ grey).mean(dim=1)  # + or - the contrast
    torch.testing.assert_close(linear @ grey, luma[:, None] * grey)
    torch.testing.assert_close(offset, offset[:, :1] * grey)
    contrast = luma.abs().log2()
    assert contrast.mean().abs() < 0.04 and contrast.std().item() == pytest.approx(0.5, rel=0.05)
    assert (luma < 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    brightness = offset[:, 0] / luma
    assert brightness.mean().abs() < 0.02 and brightness.std().item() == pytest.approx(0.2, rel=0.05)
    if channels == 1:
        return
    # What is left acts on the colours around grey: a factor, and with three channels a turn.
    basis = torch.linalg.qr(torch.cat([grey[:, None], torch.eye(channels)[:, 1:]], dim=1)).Q[:, 1:]
    around = basis.T @ linear @ basis / luma.abs()[:, None, None]
    saturation = torch.linalg.svdvals(around)
    torch.testing.assert_close(saturation, saturation[:, :1].expand_as(saturation))
    factor = saturation[:, 0].log2()
    assert factor.mean().abs() < 0.06 and factor.std().item() == pytest.approx(1.0, rel=0.05)
    turn = around / saturation[:, :1, None]
    if channels != 3:
        torch.testing.assert_close(turn, torch.eye(channels - 1).expand_as(turn))
        return
    angle = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    torch.testing.assert_close(turn.det(), torch.ones(len(turn)))
    for harmonic in (1, 2):
        assert (harmonic * angle).cos().mean().abs() < 0.05 and (harmonic * angle).sin().mean().abs() < 0.05


def test_color_leaves_the_others_alone() -> None:
    samples = pictures(4000, 3, 4, 4)
    same = ~changed(samples, color(samples, HALF))
    # Brightness, contrast, hue and saturation with 1 - p each, the luma's sign with 1 - p / 2.
    assert same.float().mean().item() == pytest.approx(0.5**4 * 0.75, abs=0.015)


# ------------------------------------------------------------------------------------------------------- the probability


def observed(module: AugmentProbability, logits: list[float], boundary: float = 0.0) -> None:
    module.observe([torch.tensor(logits)], len(logits), boundary)


def test_the_probability_follows_the_overconfidence() -> None:
    module = AugmentProbability(AdaConfig(target=0.6, speed=100, interval=4))
    observed(module, [3.0, 2.0, 0.1, 9.0, -1.0])  # 0.6 of their signs, no more
    module.begin_step(4, 0.1)
    assert module.probability == 0
    observed(module, [3.0, 2.0, 0.1, 9.0, 1.0])
    for step in (5, 6, 7):
        module.begin_step(step, 0.1)
        assert module.probability == 0, "not at this step"
    observed(module, [1.0] * 5)
    module.begin_step(8, 0.1)
    assert module.probability.item() == pytest.approx(10 / 100)  # ten samples of a hundred
    module.begin_step(12, 0.1)
    assert module.probability.item() == pytest.approx(0.1)  # nothing was seen since
    observed(module, [1.0, -1.0, 1.0])
    module.begin_step(16, 0.1)
    assert module.probability.item() == pytest.approx(0.07)
    observed(module, [-1.0] * 50)
    module.begin_step(20, 0.1)
    assert module.probability == 0
    observed(module, [1.0] * 500)
    module.begin_step(24, 0.1)
    assert module.probability == 1


def test_outputs_weigh_the_same_and_the_boundary_is_the_losss() -> None:
    module = AugmentProbability(AdaConfig())
    module.observe([torch.tensor([1.0, 1.0]), torch.tensor([[1.0, -1.0, -1.0, -1.0]] * 2)], 2)
    assert module.signs.item() == pytest.approx(2 * (1.0 - 0.5) / 2) and module.count == 2
    module = AugmentProbability(AdaConfig())
    observed(module, [0.4, 0.6, 0.7, 0.3], boundary=0.5)
    assert module.signs == 0


def test_several_processes_change_it_as_one_with_the_joined_batch() -> None:
    config = AdaConfig(target=0.5, speed=100, interval=1)
    one, *several = (AugmentProbability(config) for _ in range(3))
    for logits in ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, 1.0]):
        observed(one, logits)
    observed(several[0], [1.0] * 4)
    observed(several[1], [1.0, 1.0, -1.0, 1.0])
    with torch.no_grad():  # what World.average_ does at the end of a step
        for buffers in zip(*(module.buffers() for module in several), strict=True):
            mean = torch.stack(buffers).mean(dim=0)
            for buffer in buffers:
                buffer.copy_(mean)
    one.begin_step(1, 0.0)
    for module in several:
        module.begin_step(1, 0.0, num_processes=2)
        assert module.probability == one.probability == torch.tensor(8 / 100)
    World().average_(one.buffers())  # it can be: they are tensors of one type


def test_without_a_target_the_probability_is_a_function_of_the_progress() -> None:
    fixed = AugmentProbability(AdaConfig(target=None, probability=0.3))
    rising = AugmentProbability(AdaConfig(target=None, probability=0.6, rise=0.5))
    assert rising.probability == 0
    for progress, expected in (
        (0.0, 0.0),
        (0.125, 0.6 * (1 - math.sqrt(0.5)) / 2),
        (0.25, 0.3),
        (0.5, 0.6),
        (0.9, 0.6),
    ):
        for module in (fixed, rising):
            observed(module, [1.0] * 1000)
            module.begin_step(4, progress)
        assert fixed.probability.item() == pytest.approx(0.3)
        assert rising.probability.item() == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------------------- training

ADA = {
    "objective.ada": {"speed": 100, "interval": 2, "target": 0.5},
    "training.n_critic": 2,
    "data": {"dataset": "digits"},
}


def state(trainer) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in trainer.modules.items()
        for key, value in module.state_dict().items()
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize(("bias", "expected"), [(5.0, 4 * 16 / 100), (-5.0, 0.0)])
def test_training_adapts_and_logs_the_probability(bias, expected) -> None:
    trainer = make_trainer(**{**ADA, "objective.ada.probability": 0.1})
    # However it learns, it stays sure that everything is real, or that nothing is.
    trainer.networks["discriminator"].to_logit.register_forward_hook(lambda *call: call[2] * 1e-3 + bias)
    for _ in range(9):
        trainer.train_step(is_logged=True)
    probability = trainer.modules["objective0_discriminator"].probability
    # Changed at steps 2, 4, 6 and 8, each time by the two steps' 2 x 2 batches of 8.
    assert probability.item() == pytest.approx(min(1.0, expected * 2 + 0.1) if expected else 0.0)
    trainer.stats.read()
    trainer.train_step(is_logged=True)
    assert trainer.stats.read()["discriminator/augment_probability"] == pytest.approx(probability.item())


def test_accumulated_batches_count_once() -> None:
    trainer = make_trainer(**{**ADA, "training.n_critic": 1, "training.accumulation": 2, "training.batch_size": 4})
    trainer.networks["discriminator"].to_logit.register_forward_hook(lambda *call: call[2] * 1e-3 + 5.0)
    for _ in range(3):
        trainer.train_step()
    module = trainer.modules["objective0_discriminator"]
    assert module.probability.item() == pytest.approx(2 * 8 / 100) and module.count == 8


def test_both_networks_see_augmented_samples_and_penalties_do_not() -> None:
    """The bilinear resampling has no second derivative: a penalty on augmented samples would fail."""
    trainer = make_trainer(
        **{
            "objective.ada": {"target": None, "probability": 1.0},
            "objective.penalties": [
                {"type": "r1", "weight": 1.0},
                {"type": "r2", "weight": 1.0},
                {"type": "gradient-penalty", "weight": 1.0},
                {"type": "dragan", "weight": 1.0},
            ],
        }
    )
    seen, made = [], []
    trainer.networks["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    trainer.networks["generator"].register_forward_hook(lambda *call: made.append(call[2].detach()))
    trainer.train_step()
    real, fake, r1, r2, _, _, again = seen
    assert r1.abs().max() <= 1 < real.abs().max()
    assert torch.equal(r2, made[0])
    assert changed(fake, made[0]).all() and changed(again, made[0]).all() and changed(again, fake).all()


def test_a_run_resumed_within_a_step_is_exact(tmp_path) -> None:
    whole, stopped, resumed = (
        make_trainer(**ADA, **{"objective.ada.probability": 0.5, "objective.ada.speed": 1000}) for _ in range(3)
    )
    for _ in range(7):
        whole.train_step()
    for _ in range(4):
        stopped.train_step()
    assert not stopped.train_step(should_stop=lambda: True), "it stops between two updates of the discriminator"
    assert stopped.update == 1
    folder = save_checkpoint(stopped, tmp_path, keep=1, write_model=lambda folder: None)
    load_checkpoint(resumed, folder)
    for _ in range(3):
        resumed.train_step()
    assert resumed.step == 7 and whole.modules["objective0_discriminator"].probability not in (0.0, 0.5, 1.0)
    assert equal(state(resumed), state(whole))


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"ada": {}, "augment": ["color"]}, "augment and ada do the same; set one of them"),
        ({"ada": {}, "loss": "wasserstein"}, "sign of real logits, which the wasserstein loss leaves free"),
        ({"ada": {}, "loss": "relativistic"}, "set ada.target to null and ada.probability"),
        ({"ada": {"target": None}}, "nothing would ever be augmented; set probability"),
        ({"ada": {"rise": 0.5}}, "rise is for a probability without a target"),
        ({"ada": {"policy": []}}, "ada.policy"),
        ({"ada": {"policy": ["turn"]}}, "ada.policy.*'rotate'"),
        ({"type": "gumbel", "loss": "hinge", "ada": {}}, "text takes none of them"),
    ],
)
def test_wrong_combinations_are_one_clear_error(objective, message) -> None:
    with pytest.raises(UserError, match=message):
        make_trainer(objective=objective)


def test_losses_without_a_boundary_take_a_fixed_probability() -> None:
    ada = {"target": None, "probability": 0.55, "rise": 0.2}
    trainer = make_trainer(objective={"loss": "relativistic", "ada": ada})
    trainer.train_step()
