"""The trainer's steps against closed forms and a plain loop, and what surrounds them: phases, failures, reproducibility."""

from __future__ import annotations

import json
import math
import random
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import ganzoo
from ganzoo.cli import run as run_command
from ganzoo.data.sampler import batch_indices
from ganzoo.errors import TrainingError, UserError
from ganzoo.metrics.frechet import frechet_distance
from ganzoo.training.ema import EMA
from ganzoo.training.optimizers import learning_rate_factor
from ganzoo.training.randomness import mix
from ganzoo.training.recipe import LOSSES, ScheduleConfig, load_recipe
from ganzoo.training.run import RunLoop, build_trainer
from ganzoo.training.state import load_checkpoint
from ganzoo.training.trackers import read_rows

CPU = torch.device("cpu")
RECIPE = {
    "name": "tiny",
    "model": {"family": "dcgan", "resolution": 8, "channels": 1, "width": 4, "latent_dim": 8},
    "objective": {"loss": "non-saturating"},
    "training": {
        "steps": 20,
        "batch_size": 8,
        "precision": "fp32",
        "ema_half_life": 100,
        "log_every": 1,
        "sample_every": None,
        "num_preview_samples": 4,
        "checkpoint_every": 1000,
    },
}
# Networks whose samples do not see each other: what they compute does not depend on how samples are batched.
NO_BATCH_STATISTICS = {"model.generator_norm": "none", "model.discriminator_norm": "none"}
SGD = {
    "generator_optimizer": {"type": "sgd", "learning_rate": 0.5},
    "discriminator_optimizer": {"type": "sgd", "learning_rate": 0.5},
}


def make_trainer(**overrides):
    return build_trainer(load_recipe(RECIPE, overrides), CPU)[1]


def train(output, **options):
    return ganzoo.train(RECIPE, output=output, quiet=True, **options)


