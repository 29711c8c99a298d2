"""Pipelines: a network and its processor, called by a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganzoo.checkpoint import load_network, read_processor, save_network
from ganzoo.config import CONFIG_FILE
from ganzoo.errors import UserError
from ganzoo.files import write_text
from ganzoo.golden import GOLDEN_FILE, save_golden
from ganzoo.hub import PushResult, push_saved
from ganzoo.modeling import Discriminator, GANModel, Generator
from ganzoo.processors import Processor
from ganzoo.registry import Family, get_family
from ganzoo.repository import Repository, open_repository

if TYPE_CHECKING:
    from typing_extensions import Self

    from ganzoo.card import CardData
    from ganzoo.measured import Measured
    from ganzoo.training.recipe import Recipe

RECIPE_FILE = "recipe.yaml"
CARD_SAMPLES = 64
MAX_SEED = 2**63


class Pipeline:
    """What every pipeline has: the main network, its processor, and the papers that come with a checkpoint.

    Args:
        network: The main network; put into `eval()` mode.
        processor: The processor of its samples.
        discriminator: For saving and fine-tuning; loaded on first use when the pipeline came from a checkpoint.
        recipe: The training run's recipe.
        metrics: What was measured, as `MetricResult.to_dict()` records.
        training: Facts of the run for the card: steps, batch_size, minutes, machine.
        repository: Where the checkpoint came from.
    """

    def __init__(
        self,
        network: GANModel,
        processor: Processor,
        *,
        discriminator: Discriminator | None = None,
        recipe: Recipe | None = None,
        metrics: Sequence[dict[str, Any]] | None = None,
        training: dict[str, Any] | None = None,
        repository: Repository | None = None,
    ) -> None:
        self.network = network.eval()
        self.processor = processor
        self.repository = repository
        self._discriminator = discriminator
        self._recipe = recipe
        self._metrics = None if metrics is None else list(metrics)
        self._training = training

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """Loads a pipeline; see `ganzoo.from_pretrained`.

        Raises:
            UserError: The checkpoint is of another kind of pipeline.
        """
        pipeline = from_pretrained(source, **options)
        if not isinstance(pipeline, cls):
            raise UserError(f"{source} makes a {type(pipeline).__name__}, not a {cls.__name__}")
        return pipeline

    @property
    def family(self) -> Family:
        return get_family(self.network.family)

    @property
    def config(self) -> Any:
        return self.network.config

    @property
    def device(self) -> torch.device:
        return self.network.device

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves the network: `pipe.to("cuda")`."""
        self.network.to(*args, **kwargs)
        return self

    @property
    def discriminator(self) -> Discriminator | None:
        """The discriminator that the checkpoint holds, or None."""
        if self._discriminator is None and self.repository is not None:
            if self.repository.find(f"discriminator/{CONFIG_FILE}") is not None:
                self._discriminator = load_network(self.repository, Discriminator)
        return self._discriminator

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the checkpoint holds, or None."""
        if self._recipe is None and self.repository is not None:
            path = self.repository.find(RECIPE_FILE)
            if path is not None:
                from ganzoo.training.recipe import load_recipe

                self._recipe = load_recipe(path)
        return self._recipe

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What was measured, as in `metrics.json`."""
        if self._metrics is None:
            self._metrics = [result.to_dict() for result in self._measured.metrics]
        return self._metrics

    @metrics.setter
    def metrics(self, records: Sequence[dict[str, Any]]) -> None:
        self._metrics = list(records)

    @property
    def training(self) -> dict[str, Any] | None:
        """Facts of the training run: steps, batch_size, minutes, machine."""
        if self._training is None and self._measured.training is not None:
            self._training = self._measured.training.model_dump()
        return self._training

    @cached_property
    def _measured(self) -> Measured:
        from ganzoo.measured import METRICS_FILE, Measured, read_measured

        path = self.repository.find(METRICS_FILE) if self.repository is not None else None
        return Measured() if path is None else read_measured(path)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes a complete checkpoint folder: networks, processor, recipe, metrics, samples, golden file, card.

        Returns:
            The folder.

        Raises:
            GanzooError: The folder cannot be written.
        """
        from ganzoo.card import write_card
        from ganzoo.measured import METRICS_FILE, write_measured

        folder = Path(folder)
        if folder.is_file():
            raise UserError(f"{folder} is a file; give a folder")
        discriminator, recipe, metrics, training = self.discriminator, self.recipe, self.metrics, self.training
        save_network(self.network, folder)
        self.processor.save_pretrained(folder)
        if discriminator is not None:
            save_network(discriminator, folder / "discriminator")
        if recipe is not None:
            write_text(folder / RECIPE_FILE, recipe.published().to_yaml())
        write_measured(folder / METRICS_FILE, metrics, training)
        samples = self._save_examples(folder)
        write_card(folder, self._card_data(folder.resolve().name, samples))
        return folder

    def push_to_hub(self, repo_id: str, **options: Any) -> PushResult:
        """Saves the pipeline and uploads it; the options are those of `ganzoo.push_folder`."""
        return push_saved(self.save_pretrained, repo_id, **options)

    def _save_examples(self, folder: Path) -> list[str]:
        """Writes samples and the golden file; returns the samples' names."""
        return []

    def _card_data(self, name: str, samples: list[str]) -> CardData:
        from ganzoo.card import CardData

        recipe, family = self.recipe and self.recipe.published(), self.family
        card = recipe.card if recipe else None
        networks = {family.main_role: self.network, "discriminator": self.discriminator}
        dataset = recipe.data.dataset if recipe else None
        return CardData(
            name=recipe.name if recipe else name,
            summary=(card and card.summary) or f"A {family.summary.partition(' (')[0]}.",
            family=family.name,
            modality=family.modality,
            kind="gan" if family.is_gan else "classifier",
            num_classes=self.config.num_classes,
            paper_title=family.summary,
            paper=family.paper,
            license=card.license if card else "apache-2.0",
            datasets=[dataset] if dataset and "/" in dataset else [],
            data=f"`{dataset}`, split `{recipe.data.split}`" if recipe else "",
            metrics=self.metrics,
            parameters={role: _count(network) for role, network in networks.items() if network is not None},
            samples=samples,
            training=self.training,
            recipe=recipe.name if recipe else None,
            limitations=[card.limitations] if card and card.limitations else [],
        )


