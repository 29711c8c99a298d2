"""What keeps a GAN's training stable, beyond its loss: DRAGAN, top-k, mean features, minibatch discrimination, packing.

Each against a closed form or a slow loop; then all of them switched on in recipes. Adaptive augmentation is in test_ada.py.
"""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch
from network_helpers import LinearDiscriminator
from torch import Tensor, nn
from torch.nn import functional as F
from training_helpers import NO_BATCH_STATISTICS, RECIPE, make_trainer

import ganzoo
from ganzoo.errors import UserError
from ganzoo.families.image.dcgan import DCGANConfig
from ganzoo.losses.adversarial import top_logits
from ganzoo.losses.matching import mean_feature_matching
from ganzoo.losses.penalties import dragan_penalty
from ganzoo.nn import MinibatchDiscrimination, normalisation, pack
from ganzoo.objectives.adversarial import AdversarialConfig, AdversarialObjective
from ganzoo.objectives.base import Batch, StepContext
from ganzoo.training.trackers import read_rows
from ganzoo.training.trainer import Trainer


class Output(NamedTuple):
    logits: Tensor
    features: list[Tensor]


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


# ---------------------------------------------------------------------------------------------------------------- DRAGAN


@pytest.mark.parametrize("target", [1.0, 3.0])
def test_dragan_of_a_linear_discriminator_is_exact(target) -> None:
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def discriminator(samples: Tensor, labels: Tensor | None = None) -> list[Output]:
        return [Output((samples * weight).flatten(1).sum(1), [])]

    penalty = dragan_penalty(discriminator, torch.randn(7, 3, 4, dtype=torch.float64), target=target)
    penalty.backward()
    fixed = weight.detach()
    norm = fixed.norm()
    torch.testing.assert_close(penalty.detach(), (norm - target) ** 2)
    torch.testing.assert_close(weight.grad, 2 * (norm - target) * fixed / norm)


def test_dragan_looks_around_real_samples() -> None:
    """x + 0.5 std u v: u uniform for each number, v for each sample, std of all the numbers of the batch."""
    seen = []

    def discriminator(samples: Tensor, labels: Tensor | None = None) -> list[Output]:
        seen.append((samples.detach().clone(), labels))
        return [Output(samples.flatten(1).sum(1), [])]

    real = torch.randn(512, 3, 16) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1) + 4.0
    labels = torch.arange(512)
    random = torch.Generator().manual_seed(3)
    dragan_penalty(discriminator, real, labels, generator=random)
    dragan_penalty(discriminator, real, labels, generator=random.manual_seed(3))
    dragan_penalty(discriminator, real, labels, generator=random)
    assert torch.equal(seen[0][0], seen[1][0]) and not torch.equal(seen[0][0], seen[2][0])
    assert seen[0][1] is labels
    shares = ((seen[0][0] - real) / (0.5 * real.std(correction=0))).flatten(1)
    assert shares.min() >= -1e-5 and shares.max() < 1
    assert shares.mean().item() == pytest.approx(1 / 4, abs=0.02)
    extents = 2 * shares.mean(dim=1)  # of a sample: v, up to the mean of its 48 u
    assert extents.std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.1)
    assert (shares / extents[:, None]).std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.1)


def test_dragan_needs_a_positive_target() -> None:
    with pytest.raises(UserError, match="DRAGAN penalty's target norm must be above 0, got 0.0"):
        dragan_penalty(lambda samples, labels: [], torch.zeros(2, 3), target=0.0)


# ----------------------------------------------------------------------------------------------------------------- top-k