def weights(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def equal(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def spy(monkeypatch, trainer, role, before=None, after=None):
    """Calls `before(batch, context)` and `after(batch, context, loss)` around an objective's loss."""
    name = f"{role}_loss"
    original = getattr(trainer.objective, name)

    def spied(networks, batch, context):
        if before is not None:
            before(batch, context)
        loss = original(networks, batch, context)
        if after is not None:
            after(batch, context, loss)
        return loss

    monkeypatch.setattr(trainer.objective, name, spied, raising=True)


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    # Drawing its curves takes longer than the runs here; test_report.py has it.
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)


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


# --------------------------------------------------------------------------------------------------- the order of updates


def test_a_step_is_n_critic_discriminator_updates_on_new_data_then_one_of_the_generator(monkeypatch):
    trainer = make_trainer(**{"training.n_critic": 3, "model.num_classes": 10})
    calls, stepped = [], []
    for role in trainer.networks:
        spy(monkeypatch, trainer, role, before=lambda batch, context, role=role: calls.append((role, batch)))
        trainer.optimizers[role].register_step_post_hook(lambda *_, role=role: stepped.append(role))
    for _ in range(2):
        trainer.train_step()
    expected = ["discriminator", "discriminator", "discriminator", "generator"] * 2
    assert [role for role, _ in calls] == expected
    assert stepped == expected
    # Every discriminator update sees the next 8 samples of the sampler's stream, the generator those of the last one.
    numbers = [0, 1, 2, 2, 3, 4, 5, 5]
    for (_, batch), number in zip(calls, numbers, strict=True):
        stored, labels = trainer.dataset.batch(batch_indices(len(trainer.dataset), 8, number, seed=0))
        assert torch.equal(batch.samples, trainer.processor.normalize(stored))
        assert torch.equal(batch.labels, labels)


def test_only_the_network_whose_turn_it_is_gets_gradients(monkeypatch):
    trainer = make_trainer()
    generator, discriminator = trainer.networks["generator"], trainer.networks["discriminator"]
    seen = []

    def clear(network):
        for parameter in network.parameters():
            parameter.grad = None

    def before_generator(batch, context):
        seen.append("generator")
        assert all(parameter.grad is None for parameter in generator.parameters())  # after the discriminator's update
        assert not any(parameter.requires_grad for parameter in discriminator.parameters())
        clear(discriminator)

    spy(monkeypatch, trainer, "discriminator", before=lambda batch, context: clear(generator))
    spy(monkeypatch, trainer, "generator", before=before_generator)
    for _ in range(3):
        trainer.train_step()
        assert all(parameter.grad is None for parameter in discriminator.parameters())
        assert all(parameter.grad is not None for parameter in generator.parameters())
    assert len(seen) == 3


def test_without_a_following_generator_step_the_generator_makes_no_graph(monkeypatch):
    trainer = make_trainer(**{"training.n_critic": 2})
    made = []
    trainer.networks["generator"].register_forward_hook(lambda *call: made.append(call[2].requires_grad))
    trainer.train_step()
    assert made == [False, True]  # the second is the one that the generator's update uses again


@pytest.mark.parametrize(("n_critic", "accumulation", "forwards"), [(1, 1, 1), (3, 1, 3), (1, 2, 4)])
def test_the_generators_samples_are_computed_no_more_often_than_needed(n_critic, accumulation, forwards):
    trainer = make_trainer(**{"training.n_critic": n_critic, "training.accumulation": accumulation})
    calls = []
    trainer.networks["generator"].register_forward_hook(lambda *_: calls.append(1))
    trainer.train_step()
    assert len(calls) == forwards


def test_samples_are_judged_by_the_labels_they_were_made_for(monkeypatch):
    # The generator twice, the discriminator once: the first of its batches is not the discriminator's.
    phase = {"name": "more generator", "updates": {"discriminator": 1, "generator": 2}}
    trainer = make_trainer(**{"model.num_classes": 10, "phases": [phase]})
    made, judged = {}, []
    trainer.networks["generator"].register_forward_hook(lambda _, inputs, output: made.update({id(output): inputs[1]}))
    trainer.networks["discriminator"].register_forward_hook(lambda _, inputs, output: judged.append(inputs))
    keep = []  # so that no id is used twice
    trainer.networks["generator"].register_forward_hook(lambda _, inputs, output: keep.append(output))
    before = weights(trainer.networks["generator"])
    trainer.train_step()
    fakes = [(samples, labels) for samples, labels in judged if id(samples) in made]
    assert len(fakes) == 2
    for samples, labels in fakes:
        assert torch.equal(labels, made[id(samples)])
    assert not torch.equal(fakes[0][1], fakes[1][1])
    assert not equal(weights(trainer.networks["generator"]), before)


# ------------------------------------------------------------------------------------------------ the step's arithmetic


def test_training_equals_a_plain_loop():
    """Adam, R1 at every second step, EMA: against the textbook's loop, which shares only data and latents."""
    overrides = {
        **NO_BATCH_STATISTICS,
        "objective.penalties": [{"type": "r1", "weight": 2.0, "interval": 2}],
        "generator_optimizer": {"learning_rate": 2e-3, "betas": [0.5, 0.9]},
        "discriminator_optimizer": {"learning_rate": 1e-3, "betas": [0.5, 0.9]},
        "training.seed": 5,
    }
    trainer, plain = make_trainer(**overrides), make_trainer(**overrides)
    generator, discriminator = plain.networks["generator"], plain.networks["discriminator"]
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    for step in range(10):
        trainer.train_step()
        stored, _ = plain.dataset.batch(batch_indices(len(plain.dataset), 8, step, seed=5))
        real = stored.float() / 127.5 - 1
        latents = torch.randn(8, 8, generator=torch.Generator().manual_seed(mix(5, "latents", step, 0)))
        fake = generator(latents)
        real_logits, fake_logits = discriminator(real)[0].logits, discriminator(fake.detach())[0].logits
        loss = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        if step % 2 == 0:
            inputs = real.clone().requires_grad_()
            (slope,) = torch.autograd.grad(discriminator(inputs)[0].logits.sum(), inputs, create_graph=True)
            loss = loss + 2 * 2.0 * 0.5 * slope.square().sum(dim=(1, 2, 3)).mean()
        d_optimizer.zero_grad()
        loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        F.softplus(-discriminator(fake)[0].logits).mean().backward()
        g_optimizer.step()
    for role, network in plain.networks.items():
        for one, other in zip(trainer.networks[role].parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not equal(weights(generator), weights(make_trainer(**overrides).networks["generator"]))


def test_accumulation_is_one_larger_batch():
    # The same latents in the same order for both: the trainer's own depend on how often they are drawn.
    pool = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    trainers = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        trainer = make_trainer(
            **NO_BATCH_STATISTICS,
            **SGD,
            **{"training.batch_size": batch_size, "training.accumulation": accumulation},
        )
        drawn = iter(pool.repeat(2 * 3, 1))
        trainer.networks["generator"].sample_latents = lambda count, generator=None, drawn=drawn: torch.stack(
            [next(drawn) for _ in range(count)]
        )
        trainers.append(trainer)
    start = weights(trainers[0].networks["discriminator"])
    for _ in range(3):
        for trainer in trainers:
            trainer.train_step()
    whole, accumulated = trainers
    assert whole.samples_seen == accumulated.samples_seen == 24
    for role in whole.networks:
        for one, other in zip(whole.networks[role].parameters(), accumulated.networks[role].parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    moved = zip(start, weights(whole.networks["discriminator"]), strict=True)
    assert all((after - before).abs().max() > 1e-4 for before, after in moved)


def test_penalties_come_at_their_interval_with_their_weight(monkeypatch):
    penalties = [{"type": "r1", "weight": 3.0, "interval": 4}, {"type": "drift", "weight": 0.5, "interval": 2}]
    trainer = make_trainer(**NO_BATCH_STATISTICS, **{"objective.penalties": penalties})
    discriminator = trainer.networks["discriminator"]
    found = {"r1": [], "drift": []}

    def check(batch, context, loss):
        inputs = batch.samples.clone().requires_grad_()
        logits = discriminator(inputs)[0].logits
        (slope,) = torch.autograd.grad(logits.sum(), inputs)
        expected = {"r1": 4 * 3.0 * 0.5 * slope.square().sum() / 8, "drift": 2 * 0.5 * logits.square().mean()}
        for name in found:
            if name in loss.terms:
                found[name].append(context.step)
                torch.testing.assert_close(loss.terms[name], expected[name], rtol=1e-4, atol=1e-9)

    spy(monkeypatch, trainer, "discriminator", after=check)
    for _ in range(9):
        trainer.train_step()
    assert found == {"r1": [0, 4, 8], "drift": [0, 2, 4, 6, 8]}


def test_weight_clipping_holds_the_discriminator_alone():
    trainer = make_trainer(
        **{"objective.loss": "wasserstein", "discriminator_optimizer": {"type": "rmsprop", "clip_weights": 0.01}}
    )
    for _ in range(3):
        trainer.train_step()
        assert max(parameter.abs().max() for parameter in trainer.networks["discriminator"].parameters()) <= 0.01
    assert max(parameter.abs().max() for parameter in trainer.networks["generator"].parameters()) > 0.01


def test_gradient_clipping_limits_the_step():
    clipped = {"type": "sgd", "learning_rate": 1.0, "clip_norm": 1e-3}
    trainer = make_trainer(**{"generator_optimizer": clipped, "discriminator_optimizer": clipped})
    before = {role: weights(network) for role, network in trainer.networks.items()}
    trainer.train_step(is_logged=True)
    norms = trainer.stats.read()
    for role, network in trainer.networks.items():
        moved = [after - start for after, start in zip(weights(network), before[role], strict=True)]
        assert torch.nn.utils.get_total_norm(moved).item() == pytest.approx(1e-3, rel=1e-2)
        assert norms[f"{role}/grad_norm"] > 2e-3  # the log shows the norm before it was clipped


def test_feature_matching_is_in_the_generators_loss(monkeypatch):
    trainer = make_trainer(**NO_BATCH_STATISTICS, **{"objective.feature_matching": 7.0})
    discriminator, generator = trainer.networks["discriminator"], trainer.networks["generator"]
    made, checked = [], []
    generator.register_forward_hook(lambda _, inputs, output: made.append(output))

    def check(batch, context, loss):
        real, fake = (discriminator(samples)[0].features for samples in (batch.samples, made[-1]))
        expected = sum((one - other).abs().mean() for one, other in zip(real, fake, strict=True))
        torch.testing.assert_close(loss.terms["feature_matching"], 7.0 * expected)
        checked.append(loss.terms["feature_matching"].item())

    spy(monkeypatch, trainer, "generator", after=check)
    trainer.train_step()
    means = trainer.stats.read()
    assert checked[0] > 0 and means["generator/loss_feature_matching"] == pytest.approx(checked[0])
    assert means["generator/loss"] == pytest.approx(means["generator/loss_adversarial"] + checked[0])
    assert "discriminator/loss_feature_matching" not in means


def test_label_smoothing_lowers_the_target_of_real_samples(monkeypatch):
    trainer = make_trainer(**NO_BATCH_STATISTICS, **{"objective.label_smoothing": 0.25})
    checked = []

    def check(batch, context, loss):
        logits = trainer.networks["discriminator"](batch.samples)[0].logits
        expected = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.75))
        torch.testing.assert_close(loss.terms["real"], expected)
        checked.append(loss)

    spy(monkeypatch, trainer, "discriminator", after=check)
    trainer.train_step()
    assert len(checked) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_every_adversarial_loss_trains(loss):
    trainer = make_trainer(**{"objective.loss": loss, "generator_optimizer.type": "adamw"})
    before = {role: weights(network) for role, network in trainer.networks.items()}
    for _ in range(2):
        trainer.train_step(is_logged=True)
    assert all(math.isfinite(value) for value in trainer.stats.read().values())
    for role, network in trainer.networks.items():
        moved = zip(before[role], weights(network), strict=True)
        assert all(after.isfinite().all() and not torch.equal(start, after) for start, after in moved)


# ---------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains_on_the_cpu(precision):
    exact, reduced = (
        make_trainer(**{"training.precision": name, "objective.penalties": [{"type": "r1", "weight": 1.0}]})
        for name in ("fp32", precision)
    )
    dtypes = set()
    reduced.networks["discriminator"].blocks[0].register_forward_hook(lambda *call: dtypes.add(call[2].dtype))
    start = weights(reduced.networks["generator"])
    for trainer in (exact, reduced):
        for _ in range(4):
            trainer.train_step()
    # Reduced in the losses, full in the penalty, whose squares would be too coarse.
    assert dtypes == {getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[precision]), torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in reduced.networks["generator"].parameters())
    assert not equal(weights(reduced.networks["generator"]), start)
    means, expected = reduced.stats.read(), exact.stats.read()
    for name in ("discriminator/loss", "generator/loss"):
        assert means[name] == pytest.approx(expected[name], rel=0.05)


