"""Which pipeline is explored, and where a tour of it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import UserError
from ganzoo.pipelines import GANPipeline


def open_pictures(model: GANPipeline | str | Path) -> GANPipeline:
    """The pipeline itself, or the one of a checkpoint.

    Raises:
        UserError: It makes something else than pictures.
        NotFoundError: There is no such checkpoint.
    """
    pipeline = model if isinstance(model, GANPipeline) else GANPipeline.from_pretrained(model)
    modality = pipeline.processor.modality
    if modality != "image":
        name = pipeline.family.name if pipeline is model else model
        raise UserError(f"{name} makes {modality}; walks, class sheets, directions and projections are for pictures")
    return pipeline


@torch.no_grad()
def draw_styles(
    pipeline: GANPipeline, count: int, *, truncation: float | None = None, **how: Any
) -> tuple[Tensor, Tensor | None]:
    """Styles of samples, (count, ..., D), float32 on the CPU, and their labels; of most generators the latents themselves.

    Args:
        truncation: As of a pipeline's call.
        **how: Arguments of `GANPipeline.inputs`: seed, labels.
    """
    generator = pipeline.generator
    latents, labels = pipeline.inputs(count, **how)
    if truncation is not None:
        latents = generator.truncate(latents, truncation, labels)
    on_device = None if labels is None else labels.to(generator.device)
    return generator.styles(latents.to(generator.device, generator.dtype), on_device).float().cpu(), labels
