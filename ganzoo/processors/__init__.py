"""Processors: both directions of a modality's representation, saved with every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganzoo.errors import CheckpointError, UserError, did_you_mean
from ganzoo.processors.base import Processor
from ganzoo.processors.image import MAX_PIXELS, ImageOutput, ImageProcessor, make_grid, to_pil
from ganzoo.processors.points import PointsOutput, PointsProcessor
from ganzoo.processors.spectrogram import SpectrogramProcessor
from ganzoo.processors.text import TextOutput, TextProcessor, fit_text_processor
from ganzoo.processors.waveform import AudioOutput, WaveformProcessor
from ganzoo.utils.layout import PROCESSOR_FILE

__all__ = [
    "MAX_PIXELS",
    "PROCESSORS",
    "PROCESSOR_FILE",
    "AudioOutput",
    "ImageOutput",
    "ImageProcessor",
    "PointsOutput",
    "PointsProcessor",
    "Processor",
    "SpectrogramProcessor",
    "TextOutput",
    "TextProcessor",
    "WaveformProcessor",
    "fit_text_processor",
    "make_grid",
    "processor_from_json",
    "to_pil",
]

PROCESSORS: dict[str, type[Processor]] = {
    kind.processor_type: kind
    for kind in (ImageProcessor, PointsProcessor, TextProcessor, WaveformProcessor, SpectrogramProcessor)
}


def processor_from_json(values: Mapping[str, Any], *, where: str) -> Processor:
    """Builds the processor that `processor_config.json` describes, whatever version wrote it: a field that it lacks has the
    value of the time before that field (`Processor.when_absent`), not the default for new recipes.

    Raises:
        CheckpointError: Unknown type or malformed values.
    """
    kind = values.get("processor_type")
    if not isinstance(kind, str) or kind not in PROCESSORS:
        raise CheckpointError(f"{where}: unknown processor_type {kind!r}.{did_you_mean(str(kind), PROCESSORS)}")
    fields = {key: value for key, value in values.items() if key != "processor_type"}
    try:
        return PROCESSORS[kind].from_dict({**PROCESSORS[kind].when_absent, **fields}, where=where)
    except UserError as error:
        raise CheckpointError(str(error)) from None
