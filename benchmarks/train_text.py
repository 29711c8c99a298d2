"""Text training: ganzoo beside a plain loop with the same networks, interleaved in one run.

    python benchmarks/train_text.py                  # one thread, CPU seconds: about ten minutes
    python benchmarks/train_text.py --quick          # a tenth of the rollouts, one round: whether it runs at all
    python benchmarks/train_text.py --device cuda

The setting is SeqGAN's: vocabulary 5,000, length 20, batch 64, embedding and hidden size 32, 16 rollouts, the paper's
discriminator and a small one (widths 1-5 with 64 filters). The plain loop is what the public implementations do: every
rollout reads its prefix again, `log_softmax` over the vocabulary and `torch.multinomial` draw a token, two-dimensional
convolutions judge every completed sentence. It shares ganzoo's weights, and nothing else of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import environment, ratio, summarise, synchronize
from torch import Tensor

import ganzoo
from ganzoo.networks.sequences import rollouts
from ganzoo.objectives.base import Batch, StepContext
from ganzoo.objectives.likelihood import LikelihoodConfig, LikelihoodObjective
from ganzoo.objectives.policy_gradient import PolicyGradientConfig, PolicyGradientObjective

RESULTS = Path(__file__).parent / "results"
BATCH, LENGTH, VOCABULARY, ROLLOUTS = 64, 20, 5000, 16
SMALL = {"filter_widths": [1, 2, 3, 4, 5], "filter_counts": [64] * 5}
# The smallest ratio, plain / ganzoo, that is promised of a row; `--check` ends with 1 below it.
TARGETS = {
    "rollouts": 10,
    "generator step, the paper's discriminator": 5,
    "generator step, small discriminator": 15,
    "10,000 samples": 10,
}


# ------------------------------------------------------------------------------------------------------------ the plain loop


def plain_step(generator: Any, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    model = generator.model
    weights = model.weight_ih_l0, model.weight_hh_l0, model.bias_ih_l0
    return torch.lstm_cell(F.embedding(tokens, model.embedding.weight), state, *weights)


def plain_draw(generator: Any, hidden: Tensor) -> Tensor:
    output = generator.model.output
    return torch.multinomial(F.linear(hidden, output.weight, output.bias).log_softmax(dim=1).exp(), 1)[:, 0]


@torch.no_grad()
def plain_sample(generator: Any, number: int, prefix: Tensor | None = None) -> Tensor:
    """Draws sentences; those that begin with `prefix` read it from the start."""
    device, length = generator.device, generator.config.max_length
    state = (torch.zeros(number, generator.config.hidden_dim, device=device),) * 2
    last, tokens = torch.zeros(number, dtype=torch.long, device=device), []
    for position in range(length):
        state = plain_step(generator, last, state)
        given = prefix is not None and position < prefix.shape[1]
        last = prefix[:, position] if given else plain_draw(generator, state[0])
        tokens.append(last)
    return torch.stack(tokens, dim=1)


def plain_rollouts(generator: Any, tokens: Tensor, number: int) -> list[Tensor]:
    """Completions of prefix 1, 2, ... T - 1, again and again `number` times: (B, T) each."""
    prefixes = range(1, tokens.shape[1])
    return [plain_sample(generator, len(tokens), tokens[:, :p]) for _ in range(number) for p in prefixes]


def plain_judge(discriminator: Any, tokens: Tensor) -> Tensor:
    embedded = discriminator.embedding(tokens)[:, None]
    pooled = []
    for width, filters in zip(discriminator.encoder.widths, discriminator.encoder.filters, strict=True):
        kernel = filters.weight.view(len(filters.weight), 1, width, -1)
        response = F.relu(F.conv2d(embedded, kernel, filters.bias))[..., 0]
        pooled.append(F.max_pool1d(response, response.shape[2])[..., 0])
    features = torch.cat(pooled, dim=1)
    highway = discriminator.highway
    gate = torch.sigmoid(highway.gate(features))
    features = gate * F.relu(highway.transform(features)) + (1 - gate) * features
    generated, real = discriminator.output(discriminator.dropout(features)).unbind(dim=1)
    return real - generated


def plain_likelihood(generator: Any, tokens: Tensor) -> Tensor:
    model = generator.model
    before = F.pad(tokens[:, :-1], (1, 0))
    zeros = torch.zeros(1, len(tokens), generator.config.hidden_dim, device=tokens.device)
    weights = [model.weight_ih_l0, model.weight_hh_l0, model.bias_ih_l0, torch.zeros_like(model.bias_ih_l0)]
    hidden = torch.lstm(model.embedding(before), (zeros, zeros), weights, True, 1, 0.0, True, False, True)[0]
    return model.output(hidden).log_softmax(dim=2).gather(2, tokens[..., None])[..., 0]


def plain_generator_loss(generator: Any, discriminator: Any, number: int) -> Tensor:
    tokens = plain_sample(generator, BATCH)
    with torch.no_grad():
        scores = [plain_judge(discriminator, done).sigmoid() for done in plain_rollouts(generator, tokens, number)]
        rewards = torch.stack(scores).view(number, -1, len(tokens)).mean(dim=0)
        whole = plain_judge(discriminator, tokens).sigmoid()
    rewards = torch.cat([rewards, whole[None]]).T
    return -(plain_likelihood(generator, tokens) * rewards).sum()


# -------------------------------------------------------------------------------------------------------------- the two sides


class Setting:
    """A pair of networks with their optimisers, real data, and each piece of work done in both ways."""

    def __init__(self, device: str, number: int = ROLLOUTS, **config: Any) -> None:
        torch.manual_seed(0)
        config = {"vocab_size": VOCABULARY, "max_length": LENGTH, **config}
        self.networks = dict(zip(("generator", "discriminator"), ganzoo.create("seqgan", **config), strict=True))
        for network in self.networks.values():
            network.to(device).eval()
        self.generator, self.discriminator = self.networks.values()
        self.optimizers = {role: torch.optim.Adam(net.parameters(), 1e-4) for role, net in self.networks.items()}
        self.number, self.device = number, device
        shape = (BATCH, config["max_length"])
        self.real = torch.randint(config["vocab_size"], shape).to(device)
        self.own = self.generator(self.generator.sample_latents(BATCH))
        self.policy = PolicyGradientObjective(PolicyGradientConfig(num_rollouts=number, reduction="sum"))
        self.likelihood = LikelihoodObjective(LikelihoodConfig())

    @cached_property
    def completed(self) -> Tensor:
        return rollouts(self.generator, self.own, self.number)

    def update(self, role: str, loss: Tensor) -> None:
        network, optimizer = self.networks[role], self.optimizers[role]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    def context(self) -> StepContext:
        def draw_latents(generator: Any, number: int, *key: Any) -> Tensor:
            return generator.sample_latents(number)

        return StepContext(0, 0.0, draw_latents, contextlib.nullcontext)

    def objective_step(self, objective: Any) -> None:
        loss = objective.generator_loss(self.networks, Batch(self.real, None), self.context())
        self.update("generator", sum(loss.terms.values()))

    def discriminator_step(self, judge: Callable[[Tensor], Tensor]) -> None:
        half = BATCH // 2
        logits = judge(torch.cat([self.real[:half], self.own[:half]]))
        target = torch.zeros_like(logits).index_fill_(0, torch.arange(half, device=logits.device), 1.0)
        self.update("discriminator", F.binary_cross_entropy_with_logits(logits, target))

    def ours_rollouts(self) -> None:
        rollouts(self.generator, self.own, self.number)

    def plain_rollouts(self) -> None:
        plain_rollouts(self.generator, self.own, self.number)

    @torch.no_grad()
    def ours_scoring(self) -> None:
        self.discriminator.judge_continuations(self.own, self.completed)

    @torch.no_grad()
    def plain_scoring(self) -> None:
        for done in self.completed.flatten(0, 1):
            plain_judge(self.discriminator, done)

    def ours_step(self) -> None:
        self.objective_step(self.policy)

    def plain_step(self) -> None:
        self.update("generator", plain_generator_loss(self.generator, self.discriminator, self.number))

    def ours_mle(self) -> None:
        self.objective_step(self.likelihood)

    def plain_mle(self) -> None:
        self.update("generator", -plain_likelihood(self.generator, self.real).mean())

    def ours_discriminator(self) -> None:
        self.discriminator_step(lambda tokens: self.discriminator(tokens)[0].logits)

    def plain_discriminator(self) -> None:
        self.discriminator_step(lambda tokens: plain_judge(self.discriminator, tokens))

    def ours_samples(self, number: int) -> None:
        self.generator(self.generator.sample_latents(number))

    def plain_samples(self, number: int) -> None:
        for _ in range(number // BATCH):
            plain_sample(self.generator, BATCH)


def seconds(call: Callable[[], Any], device: str, steps: int = 1) -> float:
    """CPU seconds of a call, all threads together; on a GPU those that pass."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    synchronize(device)
    start = clock()
    for _ in range(steps):
        call()
    synchronize(device)
    return (clock() - start) / steps