class Samples(NamedTuple):
    """Raw samples (B, ...) in the network's space, their labels (B,) or None, and their latents."""

    samples: Tensor
    labels: Tensor | None
    latents: Tensor


class GANPipeline(Pipeline):
    """Draws samples from a generator.

    Example:
        >>> pipe = ganzoo.from_pretrained("dcgan-mnist")
        >>> pipe(num_samples=16, seed=0).images
    """

    @property
    def generator(self) -> Generator:
        return self.network

    def __call__(
        self,
        num_samples: int | None = None,
        *,
        labels: int | Sequence[int] | Tensor | None = None,
        truncation: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        batch_size: int = 64,
    ) -> Any:
        """Draws samples.

        Sample i depends on its own seed alone: with `seed=s` it is the sample of seed s + i, whatever the number of
        samples, the batch size or the device (up to the floating-point rounding of the arithmetic). The global random
        state is never touched.

        Args:
            num_samples: How many; by default as many as labels, latents or generators are given, else 1.
            labels: Class of every sample (an integer), or of each; a shorter list is repeated. Class-conditional models
                draw it at random, from the sample's seed, when it is left out.
            truncation: Cut of the latents' normal distribution, in standard deviations: 0.5 gives typical samples, 2
                varied ones; None for no cut.
            seed: From 0; by default a random one.
            generator: Instead of a seed: one `torch.Generator`, from which the samples are drawn one after another, or
                a list with one for each.
            latents: Instead of either: (num_samples, latent_dim).
            output_type: `"pil"`, `"np"` or `"pt"`; see the processor.
            batch_size: Samples computed at once.

        Returns:
            An object with the samples (`.images` for pictures), their `labels` and `latents`.

        Raises:
            UserError: Arguments that contradict each other or the model.
        """
        drawn = self.sample(
            num_samples,
            labels=labels,
            truncation=truncation,
            seed=seed,
            generator=generator,
            latents=latents,
            batch_size=batch_size,
        )
        return self.processor.output(drawn.samples, output_type, labels=drawn.labels, latents=drawn.latents)

    @torch.inference_mode()
    def sample(
        self,
        num_samples: int | None = None,
        *,
        labels: int | Sequence[int] | Tensor | None = None,
        truncation: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        batch_size: int = 64,
    ) -> Samples:
        """Draws samples as the call does, and returns them as the network gives them: (B, ...) in its own space."""
        model = self.network
        count = _count_samples(num_samples, labels, generator, latents)
        if sum(argument is not None for argument in (seed, generator, latents)) > 1:
            raise UserError("give one of seed, generator and latents")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size must be a positive integer, not {batch_size!r}")
        drawn, random_labels = self._draw(_generators(count, seed, generator), latents, count)
        chosen = self._labels(count, labels, random_labels)
        if truncation is not None:
            drawn = model.truncate(drawn, truncation)
        outputs = []
        for start in range(0, count, batch_size):
            rows = slice(start, start + batch_size)
            part = drawn[rows].to(model.device, model.dtype)
            outputs.append(model(part, None if chosen is None else chosen[rows].to(model.device)))
        return Samples(outputs[0] if len(outputs) == 1 else torch.cat(outputs), chosen, drawn)

    def _draw(self, generators: Any, latents: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
        """Latents and (of a conditional model) random labels of every sample, each from its own generator, on the CPU."""
        config = self.config
        rows, labels = [], []
        for source in generators:
            if latents is None:
                rows.append(torch.randn(config.latent_dim, generator=source))
            if config.num_classes is not None:
                labels.append(torch.randint(config.num_classes, (), generator=source))
        random_labels = torch.stack(labels) if labels else None
        if latents is None:
            return torch.stack(rows), random_labels
        if latents.shape != (count, config.latent_dim):
            raise UserError(f"latents must have the shape {(count, config.latent_dim)}, not {tuple(latents.shape)}")
        return latents.detach().cpu(), random_labels

    def _labels(self, count: int, labels: Any, random_labels: Tensor | None) -> Tensor | None:
        num_classes = self.config.num_classes
        if num_classes is None:
            if labels is not None:
                raise UserError("this model is unconditional: it takes no labels")
            return None
        if labels is None:
            return random_labels
        try:
            values = torch.as_tensor(labels)
        except (RuntimeError, TypeError, ValueError):
            values = torch.empty(0)
        if values.is_floating_point() or values.ndim > 1 or not values.numel() or values.numel() > count:
            raise UserError(f"labels must be an integer or a list of 1 to {count} integers")
        if values.min() < 0 or values.max() >= num_classes:
            raise UserError(f"labels must lie between 0 and {num_classes - 1}; got {values.flatten().tolist()[:8]}")
        return values.reshape(-1).repeat(-(-count // values.numel()))[:count].long()

    def _save_examples(self, folder: Path) -> list[str]:
        count = CARD_SAMPLES
        labels = None if self.config.num_classes is None else torch.arange(count) % self.config.num_classes
        preview = self.processor.save_preview(
            self.sample(count, seed=0, labels=labels).samples, folder / "samples", "grid"
        )
        save_golden(self.network, folder / GOLDEN_FILE)
        return [f"samples/{name}" for name in preview]


@dataclass
class ClassifierResult:
    """Judgement of pictures: `labels` (B,) int64, `probabilities` (B, num_classes), `features` (B, feature_dim)."""

    labels: Tensor
    probabilities: Tensor
    features: Tensor


class ClassifierPipeline(Pipeline):
    """Judges pictures with a classifier."""

    @torch.inference_mode()
    def __call__(self, samples: Any, *, batch_size: int = 64) -> ClassifierResult:
        """Classifies pictures.

        Args:
            samples: A picture or a list of pictures: anything the processor's `encode` reads (PIL, arrays, paths).
            batch_size: Pictures judged at once.

        Raises:
            UserError: A picture cannot be read.
        """
        listed = samples if isinstance(samples, (list, tuple)) else [samples]
        if not listed:
            raise UserError("there is no picture to classify")
        stored = torch.from_numpy(np.stack([self.processor.encode(sample) for sample in listed]))
        outputs = [
            self.network(self.processor.normalize(part.to(self.device)).to(self.network.dtype))
            for part in stored.split(batch_size)
        ]
        probabilities = torch.cat([output.logits for output in outputs]).float().softmax(dim=1).cpu()
        features = torch.cat([output.features for output in outputs]).float().cpu()
        return ClassifierResult(probabilities.argmax(dim=1), probabilities, features)

    def _save_examples(self, folder: Path) -> list[str]:
        save_golden(self.network, folder / GOLDEN_FILE)
        return []


PIPELINES: dict[str, type[Pipeline]] = {"generator": GANPipeline, "classifier": ClassifierPipeline}


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
    if network.role not in PIPELINES:
        raise UserError(
            f"{repository.name} holds a {network.role} alone; load it with ganzoo.Discriminator.from_pretrained"
        )
    return PIPELINES[network.role](network, read_processor(repository), repository=repository)


def _count_samples(num_samples: int | None, labels: Any, generator: Any, latents: Tensor | None) -> int:
    if num_samples is not None:
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples < 1:
            raise UserError(f"num_samples must be a positive integer, not {num_samples!r}")
        return num_samples
    for given in (latents, generator, labels):
        if hasattr(given, "__len__") and getattr(given, "ndim", 1) and len(given):
            return len(given)
    return 1


def _generators(count: int, seed: int | None, generator: Any) -> Any:
    """One source of randomness for every sample."""
    if isinstance(generator, torch.Generator):
        if generator.device.type != "cpu":
            raise UserError("pass a CPU generator: samples must not depend on the device")
        return (generator for _ in range(count))
    if generator is not None:
        if len(generator) != count:
            raise UserError(f"{len(generator)} generators for {count} samples; give one for each")
        return generator
    if seed is None:
        # From the system's entropy: the global random state stays as it is.
        seed = torch.Generator().seed() % (MAX_SEED // 2)
    if not isinstance(seed, int) or not 0 <= seed < MAX_SEED - count:
        raise UserError(f"seed must be an integer from 0 to 2**63 - 1, not {seed!r}")
    source = torch.Generator()
    return (source.manual_seed(seed + index) for index in range(count))


def _count(network: GANModel) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
