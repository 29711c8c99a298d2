"""Training speed: ganzoo's step beside the textbook loop, on the same networks, in the same process, interleaved.

    python benchmarks/train_dcgan.py                 # fp32 and bf16, 64x64 and 32x32, one and two threads
    python benchmarks/train_dcgan.py --device cuda   # bf16 beside the same plain loop at batch 128 and 512

`plain` is the loop of every tutorial on the same networks, layer for layer as tutorials write them: NCHW tensors, two discriminator passes, the default Adam, the discriminator's weight
gradients computed in the generator's step too, `.item()` for the log. `ganzoo` is `Trainer.train_step` with everything that
it does: gathering and normalising the batch, seeding, statistics, averaging (EMA). The last table adds what surrounds the
step in a real run: logs, sheets of samples, checkpoints.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timing import environment, interleave, ratio
from torch import nn

import ganzoo
from ganzoo.data.dataset import ArrayDataset
from ganzoo.nn import Conv2d, ConvTranspose2d, JudgeWhole, ProjectLatents
from ganzoo.objectives import build_objective
from ganzoo.processors import ImageProcessor
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.distributed import World
from ganzoo.training.run import RunLoop
from ganzoo.training.trainer import Trainer
from ganzoo.utils.precision import has_fast_bf16

RESULTS = Path(__file__).parent / "results"
# What is promised; `--check` ends with 1 where a median falls short.
TARGETS = {"ganzoo fp32": 1.2, "ganzoo bf16": 2.0}
MAX_OVERHEAD = 0.03
POOL = 1024  # samples in memory


def recipe_for(resolution: int, channels: int, batch_size: int, precision: str, **training: object) -> object:
    return load_recipe(
        {
            "name": "benchmark",
            "model": {"family": "dcgan", "resolution": resolution, "channels": channels},
            "objective": {"loss": "non-saturating"},
            "training": {"steps": 1_000_000, "batch_size": batch_size, "precision": precision, **training},
        }
    )


def stored_samples(resolution: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (POOL, channels, resolution, resolution), dtype=np.uint8)


def ganzoo_step(
    resolution: int, batch_size: int, precision: str, device: str, *, channels: int = 3, compiled: bool = False
) -> Callable[[], None]:
    recipe = recipe_for(resolution, channels, batch_size, precision, compile=compiled)
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("dcgan", **{k: v for k, v in recipe.model.items() if k != "family"})
    trainer = Trainer(
        recipe,
        {"generator": generator, "discriminator": discriminator},
        build_objective(recipe.objective),
        ArrayDataset(stored_samples(resolution, channels)),
        ImageProcessor(resolution=resolution, channels=channels),
        device=torch.device(device),
    )
    return trainer.train_step


class TextbookProjection(nn.ConvTranspose2d):
    """The first layer as every tutorial writes it: a transposed convolution of 1x1 pictures."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return super().forward(latents[:, :, None, None])


TEXTBOOK = {
    ProjectLatents: TextbookProjection,
    JudgeWhole: nn.Conv2d,
    Conv2d: nn.Conv2d,
    ConvTranspose2d: nn.ConvTranspose2d,
}


def textbook(network: nn.Module) -> nn.Module:
    """The same network, parameter for parameter, with plain convolutions in place of the layers that ganzoo replaced."""
    for module in network.modules():
        plain = TEXTBOOK.get(type(module))
        if plain is not None:
            module.__class__ = plain
    return network


