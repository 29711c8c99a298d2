"""The latents of a real picture, found by optimisation (Karras et al., 2020b, appendix D, without its learned distance).

What is lowered is the mean squared difference at every size from the full one down to 4x4 pixels: the small sizes put things
in their places, the large ones work out details. Several starts are tried, those among random samples that come closest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.exploring.opening import draw_styles, open_pictures
from ganzoo.pipelines import GANPipeline
from ganzoo.pipelines.drawing import check_positive
from ganzoo.utils.terminal import bar

NUM_CANDIDATES = 512
NUM_STARTS = 4
# Of Adam, in standard deviations of what is optimised; falls to 0 as half a cosine.
LEARNING_RATE = 0.1
SMALLEST = 4


class Projection(NamedTuple):
    """Real pictures as a generator can make them.

    Attributes:
        latents: (B, ...), to be given to the pipeline's call; styles, where the generator has them.
        labels: (B,) of a conditional model, else None.
        images: What the generator makes of them, a list of PIL images.
        errors: (B,) root mean squared differences from the real pictures, of pixels in [0, 1].
    """

    latents: Tensor
    labels: Tensor | None
    images: list[Any]
    errors: Tensor


def project(
    image: Any,
    model: GANPipeline | str | Path,
    *,
    steps: int = 300,
    labels: int | Sequence[int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Projection:
    """Finds the latents whose picture comes closest to a real one.

    Args:
        image: A picture, or a list of them, in any form that the processor reads: PIL image, path, bytes, uint8 array.
        model: A pipeline of pictures, or what `ganzoo.from_pretrained` takes.
        steps: Of the optimisation.
        labels: Class of the picture, or of each; by default that of the start that comes closest.
        seed: Of the random starts.
        progress: Shows a bar, on a terminal.

    Returns:
        Latents, reconstructions and errors, in the order of the pictures.

    Raises:
        UserError: A picture cannot be read, or the model makes something else.
    """
    pipeline = open_pictures(model)
    check_positive("steps", steps)
    images = list(image) if isinstance(image, list | tuple) else [image]
    if not images:
        raise UserError("there is no picture to project")
    processor = pipeline.processor
    targets = processor.normalize(torch.tensor(np.stack([processor.encode(one) for one in images])))
    # A class for each picture, checked as a call's are.
    _, chosen = (None, None) if labels is None else pipeline.inputs(len(images), seed=0, labels=labels)
    found = []
    shown = None if progress else False
    with bar(total=len(images) * steps, desc="projecting", unit=" steps", shown=shown) as steps_bar:
        for number, target in enumerate(targets):
            label = None if chosen is None else int(chosen[number])
            found.append(_project(pipeline, target[None], label, seed, steps, steps_bar))
    latents = torch.cat([latent for latent, _ in found])
    classes = None if found[0][1] is None else torch.cat([label for _, label in found])
    samples = pipeline.sample(latents=latents, labels=classes).samples.float().cpu()
    errors = (samples - targets).square().flatten(1).mean(dim=1).sqrt() / 2
    return Projection(latents, classes, processor.decode(samples, "pil"), errors)


def _project(
    pipeline: GANPipeline, target: Tensor, label: int | None, seed: int, steps: int, steps_bar: Any
) -> tuple[Tensor, Tensor | None]:
    """The best latents (1, ...) and labels (1,) of one picture."""
    generator = pipeline.generator
    target = target.to(generator.device)
    latents, labels = draw_styles(pipeline, NUM_CANDIDATES, seed=seed, labels=label)
    samples = pipeline.sample(latents=latents, labels=labels).samples
    starts = distances(samples.float(), target).topk(NUM_STARTS, largest=False).indices.cpu()
    spread = latents.std(dim=0).mean().item()
    # Farther out than any of them a generator has learned nothing.
    limit = torch.linalg.vector_norm(latents, dim=-1).max()
    first = latents[starts].to(generator.device)
    labels = None if labels is None else labels[starts].to(generator.device)
    latents = first.clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], betas=(0.9, 0.99))
    with frozen(generator):
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * spread * 0.5 * (1 + math.cos(math.pi * step / steps))
            losses = distances(generator(latents.to(generator.dtype), labels).float(), target)
            (latents.grad,) = torch.autograd.grad(losses.sum(), latents)
            optimizer.step()
            with torch.no_grad():
                lengths = torch.linalg.vector_norm(latents, dim=-1, keepdim=True)
                latents.mul_((limit / lengths.clamp(min=1e-8)).clamp(max=1))
            steps_bar.update()
    # A start that could not be improved stays what it is.
    found = torch.cat([latents.detach(), first]).cpu()
    labels = None if labels is None else labels.repeat(2).cpu()
    samples = pipeline.sample(latents=found, labels=labels).samples
    best = distances(samples.float(), target).argmin().cpu()[None]
    return found[best], None if labels is None else labels[best]


def distances(samples: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of pictures (B, C, H, W) from one (1, C, H, W), averaged over the sizes of a pyramid: (B,)."""
    levels = []
    while True:
        levels.append((samples - target).square().flatten(1).mean(dim=1))
        if samples.shape[-1] <= SMALLEST:
            return torch.stack(levels).mean(dim=0)
        samples, target = F.avg_pool2d(samples, 2), F.avg_pool2d(target, 2)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Without gradients of the weights, which nobody reads."""
    states = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in states:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, state in states:
            parameter.requires_grad_(state)
