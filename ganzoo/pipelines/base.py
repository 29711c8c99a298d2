"""What every pipeline has."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ganzoo.checkpoints.checkpoint import Checkpoint, save_network
from ganzoo.checkpoints.golden import save_golden
from ganzoo.checkpoints.repository import ReachableFiles, reason_offline
from ganzoo.checkpoints.weights import count_parameters
from ganzoo.errors import NotCachedError, UserError
from ganzoo.hub.transfer import PushResult, push_saved
from ganzoo.hub.words import CardWords
from ganzoo.networks.base import Discriminator, GANModel
from ganzoo.processors import Processor
from ganzoo.registry import Family, get_family
from ganzoo.utils.files import Files, replaced_files, write_text
from ganzoo.utils.finding import Kind
from ganzoo.utils.layout import DISCRIMINATOR_FOLDER, GOLDEN_FILE, RECIPE_FILE

if TYPE_CHECKING:
    from typing_extensions import Self

    from ganzoo.data.dataset import ArrayDataset
    from ganzoo.hub.card import CardData
    from ganzoo.metrics.records import Measured
    from ganzoo.recipe.recipe import Recipe

CARD_SAMPLES = 64

logger = logging.getLogger(__name__)


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

    # The command of `ganzoo` that calls such a pipeline; `ganzoo sample` calls the `sample` of those that say "sample".
    command: ClassVar[str | None] = None

    def __init__(
        self,
        network: GANModel,
        processor: Processor,
        *,
        discriminator: Discriminator | None = None,
        recipe: Recipe | None = None,
        metrics: Sequence[dict[str, Any]] | None = None,
        training: dict[str, Any] | None = None,
        repository: Files | None = None,
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
        return load_pipeline(source, fits=lambda found: issubclass(found, cls), wanted=cls.__name__, **options)

    @classmethod
    def card_words(cls, processor: Processor | type[Processor]) -> CardWords:
        """What the card says of this task, for samples of a processor."""
        return CardWords(processor.modality, processor.words)

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
            self._discriminator = Checkpoint(self.repository, main=self.network).discriminator
        return self._discriminator

    @property
    def recipe(self) -> Recipe | None:
        """The recipe that the checkpoint holds, or None."""
        if self._recipe is None and self.repository is not None:
            path = self.repository.find(RECIPE_FILE)
            if path is not None:
                from ganzoo.recipe.reading import load_recipe

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
        from ganzoo.metrics.records import Measured, read_measured
        from ganzoo.utils.layout import METRICS_FILE

        path = self.repository.find(METRICS_FILE) if self.repository is not None else None
        return Measured() if path is None else read_measured(path)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Writes a complete checkpoint folder: networks, processor, recipe, metrics, samples, golden file, card.

        A checkpoint that was there is replaced, with all that this one lacks; a person's own files and text of the card stay.
        Of a checkpoint on the Hub that cannot be reached, what was never fetched is left out, with a warning that names it.

        Returns:
            The folder.

        Raises:
            GanzooError: The folder cannot be written.
        """
        folder = Path(folder)
        if missing := self._save(folder):
            logger.warning("%s is saved without %s", folder, self._explain_missing(missing))
        return folder

    def push_to_hub(self, repo_id: str, **options: Any) -> PushResult:
        """Saves the pipeline and uploads it; the options are those of `ganzoo.push_folder`.

        Raises:
            NotCachedError: A part of it was never fetched, and cannot be now: without it, the checkpoint would lose it.
        """

        def save(folder: Path) -> None:
            if missing := self._save(folder):
                raise NotCachedError(f"'{repo_id}' would be without {self._explain_missing(missing)}")

        return push_saved(save, repo_id, **options)

    def _explain_missing(self, files: list[str]) -> str:
        name = self.repository.name
        return (
            f"{', '.join(files)} of '{name}', never fetched, and {reason_offline()}; connected, 'ganzoo pull {name}' fetches "
            "everything: then do this again"
        )

    def _save(self, folder: Path) -> list[str]:
        """Writes what can be read now, and returns the files of the repository that cannot."""
        if folder.is_file():
            raise UserError(f"{folder} is a file; give a folder")
        if self.repository is None:
            self._replace(folder)
            return []
        reachable = copy.copy(self)  # what is absent from it is not absent from this one for ever
        reachable.repository = files = ReachableFiles(self.repository)
        reachable._replace(folder)
        return files.missing

    def _replace(self, folder: Path) -> None:
        from ganzoo.hub.card import write_card

        with replaced_files(folder) as fresh:
            card = self._card_data(folder.resolve().name, self._write(fresh))
        write_card(folder, card)

    def _write(self, folder: Path) -> dict[str, Any]:
        """Writes everything but the card; returns what the card says of the samples."""
        from ganzoo.metrics.records import write_measured
        from ganzoo.utils.layout import METRICS_FILE

        discriminator, recipe, metrics, training = self.discriminator, self.recipe, self.metrics, self.training
        save_network(self.network, folder)
        self.processor.save_pretrained(folder)
        if discriminator is not None:
            save_network(discriminator, folder / DISCRIMINATOR_FOLDER)
        if recipe is not None:
            write_text(folder / RECIPE_FILE, recipe.published().to_yaml())
        write_measured(folder / METRICS_FILE, metrics, training)
        return self._save_examples(folder)

    def take_examples(self, dataset: ArrayDataset) -> None:
        """Keeps of the training data what samples on the card need, such as prompts; mostly nothing."""

    def save_preview(self, folder: Path, name: str, *, num_samples: int = CARD_SAMPLES, seed: int = 0) -> list[str]:
        """Writes something for a person to look at or listen to, as `<name>.png` and the like; here nothing.

        Args:
            num_samples: Samples at most.
            seed: Of the first sample.

        Returns:
            The names of the files.
        """
        return []

    def _save_examples(self, folder: Path) -> dict[str, Any]:
        """Writes samples and the golden file; returns what the card says of them: fields of `CardData`."""
        save_golden(self.network, folder / GOLDEN_FILE)
        return {}

    def _card_data(self, name: str, examples: dict[str, Any]) -> CardData:
        from ganzoo.hub.card import CardData

        recipe, family = self.recipe and self.recipe.published(), self.family
        card = recipe.card if recipe else None
        networks = {family.main_role: self.network, "discriminator": self.discriminator}
        dataset = recipe.data.dataset if recipe else None
        return CardData(
            name=recipe.name if recipe else name,
            summary=(card and card.summary) or f"A {family.summary.partition(' (')[0]}.",
            family=family.name,
            # An image network with a spectrogram processor makes sound.
            words=self.card_words(self.processor),
            num_classes=self.config.num_classes,
            class_names=list(self.processor.class_names or ()),
            sampling_rate=getattr(self.processor, "sampling_rate", None),
            paper_title=family.summary,
            paper=family.paper,
            license=card.license if card else "apache-2.0",
            datasets=[dataset] if dataset and "/" in dataset else [],
            data=f"`{dataset}`, split `{recipe.data.split}`" if recipe else "",
            metrics=self.metrics,
            parameters={role: count_parameters(network) for role, network in networks.items() if network is not None},
            training=self.training,
            recipe=recipe.name if recipe else None,
            limitations=[card.limitations] if card and card.limitations else [],
            **examples,
        )


