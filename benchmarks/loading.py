"""Loading: what a user waits for before and around the first picture.

    python benchmarks/loading.py

Imports are timed as whole processes, in turn; loading and sampling inside one process, warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from timing import environment, interleave, ratio

import ganzoo

RESULTS = Path(__file__).parent / "results"
# What is promised: the largest value of a row, by the beginning of its name; `--check` ends with 1 beyond it.
TARGETS = {
    "ganzoo list": ("ms", 300),
    "ganzoo --help": ("ms", 300),
    "ganzoo.Generator / import torch": ("ratio", 1.10),
    "from_pretrained": ("ms", 60),
    "256 samples": ("ratio", 1.05),
}


def process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def imports(rounds: int) -> list[dict[str, object]]:
    candidates = {
        "python -c pass": "pass",
        "import ganzoo": "import ganzoo",
        "ganzoo list": "from ganzoo.cli import run; run(['list'])",
        "ganzoo --help": "from ganzoo.cli import run; run(['--help'])",
        "import torch": "import torch",
        "ganzoo.Generator": "import ganzoo; ganzoo.Generator",
    }
    calls = {name: (lambda code=code: process(code)) for name, code in candidates.items()}
    timings, seconds = interleave(calls, rounds=rounds, warmup=1)
    beyond_torch = ratio(seconds["ganzoo.Generator"], seconds["import torch"])
    rows = [{"case": name, "ms": round(timing.median * 1e3, 1)} for name, timing in timings.items()]
    rows.append({"case": "ganzoo.Generator / import torch", "ratio": round(beyond_torch.median, 3)})
    return rows


def loading(rounds: int) -> list[dict[str, object]]:
    """A generator of 12 MB: the DCGAN at 64x64, a little narrower than the paper's 14 MB."""
    generator, _ = ganzoo.create("dcgan", resolution=64, width=58)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = ganzoo.GANPipeline(generator, generator.config.processor())
        generator.save_pretrained(folder)
        pipeline.processor.save_pretrained(folder)
        size = (Path(folder) / "model.safetensors").stat().st_size
        timings, _ = interleave({"load": lambda: ganzoo.from_pretrained(folder)}, rounds=rounds, steps=3)
    return [{"case": f"from_pretrained of {size / 1e6:.1f} MB, warm", "ms": round(timings["load"].median * 1e3, 2)}]


def sampling(rounds: int) -> list[dict[str, object]]:
    """`pipe(num_samples=256)` beside the bare forward pass and conversion to PIL."""
    from PIL import Image

    rows = []
    for resolution, channels in ((32, 1), (64, 3)):
        generator, _ = ganzoo.create("dcgan", resolution=resolution, channels=channels)
        pipeline = ganzoo.GANPipeline(generator, generator.config.processor())

        @torch.inference_mode()
        def bare(generator=generator, channels=channels) -> list[Image.Image]:
            samples = torch.cat([generator(torch.randn(64, 100)) for _ in range(4)])
            arrays = ((samples + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
            return [Image.fromarray(array[..., 0] if channels == 1 else array) for array in arrays]

        timings, seconds = interleave(
            {"bare": bare, "pipeline": lambda pipeline=pipeline: pipeline(num_samples=256, seed=0)}, rounds=rounds
        )
        rows.append(
            {
                "case": f"256 samples of {resolution}x{resolution}x{channels}",
                "bare_ms": round(timings["bare"].median * 1e3, 1),
                "pipeline_ms": round(timings["pipeline"].median * 1e3, 1),
                "ratio": round(ratio(seconds["pipeline"], seconds["bare"]).median, 4),
            }
        )
    return rows


def main() -> int:
    rows = [*imports(7), *loading(21), *sampling(21)]
    for row in rows:
        print(row)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "loading.json"
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")
    missed = [
        f"{row['case']}: {row[key]} > {limit}"
        for row in rows
        for name, (key, limit) in TARGETS.items()
        if row["case"].startswith(name) and row.get(key, 0) > limit
    ]
    for line in missed:
        print(f"short of its target: {line}")
    return int("--check" in sys.argv and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