def plain_step(resolution: int, batch_size: int, device: str, *, channels: int = 3) -> Callable[[], None]:
    """The textbook loop on the textbook layers, fp32, batches already in memory as floats."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("dcgan", resolution=resolution, channels=channels)
    generator, discriminator = (textbook(network).to(device) for network in (generator, discriminator))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    batches = [torch.rand(batch_size, channels, resolution, resolution, device=device) * 2 - 1 for _ in range(4)]
    ones, zeros = torch.ones(batch_size, device=device), torch.zeros(batch_size, device=device)
    history = []

    def step() -> None:
        real = batches[len(history) % 4]
        discriminator.zero_grad()
        loss_real = F.binary_cross_entropy_with_logits(discriminator(real)[0].logits, ones)
        loss_real.backward()
        fake = generator(torch.randn(batch_size, 100, device=device))
        loss_fake = F.binary_cross_entropy_with_logits(discriminator(fake.detach())[0].logits, zeros)
        loss_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        loss = F.binary_cross_entropy_with_logits(discriminator(fake)[0].logits, ones)
        loss.backward()
        optimizer_g.step()
        history.append((loss_real.item() + loss_fake.item(), loss.item()))

    return step


def compare(resolution: int, batch_size: int, device: str, rounds: int, steps: int) -> list[dict[str, object]]:
    candidates = {"plain": plain_step(resolution, batch_size, device)}
    candidates["ganzoo fp32"] = ganzoo_step(resolution, batch_size, "fp32", device)
    if has_fast_bf16(torch.device(device)):
        candidates["ganzoo bf16"] = ganzoo_step(resolution, batch_size, "bf16", device)
        if device == "cuda":
            candidates["ganzoo bf16 compiled"] = ganzoo_step(resolution, batch_size, "bf16", device, compiled=True)
    timings, seconds = interleave(candidates, rounds=rounds, steps=steps, device=device)
    rows = []
    for name, timing in timings.items():
        speedup = ratio(seconds["plain"], seconds[name])
        rows.append(
            {
                "case": name,
                "resolution": resolution,
                "batch_size": batch_size,
                "threads": torch.get_num_threads() if device == "cpu" else None,
                "ms_per_step": round(timing.median * 1e3, 2),
                "ms_quartiles": [round(timing.low * 1e3, 2), round(timing.high * 1e3, 2)],
                "samples_per_second": round(batch_size / timing.median, 1),
                "speedup": round(speedup.median, 3),
                "speedup_quartiles": [round(speedup.low, 3), round(speedup.high, 3)],
            }
        )
        print(
            f"{resolution}x{resolution} batch {batch_size} {name:<22} {timing}  {batch_size / timing.median:8.1f} samples/s"
            f"  {speedup.median:.2f}x ({speedup.low:.2f} .. {speedup.high:.2f})",
            flush=True,
        )
    return rows


def bare_step(resolution: int, batch_size: int, precision: torch.dtype, channels: int) -> Callable[[], None]:
    """The same arithmetic as ganzoo's step and nothing else: one fixed batch, no statistics, no seeding, no average."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("dcgan", resolution=resolution, channels=channels)
    generator, discriminator = (n.to(memory_format=torch.channels_last) for n in (generator, discriminator))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=True)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999), foreach=True)
    real = torch.rand(batch_size, channels, resolution, resolution) * 2 - 1
    real = real.contiguous(memory_format=torch.channels_last)
    enabled = precision != torch.float32

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            fake = generator(torch.randn(batch_size, 100))
            real_logits, fake_logits = discriminator(real)[0].logits, discriminator(fake.detach())[0].logits
        loss = F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()
        optimizer_d.zero_grad()
        loss.backward()
        optimizer_d.step()
        discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = discriminator(fake)[0].logits
        optimizer_g.zero_grad()
        F.softplus(-logits.float()).mean().backward()
        optimizer_g.step()
        discriminator.requires_grad_(True)

    return step


def overhead(resolution: int, batch_size: int, precision: str, steps: int) -> dict[str, object]:
    """A real run (logs, EMA, checkpoint every 500 steps, data from the cache) beside the bare step, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(
            "dcgan-digits",
            {
                "model": {"family": "dcgan", "resolution": resolution, "channels": 1},
                "training.batch_size": batch_size,
                "training.precision": precision,
                "training.steps": 1_000_000,
                "training.checkpoint_every": 500,
                "training.sample_every": None,
                "evaluation.every": None,
            },
        )
        run = RunLoop(recipe, Path(folder), World(), torch.device("cpu"), quiet=True)
        run.prepare()

        def full() -> None:
            run.step()

        bare = bare_step(resolution, batch_size, run.trainer.precision, 1)
        rounds = steps // 25
        timings, seconds = interleave({"bare": bare, "run": full}, rounds=rounds, steps=25, warmup=0)
        run.close()
    # Sums, not medians: the one block in twenty that holds the checkpoint counts as often as it comes.
    extra = sum(seconds["run"]) / sum(seconds["bare"]) - 1
    middle = ratio(seconds["run"], seconds["bare"])
    print(
        f"{resolution}x{resolution} {precision}: bare {timings['bare']}, run {timings['run']}, overhead {extra:+.1%}"
    )
    return {
        "case": "overhead of a run on the bare step",
        "resolution": resolution,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "bare_ms": round(timings["bare"].median * 1e3, 2),
        "run_ms": round(timings["run"].median * 1e3, 2),
        "overhead": round(extra, 4),
        "median_ratio_quartiles": [round(middle.low, 4), round(middle.median, 4), round(middle.high, 4)],
        "steps": steps,
    }


def shortfalls(rows: list[dict[str, object]]) -> list[str]:
    """The rows that miss their target, in words."""
    slow = [row for row in rows if row["case"] in TARGETS and row["speedup"] < TARGETS[row["case"]]]
    heavy = [row for row in rows if row.get("overhead", 0) > MAX_OVERHEAD]
    return [f"{r['case']} at {r['resolution']}, {r['threads']} threads: {r['speedup']}x" for r in slow] + [
        f"{r['case']}: {r['overhead']:+.1%}" for r in heavy
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="Few rounds, no overhead table.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a target is missed.")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    if options.device == "cpu":
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for resolution, steps in ((64, 1), (32, 4)):
                rows += compare(resolution, 64, "cpu", 2 if options.quick else options.rounds, steps)
        if not options.quick:
            rows.append(overhead(32, 64, "auto", 500))
    else:
        for resolution in (64, 32):
            for batch_size in (128, 512):
                rows += compare(resolution, batch_size, options.device, options.rounds, 20)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"train_dcgan_{'cpu' if options.device == 'cpu' else 'gpu'}.json"
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")
    missed = shortfalls(rows)
    for line in missed:
        print(f"short of its target: {line}")
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