def compare(case: str, plain: Callable[[], Any], ours: Callable[[], Any], *, rounds: int, device: str, steps: int = 1,
            times: float = 1) -> dict[str, object]:  # fmt: skip
    """One row: both sides in turn, `times` over (an epoch from some of its steps)."""
    ours()
    spent: dict[str, list[float]] = {"plain": [], "ganzoo": []}
    for _ in range(rounds):
        spent["plain"].append(seconds(plain, device, steps) * times)
        spent["ganzoo"].append(seconds(ours, device, steps) * times)
    medians = {name: round(summarise(values).median, 4) for name, values in spent.items()}
    ratios = ratio(spent["plain"], spent["ganzoo"])
    row = {"case": case, **medians, "ratio": round(ratios.median, 2), "ratio_from": round(ratios.low, 2),
           "ratio_to": round(ratios.high, 2)}  # fmt: skip
    print(row, flush=True)
    return row


def comparison(device: str, rounds: int, quick: bool) -> list[dict[str, object]]:
    number, samples = (2, 640) if quick else (ROLLOUTS, 9_984)
    settings = {"the paper's": Setting(device, number), "small": Setting(device, number, **SMALL)}
    how = {"rounds": rounds, "device": device}
    small = settings["small"]
    rows = [
        compare("rollouts", small.plain_rollouts, small.ours_rollouts, **how),
        compare(
            "10,000 samples", lambda: small.plain_samples(samples), lambda: small.ours_samples(samples), **how,
            times=10_000 / samples,
        ),
        compare("MLE epoch of 10,000", small.plain_mle, small.ours_mle, **how, steps=8, times=10_000 / BATCH),
    ]  # fmt: skip
    for name, setting in settings.items():
        rows += [
            compare(f"scoring of rollouts, {name} discriminator", setting.plain_scoring, setting.ours_scoring, **how),
            compare(f"generator step, {name} discriminator", setting.plain_step, setting.ours_step, **how),
            compare(
                f"discriminator epoch of 20,000, {name} discriminator",
                setting.plain_discriminator,
                setting.ours_discriminator,
                **how,
                steps=8,
                times=20_000 / BATCH,
            ),
        ]
    return rows


