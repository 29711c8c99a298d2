"""Processors: how a modality's data becomes a tensor and back. Saved with the checkpoint as `processor_config.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, field_validator, model_serializer

from ganzoo.errors import CheckpointError, UserError, did_you_mean
from ganzoo.processors.words import Words
from ganzoo.utils.exact import Exact
from ganzoo.utils.files import write_bytes
from ganzoo.utils.layout import PROCESSOR_FILE
from ganzoo.utils.modalities import PROCESSORS
from ganzoo.utils.validation import explain

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

    from ganzoo.utils.files import Files


class Processor(Exact):
    """Both directions of a representation: raw data -> stored array -> network space -> something a person sees or hears.

    `encode` runs once per sample, when the data cache is built; `normalize` runs every step, on the device.
    """

    processor_type: ClassVar[str] = ""
    modality: ClassVar[str] = ""
    storage_dtype: ClassVar[str] = "uint8"
    # Samples are maps (B, C, H, W) in the networks' space: convolutions of them are faster with the channels last in memory.
    channels_last: ClassVar[bool] = False
    # Ending of the file that `ganzoo sample` writes unless told otherwise; None: it prints what it draws.
    sample_file: ClassVar[str | None] = None
    # Whether that is a file for each sample, in a folder; else one file shows them all.
    one_file_each: ClassVar[bool] = False
    # What `decode` can give, first what a call gives unless it asks for something else.
    output_types: ClassVar[tuple[str, ...]] = ("pt",)
    words: ClassVar[Words] = Words()
    # Fields that change no sample: the cache does not depend on them, and the file lacks those of which nothing is known.
    remarks_only: ClassVar[tuple[str, ...]] = ("class_names",)
    # Whether a sample without a label, among others that have one, is left out and counted; else it is refused.
    may_lack_labels: ClassVar[bool] = False
    # Random changes of training samples that a recipe's `data` section may ask for (`ganzoo.augmentation.transforms`).
    transforms: ClassVar[tuple[str, ...]] = ()
    # Field -> what its absence means in a `processor_config.json`: how data were made before the field was there.
    when_absent: ClassVar[Mapping[str, Any]] = {}
    # What `save_samples` writes, with its verb, and the ending of a file that holds all of it.
    written: ClassVar[tuple[str, str]] = ("samples are", "")

    class_names: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=100_000, description="The classes by label, where the data names them."
    )
    # That of the conditions, where these are of another kind or size than the samples.
    condition: Processor | None = Field(None, description="Processor of the conditions; null: that of the samples.")

    @field_validator("condition", mode="before")
    @classmethod
    def _read_condition(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        try:
            return processor_from_json(value, where="its processor")
        except CheckpointError as error:
            raise ValueError(str(error)) from None

    @model_serializer(mode="wrap")
    def _with_condition(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        values.pop("condition", None)
        if self.condition is not None:
            values["condition"] = json.loads(self.condition.to_json())
        return values

    @property
    def of_conditions(self) -> Processor:
        """The processor of the conditions that come with the samples."""
        return self.condition or self

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "processor") -> Processor:
        """Validates `values`.

        Raises:
            UserError: One sentence that lists every wrong key of `where`.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(f"{where}: {explain(error, cls)}") from None

    def revised(self, **overrides: Any) -> Processor:
        """A copy with some fields changed, validated.

        Raises:
            UserError: One sentence that lists every wrong key.
        """
        return self.from_dict({**self.model_dump(), **overrides})

    def with_files(self, repository: Files) -> Processor:
        """The processor together with what else a checkpoint stores of it, such as a tokenizer.

        Raises:
            CheckpointError: A file is missing, damaged, or does not fit.
        """
        return self

    def largest(self, transform: str) -> float:
        """The largest value of one of `transforms` that these samples have room for."""
        return math.inf

    def difference(self, other: Processor) -> str | None:
        """Why samples of this processor do not fit a network whose config asks for `other`, in words; None if they do."""
        if self.network_shape == other.network_shape:
            return None
        return f"is for samples of shape {self.network_shape}, the network's have {other.network_shape}"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one stored sample."""
        raise NotImplementedError(f"{type(self).__name__} must have `sample_shape`, as every processor")

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape of one sample in the networks' space."""
        return self.sample_shape

    def fitted(self, raws: Iterable[Any]) -> Self:
        """The processor with what it has to learn from the training data, such as statistics; mostly itself."""
        return self

    def informed(self, *, class_names: tuple[str, ...] | None, temperature: float) -> Self:
        """The processor with what sampling should know of the training.

        Args:
            class_names: The classes of a conditional model or a classifier by label, None where they have no names.
            temperature: At which text is measured.
        """
        return self.revised(class_names=class_names) if class_names else self

    @property
    def decisions(self) -> tuple[str, ...]:
        """What was decided when it was made from data, in sentences: a run tells them."""
        return ()

    def encode(self, raw: Any) -> np.ndarray:
        """Turns one raw sample into an array of `sample_shape` and `storage_dtype`."""
        raise NotImplementedError(f"{type(self).__name__} must have `encode`, as every processor")

    def encode_all(self, raw: Any) -> list[np.ndarray]:
        """The samples that one raw one makes, such as the slices of a long recording; mostly one."""
        return [self.encode(raw)]

    def normalize(self, stored: torch.Tensor) -> torch.Tensor:
        """Stored batch -> the networks' space, on the device where it is.

        Args:
            stored: (B, *sample_shape) of `storage_dtype`.

        Returns:
            (B, *network_shape), float32, mostly in [-1, 1]; of text int64 ids.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `normalize`, as every processor")

    def parts(self, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A batch that `normalize` made -> the samples (B, ...), and what is stored in the same row and steers the networks, the
        condition (B, ...); None where a row is a sample and nothing else."""
        return samples, None

    def decode(self, samples: torch.Tensor, output_type: str) -> Any:
        """The networks' space -> what a person asked for.

        Args:
            samples: (B, *network_shape).
            output_type: One of `output_types`; `check_output_type` refuses others.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `decode`, as every processor")

    def check_output_type(self, output_type: str) -> None:
        """Raises a UserError that lists what there is, if `decode` cannot give this."""
        if output_type not in self.output_types:
            raise UserError(f"unknown output_type {output_type!r}; it is one of {', '.join(self.output_types)}")

    def output(self, samples: torch.Tensor, output_type: str, *, labels: Any, latents: Any) -> Any:
        """Wraps decoded samples in what a pipeline returns.

        Args:
            samples: (B, *network_shape).
            output_type: As of `decode`.
            labels: (B,) int64, or None.
            latents: (B, ...) of which they were made, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `output`, as every processor")

    def save_preview(self, samples: torch.Tensor, folder: Path, name: str) -> list[str]:
        """Writes samples (B, *network_shape) for a person to look at or listen to; returns the names of the files in `folder`."""
        raise NotImplementedError(f"{type(self).__name__} must have `save_preview`, as every processor")

    def names_a_file(self, target: Path) -> bool:
        """Whether `save_samples` would write all samples to one file, `target`; else that is a folder.

        Raises:
            UserError: A file's name with another ending than the one that is written.
        """
        if not target.suffix or target.is_dir():
            return False
        what, ending = self.written
        if target.suffix.lower() != ending:
            raise UserError(f"{target}: {what} written as {ending}; give a name that ends so, or a folder")
        return True

    def save_samples(self, samples: torch.Tensor, target: Path) -> list[Path]:
        """Writes samples (B, *network_shape) to one file, or to one file each in a folder; returns the paths.

        Args:
            target: What `names_a_file` takes for a file is one; else it is a folder.

        Raises:
            GanzooError: It cannot be written.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `save_samples`, as every processor")

    def show(self, samples: torch.Tensor) -> str:
        """Samples (B, *network_shape) as text for a terminal."""
        raise NotImplementedError(f"{type(self).__name__} must have `show`, as every processor")

    def to_stored(self, samples: torch.Tensor) -> torch.Tensor:
        """The networks' space -> the stored representation (the inverse of `normalize`, rounded).

        Args:
            samples: (B, *network_shape), of any floating-point type, on any device; values out of range are clamped.

        Returns:
            (B, *sample_shape) of `storage_dtype`, on the same device.
        """
        raise NotImplementedError(f"{type(self).__name__} must have `to_stored`, as every processor")

    def fingerprint(self) -> str:
        """Two processors with one fingerprint encode alike; part of the data cache's key."""
        return self._json(exclude={*self.remarks_only})

    def to_json(self) -> str:
        return self._json(exclude={name for name in self.remarks_only if getattr(self, name) is None})

    def _json(self, *, exclude: set[str]) -> str:
        values = {"processor_type": self.processor_type, **self.model_dump(mode="json", exclude=exclude)}
        return json.dumps(values, indent=2) + "\n"

    def save_pretrained(self, folder: str | Path) -> None:
        write_bytes(Path(folder) / PROCESSOR_FILE, self.to_json().encode())


def processor_from_json(values: Mapping[str, Any], *, where: str) -> Processor:
    """Builds the processor that `processor_config.json` describes, whatever version wrote it: a field that it lacks has the
    value of the time before that field (`Processor.when_absent`), not the default for new recipes.

    Raises:
        CheckpointError: Unknown type or malformed values.
    """
    kind = values.get("processor_type")
    if not isinstance(kind, str) or kind not in PROCESSORS.names():
        raise CheckpointError(
            f"{where}: unknown processor_type {kind!r}.{did_you_mean(str(kind), PROCESSORS.names())}"
        )
    fields = {key: value for key, value in values.items() if key != "processor_type"}
    found = PROCESSORS.get(kind)
    try:
        return found.from_dict({**found.when_absent, **fields}, where=where)
    except UserError as error:
        raise CheckpointError(str(error)) from None
