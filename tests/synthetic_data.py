"""Small folders of noise, on which any family can be trained for a step or two."""

from __future__ import annotations

import random
from pathlib import Path

import soundfile
import torch
from training_helpers import noise

from ganzoo.registry import Family

BATCH = 8


def write_pictures(folder: Path, family: Family, changes: dict, splits: set[str]) -> dict:
    """A folder of noisy pictures in two classes, that a processor need not resize; and the model that fits them."""
    processor = family.tiny_config(**changes).processor()
    for split in splits:
        pictures = torch.randint(256, (BATCH, *processor.sample_shape), dtype=torch.uint8)
        for number, image in enumerate(processor.decode(processor.normalize(pictures), "pil")):
            path = folder / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return {**family.tiny, **changes}


def write_sounds(folder: Path, family: Family, changes: dict, splits: set[str]) -> dict:
    """A folder of noises in two classes, as long as a clip; and the model that fits them."""
    config = family.tiny_config(**changes)
    for split in splits:
        for number in range(BATCH):
            path = folder / split / "ab"[number % 2] / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(config, number).T, config.sampling_rate)
    return {**family.tiny, **changes}


def write_sentences(folder: Path, family: Family, changes: dict, splits: set[str]) -> dict:
    """Lines of text (and prompts, where the model reads them); the vocabulary is learned from them."""
    words = [f"word{number}" for number in range(9)]
    prompted = family.tiny_config(**changes).max_prompt_length > 0
    folder.mkdir()
    for split in splits:
        lines = [" ".join(random.choices(words, k=4)) for _ in range(3 * BATCH)]
        if prompted:
            lines = [f"{' '.join(random.choices(words, k=2))}\t{line}" for line in lines]
        (folder / f"{split}.{'tsv' if prompted else 'txt'}").write_text("\n".join(lines))
    learned = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}
    return {key: value for key, value in {**family.tiny, **changes}.items() if key not in learned}


# Modality -> writer of synthetic data.
SYNTHETIC_DATA = {"image": write_pictures, "audio": write_sounds, "text": write_sentences}