def test_top_logits_keeps_the_best_and_gives_the_others_no_gradient() -> None:
    logits = torch.tensor([0.5, -2.0, 3.0, 1.0, -1.0], requires_grad=True)
    for share, best in ((0.2, [3.0]), (0.21, [1.0, 3.0]), (0.6, [0.5, 1.0, 3.0]), (1e-9, [3.0])):
        assert sorted(top_logits(logits, share).tolist()) == best
    top_logits(logits, 0.6).sum().backward()
    assert logits.grad.tolist() == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert top_logits(logits, 1.0) is logits
    # 0.7 * 10 is 7.000000000000001 to a computer.
    assert len(top_logits(torch.arange(10.0), 0.7)) == 7
    patches = torch.tensor([[9.0, -9.0], [1.0, 2.0], [0.5, 0.0]]).bfloat16()
    assert top_logits(patches, 0.3).tolist() == [[1.0, 2.0]]
    for share in (0.0, 1.1):
        with pytest.raises(UserError, match=r"in \(0, 1\]"):
            top_logits(logits, share)


def test_the_generator_learns_from_ever_fewer_samples(monkeypatch) -> None:
    trainer = make_trainer(**NO_BATCH_STATISTICS, **{"objective.top_k": 0.5, "training.steps": 4})
    discriminator, generator = trainer.networks["discriminator"], trainer.networks["generator"]
    made, found = [], []
    generator.register_forward_hook(lambda *call: made.append(call[2].detach()))
    original = trainer.objective.generator_loss

    def check(networks, batch, context):
        loss = original(networks, batch, context)
        logits = discriminator(made[-1])[0].logits.sort(descending=True).values
        found.append(len(logits) - [8, 7, 6, 5][context.step])
        expected = F.softplus(-logits[: [8, 7, 6, 5][context.step]]).mean()
        torch.testing.assert_close(loss.terms["adversarial"], expected)
        return loss

    monkeypatch.setattr(trainer.objective, "generator_loss", check)
    for _ in range(4):
        trainer.train_step()
    assert found == [0, 1, 2, 3]


def test_each_output_of_a_discriminator_keeps_its_own_best() -> None:
    """A discriminator with two outputs that disagree: each contributes the samples that it finds most real."""
    from ganzoo.objectives import StepContext
    from ganzoo.objectives.adversarial import AdversarialConfig, AdversarialObjective

    objective = AdversarialObjective(AdversarialConfig(loss="hinge", top_k=0.5))
    first, second = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([[8.0], [7.0], [6.0], [5.0]])
    context = StepContext(step=9, progress=1.0, draw_latents=None, autocast=None)
    loss = objective._adversarial([Output(first, []), Output(second, [])], None, context)
    assert loss.item() == -((3 + 4) / 2 + (8 + 7) / 2) / 2


# ------------------------------------------------------------------------------------------------------- feature matching


def test_mean_feature_matching_against_hand_computation() -> None:
    real = [
        Output(torch.zeros(2), [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0], [1.0]])]),
        Output(torch.zeros(2), [torch.tensor([[10.0], [20.0]])]),
    ]
    # Means of the batch: real (2, 3), 0.5 and 15; generated, of another number of samples, (5, 3), 1.5 and 14.
    fake = [
        Output(torch.zeros(3), [torch.tensor([[5.0, 0.0], [5.0, 9.0], [5.0, 0.0]]), torch.tensor([[2.0], [1.0]])]),
        Output(torch.zeros(3), [torch.tensor([[13.0], [15.0]])]),
    ]
    tensors = [feature.requires_grad_() for output in (*real, *fake) for feature in output.features]
    value = mean_feature_matching(real, fake)
    assert value.item() == (((9 + 0) / 2 + 1) + 1) / 2
    value.backward()
    assert all(feature.grad is None for feature in tensors[:3])
    torch.testing.assert_close(tensors[3].grad, torch.tensor([[0.5, 0.0]] * 3))
    assert torch.equal(tensors[5].grad, torch.tensor([[-0.5], [-0.5]]))