def test_an_overflow_of_fp16_skips_the_step_and_the_run_goes_on(tmp_path):
    # The weight makes the scaled gradients overflow until the scale has fallen.
    run = train(tmp_path, **{"training.precision": "fp16", "objective.feature_matching": 1e4, "training.steps": 4})
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "train"]
    assert run.finished and [row["step"] for row in rows] == [1, 2, 3, 4]
    assert not math.isfinite(float(rows[0]["generator/grad_norm"]))
    state = json.loads((tmp_path / "checkpoints/step-00000004/training_state/state.json").read_text())
    assert state["scalers"]["generator"]["scale"] < 65536
    assert all(tensor.isfinite().all() for tensor in run.pipeline.network.state_dict().values())


# ----------------------------------------------------------------------------------------------------- going wrong

EXPLODING = {
    "objective.loss": "least-squares",
    "generator_optimizer": {"type": "sgd", "learning_rate": 10.0},
    "discriminator_optimizer": {"type": "sgd", "learning_rate": 10.0},
    **NO_BATCH_STATISTICS,
}


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    calm = {f"{role}_optimizer.learning_rate": 0.01 for role in ("generator", "discriminator")}
    train(tmp_path, **{**EXPLODING, **calm, "training.steps": 5})
    recipe = tmp_path / "exploding.yaml"
    recipe.write_text(load_recipe(RECIPE, {**EXPLODING, "training.steps": 500}).to_yaml())
    code = run_command(["train", str(recipe), "--output", str(tmp_path), "--resume", "--quiet"])
    error = capsys.readouterr().err
    assert code == 1 and error.count("\n") == 1
    assert "became NaN or infinite" in error and "step-00000005" in error and "lower learning rates" in error
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    trainer = make_trainer(**EXPLODING)
    load_checkpoint(trainer, tmp_path / "checkpoints/step-00000005")
    assert trainer.step == 5
    end = read_rows(tmp_path / "metrics.jsonl")[-1]
    assert (end["event"], end["status"]) == ("end", "failed")


