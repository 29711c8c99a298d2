"""What a model card's metadata must look like, checked here because the Hub's client checks none of it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

from ganzoo.errors import UserError, did_you_mean
from ganzoo.recipe.licences import LICENSES
from ganzoo.utils.layout import CARD_FILE
from ganzoo.utils.safe_yaml import load_yaml

LIBRARY_NAME = "ganzoo"

_METADATA = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_REPO_ID = re.compile(r"(?!.*(?:--|\.\.))(?:[\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)


def split_card(text: str, *, where: str = CARD_FILE) -> tuple[dict[str, Any], str]:
    """Separates a card into its metadata and its body; the metadata of a card without any is empty.

    Raises:
        UserError: The metadata block is not a YAML mapping.
    """
    match = _METADATA.match(text)
    if match is None:
        return {}, text
    try:
        metadata = load_yaml(match[1]) or {}
    except ValueError as error:
        raise UserError(f"{where}: the metadata block is not valid YAML ({error}); correct it") from None
    if not isinstance(metadata, dict):
        raise UserError(f"{where}: the metadata block must hold 'key: value' lines, not a {type(metadata).__name__}")
    return metadata, text[match.end() :]


def check_card(text: str) -> list[str]:
    """Lists what is wrong with a card: what the Hub's server would refuse, and what would leave the model unlisted.

    Args:
        text: The content of README.md.

    Returns:
        One sentence a problem; empty for a good card.
    """
    try:
        metadata, body = split_card(text)
    except UserError as error:
        return [str(error)]
    if not metadata:
        return ["there is no metadata block (YAML between two lines of ---) at the top"]
    problems = metadata_problems(metadata)
    return problems if body.strip() else [*problems, "there is no text below the metadata"]


# The metadata, as far as the Hub or this library cares. Strict: YAML must already hold the right types.
class _Strict(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


_Text = Annotated[str, Field(min_length=1)]


class _Task(_Strict):
    type: _Text


class _Dataset(_Strict):
    type: _Text
    name: _Text


class _Metric(_Strict):
    type: _Text
    value: FiniteFloat


class _Result(_Strict):
    task: _Task
    dataset: _Dataset
    metrics: list[_Metric] = Field(min_length=1)


class _ModelIndex(_Strict):
    name: _Text
    results: list[_Result] = Field(min_length=1)


class _Metadata(_Strict):
    license: _Text
    license_name: _Text | None = None
    license_link: _Text | None = None
    library_name: _Text
    pipeline_tag: _Text | None = None
    tags: list[_Text]
    datasets: list[_Text] = Field(default_factory=list)
    model_index: list[_ModelIndex] = Field(default_factory=list, alias="model-index")

    @field_validator("license")
    @classmethod
    def _known_license(cls, value: str) -> str:
        if value not in LICENSES:
            hint = did_you_mean(value.lower(), LICENSES)
            raise ValueError(f"{value!r} is no licence identifier of the Hub (or 'other').{hint}")
        return value

    @field_validator("library_name")
    @classmethod
    def _own_library(cls, value: str) -> str:
        if value != LIBRARY_NAME:
            raise ValueError(f"must be {LIBRARY_NAME!r}, or the Hub takes the model for another library's")
        return value

    @field_validator("pipeline_tag")
    @classmethod
    def _known_task(cls, value: str | None) -> str | None:
        if value is not None and value not in PIPELINE_TAGS:
            raise ValueError(f"{value!r} is no task of the Hub.{did_you_mean(value, PIPELINE_TAGS)}")
        return value

    @field_validator("datasets")
    @classmethod
    def _dataset_ids(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _REPO_ID.fullmatch(name):
                raise ValueError(f"{name!r} is no data set id; it has the form org/name")
        return value

    @model_validator(mode="after")
    def _other_license_is_named(self) -> _Metadata:
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError("license 'other' needs license_name and license_link as well")
        return self


def metadata_problems(metadata: dict[str, Any]) -> list[str]:
    """Lists what is wrong with a card's metadata; `check_card` for a mapping."""
    try:
        _Metadata.model_validate(metadata)
    except ValidationError as error:
        return [_explain(item) for item in error.errors(include_url=False)]
    return []


def _explain(item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"missing key '{path}'"
    message = item["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


PIPELINE_TAGS = frozenset(
    """
    text-classification token-classification table-question-answering question-answering zero-shot-classification
    translation summarization feature-extraction text-generation text2text-generation fill-mask sentence-similarity
    text-to-speech text-to-audio automatic-speech-recognition audio-to-audio audio-classification audio-text-to-text
    voice-activity-detection depth-estimation image-classification object-detection image-segmentation text-to-image
    image-to-text image-to-image image-to-video unconditional-image-generation video-classification
    reinforcement-learning robotics tabular-classification tabular-regression tabular-to-text table-to-text
    multiple-choice text-ranking text-retrieval time-series-forecasting text-to-video image-text-to-text
    visual-question-answering document-question-answering zero-shot-image-classification graph-ml mask-generation
    zero-shot-object-detection text-to-3d image-to-3d image-feature-extraction video-text-to-text keypoint-detection
    visual-document-retrieval any-to-any biology other
    """.split()
)