def test_mean_feature_matching_sees_no_pairs_and_refuses_what_it_cannot_compare() -> None:
    one, other = torch.randn(2, 6, 3, 4).bfloat16()
    value = mean_feature_matching([Output(one, [one])], [Output(other, [other])])
    shuffled = mean_feature_matching([Output(one, [one])], [Output(other, [other.flip(0)])])
    assert value.dtype == torch.float32 and value > 0
    torch.testing.assert_close(value, shuffled)
    with pytest.raises(UserError, match="returns none"):
        mean_feature_matching([Output(one, [])], [Output(one, [])])
    with pytest.raises(UserError, match="one shape"):
        mean_feature_matching([Output(one, [one])], [Output(one, [one[..., :1]])])


# ------------------------------------------------------------------------------------------------ minibatch discrimination


def slow_closeness(features: Tensor, weight: Tensor) -> Tensor:
    """Salimans et al. 2016, section 3.2, number by number."""
    count, kernels = len(features), weight.shape[1]
    matrices = [[features[i].flatten() @ weight[:, b] for b in range(kernels)] for i in range(count)]
    rows = []
    for i in range(count):
        row = []
        for b in range(kernels):
            terms = [torch.exp(-(matrices[i][b] - matrices[j][b]).abs().sum()) for j in range(count)]
            row.append(sum(terms))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 5)])
def test_minibatch_discrimination_against_a_slow_loop(shape) -> None:
    layer = MinibatchDiscrimination(math.prod(shape), kernels=4, kernel_dim=3).double()
    features = torch.randn(5, *shape, dtype=torch.float64)
    torch.testing.assert_close(layer(features), slow_closeness(features, layer.weight))


def test_minibatch_discrimination_tells_copies_from_variety_and_can_learn() -> None:
    layer = MinibatchDiscrimination(8192, kernels=16)
    same = layer(torch.randn(1, 8192).expand(10, -1))
    torch.testing.assert_close(same, torch.full((10, 16), 10.0))
    # At the start, samples of variance 1 are about 1 apart: exp(-1) each, and a slope that is not lost.
    different = layer(torch.randn(10, 8192))
    assert 1 + 9 * 0.25 < different.mean() < 1 + 9 * 0.5
    narrow = layer(torch.randn(10, 8192).bfloat16().float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(10, 8192)).dtype == torch.float32
    assert narrow.isfinite().all()
    layer = MinibatchDiscrimination(6, 3, 2).double()
    features = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, features)
    assert torch.autograd.gradgradcheck(layer, features)


# ------------------------------------------------------------------------------------------------------------ in the DCGAN

SMALL = {"resolution": 16, "channels": 3, "width": 4, "latent_dim": 8, "discriminator_norm": "none"}


def discriminators(**config) -> tuple[nn.Module, Tensor]:
    _, network = ganzoo.create("dcgan", **SMALL, **config)
    return network, torch.rand(8, 3, 16, 16) * 2 - 1


def test_a_dcgan_without_the_new_options_is_what_it_was() -> None:
    old = {key: value for key, value in SMALL.items()} | {"num_classes": None}
    assert DCGANConfig.from_dict(old) == DCGANConfig(**SMALL)
    plain, _ = discriminators()
    assert set(plain.state_dict()) == {"blocks.0.0.weight", "blocks.1.0.weight", "to_logit.weight"}


@pytest.mark.parametrize("option", [{"minibatch_discrimination": 5}, {"minibatch_std": True}])
def test_some_discriminators_see_the_whole_batch(option) -> None:
    plain, pictures = discriminators()
    alone = plain(pictures[:4])[0].logits
    torch.testing.assert_close(plain(pictures)[0].logits[:4], alone)
    network, pictures = discriminators(**option)
    assert not torch.allclose(network(pictures)[0].logits[:4], network(pictures[:4])[0].logits)
    network(pictures)[0].logits.sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())