def test_nan_between_two_rows_of_the_log_never_gets_into_a_checkpoint(tmp_path):
    options = {**EXPLODING, "training.log_every": 1000, "training.checkpoint_every": 1, "training.steps": 500}
    with pytest.raises(TrainingError, match="the weights became NaN.*The last good checkpoint is kept"):
        train(tmp_path, **options)
    newest = max((tmp_path / "checkpoints").iterdir())
    trainer = make_trainer(**options)
    load_checkpoint(trainer, newest)
    for module in trainer.modules.values():
        assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


def test_without_a_checkpoint_the_error_says_so(tmp_path):
    with pytest.raises(TrainingError, match="There is no checkpoint from before"):
        train(tmp_path, **{**EXPLODING, "training.steps": 500})
    assert not (tmp_path / "checkpoints").exists()


def test_statistics_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    # What an overflow in a forward pass leaves although the step itself was skipped.
    from ganzoo.training.trainer import Trainer

    original = Trainer.train_step

    def spoiled(self, **options):
        original(self, **options)
        self.networks["generator"].blocks[0][1].running_var.fill_(math.inf)

    monkeypatch.setattr(Trainer, "train_step", spoiled)
    with pytest.raises(TrainingError, match="NaN or infinite by step 2"):
        train(tmp_path, **{"training.steps": 2})


