"""Vocoding speed: ganzoo's HiFi-GAN generators beside the same networks in plain PyTorch layers, one thread, in turn.

    python benchmarks/vocode.py            # V1, V2, V3; about a minute of an idle core
    python benchmarks/vocode.py --check    # ... and exit with 1 if a target is missed

The work: random weights without weight norm, `inference_mode`, 1 x 80 x 172 mel frames -> 44,032 samples, 1.997 s at
22,050 Hz. `plain` computes in fp32 with `nn.Conv1d` and out-of-place activations, as the published code does. The real-time
factor is process seconds per second of sound; the errors are those of the waveform against `plain`'s, of their ratio to the
signal in decibels, and of log-mel spectrograms (a trained V1 is about 0.3 from real speech in that measure).
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import ratio, run_cases, summarise
from torch import Tensor, nn

import ganzoo
from ganzoo.families.audio.hifigan import PRESETS
from ganzoo.sound.spectral import log_mel
from ganzoo.utils.precision import has_fast_bf16

RESULTS = Path(__file__).parent / "results" / "vocode-cpu.json"
FRAMES, HOP, SAMPLING_RATE = 172, 256, 22_050
SECONDS = FRAMES * HOP / SAMPLING_RATE
ROUNDS = {"v1": 5, "v2": 11, "v3": 11}
TARGET = 1.5  # of the faster precision, against plain fp32
PLAIN, FP32, BF16 = "plain fp32", "ganzoo fp32", "ganzoo bf16"
Vocode = Callable[[Tensor], Tensor]


def generator(version: str) -> nn.Module:
    torch.manual_seed(0)
    network = ganzoo.create("hifigan", **PRESETS[version])[0].eval()
    with torch.no_grad():  # fresh weights whisper; as loud as speech, the errors mean something
        network.conv_post.weight.mul_(12)
    return network


def plain(version: str) -> Vocode:
    """The generator written out in functional layers, with the weights of ganzoo's."""
    network = generator(version)
    weights = {
        name: value.clone(memory_format=torch.contiguous_format) for name, value in network.state_dict().items()
    }
    config = network.config
    number = len(config.resblock_kernel_sizes)

    def convolve(name: str, hidden: Tensor, dilation: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = (weight.shape[2] - 1) * dilation // 2
        return F.conv1d(hidden, weight, weights[f"{name}.bias"], padding=padding, dilation=dilation)

    def residual(name: str, hidden: Tensor, dilations: tuple[int, ...]) -> Tensor:
        for index, dilation in enumerate(dilations):
            inner = F.leaky_relu(hidden, 0.1)
            if config.resblock == "1":
                inner = F.leaky_relu(convolve(f"{name}.convs1.{index}", inner, dilation), 0.1)
                hidden = hidden + convolve(f"{name}.convs2.{index}", inner)
            else:
                hidden = hidden + convolve(f"{name}.convs.{index}", inner, dilation)
        return hidden

    def vocode(mel: Tensor) -> Tensor:
        hidden = convolve("conv_pre", mel)
        for index, rate in enumerate(config.upsample_rates):
            weight, bias = weights[f"ups.{index}.weight"], weights[f"ups.{index}.bias"]
            padding = (weight.shape[2] - rate) // 2
            hidden = F.conv_transpose1d(F.leaky_relu(hidden, 0.1), weight, bias, rate, padding)
            blocks = [
                residual(f"resblocks.{index * number + block}", hidden, dilations)
                for block, dilations in enumerate(config.resblock_dilation_sizes)
            ]
            hidden = sum(blocks[1:], blocks[0]) / number
        return torch.tanh(convolve("conv_post", F.leaky_relu(hidden)))

    return vocode


def in_bf16(version: str) -> Vocode:
    network = generator(version)

    def vocode(mel: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(mel).float()

    return vocode


def candidates() -> dict[str, Callable[[str], Vocode]]:
    makers: dict[str, Callable[[str], Vocode]] = {PLAIN: plain, FP32: generator}
    if has_fast_bf16(torch.device("cpu")):
        makers[BF16] = in_bf16
    return makers


def example() -> Tensor:
    """Noise with the range of log-mel spectrograms."""
    return torch.randn(1, 80, FRAMES, generator=torch.Generator().manual_seed(0)) * 2 - 5


def measure(vocoders: dict[str, Vocode], mel: Tensor, rounds: int) -> dict[str, list[float]]:
    """Process seconds of a call, by candidate and round; every candidate has its turn in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in vocoders}
    for _ in range(rounds):
        for name, vocode in vocoders.items():
            start = time.process_time()
            vocode(mel)
            seconds[name].append(time.process_time() - start)
    return seconds


def errors(wave: Tensor, reference: Tensor, version: str) -> dict[str, float]:
    config = generator(version).config.mel
    difference = log_mel(wave[:, 0], config) - log_mel(reference[:, 0], config)
    noise = (wave - reference).norm() / reference.norm()
    return {
        "max_error": float((wave - reference).abs().max()),
        "noise_db": round(float(20 * noise.clamp_min(1e-12).log10()), 1),
        "log_mel_error": float(difference.abs().mean()),
    }


def peak_memory(name: str, version: str) -> float:
    """MiB that the network and a call add to a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_added_memory, (name, version))


def _added_memory(name: str, version: str) -> float:
    torch.set_num_threads(1)
    before = _highest_mib()
    with torch.inference_mode():
        candidates()[name](version)(example())
    return _highest_mib() - before


def _highest_mib() -> float:
    """The process's peak of resident memory (getrusage's begins with that of the parent)."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def compare(version: str) -> list[dict[str, object]]:
    vocoders, mel = {name: make(version) for name, make in candidates().items()}, example()
    rows = []
    with torch.inference_mode():
        waves = {name: vocode(mel) for name, vocode in vocoders.items()}  # the warm-up as well
        seconds = measure(vocoders, mel, ROUNDS[version])
        for name, values in seconds.items():
            timing, speedup = summarise(values), ratio(seconds[PLAIN], values)
            row = {
                "case": name,
                "version": version,
                "seconds": round(timing.median, 4),
                "real_time_factor": round(timing.median / SECONDS, 4),
                "speedup": round(speedup.median, 3),
                "speedup_quartiles": [round(speedup.low, 3), round(speedup.high, 3)],
                "peak_mib": round(peak_memory(name, version)),
                **errors(waves[name], waves[PLAIN], version),
            }
            rows.append(row)
            print(
                f"{version} {name:<12} {timing}  RTF {row['real_time_factor']:.4f}  {speedup.median:.2f}x"
                f" ({speedup.low:.2f} .. {speedup.high:.2f})  {row['peak_mib']:>4} MiB  noise {row['noise_db']:.0f} dB"
                f"  log-mel {row['log_mel_error']:.4f}",
                flush=True,
            )
    return rows


def shortfalls(rows: list[dict[str, object]]) -> list[str]:
    """The versions that miss the target, in words."""
    best = {version: max(row["speedup"] for row in rows if row["version"] == version) for version in ROUNDS}
    return [f"{version}: {speedup}x, not {TARGET}x" for version, speedup in best.items() if speedup < TARGET]


def main() -> int:
    return run_cases(__doc__, ROUNDS, compare, shortfalls, RESULTS)


if __name__ == "__main__":
    sys.exit(main())