def test_minibatch_options_add_to_the_logits() -> None:
    network, pictures = discriminators(minibatch_discrimination=5, minibatch_std=True)
    (output,) = network(pictures)
    hidden = output.features[-1]
    closeness = slow_closeness(hidden.mean(dim=(2, 3)), network.minibatch.discrimination.weight)
    groups = hidden.reshape(4, 2, -1)  # samples 0, 2, 4, 6 and 1, 3, 5, 7
    spread = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=1).repeat(4)
    measures = torch.cat([closeness, spread[:, None]], dim=1)
    alone = F.conv2d(hidden, network.to_logit.weight).flatten()
    torch.testing.assert_close(output.logits, alone + measures @ network.minibatch.to_logit.weight[0])


def test_a_packed_discriminator_judges_neighbours_together() -> None:
    trainer = make_trainer(**NO_BATCH_STATISTICS, **{"objective.packing": 2})
    seen, real = watched(trainer)
    trainer.train_step()
    assert {tuple(pictures.shape) for pictures in seen} == {(4, 2, 8, 8)}
    expected = torch.stack([torch.cat([real[0][2 * i], real[0][2 * i + 1]]) for i in range(4)])
    torch.testing.assert_close(seen[0], expected)


def watched(trainer: Trainer) -> tuple[list[Tensor], list[Tensor]]:
    """What the discriminator is shown, and the real samples of its updates; both grow as the trainer steps."""
    seen, real = [], []
    trainer.networks["discriminator"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    original = trainer.objective.discriminator_loss

    def remember(networks, batch, context):
        real.append(batch.samples)
        return original(networks, batch, context)

    trainer.objective.discriminator_loss = remember
    return seen, real


@pytest.mark.parametrize("noise", [0.0, 0.1], ids=["as they are", "noisy: with a pass of their own"])
def test_penalties_of_packs_are_those_of_one_sample_of_its_channels(noise) -> None:
    """The gradient of a linear discriminator is its weights, wherever: |w| of the whole pack counts."""
    weights = torch.randn(6, 4, 4)
    norm = weights.norm().item()
    kinds = {"r1": norm**2 / 2, "r2": norm**2 / 2, "gradient-penalty": (norm - 1) ** 2, "dragan": (norm - 1) ** 2}
    config = AdversarialConfig(
        packing=3, penalties=[{"type": kind, "weight": 1.0} for kind in kinds], instance_noise=noise
    )
    networks = {"generator": nn.Linear(1, 1), "discriminator": LinearDiscriminator(weights)}
    objective = AdversarialObjective(config)
    objective._generate = lambda *_, **__: torch.randn(12, 2, 4, 4)
    context = StepContext(0, 0.0, lambda network, count: None, nullcontext)
    terms = objective.discriminator_loss(networks, Batch(torch.randn(12, 2, 4, 4), None), context).terms
    for kind, expected in kinds.items():
        assert terms[kind].item() == pytest.approx(expected, rel=1e-4), kind


def test_layer_normalisation_is_over_each_sample() -> None:
    layer = normalisation("layer", 3)
    hidden = torch.randn(4, 3, 5, 5) * 7 + 2
    result = layer(hidden)
    expected = torch.stack([(one - one.mean()) / (one.var(correction=0) + layer.eps).sqrt() for one in hidden])
    torch.testing.assert_close(result, expected)
    assert layer.weight.shape == layer.bias.shape == (3,)
    _, network = ganzoo.create("dcgan", **{**SMALL, "discriminator_norm": "layer"})
    assert [type(block[1]) for block in network.blocks] == [nn.Identity, nn.GroupNorm]


# --------------------------------------------------------------------------------------------------------------- in recipes


def test_instance_noise_falls_linearly_to_zero() -> None:
    changes = {"objective.instance_noise": 0.8, "objective.instance_noise_until": 0.5, "training.steps": 8}
    trainer = make_trainer(**NO_BATCH_STATISTICS, **changes)
    seen, real = watched(trainer)
    for step in range(8):
        seen.clear()
        trainer.train_step()
        noise = (seen[0] - real[step]).std().item()
        assert noise == pytest.approx(0.8 * max(0.0, 1 - step / 4), rel=0.1, abs=1e-7)


OPTIONS = {
    "dragan": {"objective.penalties": [{"type": "dragan", "weight": 10.0}]},
    "top-k": {"objective.top_k": 0.5},
    "mean features": {"objective.feature_matching": 1.0, "objective.feature_matching_of": "means"},
    "minibatch discrimination": {"model.minibatch_discrimination": 8},
    "minibatch standard deviation": {"model.minibatch_std": True},
    "packing": {"objective.packing": 4},
    "layer norm and gradient penalty": {
        "model.resolution": 16,
        "model.discriminator_norm": "layer",
        "objective.loss": "wasserstein",
        "objective.penalties": [{"type": "gradient-penalty", "weight": 10.0}],
    },
    "ada": {"objective.ada": {"speed": 100, "interval": 1, "probability": 0.3}},
    "all that go together": {
        "model": {**RECIPE["model"], "minibatch_discrimination": 4, "minibatch_std": True},
        "objective": {
            "packing": 2,
            "loss": "hinge",
            "top_k": 0.5,
            "feature_matching": 0.1,
            "feature_matching_of": "means",
            "ada": {"speed": 100, "interval": 1},
            "instance_noise": 0.1,
            "penalties": [
                {"type": kind, "weight": 0.1, "interval": 2}
                for kind in ("dragan", "gradient-penalty", "r1", "r2", "drift")
            ],
        },
        "generator_optimizer": {"learning_rate": 1e-4, "clip_norm": 1.0},
        "discriminator_optimizer": {"learning_rate": 4e-4, "clip_norm": 1.0},
        "training.precision": "bf16",
    },
}


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_every_option_trains_by_recipe(changes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)  # longer than the runs here
    run = ganzoo.train(
        RECIPE,
        output=tmp_path,
        quiet=True,
        **{"data": {"dataset": "digits"}, "training.steps": 4, "evaluation": {"metrics": []}, **changes},
    )
    assert run.warnings == []
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "train"]
    assert len(rows) == 4 and all(math.isfinite(value) for value in rows[-1].values() if isinstance(value, float))
    assert ("discriminator/augment_probability" in json.dumps(rows[-1])) == any(
        "ada" in str(key) for key in _keys(changes)
    )


