"""Whether the parts of a recipe fit each other: its objectives and its data the networks. Nothing is built for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ganzoo.errors import UserError
from ganzoo.recipe.data import DataConfig
from ganzoo.recipe.objective import OBJECTIVES, ObjectiveConfig
from ganzoo.recipe.recipe import Recipe
from ganzoo.registry import Family, get_family
from ganzoo.utils.modalities import PROCESSORS


def check_fit(recipe: Recipe, *, where: str = "recipe") -> None:
    """Refuses a recipe whose family an objective cannot train, or whose samples cannot be varied as its data section says.

    Raises:
        UserError: What does not fit, and what would.
    """
    family = get_family(recipe.model["family"])
    for key, section in _objectives(recipe):
        _check_objective(section, family, f"{where}: {key}")
    for index, phase in enumerate(recipe.phases):
        section = phase.objective or recipe.objective
        objective = OBJECTIVES.get(section.type)
        trained = objective.trains.keys()
        if phase.stop is not None and not objective.validates():
            validating = [name for name, other in OBJECTIVES.all().items() if other.validates()]
            raise UserError(
                f"{where}: phases.{index}.stop: its objective, {section.type}, has no loss on held-out data for early stopping "
                f"to judge by; leave stop out, or take an objective that has one: {', '.join(validating)}"
            )
        if trained and (unknown := phase.updates.keys() & family.networks.keys() - trained):
            raise UserError(
                f"{where}: phases.{index}.updates the {min(unknown)}, but its objective, {section.type}, trains "
                f"{' and '.join(f'the {role}' for role in trained)} only"
            )
    kind = family.config.processor_type(recipe.model, recipe.data.processor)
    if kind in PROCESSORS.names() and recipe.init is None:
        check_transforms(recipe.data, PROCESSORS.get(kind), family.networks[family.main_role], where=where)


def check_transforms(data: DataConfig, processor: Any, network: Any, *, where: str = "recipe") -> None:
    """Refuses random changes of samples that their processor does not allow, or that the main network could not take.

    Args:
        processor: The processor, or its class, of which no sizes are known yet.
        network: The main network's class.

    Raises:
        UserError: Which, and what is allowed.
    """
    for name, value in data.transforms.items():
        if name not in processor.transforms:
            allowed = ", ".join(f"data.{key}" for key in processor.transforms) or "no random changes"
            raise UserError(
                f"{where}: data.{name}={value} cannot be done to samples of the {processor.processor_type} processor, which "
                f"allows {allowed}"
            )
        if not isinstance(processor, type) and value > processor.largest(name):
            raise UserError(
                f"{where}: data.{name}={value} is too much for samples of shape {processor.sample_shape}; it can be "
                f"{processor.largest(name)} at most"
            )
    if data.segment is not None and not network.any_length:
        raise UserError(
            f"{where}: data.segment={data.segment} is for networks that take sound of any length, and {network.family!r} takes "
            "clips of model.length; set that instead"
        )


def _objectives(recipe: Recipe) -> Iterator[tuple[str, ObjectiveConfig]]:
    yield "objective", recipe.objective
    for index, phase in enumerate(recipe.phases):
        if phase.objective is not None:
            yield f"phases.{index}.objective", phase.objective


def _check_objective(section: ObjectiveConfig, family: Family, where: str) -> None:
    for role, trained in OBJECTIVES.get(section.type).trains.items():
        if trained.fits(family.networks.get(role)):
            continue
        fitting = [name for name, objective in OBJECTIVES.all().items() if _fits(objective, family)]
        has = f"whose {role} is none" if role in family.networks else f"which has no {role}"
        raise UserError(
            f"{where}.type={section.type} trains {trained.words}; it does not fit the family {family.name!r}, {has}. "
            f"What fits it: {', '.join(fitting) or 'no objective'}"
        )


def _fits(objective: Any, family: Family) -> bool:
    return all(trained.fits(family.networks.get(role)) for role, trained in objective.trains.items())
