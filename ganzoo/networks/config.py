"""GANConfig: the validated, JSON-able description of a family's networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from ganzoo.errors import UserError
from ganzoo.utils.exact import Exact
from ganzoo.utils.layout import MODEL_TYPE
from ganzoo.utils.validation import explain

if TYPE_CHECKING:
    from typing_extensions import Self

    from ganzoo.processors import Processor


class GANConfig(Exact):
    """Base of every family's config. Unknown keys, wrong types and values out of bounds are errors.

    A subclass declares one field for each thing that a person may want to change, with a bound on every number: the
    bounds are what keeps a hostile `config.json` from allocating more than a real model would.
    """

    family: ClassVar[str] = ""

    num_classes: int | None = Field(
        None, ge=2, le=100_000, description="Number of classes of a conditional model; null for an unconditional one."
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "config") -> GANConfig:
        """Validates `values`.

        Raises:
            UserError: One sentence that lists every wrong key of `where` with the allowed values.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(f"{where}: {explain(error, cls)}") from None

    @classmethod
    def from_source(
        cls, values: Mapping[str, Any], source: Any, overrides: Mapping[str, Any]
    ) -> tuple[Self, Processor]:
        """The config and the processor of a recipe; what the recipe leaves out may be learned from its data.

        Args:
            values: The recipe's `model` section without the family.
            source: The training data, a `ganzoo.data.Source`.
            overrides: The recipe's `data.processor` section.

        Raises:
            UserError: What is wrong with the values.
        """
        config = cls.from_dict(values, where="recipe section 'model'")
        return config, config.processor(**overrides).fitted(raw for raw, _ in source.iterate())

    @classmethod
    def processor_type(cls, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> str | None:
        """The type of `processor`, as far as a recipe says it before anything is opened; None where it does not.

        Args:
            values: The recipe's `model` section.
            overrides: Its `data.processor` section.
        """
        return None

    def processor(self, **overrides: Any) -> Processor:
        """The processor of the space in which this model's samples live.

        Args:
            **overrides: Fields of the processor that a recipe's `data.processor` sets, e.g. `fit="pad"`.
        """
        raise NotImplementedError(f"{type(self).__name__} must say which processor its samples need")

    def packed(self, together: int) -> Self:
        """The config of a discriminator that judges `together` samples at once, laid onto each other by `ganzoo.nn.pack`.

        Raises:
            UserError: Samples of this family cannot lie on each other, are of different classes, or are too many.
        """
        if together == 1:
            return self
        field, where = self._packed_field(), f"objective.packing={together}"
        if field is None:
            raise UserError(f"{where}: samples of the family {self.family!r} cannot be judged together; leave it out")
        if self.num_classes is not None:
            raise UserError(
                f"{where} judges samples together that may be of different classes; leave it out, or model.num_classes"
            )
        return self.from_dict({**self.model_dump(mode="json"), field: together * getattr(self, field)}, where=where)

    def _packed_field(self) -> str | None:
        """The field that counts what samples laid onto each other have more of; None where they cannot be."""
        return None

    def differences(self, judge: GANConfig) -> list[str]:
        """The fields in which the config of a discriminator differs from this one, that of the network that it judges.

        That it judges several samples at once (`packed`) is no difference.
        """
        packed, own, its = self._packed_field(), self.model_dump(mode="json"), judge.model_dump(mode="json")
        return [key for key in own if own[key] != its[key] and (key != packed or its[key] % own[key])]

    def to_json(self, *, role: str) -> str:
        """The content of `config.json` for the network that plays `role`."""
        from ganzoo.version import __version__

        head = {"model_type": MODEL_TYPE, "family": self.family, "role": role, "ganzoo_version": __version__}
        return json.dumps({**head, **self.model_dump(mode="json")}, indent=2) + "\n"


class DiscriminatorNormConfig(GANConfig):
    """Of a discriminator that can have normalisation: it calls `ganzoo.nn.normalise` once it is built."""

    discriminator_norm: Literal["spectral", "batch", "layer", "none"] = Field(
        "none",
        description="Normalisation in the discriminator: spectral = of every layer's weight (Miyato et al., 2018); of what its "
        "hidden layers compute: batch = over the samples (Ioffe and Szegedy, 2015), layer = of each sample by itself (Ba et "
        "al., 2016).",
    )


class MinibatchDiscriminationConfig(GANConfig):
    """Of a discriminator that can see how alike a batch is: a `ganzoo.nn.MinibatchLogit` behind its features."""

    minibatch_discrimination: int = Field(
        0,
        ge=0,
        le=1024,
        description="Learned measures of how alike a batch's samples are (Salimans et al., 2016); 0 for none.",
    )


class MinibatchConfig(MinibatchDiscriminationConfig):
    """Of one that can also see how much a batch varies, by the same layer."""

    minibatch_std: bool = Field(
        False, description="Show the discriminator how much the samples of a batch differ (Karras et al., 2018)."
    )


class StabilisedConfig(MinibatchConfig, DiscriminatorNormConfig):
    """Of a discriminator that can have all of it."""


def check_free(shape: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Raises a UserError if a recipe's processor section sets what the model's config decides."""
    if fixed := sorted(shape.keys() & overrides.keys()):
        raise UserError(f"the processor's {' and '.join(fixed)} is the model's; set model.{fixed[0]} instead")