def _keys(values) -> list[str]:
    if not isinstance(values, dict):
        return []
    return [name for key, value in values.items() for name in (*key.split("."), *_keys(value))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": {"loss": "relativistic", "top_k": 0.5}},
            "top_k leaves generated samples out, but the relativistic loss needs them in pairs",
        ),
        ({"objective.top_k": 0.0}, "objective.*top_k=0.0: input should be greater than 0"),
        ({"objective.feature_matching_of": "medians"}, "feature_matching_of='medians'"),
        ({"objective.penalties": [{"type": "dragon", "weight": 1.0}]}, "penalties.0.type='dragon'"),
        (
            {"objective.packing": 2, "model.num_classes": 10},
            "of different classes; leave it out, or model.num_classes",
        ),
        ({"objective.packing": 3}, "training.batch_size=8 must be a multiple of objective.packing=3"),
        ({"objective.packing": 64, "training.batch_size": 64, "model.channels": 3}, "packing=64: channels=192: input"),
        (
            {
                "phases": [
                    {"name": "one", "updates": {"discriminator": 1}, "steps": 10},
                    {
                        "name": "other",
                        "updates": {"generator": 1},
                        "objective": {"type": "adversarial", "packing": 2},
                    },
                ]
            },
            "objective.packing must be the same in all phases, not 1 and 2",
        ),
        ({"model.minibatch_discrimination": 5000}, "minibatch_discrimination=5000: input should be less than"),
    ],
)
def test_wrong_combinations_are_one_clear_error(changes, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_trainer(**changes)
    assert "\n" not in str(error.value)


def test_a_batch_that_cannot_be_packed_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="batch of 8 samples cannot be packed by 3; choose a multiple of 3"):
        pack(torch.zeros(8, 1, 4, 4), 3)
