"""WaveGAN's training speed: ganzoo's step beside the plain PyTorch loop, same networks, one thread, in turn.

    python benchmarks/train_audio.py            # widths 16 and 64; about three minutes of an idle core
    python benchmarks/train_audio.py --check    # ... and exit with 1 if a target is missed

One step is five updates of the discriminator and one of the generator: batch 16, clips of 16,384 samples, WGAN-GP. `plain`
is the published network in `nn.Conv1d` and `nn.ConvTranspose1d` with the loop that ports of it have, without phase shuffle
(in the usual PyTorch port it never runs, and it costs nothing here either way). `ganzoo` is `Trainer.train_step` with all
that it does, phase shuffle included; its bf16 leaves the gradient penalty in fp32. Seconds are those of the process, so
that others on the machine count little; `plain`'s are 5 x a discriminator update + a generator update.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timing import ratio, run_cases, summarise
from torch import Tensor, nn

import ganzoo
from ganzoo.data.dataset import ArrayDataset
from ganzoo.objectives import build_objective
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.trainer import Trainer
from ganzoo.utils.precision import has_fast_bf16

RESULTS = Path(__file__).parent / "results" / "train_audio-cpu.json"
BATCH, LENGTH, CRITIC_UPDATES = 16, 16_384, 5
ROUNDS = {16: 5, 64: 2}  # by width
TARGET = 1.5  # of the faster precision, against plain fp32
PLAIN, FP32, BF16 = "plain fp32", "ganzoo fp32", "ganzoo bf16"
# A work unit of a step and how often the step does it.
Parts = list[tuple[Callable[[], object], int]]


class PlainGenerator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width * factor for factor in (16, 8, 4, 2, 1)] + [1]
        self.width, self.dense = width, nn.Linear(100, 256 * width)
        self.layers = nn.ModuleList(
            nn.ConvTranspose1d(wide, narrow, 25, stride=4, padding=11, output_padding=1)
            for wide, narrow in zip(channels, channels[1:], strict=False)
        )

    def forward(self, latents: Tensor) -> Tensor:
        hidden = F.relu(self.dense(latents).view(-1, 16 * self.width, 16))
        for layer in self.layers[:-1]:
            hidden = F.relu(layer(hidden))
        return torch.tanh(self.layers[-1](hidden))


class PlainDiscriminator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [1] + [width * factor for factor in (1, 2, 4, 8, 16)]
        self.layers = nn.ModuleList(
            nn.Conv1d(narrow, wide, 25, stride=4, padding=11)
            for narrow, wide in zip(channels, channels[1:], strict=False)
        )
        self.dense = nn.Linear(256 * width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), 0.2)
        return self.dense(hidden.flatten(1))


def plain(width: int, critic_updates: int) -> Parts:
    torch.manual_seed(0)
    generator, discriminator = PlainGenerator(width), PlainDiscriminator(width)
    optimizer_g, optimizer_d = (
        torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.5, 0.9)) for network in (generator, discriminator)
    )
    real = torch.rand(BATCH, 1, LENGTH) * 2 - 1

    def generate() -> Tensor:
        return generator(torch.rand(BATCH, 100) * 2 - 1)

    def update_discriminator() -> None:
        generator.requires_grad_(False)
        discriminator.requires_grad_(True)
        fake = generate().detach()
        optimizer_d.zero_grad()
        places = torch.rand(BATCH, 1, 1)
        between = (places * real + (1 - places) * fake).requires_grad_(True)
        loss = discriminator(fake).mean() - discriminator(real).mean()
        (slopes,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
        loss = loss + 10 * (slopes.flatten(1).norm(2, dim=1) - 1).square().mean()
        loss.backward()
        optimizer_d.step()

    def update_generator() -> None:
        generator.requires_grad_(True)
        discriminator.requires_grad_(False)
        optimizer_g.zero_grad()
        (-discriminator(generate()).mean()).backward()
        optimizer_g.step()

    return [(update_discriminator, critic_updates), (update_generator, 1)]


def ours(width: int, critic_updates: int, precision: str) -> Parts:
    recipe = load_recipe(
        {
            "name": "benchmark",
            "model": {"family": "wavegan", "length": LENGTH, "width": width},
            "objective": {"loss": "wasserstein", "penalties": [{"type": "gradient-penalty", "weight": 10}]},
            "training": {
                "steps": 1_000_000,
                "batch_size": BATCH,
                "precision": precision,
                "n_critic": critic_updates,
                "ema_half_life": None,  # the plain loop has no average
            },
            "generator_optimizer": {"learning_rate": 1e-4, "betas": [0.5, 0.9]},
            "discriminator_optimizer": {"learning_rate": 1e-4, "betas": [0.5, 0.9]},
        }
    )
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("wavegan", length=LENGTH, width=width)
    stored = np.random.default_rng(0).integers(-32_767, 32_768, (256, 1, LENGTH), dtype=np.int16)
    trainer = Trainer(
        recipe,
        {"generator": generator, "discriminator": discriminator},
        build_objective(recipe.objective),
        ArrayDataset(stored),
        generator.config.processor(),
        device=torch.device("cpu"),
    )
    return [(trainer.train_step, 1)]


def candidates() -> dict[str, Callable[[int, int], Parts]]:
    """By name, what makes a candidate of (width, discriminator updates a step)."""
    makers: dict[str, Callable[[int, int], Parts]] = {PLAIN: plain, FP32: partial(ours, precision="fp32")}
    if has_fast_bf16(torch.device("cpu")):
        makers[BF16] = partial(ours, precision="bf16")
    return makers


def measure(steps: Mapping[str, Parts], rounds: int) -> dict[str, list[float]]:
    """Process seconds of a step, by candidate and round; every candidate has its turn in each round, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, parts in steps.items():
            total = 0.0
            for work, times in parts:
                start = time.process_time()
                work()
                total += (time.process_time() - start) * times
            if number:
                seconds[name].append(total)
    return seconds


