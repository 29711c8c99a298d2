"""From a checkpoint to the pipeline that fits its network."""

from __future__ import annotations

from pathlib import Path

import torch

from ganzoo.checkpoint import load_network, read_processor
from ganzoo.errors import UserError
from ganzoo.modeling import GANModel, Vocoder
from ganzoo.pipelines.base import Pipeline
from ganzoo.pipelines.classifier import ClassifierPipeline
from ganzoo.pipelines.gan import GANPipeline
from ganzoo.pipelines.text import TextPipeline
from ganzoo.pipelines.vocoder import VocoderPipeline
from ganzoo.registry import get_family
from ganzoo.repository import open_repository

# By the network's role, and where a modality is called in its own way, by both.
PIPELINES: dict[str, type[Pipeline]] = {"generator": GANPipeline, "classifier": ClassifierPipeline}
MODALITY_PIPELINES: dict[tuple[str, str], type[Pipeline]] = {("generator", "text"): TextPipeline}


def pipeline_class(network: GANModel, *, where: str = "the checkpoint") -> type[Pipeline]:
    """The pipeline that a network is called through.

    Raises:
        UserError: It is a discriminator, which stands beside a main network.
    """
    if network.role not in PIPELINES:
        raise UserError(f"{where} holds a {network.role} alone; load it with ganzoo.Discriminator.from_pretrained")
    if isinstance(network, Vocoder):
        return VocoderPipeline
    modality = get_family(network.family).modality
    return MODALITY_PIPELINES.get((network.role, modality), PIPELINES[network.role])


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Pipeline:
    """Loads a checkpoint as a pipeline: `ganzoo.from_pretrained("dcgan-mnist")(num_samples=16, seed=0).images`.

    Only the main network and the processor are loaded; the discriminator, recipe and metrics when they are asked for.

    Args:
        source: A checkpoint folder, a name of the catalogue, or `org/name[@revision]` on the Hub.
        revision: Branch, tag or commit on the Hub; resolved once for all files.
        device: Where the network goes; by default the CPU.
        dtype: Type of the floating-point weights.
        token: Hub token; by default the saved one or `HF_TOKEN`.
        cache_dir: Hub cache; by default that of `HF_HOME`.
        local_files_only: Use only what is cached (also `HF_HUB_OFFLINE=1`).
        force_download: Download again.

    Raises:
        NotFoundError: There is no such folder, name, repository, revision or file.
        CheckpointError: The files are damaged or not a ganzoo checkpoint.
    """
    repository = open_repository(
        source,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
    )
    network = load_network(repository, GANModel, device=device, dtype=dtype)
    pipeline = pipeline_class(network, where=repository.name)
    return pipeline(network, read_processor(repository), repository=repository)
