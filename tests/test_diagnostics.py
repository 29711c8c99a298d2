"""Warnings in words: when they come, when they stay away, and what they say."""

import math
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ganzoo.objectives.diversity import diversity
from ganzoo.training.diagnostics import Diagnostics, non_finite, non_finite_advice

HEALTHY = {
    "event": "train",
    "phase": "adversarial",
    "discriminator/real_accuracy": 0.8,
    "discriminator/fake_accuracy": 0.75,
    "discriminator/grad_norm": 2.0,
    "generator/grad_norm": 1.0,
    "generator/diversity": 0.5,
    "real/diversity": 0.6,
}


def warnings_of(diagnostics, changes, rows):
    """Feeds `rows` rows that differ from the healthy one by `changes`; returns (row index, name, message) of each."""
    return [
        (index, *found) for index in range(rows) for found in diagnostics.check({**HEALTHY, "step": index, **changes})
    ]


SATURATED = {"discriminator/real_accuracy": 0.995, "discriminator/fake_accuracy": 1.0}
CASES = {
    "discriminator-saturation": (SATURATED, ("99.5%", "100.0%", "R1")),
    "vanishing-generator-gradients": ({"generator/grad_norm": 5e-4}, ("0.0005", "the 1 it began with", "loss")),
    "falling-diversity": ({"generator/diversity": 0.1}, ("have become", "0.1", "0.6", "mode collapse")),
    "discriminator-blind": (
        {"discriminator/real_accuracy": 1.0, "discriminator/fake_accuracy": 0.0, "discriminator/grad_norm": 1e-4},
        ("100.0%", "0.0%", "0.0001", "lower discriminator learning rate"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_condition_is_named_with_its_numbers_and_advice(name):
    changes, words = CASES[name]
    diagnostics = Diagnostics()
    assert warnings_of(diagnostics, {}, 30) == []
    ((index, found, message),) = warnings_of(diagnostics, changes, 20)
    assert (index, found) == (4, name), "reported at the fifth row in a row, once"
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "changes",
    [
        {"discriminator/real_accuracy": 1.0},  # one accuracy alone
        {"discriminator/real_accuracy": 0.5, "discriminator/fake_accuracy": 0.5},  # the equilibrium: gradients remain
        {"discriminator/grad_norm": 1e-4},  # a small gradient with good accuracies
        {"generator/grad_norm": 0.01},
        {"generator/diversity": 0.21},
        {"generator/diversity": 0.0, "real/diversity": 0.0},
    ],
)
def test_no_false_alarm(changes):
    diagnostics = Diagnostics()
    assert warnings_of(diagnostics, {}, 10) + warnings_of(diagnostics, changes, 50) == []


HELD_OUT = {
    "event": "validation",
    "phase": "adversarial",
    "validation/real_accuracy": 0.78,
    "validation/fake_accuracy": 0.74,
}


def test_a_discriminator_that_knows_its_data_by_heart():
    diagnostics = Diagnostics()
    assert diagnostics.check(HELD_OUT | {"validation/real_accuracy": 0.0}) == [], "nothing to compare with yet"
    assert warnings_of(diagnostics, {}, 10) == [] == diagnostics.check(HELD_OUT)
    assert warnings_of(diagnostics, {"discriminator/real_accuracy": 0.95}, 5) == []
    ((name, message),) = diagnostics.check(HELD_OUT | {"validation/real_accuracy": 0.6})
    assert name == "discriminator-memorises"
    for word in ("95.0%", "60.0%", "by heart", "fewer discriminator updates", "dropout"):
        assert word in message
    assert diagnostics.check(HELD_OUT | {"validation/real_accuracy": 0.6}) == [], "told once"


@pytest.mark.parametrize(
    "changes",
    [
        {"validation/real_accuracy": 0.65},  # a little worse
        {"validation/real_accuracy": 0.5, "validation/fake_accuracy": 1.0},  # stricter with everything than it was
        {"validation/real_accuracy": math.nan},
        {"validation/real_accuracy": 0.5, "phase": "another"},  # nothing to compare with
        {"validation/loss": 3.0, "validation/real_accuracy": None},
    ],
)
def test_held_out_data_that_is_judged_as_well(changes):
    diagnostics = Diagnostics()
    assert warnings_of(diagnostics, {}, 10) == []
    assert [found for _ in range(20) for found in diagnostics.check(HELD_OUT | changes)] == []


def test_held_out_rows_stand_beside_the_others():
    memorised = HELD_OUT | {"validation/real_accuracy": 0.1, "validation/fake_accuracy": 0.1}
    without, beside = Diagnostics(has_decision_boundary=False), Diagnostics(patience=5)
    assert warnings_of(without, {}, 10) == [] == without.check(memorised)
    found = []
    for _ in range(6):
        found += [name for _, name, _ in warnings_of(beside, SATURATED, 1)]
        found += [name for name, _ in beside.check(memorised)]
    assert found == ["discriminator-memorises", "discriminator-saturation"], "neither is the other's patience or end"


def test_reported_again_only_after_it_was_gone():
    diagnostics = Diagnostics(patience=3, repeat_every=1000)
    assert len(warnings_of(diagnostics, SATURATED, 10)) == 1
    assert warnings_of(diagnostics, {}, 2) + warnings_of(diagnostics, SATURATED, 10) == [], "two rows: it only wavered"
    assert warnings_of(diagnostics, {}, 3) == []
    assert len(warnings_of(diagnostics, SATURATED, 10)) == 1


def test_reported_again_while_it_lasts_every_so_many_rows():
    found = warnings_of(Diagnostics(patience=3, repeat_every=20), SATURATED, 63)
    assert [index for index, *_ in found] == [2, 22, 42, 62]


def test_a_short_episode_is_no_warning():
    diagnostics = Diagnostics()
    for _ in range(10):
        assert warnings_of(diagnostics, SATURATED, 4) + warnings_of(diagnostics, {}, 1) == []


def test_a_zero_gradient_is_seen_without_any_history():
    (found,) = warnings_of(Diagnostics(), {"generator/grad_norm": 0.0}, 8)
    assert found[1] == "vanishing-generator-gradients" and "practically zero" in found[2]


def test_an_untrained_generator_is_given_time():
    flat = {"generator/diversity": 0.01}
    assert warnings_of(Diagnostics(), flat, 10) == []
    ((index, name, message),) = warnings_of(Diagnostics(), flat, 40)
    assert (index, name) == (14, "falling-diversity") and "are still" in message


def test_wasserstein_accuracies_are_not_judged():
    diagnostics = Diagnostics(has_decision_boundary=False)
    blind = CASES["discriminator-blind"][0]
    assert warnings_of(diagnostics, {}, 10) + warnings_of(diagnostics, SATURATED, 20) == []
    assert warnings_of(diagnostics, blind, 20) == []
    assert warnings_of(diagnostics, {"generator/grad_norm": 0.0}, 20) != []


def test_accuracies_are_judged_by_the_objective_of_their_phase():
    diagnostics = Diagnostics(has_decision_boundary={"hinge": True, "wasserstein": False})
    ((_, name, _),) = warnings_of(diagnostics, {**SATURATED, "phase": "hinge"}, 20)
    assert name == "discriminator-saturation"
    assert warnings_of(diagnostics, {**SATURATED, "phase": "wasserstein"}, 20) == []


def test_each_phase_has_its_own_yardstick():
    diagnostics = Diagnostics()
    assert warnings_of(diagnostics, {"phase": "pretraining", "generator/grad_norm": 1e5}, 20) == []
    assert warnings_of(diagnostics, {"phase": "adversarial", "generator/grad_norm": 1.0}, 20) == []


def test_rows_that_say_nothing_change_nothing():
    diagnostics = Diagnostics()
    assert warnings_of(diagnostics, SATURATED, 4) == []
    silent = [
        {"event": "train", "phase": "adversarial", "step": 1},
        {"event": "evaluation", "metrics": []},
        {"event": "train", "phase": "adversarial", "discriminator/real_accuracy": "NaN"},
        {"event": "train", "phase": "adversarial", "discriminator/real_accuracy": math.nan},
    ]
    assert [found for row in silent for found in diagnostics.check(row)] == []
    assert len(warnings_of(diagnostics, SATURATED, 1)) == 1, "the fifth row that tells"


def test_replayed_rows_restore_the_memory():
    old = [{**HEALTHY, "step": step} for step in range(10)]
    fresh, resumed = Diagnostics(), Diagnostics()
    for row in old:
        resumed.check(row)
    changes = {"generator/grad_norm": 1e-4}
    assert warnings_of(fresh, changes, 20) == []
    assert len(warnings_of(resumed, changes, 20)) == 1


def test_non_finite_names_the_entries():
    row = {"step": 3, "a": 1.0, "b": math.nan, "phase": "x", "c": -math.inf, "d": 10**400}
    assert non_finite(row) == ["b", "c"]


def test_non_finite_advice_names_what_where_and_the_checkpoint():
    text = non_finite_advice(["generator/loss"], 1200, Path("run/checkpoints/step-00001000"))
    for words in ("generator/loss", "step 1,200", "run/checkpoints/step-00001000", "learning rate", "fp16"):
        assert words in text
    text = non_finite_advice([f"n{i}" for i in range(9)], 5, None)
    assert "n5 and 3 more" in text and "no checkpoint" in text


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (7, 3, 8, 8), (64, 2, 16)])
def test_diversity_is_the_mean_pairwise_distance(shape):
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3
    flat = samples.double().flatten(1)
    slow = [(flat[i] - flat[j]).norm() / math.sqrt(flat.shape[1]) for i in range(len(flat)) for j in range(i)]
    torch.testing.assert_close(diversity(samples).double(), torch.stack(slow).mean(), rtol=1e-5, atol=0)


