"""Trainings that a benchmark compares: kept in a folder, gone on with where they were stopped, done once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ganzoo


def trained(recipe: str, folder: Path, overrides: dict[str, Any]) -> ganzoo.GANPipeline:
    """The finished model of a run in `folder`. Asked to end (Ctrl-C), the run is saved and the benchmark ends, too."""
    if not (folder / "pipeline").is_dir():
        run = ganzoo.train(recipe, output=folder, resume=True, **overrides)
        if not run.finished:
            sys.exit("stopped; the same command goes on")
    return ganzoo.from_pretrained(folder / "pipeline")
