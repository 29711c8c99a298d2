"""The `data` section of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from ganzoo.errors import UserError
from ganzoo.recipe.section import Section


class DataConfig(Section):
    """Which samples a run sees, and how they are varied.

    Names are resolved in one order: `path`, when given, is read from this machine and `dataset` only says what it is a
    copy of; otherwise `dataset` is a built-in set or a data set of the Hugging Face Hub.
    """

    # Random changes of training samples, in the order in which they are made; a processor says which it allows.
    TRANSFORMS: ClassVar[tuple[str, ...]] = ("flip", "crop_padding", "segment")

    dataset: str = Field(
        default="digits",
        min_length=1,
        max_length=200,
        description="A built-in set ('digits', 'drums', 'python-docs', 'oracle') or the id of a Hub data set, such as "
        "'ylecun/mnist'.",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Configuration of a Hub data set that has several; seed of the built-in 'oracle'.",
    )
    revision: str | None = Field(
        default=None, min_length=1, max_length=200, description="Branch, tag or commit of a Hub data set."
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="A local copy: a parquet file, a folder of parquet files named by split (train.parquet, "
        "train-00000-of-00002.parquet), a folder of images or of recordings (WAV, FLAC, OGG, MP3; of both, what there is more "
        "of), optionally in one sub-folder per class, one recording (to be cut by processor.slices), lines of text (a .txt, a "
        ".md, a file without an ending, a .tsv of prompt and text), a table of texts (.csv, .jsonl, .json, a .tsv whose first "
        "line names the columns), a folder of either named by split, packed by gzip or not, or the .safetensors of an oracle.",
    )
    split: str = Field(
        default="train",
        pattern=r"^[\w.-]+$",
        max_length=100,
        description="The split to train on.",
    )
    sample_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Column with the samples; by default the first of images, else of recordings, else that of text, "
        "sentence or caption.",
    )
    prompt_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Column with a prompt for each text, for models that answer; by default there are no prompts.",
    )
    condition_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Column of a table with what steers the networks besides labels, such as the picture to translate; by default "
        "there is none. Prompts of texts have their own, prompt_column.",
    )
    unaligned: bool = Field(
        default=False,
        description="The conditions do not belong to the samples beside them: they come in an order of their own, and nulls in "
        "either column are passed over.",
    )
    label_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Column with the integer labels (of .csv, .tsv and .jsonl also the names of classes); by default the "
        "column of class labels, if there is one.",
    )
    limit: int | None = Field(
        default=None, ge=1, le=10**9, description="Use only the first so many samples (pictures, recordings, lines)."
    )
    holdout: float = Field(
        default=0.0,
        ge=0.0,
        le=0.5,
        description="Share of the training split that is never trained on, drawn once and for all: the split 'holdout'.",
    )
    flip: float = Field(default=0.0, ge=0.0, le=1.0, description="Probability of a horizontal flip.")
    crop_padding: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Random crop to the original size after reflection padding by so many pixels; 0 is no crop.",
    )
    segment: int | None = Field(
        default=None,
        ge=16,
        le=2**22,
        description="Train on a random excerpt of so many samples of every clip (vocoders); null for whole clips.",
    )
    processor: dict[str, Any] = Field(
        default_factory=dict,
        description="Overrides of the model's processor, such as {fit: pad}, of text {tokenizer: character}.",
    )

    @property
    def transforms(self) -> dict[str, float]:
        """The random changes that are asked for, by their keys."""
        return {name: value for name in self.TRANSFORMS if (value := getattr(self, name))}


def data_config(recipe_data: DataConfig | None, data: Mapping[str, Any] | DataConfig | None) -> DataConfig:
    """The data to measure against: what is given, over what the recipe says.

    Raises:
        UserError: Wrong keys, or neither is there.
    """
    from pydantic import ValidationError

    from ganzoo.utils.validation import explain

    if isinstance(data, DataConfig):
        return data
    if recipe_data is None and data is None:
        raise UserError("this model has no recipe that names its data; pass data={'dataset': ...} or {'path': ...}")
    try:
        return DataConfig.model_validate({**(recipe_data.model_dump() if recipe_data else {}), **(data or {})})
    except ValidationError as error:
        raise UserError(f"data: {explain(error, DataConfig)}") from None
