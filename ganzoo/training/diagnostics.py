"""What goes wrong with a GAN, seen in the logged numbers and said in words.

`Diagnostics` watches the rows that a run logs and returns warnings; `non_finite` and `non_finite_advice` are for the
failure that ends a run. Nothing here touches a network or a device, apart from `diversity_stats` and its parts, which make
some of the numbers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, median, pvariance
from typing import Any, NamedTuple

_EARLY_ROWS = 10  # rows whose median gradient norm is the yardstick for later ones
_MIN_EARLY_ROWS = 5
_VANISHED_RATIO = 1e-3
_VANISHED_NORM = 1e-8
_SATURATED_ACCURACY = 0.99
_DIVERSITY_RATIO = 1 / 3
_DIVERSITY_GRACE_ROWS = 10  # an untrained generator makes all samples nearly alike, which is no fault
_BLIND_MARGIN = 0.02
_DISTINCT_TOKENS_RATIO = 1 / 2
_DISTINCT_SENTENCES_RATIO = 0.9
_REWARD_ROWS = 40  # a reward is given so many rows of a phase to move
_REWARD_ERRORS = 3.0  # a change of fewer standard errors is none
_MEMORISED_GAP = 0.2
_RECENT_ROWS = 5  # rows whose mean accuracy is compared with that on held-out data


_ACCURACIES = ("discriminator/real_accuracy", "discriminator/fake_accuracy")


class Diagnosis(NamedTuple):
    """One warning: a stable `name` for programs, a `message` for people."""

    name: str
    message: str


class _History:
    """What the conditions remember of a phase: early gradient norms and rewards, whether diversity ever was healthy."""

    def __init__(self) -> None:
        self.rows = 0
        self.norms: dict[str, list[float]] = {}
        self.early_rewards: list[float] = []
        self.late_rewards: deque[float] = deque(maxlen=_EARLY_ROWS)
        self.accuracies: deque[tuple[float, float]] = deque(maxlen=_RECENT_ROWS)
        self.was_diverse = False

    def observe(self, row: Mapping[str, float]) -> None:
        self.rows += 1
        for name in ("generator/grad_norm", "discriminator/grad_norm"):
            norms = self.norms.setdefault(name, [])
            if row.get(name, 0.0) > 0 and len(norms) < _EARLY_ROWS:
                norms.append(row[name])
        if "generator/diversity" in row and "real/diversity" in row:
            self.was_diverse |= row["generator/diversity"] >= row["real/diversity"] * _DIVERSITY_RATIO
        if "generator/reward" in row:
            rewards = self.early_rewards if len(self.early_rewards) < _EARLY_ROWS else self.late_rewards
            rewards.append(row["generator/reward"])
        if all(key in row for key in _ACCURACIES):
            self.accuracies.append((row[_ACCURACIES[0]], row[_ACCURACIES[1]]))

    def vanished(self, name: str, norm: float) -> str | None:
        """Returns in words how far a gradient norm has fallen, None if it has not."""
        early = self.norms.get(name, [])
        if len(early) >= _MIN_EARLY_ROWS and norm < median(early) * _VANISHED_RATIO:
            return f"{norm:.2g}, less than a thousandth of the {median(early):.2g} it began with"
        return f"{norm:.2g}, practically zero" if norm < _VANISHED_NORM else None


def _saturation(row: Mapping[str, float], history: _History) -> str | None:
    real, fake = row["discriminator/real_accuracy"], row["discriminator/fake_accuracy"]
    if min(real, fake) < _SATURATED_ACCURACY:
        return None
    remedies = (
        "dropout, label smoothing, rewards centred by a baseline; and see on held-out text whether it only knows the "
        "training text by heart"
        if "generator/reward" in row
        else "R1 or a gradient penalty, label smoothing, instance noise, or, with little data, DiffAugment"
    )
    return (
        f"The discriminator tells {real:.1%} of the real and {fake:.1%} of the generated samples right, so it has "
        "little left to teach the generator. If the samples stop getting better, slow it down: a lower discriminator "
        f"learning rate, fewer discriminator steps, {remedies}."
    )


def _vanishing_gradients(row: Mapping[str, float], history: _History) -> str | None:
    fallen = history.vanished("generator/grad_norm", row["generator/grad_norm"])
    if fallen is None:
        return None
    return (
        f"The norm of the generator's gradient is {fallen}: the generator no longer learns. Go back to a checkpoint "
        "from before, and try the non-saturating, hinge or Wasserstein loss in place of minimax, R1 or a gradient "
        "penalty on the discriminator, or lower learning rates."
    )


def _falling_diversity(row: Mapping[str, float], history: _History) -> str | None:
    generated, real = row["generator/diversity"], row["real/diversity"]
    if generated >= real * _DIVERSITY_RATIO or not (history.was_diverse or history.rows > _DIVERSITY_GRACE_ROWS):
        return None
    course = "have become" if history.was_diverse else "are still"
    return (
        f"The generated samples {course} much alike: their mean distance (with classes, within them; of text: share of "
        f"distinct tokens) is {generated:.3g}, that of real samples {real:.3g}. This is how mode collapse looks. Compare the "
        "sample grids; then try a lower generator learning rate, more discriminator steps for each generator step, the "
        "relativistic loss with R1 and R2, a minibatch standard deviation layer in the discriminator, or a larger batch."
    )


def _blind_discriminator(row: Mapping[str, float], history: _History) -> str | None:
    # At a perfect equilibrium the accuracies look like this too, but there the gradient of a batch stays as large as
    # its sampling noise. Only a discriminator that ignores its input has both.
    real, fake = row["discriminator/real_accuracy"], row["discriminator/fake_accuracy"]
    fallen = history.vanished("discriminator/grad_norm", row["discriminator/grad_norm"])
    if fallen is None or abs(real + fake - 1) > _BLIND_MARGIN:
        return None
    return (
        f"The discriminator does no better than guessing ({real:.1%} of real, {fake:.1%} of generated samples right) "
        f"and the norm of its gradient is {fallen}: it has stopped looking at its input. Start again with a lower "
        "discriminator learning rate, gradient clipping, or a weaker penalty or weight clip."
    )


def _repeated_text(row: Mapping[str, float], history: _History) -> str | None:
    shares = {
        "tokens": (row["generator/distinct_tokens"], row["real/distinct_tokens"], _DISTINCT_TOKENS_RATIO),
        "sentences": (row["generator/distinct_sentences"], row["real/distinct_sentences"], _DISTINCT_SENTENCES_RATIO),
    }
    low = [
        f"{generated:.1%} of the {name} in a batch are distinct, {real:.1%} in real text"
        for name, (generated, real, ratio) in shares.items()
        if generated < real * ratio
    ]
    if not low:
        return None
    return (
        f"The generator repeats itself: {', and '.join(low)}. This is how mode collapse looks in text: rewards pay for "
        "what is safe. Compare the sentences; then go back to a checkpoint from before and try a baseline (so that "
        "average sentences earn nothing), a weight on likelihood or entropy in the objective, a lower generator "
        "learning rate, fewer adversarial steps, or larger batches."
    )


def _still_reward(row: Mapping[str, float], history: _History) -> str | None:
    early, late = history.early_rewards, history.late_rewards
    if history.rows < _REWARD_ROWS or len(late) < _EARLY_ROWS:
        return None
    change, noise = fmean(late) - fmean(early), math.sqrt((pvariance(early) + pvariance(late)) / (_EARLY_ROWS - 1))
    if noise == 0 or abs(change) > _REWARD_ERRORS * noise:  # without noise: a constant reward, a control and no fault
        return None
    return (
        f"The mean reward is {fmean(late):.3g}, as in the beginning ({fmean(early):.3g}), within its noise of {noise:.2g}. "
        "Where the discriminator learns along, this can be a fair game: judge by held-out likelihood and by the "
        "sentences. If they stand still too, the generator learns nothing from its rewards: try larger batches, more "
        "rollouts, rewards centred and normalised by a baseline, a higher generator learning rate, or fewer "
        "discriminator steps in between."
    )


def _guessing_discriminator(row: Mapping[str, float], history: _History) -> str | None:
    real, fake = row["discriminator/real_accuracy"], row["discriminator/fake_accuracy"]
    if abs(real + fake - 1) > _BLIND_MARGIN:
        return None
    return (
        f"The discriminator does no better than guessing ({real:.1%} of real, {fake:.1%} of generated sentences right), "
        "so the rewards are noise. Train the discriminator longer before and between the generator's steps, on fresh "
        "samples each time, or with a higher learning rate."
    )


def _memorising(row: Mapping[str, float], history: _History) -> str | None:
    if not history.accuracies:
        return None
    real, fake = map(fmean, zip(*history.accuracies, strict=True))
    held, fresh = row["validation/real_accuracy"], row["validation/fake_accuracy"]
    # A discriminator that has just become stricter with everything loses on real samples what it wins on generated ones.
    if real - held < _MEMORISED_GAP or real + fake - held - fresh < _MEMORISED_GAP:
        return None
    return (
        f"The discriminator takes {real:.1%} of the real samples that it trains on for real, but only {held:.1%} of those "
        "that were held out: it knows the training data by heart, and what it teaches the generator is to copy them. Try "
        "fewer discriminator updates before and between the generator's steps, dropout, label smoothing, a weight on "
        "the norm of its output layer, a smaller discriminator, or more data."
    )


class _Condition(NamedTuple):
    name: str
    keys: tuple[str, ...]  # a row without these says nothing about the condition
    message: Callable[[Mapping[str, float], _History], str | None]
    needs_decision_boundary: bool = False
    patience: int | None = None  # another than that of the others


_CONDITIONS = (
    _Condition("discriminator-saturation", _ACCURACIES, _saturation, needs_decision_boundary=True),
    _Condition("vanishing-generator-gradients", ("generator/grad_norm",), _vanishing_gradients),
    _Condition("falling-diversity", ("generator/diversity", "real/diversity"), _falling_diversity),
    _Condition(
        "discriminator-blind",
        (*_ACCURACIES, "discriminator/grad_norm"),
        _blind_discriminator,
        needs_decision_boundary=True,
    ),
    _Condition(
        "repeated-text",
        tuple(f"{who}/distinct_{what}" for who in ("generator", "real") for what in ("tokens", "sentences")),
        _repeated_text,
    ),
    _Condition("reward-not-moving", ("generator/reward",), _still_reward),
    _Condition(
        "discriminator-guesses",
        (*_ACCURACIES, "generator/reward"),
        _guessing_discriminator,
        needs_decision_boundary=True,
    ),
    _Condition(
        "discriminator-memorises",
        ("validation/real_accuracy", "validation/fake_accuracy"),
        _memorising,
        needs_decision_boundary=True,
        patience=1,  # held-out data are measured seldom, and on many samples
    ),
)


class _Alarm:
    """Says when to speak: once a condition has held for `patience` rows, then each `repeat_every` rows while it lasts.

    It is over only after `patience` rows without it, so a number that wavers about its threshold is reported once.
    """

    def __init__(self, patience: int, repeat_every: int) -> None:
        self.patience, self.repeat_every = patience, repeat_every
        self.held = self.absent = self.since_told = 0
        self.told = False

    def speaks(self, holds: bool) -> bool:
        self.held, self.absent = (self.held + 1, 0) if holds else (0, self.absent + 1)
        self.since_told += 1
        if self.absent >= self.patience:
            self.told = False
        if self.held < self.patience or (self.told and self.since_told < self.repeat_every):
            return False
        self.told, self.since_told = True, 0
        return True


class Diagnostics:
    """Turns logged rows into warnings in words.

    It needs only the rows, so a resumed run gets its memory back by checking the old rows of `metrics.jsonl`
    again and dropping what is returned. Each phase is judged by itself: gradients of pretraining have another scale.

    Args:
        has_decision_boundary: Whether there is a logit above which the discriminator says "real", in all phases or by their
            names. False for Wasserstein and relativistic losses, whose accuracies mean nothing.
        patience: Rows running that a condition must hold to be reported, and be gone to count as over.
        repeat_every: Rows after which a condition that still holds is reported again.
    """

    def __init__(
        self,
        *,
        has_decision_boundary: bool | Mapping[str, bool] = True,
        patience: int = 5,
        repeat_every: int = 100,
    ) -> None:
        self._has_boundary = has_decision_boundary
        self._patience, self._repeat_every = patience, repeat_every
        self._start_phase(None)

    def _start_phase(self, phase: Any) -> None:
        self._phase = phase
        self._history = _History()
        bounded = self._has_boundary
        if isinstance(bounded, Mapping):
            bounded = bounded.get(phase, True)
        self._conditions = [condition for condition in _CONDITIONS if bounded or not condition.needs_decision_boundary]
        self._alarms = {
            condition.name: _Alarm(condition.patience or self._patience, self._repeat_every)
            for condition in self._conditions
        }

    def check(self, row: Mapping[str, Any]) -> list[Diagnosis]:
        """Takes the next logged row; rows of other events than "train" and "validation" are passed over.

        Args:
            row: A train row, flat: `discriminator/real_accuracy` and `fake_accuracy` in [0, 1],
                `discriminator/grad_norm`, `generator/grad_norm`, `generator/diversity`, `real/diversity`, `phase`; of
                text `generator/reward` and, for generator and real, `distinct_tokens` and `distinct_sentences`. Or one
                of held-out data: `validation/real_accuracy` and `fake_accuracy`, and `phase`. What is absent (or not
                finite) is not judged.

        Returns:
            The warnings to give now; usually none.
        """
        event = row.get("event", "train")
        if event not in ("train", "validation"):
            return []
        if row.get("phase") != self._phase:
            self._start_phase(row.get("phase"))
        numbers = {
            name: value for name, value in row.items() if isinstance(value, int | float) and math.isfinite(value)
        }
        if event == "train":
            self._history.observe(numbers)
        found = []
        for condition in self._conditions:
            if all(key in numbers for key in condition.keys):
                message = condition.message(numbers, self._history)
                if self._alarms[condition.name].speaks(message is not None):
                    found.append(Diagnosis(condition.name, message))
        return found


def non_finite(row: Mapping[str, Any]) -> list[str]:
    """Returns the names of a row's NaN and infinite entries, in their order."""
    return [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]


def non_finite_advice(names: list[str], step: int, checkpoint_path: str | Path | None) -> str:
    """Words the error that ends a run after NaN or infinity.

    Args:
        names: What is not finite, as `non_finite` returns it.
        step: The step it was seen at.
        checkpoint_path: The last good checkpoint, which is kept; None if there is none yet.
    """
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    kept = (
        f"The last good checkpoint is kept: {checkpoint_path}; resume from it with the change."
        if checkpoint_path is not None
        else "There is no checkpoint from before; start again with the change."
    )
    return (
        f"{shown} became NaN or infinite by step {step:,}, and training was stopped. {kept} "
        "What helps, most likely first: lower learning rates; gradient clipping; fp32 or bf16 in place of fp16; "
        "a weaker penalty; and a look at the data for broken samples."
    )
