"""What every published checkpoint gives for fixed inputs, and `tests/data/published/`, which records it.

    python tests/published_values.py NAME...                 # records a checkpoint that has no record yet
    python tests/published_values.py --overwrite NAME...     # records it anew: only where other values are wanted
    python tests/published_values.py --overwrite --all

Only the public face is used (`ganzoo.from_pretrained`, the pipeline's call, its processor and discriminator), so that a record
outlives every move of modules. Of each tensor the record keeps a digest of all its bits, and some of its values to say how far
off others are. The inputs are whole numbers of a formula: they are the same on every machine, and need no random state.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import ganzoo

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "tests" / "data" / "published"
# What a checkpoint computes with; cards and samples may be written anew.
KEPT_FILES = ("*.json", "*.safetensors", "recipe.yaml", "discriminator/*")
KEPT_VALUES = 256  # of a tensor, evenly spaced
SENTENCES = ["a man riding a wave on top of a surfboard .", "two cats sitting on a bench in a park ."]
BEGINNINGS = ["a man", "two"]
REPLIES = ["return the next release .", "send a value into the coroutine ."]
PROMPTS = ["future feature get optional release", "collections abc coroutine send"]


@dataclass
class Observed:
    """What a checkpoint gives: `facts` and `rows` (texts, tokens, labels, one a sample) as JSON holds them, and tensors."""

    facts: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Record:
    """What a checkpoint gave on the day of the record, by which arithmetic and from which files: as `Observed`, the tensors
    thinned, and whole by their digests."""

    arithmetic: dict[str, str]
    files: dict[str, str]
    facts: dict[str, Any]
    rows: dict[str, list[Any]]
    digests: dict[str, str]
    tensors: dict[str, Tensor]


# ----------------------------------------------------------------------------------------------------------- fixed inputs


def pictures(size: int, channels: int) -> list[np.ndarray]:
    """Two rings on a slope, uint8 (size, size, channels)."""
    down, right = np.mgrid[:size, :size]
    sheets = []
    for radius in (size // 4, size // 3):
        distance = (down - size // 2) ** 2 + (right - size // 2) ** 2 - radius**2
        ring = np.where(abs(distance) < 2 * size, 230, (3 * down + right) % 64)
        sheets.append(np.stack([ring * (channel + 2) // (channels + 1) for channel in range(channels)], axis=2))
    return [sheet.astype(np.uint8) for sheet in sheets]


def recordings(length: int, rate: int) -> list[ganzoo.Recording]:
    """Two sweeps of triangle waves, int16 (1, length), as loud at the start as at the end, with a mean of exactly 0."""
    clips = []
    for pitch in (25, 60):
        time = np.arange(length // 2)
        phase = (pitch * time + time**2 // 300) % 1024
        half = 60 * (abs(phase - 512) - 256)
        clips.append(np.concatenate([half, -half[::-1]])[None].astype(np.int16))
    return [ganzoo.Recording(clip, rate) for clip in clips]


def spectrograms(bands: int) -> Tensor:
    """Two log-mel spectrograms, (2, bands, 40): a hum with overtones, from loud to silent."""
    band, frame = torch.arange(bands)[:, None], torch.arange(40)[None]
    return torch.stack([((band * step) % 16 - band - frame + 8).float() / 8 - 1.5 for step in (3, 5)])


def sentences(length: int) -> list[Any]:
    return list(zip(PROMPTS, REPLIES, strict=True)) if length else SENTENCES


def real(processor: Any) -> list[Any]:
    """Raw samples that a processor reads without resizing, resampling or cutting."""
    if processor.modality == "text":
        return sentences(processor.max_prompt_length)
    if processor.modality == "audio":
        return recordings(processor.length, processor.sampling_rate)
    return pictures(processor.resolution - 2 * processor.margin, processor.channels)


# ------------------------------------------------------------------------------------------------------- what is observed


def draw(pipe: Any, seen: Observed) -> None:
    classes = pipe.config.num_classes
    labels = {} if classes is None else {"labels": [classes - 1, 0]}
    calls = {
        "drawn": {"num_samples": 3, "seed": 11},
        "typical": {"num_samples": 2, "seed": 5, "truncation": 0.7, **labels},
    }
    for name, arguments in calls.items():
        output = pipe(**arguments, output_type="pt")
        seen.tensors[name] = output.audios if pipe.processor.modality == "audio" else output.images
        seen.tensors[f"{name} latents"] = output.latents
        if output.labels is not None:
            seen.rows[f"{name} labels"] = output.labels.tolist()


def write(pipe: Any, seen: Observed) -> None:
    answers = pipe.config.max_prompt_length > 0
    calls = {
        "drawn": {"prompt": PROMPTS if answers else None, "num_samples": 8, "seed": 11},
        "continued": {
            "prompt": PROMPTS if answers else BEGINNINGS,
            "num_samples": 4,
            "seed": 5,
            "top_k": 20,
            "top_p": 0.9,
        },
        "likeliest": {"prompt": PROMPTS if answers else BEGINNINGS, "temperature": 0, "seed": 0, "max_length": 12},
    }
    for name, arguments in calls.items():
        output = pipe(**arguments)
        seen.rows[name] = output.texts
        seen.rows[f"{name} tokens"] = [" ".join(map(str, row)) for row in output.tokens.tolist()]
        seen.tensors[f"{name} latents"] = output.latents


def judge(pipe: Any, seen: Observed) -> None:
    output = pipe(real(pipe.processor))
    seen.rows["labels"] = output.labels.tolist()
    seen.tensors.update(probabilities=output.probabilities, features=output.features)


def copy(pipe: Any, seen: Observed) -> None:
    seen.tensors["vocoded"] = pipe.vocode(spectrograms(pipe.config.n_mels), output_type="pt").audios
    copies = pipe(recordings(3000, pipe.config.sampling_rate), output_type="pt").audios
    seen.tensors["copied"] = torch.cat(copies)


# In this order: a text pipeline may be a kind of the last one.
OBSERVERS: dict[str, Callable[[Any, Observed], None]] = {
    "ClassifierPipeline": judge,
    "VocoderPipeline": copy,
    "TextPipeline": write,
    "GANPipeline": draw,
}


def read(pipe: Any, seen: Observed) -> None:
    """Real samples as the processor hands them to networks, and what the discriminator says of them."""
    raws, processor = real(pipe.processor), pipe.processor
    samples = processor.normalize(torch.from_numpy(np.stack([processor.encode(raw) for raw in raws])))
    seen.tensors["real"] = samples
    if pipe.discriminator is None:
        return
    classes, length = pipe.config.num_classes, getattr(pipe.config, "max_prompt_length", 0)
    labels = None if classes is None else torch.tensor([0, classes - 1])
    prompted = (samples[:, length:], labels, samples[:, :length]) if length else (samples, labels)
    with torch.inference_mode():
        outputs = pipe.discriminator(*prompted)
    seen.tensors["judged"] = torch.cat([output.logits.reshape(len(samples), -1) for output in outputs], dim=1)


def observe(pipe: Any) -> Observed:
    """Everything that a record holds of a checkpoint; call it inside `one_thread`."""
    kind = next(kind for kind in OBSERVERS if isinstance(pipe, getattr(ganzoo, kind)))
    facts = {
        "pipeline": kind,
        "family": pipe.family.name,
        "recipe": pipe.recipe.name,
        "metrics": [f"{record['name']} {record['value']}" for record in pipe.metrics],
    }
    seen = Observed(facts)
    OBSERVERS[kind](pipe, seen)
    read(pipe, seen)
    return seen


def file_digests(name: str) -> dict[str, str]:
    """SHA-256 of every file in hub/ that a checkpoint computes with."""
    folder = ROOT / "hub" / name
    paths = sorted({path for pattern in KEPT_FILES for path in folder.glob(pattern)})
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# ----------------------------------------------------------------------------------------------- the machine's arithmetic


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Sums are split among threads, so their number shows in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def numbers(*shape: int) -> Tensor:
    """Fixed numbers between -1 and 1 whose sums depend on their order: exactly rounded quotients."""
    return ((torch.arange(math.prod(shape)) * 7919) % 1009 - 504).div(505).reshape(shape)


def probe() -> Iterator[Tensor]:
    """The operations of the networks, at sizes of theirs: libraries choose their ways by both."""
    for size, channels in ((8, 256), (16, 64), (32, 16)):
        picture = numbers(2, channels, size, size)
        yield F.conv2d(picture, numbers(32, channels, 3, 3), padding=1)
        yield F.conv2d(picture, numbers(channels, channels // 16, 3, 3), padding=1, groups=16)
        yield F.conv_transpose2d(picture, numbers(channels, 32, 4, 4), stride=2, padding=1)
        yield F.conv_transpose2d(picture, numbers(channels, 1, 4, 4), stride=2, padding=1)
    for length, channels in ((32, 192), (512, 48)):
        sound = numbers(2, channels, length)
        yield F.conv1d(sound, numbers(32, channels, 7), padding=9, dilation=3)
        yield F.conv_transpose1d(sound, numbers(channels, 24, 25), stride=4, padding=11, output_padding=1)
        yield F.conv_transpose1d(sound, numbers(channels, 64, 16), stride=8, padding=4)
    for rows, inner, columns in ((1, 100, 1200), (3, 128, 4096), (8, 256, 4544), (4, 256, 1024)):
        yield numbers(rows, inner) @ numbers(inner, columns)
        yield F.linear(numbers(rows, inner), numbers(columns, inner), numbers(columns))
    yield torch.lstm_cell(numbers(4, 96), (numbers(4, 128),) * 2, numbers(512, 96), numbers(512, 128))[0]
    many = numbers(3, 4544) * 8
    yield from (many.exp(), many.tanh(), many.sigmoid(), many.softmax(dim=1), many.abs().sqrt().rsqrt().sum(dim=1))
    yield many.softmax(dim=1).cumsum(dim=1)
    yield from (many.mean(dim=1), many.var(dim=0), F.gelu(many), F.softplus(many))
    yield torch.view_as_real(torch.stft(many, 256, 128, window=torch.hann_window(256), return_complex=True))
    yield torch.randn(3, 100, generator=torch.Generator().manual_seed(11))


def arithmetic() -> dict[str, str]:
    """Where this is equal, so are the bits of results; call it inside `one_thread`."""
    digest = hashlib.sha256()
    for result in probe():
        digest.update(bits(result))
    capability = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "capability": capability, "probe": digest.hexdigest()}


# ---------------------------------------------------------------------------------------------------------------- records


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def digest_of(tensor: Tensor) -> str:
    """`"torch.float32 (3, 1, 32, 32) 9f86d0..."`."""
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(bits(tensor)).hexdigest()}"


def thinned(tensor: Tensor) -> Tensor:
    values = tensor.detach().flatten()
    return values[:: -(-len(values) // KEPT_VALUES)].clone()


def record_path(name: str) -> Path:
    return RECORDS / f"{name}.json"


def read_record(name: str) -> Record:
    path = record_path(name)
    return Record(**json.loads(path.read_text(encoding="utf-8")), tensors=load_file(path.with_suffix(".safetensors")))


def record_of(seen: Observed, machine: dict[str, str], files: dict[str, str]) -> Record:
    digests = {key: digest_of(tensor) for key, tensor in seen.tensors.items()}
    tensors = {key: thinned(tensor) for key, tensor in seen.tensors.items()}
    return Record(machine, files, seen.facts, seen.rows, digests, tensors)


def write_record(name: str) -> None:
    with one_thread():
        record = record_of(observe(ganzoo.from_pretrained(name)), arithmetic(), file_digests(name))
    path, content = record_path(name), {key: value for key, value in vars(record).items() if key != "tensors"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file(record.tensors, path.with_suffix(".safetensors"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Records what published checkpoints give for fixed inputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="checkpoints of hub/")
    parser.add_argument("--all", action="store_true", help="every checkpoint of hub/")
    parser.add_argument("--overwrite", action="store_true", help="replace records: the old values are given up")
    options = parser.parse_args()
    published = ganzoo.list_models(pretrained=True)
    names = published if options.all else options.names
    if not names or set(names) - set(published):
        parser.error(f"give names of published checkpoints, or --all; they are {', '.join(published)}")
    existing = [name for name in names if record_path(name).exists()]
    if existing and not options.overwrite:
        parser.error(f"recorded already: {', '.join(existing)}; --overwrite gives the old values up")
    for name in names:
        write_record(name)
        print(f"recorded {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