def test_diversity_of_noise_and_of_copies():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 3, 32, 32, generator=generator)
    assert diversity(noise * 0.5).item() == pytest.approx(0.5 * math.sqrt(2), rel=0.01)
    assert diversity(noise[:1].expand(64, -1, -1, -1) + 100).item() < 1e-4
    assert diversity(noise[:1]).item() == 0.0
    assert diversity(noise[:0]).item() == 0.0
    assert diversity((noise * 20 + 128).clamp(0, 255).to(torch.uint8)).item() == pytest.approx(20 * 2**0.5, rel=0.02)


def test_diversity_of_a_conditional_model_is_that_within_its_classes():
    generator = torch.Generator().manual_seed(0)
    samples, labels = torch.randn(12, 1, 4, 4, generator=generator), torch.arange(12) % 3
    flat = samples.double().flatten(1)
    pairs = [(i, j) for i in range(12) for j in range(i) if i % 3 == j % 3]
    slow = [(flat[i] - flat[j]).norm() / 4 for i, j in pairs]
    torch.testing.assert_close(diversity(samples, labels).double(), torch.stack(slow).mean(), rtol=1e-5, atol=0)
    one_picture_a_class = samples[labels]
    assert diversity(one_picture_a_class) > 0.5 and diversity(one_picture_a_class, labels) < 1e-3
    assert diversity(samples, torch.arange(12)) == diversity(samples), "no class has a pair"
    many = torch.randn(80, 5, generator=generator)
    assert diversity(many, torch.arange(80) % 2) == diversity(many[:64], torch.arange(64) % 2)


def test_diversity_looks_at_the_first_samples_only():
    noise = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    assert diversity(torch.cat([noise, torch.full((10, 5), 1e6)])) == diversity(noise)


def test_diversity_keeps_no_graph_reads_no_value_and_ignores_autocast():
    samples = torch.randn(16, 40, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = diversity(samples)
    assert not value.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert diversity(samples) == value
    with FakeTensorMode():  # a fake tensor has no value: whatever would wait for one raises
        assert diversity(torch.zeros(8, 3)).shape == ()
        assert diversity(torch.zeros(8, 3), torch.arange(8) % 2).shape == ()