# -------------------------------------------------------------------------------------------------------------- phases


def test_a_warm_up_phase_updates_only_its_network():
    phases = [
        {"name": "warm-up", "steps": 3, "updates": {"discriminator": 2}},
        {"name": "adversarial", "updates": {"discriminator": 1, "generator": 1}},
    ]
    trainer = make_trainer(phases=phases)
    assert [(phase.name, phase.steps) for phase in trainer.phases] == [("warm-up", 3), ("adversarial", 17)]
    generator, discriminator = trainer.networks["generator"], trainer.networks["discriminator"]
    start = weights(generator)
    for step in range(4):
        assert trainer.phase_at(step).name == ("warm-up" if step < 3 else "adversarial")
        before = weights(discriminator)
        trainer.train_step()
        assert not equal(weights(discriminator), before)
        assert equal(weights(generator), start) == (step < 3)
        assert equal(weights(trainer.ema.average), start) == (step < 3)


def test_the_log_names_the_phase(tmp_path):
    phases = [
        {"name": "warm-up", "steps": 1, "updates": {"discriminator": 1}},
        {"name": "both", "steps": 2, "updates": {"discriminator": 1, "generator": 1}},
    ]
    train(tmp_path, **{"phases": phases, "training.steps": 3})
    rows = [row for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "train"]
    assert [row["phase"] for row in rows] == ["warm-up", "both", "both"]
    assert "generator/loss" not in rows[0] and "generator/loss" in rows[1]


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([{"name": "a", "steps": 5, "updates": {"generator": 1}}], "add up to training.steps=20 .given: 5"),
        ([{"name": "a", "steps": 25, "updates": {"generator": 1}}], "add up"),
        ([{"name": "a", "updates": {"generator": 1}}, {"name": "b", "updates": {"generator": 1}}], "add up"),
        (
            [{"name": "a", "steps": 20, "updates": {"generator": 1}}, {"name": "b", "updates": {"generator": 1}}],
            "add up",
        ),
        ([{"name": "a", "updates": {"critic": 1}}], "'a' must update some of discriminator, generator, not .'critic'"),
        ([{"name": "a", "updates": {}}], "'a' must update some of"),
    ],
)
def test_impossible_phases_are_refused(phases, message):
    with pytest.raises(UserError, match=message):
        make_trainer(phases=phases)


