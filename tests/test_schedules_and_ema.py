"""Learning-rate schedules and the average of the weights, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from training_helpers import make_trainer

from ganzoo.recipe.sections import ScheduleConfig
from ganzoo.training.ema import EMA
from ganzoo.training.optimizers import learning_rate_factor

# --------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"type": "constant"}, {0: 1.0, 50: 1.0, 99: 1.0}),
        ({"type": "linear"}, {0: 1.0, 25: 0.75, 50: 0.5, 99: 0.01, 100: 0.0}),
        ({"type": "linear", "final": 0.2, "start": 0.5}, {0: 1.0, 50: 1.0, 75: 0.6, 100: 0.2, 120: 0.2}),
        ({"type": "cosine"}, {0: 1.0, 50: 0.5, 100: 0.0, 20: 0.5 * (1 + math.cos(0.2 * math.pi))}),
        ({"type": "cosine", "final": 0.1}, {50: 0.55, 100: 0.1}),
        ({"type": "exponential", "final": 0.01}, {0: 1.0, 50: 0.1, 100: 0.01, 25: math.exp(0.25 * math.log(0.01))}),
        ({"type": "constant", "warmup": 10}, {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0}),
        ({"type": "linear", "warmup": 50}, {24: 0.5 * 0.76, 49: 0.51, 75: 0.25}),
    ],
)
def test_schedules_in_closed_form(schedule, expected):
    config = ScheduleConfig(**schedule)
    for step, factor in expected.items():
        assert learning_rate_factor(config, step, 100) == pytest.approx(factor, abs=1e-12)


def test_each_step_uses_the_learning_rate_of_its_schedule():
    trainer = make_trainer(
        **{
            "training.steps": 10,
            "generator_optimizer": {"learning_rate": 1e-2, "schedule": {"type": "linear"}},
            "discriminator_optimizer": {"learning_rate": 3e-3, "schedule": {"type": "constant", "warmup": 4}},
        }
    )
    rates = {"generator": [], "discriminator": []}
    for _ in range(10):
        trainer.train_step()
        for role, optimizer in trainer.optimizers.items():
            rates[role] += {group["lr"] for group in optimizer.param_groups}
    assert rates["generator"] == pytest.approx([1e-2 * (1 - step / 10) for step in range(10)])
    assert rates["discriminator"] == pytest.approx([3e-3 * min(1, (step + 1) / 4) for step in range(10)])


# --------------------------------------------------------------------------------------------------------------- EMA


def test_the_average_has_its_half_life_in_samples():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in (*network.parameters(), network[1].running_mean, network[1].running_var):
            tensor.zero_()
    ema = EMA(network, half_life=500, rampup=1.0)
    with torch.no_grad():
        for tensor in (*network.parameters(), network[1].running_mean, network[1].running_var):
            tensor.fill_(1.0)
    for step in range(20):
        # From 10,000 samples on, so that the half-life is no longer short: 20 updates by 100 samples are 4 half-lives.
        ema.update(100, 10_000 + 100 * step)
    for tensor in (*ema.average.parameters(), ema.average[1].running_mean, ema.average[1].running_var):
        torch.testing.assert_close(tensor, torch.full_like(tensor, 1 - 0.5**4))


def test_the_average_is_short_at_first():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = EMA(network, half_life=1e6, rampup=0.05)
    nn.init.ones_(network.weight)
    ema.update(10, 200)  # 10 samples are one half-life of 5 % of 200 samples
    assert ema.average.weight.item() == pytest.approx(0.5)
    ema.update(10, 10)  # a half-life far below one update: nothing of the past is left
    assert ema.average.weight.item() == pytest.approx(1.0)


def test_the_trainers_average_follows_weights_and_statistics_and_copies_counters():
    trainer = make_trainer(**{"training.ema_half_life": 60, "training.ema_rampup": 0.5})
    network = trainer.networks["generator"]
    averaged = {name: tensor.double() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    assert any(name.endswith("running_mean") for name in averaged)
    for step in range(1, 31):
        trainer.train_step()
        decay = 0.5 ** (8 / min(60, 0.5 * 8 * step))
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                averaged[name] = decay * averaged[name] + (1 - decay) * tensor.double()
    average = trainer.ema.average.state_dict()
    for name, tensor in network.state_dict().items():
        if name in averaged:
            torch.testing.assert_close(average[name].double(), averaged[name], rtol=1e-5, atol=1e-6)
        else:
            assert name.endswith("num_batches_tracked") and torch.equal(average[name], tensor) and tensor == 30
    assert not trainer.ema.average.training


def test_the_average_copies_spectral_norm_vectors_which_must_stay_of_length_one():
    network = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5))
    ema = EMA(network, half_life=10, rampup=1.0)
    for step in range(1, 10):
        network(torch.randn(4, 6))
        with torch.no_grad():
            network.parametrizations.weight.original.add_(torch.randn(5, 6))
        ema.update(1, step)
    vectors = {name: tensor for name, tensor in ema.average.named_buffers() if name.endswith(("._u", "._v"))}
    assert len(vectors) == 2
    for name, tensor in vectors.items():
        assert torch.equal(tensor, dict(network.named_buffers())[name])
        assert tensor.norm().item() == pytest.approx(1.0, abs=1e-5)