def scaling(device: str, quick: bool) -> list[dict[str, object]]:
    """A generator step with the small discriminator, one size changed at a time."""
    changes: list[dict[str, int]] = [
        *({"vocab_size": size} for size in (1_000, 5_000, 20_000, 50_000)),
        *({"max_length": length} for length in (40, 80)),
        *({"number": number} for number in (1, 4, 64)),
    ]
    rows = []
    for change in changes[: 2 if quick else None]:
        setting = Setting(device, **SMALL, **change)
        sizes = {"vocabulary": VOCABULARY, "length": LENGTH, "rollouts": ROLLOUTS}
        names = {"vocab_size": "vocabulary", "max_length": "length", "number": "rollouts"}
        sizes |= {names[key]: value for key, value in change.items()}
        row = {
            **sizes,
            "rollouts_s": round(seconds(setting.ours_rollouts, device), 3),
            "step_s": round(seconds(setting.ours_step, device), 3),
        }
        drawn = BATCH * sizes["rollouts"] * sizes["length"] * (sizes["length"] - 1) // 2
        rows.append({**row, "us_a_token": round(row["rollouts_s"] / drawn * 1e6, 2)})
        print(rows[-1], flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skip-scaling", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = comparison(arguments.device, 1 if arguments.quick else arguments.rounds, arguments.quick)
    table = [] if arguments.skip_scaling else scaling(arguments.device, arguments.quick)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"train_text-{arguments.device.partition(':')[0]}.json"
        content = {"environment": {**environment(), "threads": 1}, "rows": rows, "scaling": table}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"written to {path}")
    missed = [f"{row['case']}: {row['ratio']} < {TARGETS[row['case']]}" for row in rows
              if row["ratio"] < TARGETS.get(row["case"], 0)]  # fmt: skip
    for line in missed:
        print(f"short of its target: {line}")
    return int(arguments.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