def peak_memory(name: str, width: int) -> float:
    """MiB that the networks and one update of each add to a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_added_memory, (name, width))


def _added_memory(name: str, width: int) -> float:
    torch.set_num_threads(1)
    before = _highest_mib()
    for work, _ in candidates()[name](width, 1):
        work()
    return _highest_mib() - before


def _highest_mib() -> float:
    """The process's peak of resident memory (getrusage's begins with that of the parent)."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def compare(width: int) -> list[dict[str, object]]:
    makers = candidates()
    seconds = measure({name: make(width, CRITIC_UPDATES) for name, make in makers.items()}, ROUNDS[width])
    rows = []
    for name, values in seconds.items():
        timing, speedup, memory = summarise(values), ratio(seconds[PLAIN], values), peak_memory(name, width)
        rows.append(
            {
                "case": name,
                "width": width,
                "seconds_per_step": round(timing.median, 4),
                "seconds_quartiles": [round(timing.low, 4), round(timing.high, 4)],
                "speedup": round(speedup.median, 3),
                "speedup_quartiles": [round(speedup.low, 3), round(speedup.high, 3)],
                "peak_mib": round(memory),
            }
        )
        print(
            f"width {width:>2} {name:<12} {timing.median:8.3f} s a step  {speedup.median:.2f}x"
            f" ({speedup.low:.2f} .. {speedup.high:.2f})  {memory:6.0f} MiB",
            flush=True,
        )
    return rows


def shortfalls(rows: list[dict[str, object]]) -> list[str]:
    """The widths that miss the target, in words."""
    best = {width: max(row["speedup"] for row in rows if row["width"] == width) for width in ROUNDS}
    return [f"width {width}: {speedup}x, not {TARGET}x" for width, speedup in best.items() if speedup < TARGET]


def main() -> int:
    return run_cases(__doc__, ROUNDS, compare, shortfalls, RESULTS)


if __name__ == "__main__":
    sys.exit(main())