# ----------------------------------------------------------------------------------------------------------- the hot path


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for the device: values read into Python, and shapes that depend on values."""

    NAMES = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2", "bincount"}

    def __init__(self, monkeypatch):
        super().__init__()
        self.found = []
        for name in ("tolist", "cpu", "numpy"):
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def _counted(self, name, method):
        def counted(*arguments, **options):
            self.found.append(name)
            return method(*arguments, **options)

        return counted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.partition(".")[0]
        # Optimisers keep their step counter on the CPU, whatever the device: reading that waits for nothing.
        if name in self.NAMES and not (name == "_local_scalar_dense" and _is_step_counter(args[0])):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def _is_step_counter(tensor):
    import inspect

    callers = {frame.filename.rpartition("torch/")[2] for frame in inspect.stack(context=0)[:12]}
    return tensor.ndim == 0 and any(name.startswith("optim/") for name in callers)


def test_the_host_never_waits_for_the_device_between_two_logs(monkeypatch):
    trainer = make_trainer(
        **{
            "model.num_classes": 10,
            "model.discriminator_norm": "spectral",
            "data": {"dataset": "digits", "flip": 0.5, "crop_padding": 1},
            "objective": {
                "loss": "relativistic",
                "penalties": [{"type": "r1", "weight": 1.0}, {"type": "gradient-penalty", "weight": 1.0}],
                "feature_matching": 1.0,
                "instance_noise": 0.1,
                "augment": ["color", "translation", "cutout"],
            },
            "discriminator_optimizer": {"clip_norm": 1.0, "clip_weights": 0.5},
            "training.n_critic": 2,
            "training.precision": "bf16",
        }
    )
    trainer.train_step()
    reads = HostReads(monkeypatch)
    with reads:
        trainer.train_step(is_logged=True)
        trainer.train_step()
    assert reads.found == []
    # The counter counts: reading the log waits, and so would any of these.
    with reads:
        trainer.stats.read()
        torch.ones(1).item()
        bool(torch.ones(1) > 0)
    assert reads.found == ["tolist", "_local_scalar_dense", "_local_scalar_dense"]


# ----------------------------------------------------------------------------------------------------- reproducibility


def test_two_runs_are_equal_bit_by_bit_and_another_seed_differs(tmp_path):
    options = {"training.steps": 4, "model.dropout": 0.2, "objective.augment": ["translation"]}
    for name, seed in (("first", 3), ("second", 3), ("other", 4)):
        torch.manual_seed(len(name))  # the caller's random state does not matter
        train(tmp_path / name, **options, **{"training.seed": seed})
    for file in ("model.safetensors", "discriminator/model.safetensors"):
        first, second, other = (
            (tmp_path / name / "pipeline" / file).read_bytes() for name in ("first", "second", "other")
        )
        assert first == second != other
    losses = [
        [row["generator/loss"] for row in read_rows(tmp_path / name / "metrics.jsonl") if row["event"] == "train"]
        for name in ("first", "second", "other")
    ]
    assert losses[0] == losses[1] != losses[2]


def test_training_leaves_the_callers_random_state_alone(tmp_path):
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    train(tmp_path, **{"training.steps": 2, "training.sample_every": 1})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    with pytest.raises(TrainingError):
        train(tmp_path / "failing", **{**EXPLODING, "training.steps": 500})
    assert torch.equal(torch.get_rng_state(), before[0])


def test_watching_a_run_does_not_change_it(tmp_path):
    # Without an average the network that is sampled and measured is the one that is trained: it must stay in train mode.
    options = {"training.steps": 4, "training.ema_half_life": None}
    watched = {
        "training.sample_every": 1,
        "training.log_every": 1,
        "training.checkpoint_every": 1,
        "evaluation": {"metrics": ["frechet_distance"], "num_samples": 16, "embedder": "pixels", "every": 1},
    }
    train(tmp_path / "alone", **options)
    run = train(tmp_path / "watched", **options, **watched)
    assert run.metrics[0]["name"] == "frechet_distance"
    rows = read_rows(tmp_path / "watched/metrics.jsonl")
    assert [row["step"] for row in rows if row["event"] == "evaluation"] == [1, 2, 3, 4]
    alone, watched = (tmp_path / name / "pipeline/model.safetensors" for name in ("alone", "watched"))
    assert alone.read_bytes() == watched.read_bytes()


# -------------------------------------------------------------------------------------------------------------- the run


def test_an_output_folder_that_holds_a_run_is_refused(tmp_path):
    first = train(tmp_path, **{"training.steps": 1})
    assert first.step == 1
    model = (tmp_path / "pipeline/model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds a run already; pass resume=True"):
        train(tmp_path, **{"training.steps": 2})
    assert (tmp_path / "pipeline/model.safetensors").read_bytes() == model
    assert train(tmp_path, resume=True, **{"training.steps": 2}).step == 2


def test_overrides_reach_the_run_and_wrong_ones_are_refused(tmp_path):
    run = train(tmp_path, **{"training.steps": 2, "model.width": 5, "generator_optimizer.learning_rate": 1e-3})
    assert run.step == 2 and run.pipeline.config.width == 5
    saved = load_recipe(tmp_path / "pipeline/recipe.yaml")
    assert saved.training.steps == 2 and saved.generator_optimizer.learning_rate == 1e-3
    with pytest.raises(UserError, match="Did you mean 'batch_size'"):
        train(tmp_path / "other", **{"training.batchsize": 2})
    assert RECIPE["training"]["steps"] == 20  # the caller's values are not ours to change


def test_the_clock_counts_every_second_once(tmp_path, monkeypatch):
    spent = []

    def timed(self, step=RunLoop.step):
        started = time.monotonic()
        step(self)
        spent.append(time.monotonic() - started)

    monkeypatch.setattr(RunLoop, "step", timed)
    train(tmp_path, **{"training.steps": 12, "training.log_every": 5})
    rows = read_rows(tmp_path / "metrics.jsonl")
    seconds = [row["seconds"] for row in rows if row["event"] in ("train", "end")]
    assert seconds == sorted(seconds) and 0.9 * sum(spent) < seconds[-1] < 1.5 * sum(spent)
    assert [row["step"] for row in rows if row["event"] == "train"] == [5, 10, 12]  # the last step is always logged


def test_a_conditional_model_needs_labels_and_enough_classes(tmp_path):
    for number in range(4):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="num_classes=10, but .* has no labels"):
        make_trainer(**{"model.num_classes": 10, "data.path": str(tmp_path)})
    with pytest.raises(UserError, match="num_classes=5, but the data has 10 classes"):
        make_trainer(**{"model.num_classes": 5})


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        train(tmp_path, **{"training.device": "gpu"})


def test_training_gets_closer_to_the_data():
    optimizer = {"learning_rate": 2e-3}
    trainer = make_trainer(
        **{
            "model.width": 8,
            "training.steps": 200,
            "training.batch_size": 32,
            "training.ema_half_life": 1000,
            "generator_optimizer": optimizer,
            "discriminator_optimizer": optimizer,
        }
    )
    stored, _ = trainer.dataset.batch(np.arange(len(trainer.dataset)))
    real = trainer.processor.normalize(stored).flatten(1)
    latents = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))

    def distance():
        with torch.no_grad():
            return frechet_distance(trainer.main_network(latents).flatten(1), real)

    untrained = distance()
    for _ in range(200):
        trainer.train_step()
    assert distance() < untrained / 3  # about 46 and 11; a perfect generator would get about 2