PIPELINES = Kind("task", "ganzoo.pipelines", "PIPELINE")


def pipeline_class(network: GANModel | type[GANModel], *, where: str = "the checkpoint") -> type[Pipeline]:
    """The pipeline that a network is called through: that of its task.

    Raises:
        UserError: It is a discriminator, which stands beside a main network.
    """
    if network.task is None:
        raise UserError(f"{where} holds a {network.role} alone; load it with ganzoo.Discriminator.from_pretrained")
    return PIPELINES.get(network.task)


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    device: str | int | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    **others: Any,
) -> Pipeline:
    """Loads a checkpoint as a pipeline: `ganzoo.from_pretrained("dcgan-mnist")(num_samples=16, seed=0).images`.

    Only the main network and the processor are loaded; the discriminator, recipe and metrics when they are asked for.

    Args:
        source: A checkpoint folder, a name of the catalogue, or `org/name[@revision]` on the Hub.
        revision: Branch, tag or commit on the Hub; resolved once for all files.
        device: Where the network goes, `"cuda"`, or `"auto"` for the GPU where there is one; by default the CPU.
        dtype: Type of the floating-point weights, `torch.bfloat16` or `"bfloat16"`, or `"auto"` for that of the file.
        token: Hub token; by default the saved one or `HF_TOKEN`.
        cache_dir: Hub cache; by default that of `HF_HOME`.
        local_files_only: Use only what is cached (also `HF_HUB_OFFLINE=1`).
        force_download: Download again.
        **others: What diffusers' and transformers' take: `torch_dtype`, `device_map`, `use_safetensors`, `low_cpu_mem_usage`,
            `config`, and `output_loading_info`, with which the pipeline comes with a report.

    Raises:
        NotFoundError: There is no such folder, name, repository, revision or file.
        CheckpointError: The files are damaged or not a ganzoo checkpoint.
    """
    return load_pipeline(
        source,
        device=device,
        dtype=dtype,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
        **others,
    )


def load_pipeline(
    source: str | Path,
    *,
    fits: Callable[[type[Pipeline]], bool] = lambda found: True,
    wanted: str = "",
    **options: Any,
) -> Any:
    """Loads a checkpoint if its pipeline is of the right class, which is known before its weights are read.

    Args:
        fits: Whether it is.
        wanted: Which one is, in the sentence that says that it is not.
        **options: Those of `from_pretrained`.

    Raises:
        UserError: It makes another pipeline.
    """
    checkpoint = Checkpoint.open(source, **options)
    found = pipeline_class(checkpoint.describe().network_class, where=checkpoint.name)
    if not fits(found):
        hint = f"; see 'ganzoo {found.command} --help'" if found.command else ""
        raise UserError(f"{source} makes a {found.__name__}, not a {wanted}{hint}")
    pipeline = found(checkpoint.network("", GANModel), checkpoint.processor, repository=checkpoint.files)
    return checkpoint.loading.reported(pipeline)
