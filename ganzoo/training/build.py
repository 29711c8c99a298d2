"""From a recipe to a trainer: the data, and the networks, new or from a checkpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.data import ArrayDataset, load_data, open_source
from ganzoo.errors import UserError
from ganzoo.evaluation import check_evaluation
from ganzoo.networks.config import GANConfig
from ganzoo.objectives import build_objective
from ganzoo.processors import Processor
from ganzoo.recipe.fitting import check_fit, check_transforms
from ganzoo.recipe.recipe import Recipe
from ganzoo.registry import Family, get_family
from ganzoo.training.distributed import World
from ganzoo.training.randomness import mix, seed_device
from ganzoo.training.trainer import Trainer


def build_trainer(recipe: Recipe, device: torch.device, world: World | None = None) -> tuple[Family, Trainer]:
    """Builds the networks, the data and the trainer of a recipe.

    Raises:
        UserError: The model section is wrong, or not that of the checkpoint to begin with, or the data has no labels (or
            too many classes) for a conditional model.
        NotFoundError, CheckpointError: What is wrong with that checkpoint.
    """
    world = world or World()
    check_evaluation(recipe)  # before hours, and before data are read
    check_fit(recipe)
    values = dict(recipe.model)
    family = get_family(values.pop("family"))
    checkpoint = Checkpoint.open(recipe.init) if recipe.init else None
    if checkpoint is None:
        source = open_source(recipe.data)
        limited = dataclasses.replace(source, iterate=lambda: source.first(recipe.data.limit))
        config, processor = family.config.from_source(values, limited, recipe.data.processor)
    else:
        config, processor = _published(checkpoint, family, values, recipe.data.processor)
    check_evaluation(recipe, processor)
    check_transforms(recipe.data, processor, family.networks[family.main_role])
    dataset = load_data(recipe.data, processor)
    if config.num_classes is not None:
        if dataset.labels is None:
            raise UserError(f"the model has num_classes={config.num_classes}, but {dataset.description} has no labels")
        if int(dataset.labels.max()) >= config.num_classes:
            raise UserError(
                f"the model has num_classes={config.num_classes}, but the data has {dataset.num_classes} classes"
            )
    _check_condition(family, dataset, processor, recipe)
    # The recipe may name classes that the data only counts.
    names = dataset.class_names if config.num_classes and "class_names" not in recipe.data.processor else None
    processor = processor.informed(class_names=names, temperature=recipe.evaluation.temperature)
    # One seed in all processes: they start from the same weights.
    seed_device(device, mix(recipe.training.seed, "init"))
    configs = {role: config if role == family.main_role else config.packed(recipe.packing) for role in family.networks}
    networks = {role: _network(role, family, configs[role], checkpoint) for role in family.networks}
    objective = build_objective(recipe.objective)
    return family, Trainer(recipe, networks, objective, dataset, processor, device=device, world=world)


def _check_condition(family: Family, dataset: ArrayDataset, processor: Processor, recipe: Recipe) -> None:
    """Refuses conditions that the networks do not take, ones that are missing, and changes of samples that they cannot follow."""
    needed, data = family.networks[family.main_role].needs_condition, recipe.data
    if needed != (dataset.conditions is not None):
        raise UserError(
            f"the networks of {family.name!r} are steered by a condition; name its column by data.condition_column"
            if needed
            else f"the networks of {family.name!r} take no condition of the data; leave data.condition_column out"
        )
    if not needed or data.unaligned:
        return
    if data.segment is not None:
        raise UserError("data.segment cuts random excerpts, which the conditions cannot follow; leave it out")
    if data.crop_padding and dataset.conditions.shape[-2:] != dataset.samples.shape[-2:]:
        raise UserError(
            "data.crop_padding shifts samples and conditions alike, so they must have one size; leave it out"
        )


def _published(
    checkpoint: Checkpoint, family: Family, stated: dict[str, Any], overrides: dict[str, Any]
) -> tuple[GANConfig, Processor]:
    """Config and processor of the checkpoint that a run begins with; what the recipe states must be the same."""
    config = checkpoint.config
    if checkpoint.family != family.name:
        raise UserError(
            f"init: {checkpoint.name} is a {checkpoint.family!r}, and the recipe's model.family is {family.name!r}"
        )
    own = config.model_dump(mode="json")
    wanted = type(config).from_dict({**own, **stated}, where="recipe section 'model'").model_dump(mode="json")
    for key in stated:
        if wanted[key] != own[key]:
            raise UserError(
                f"model.{key} is {wanted[key]}, and {own[key]} in {checkpoint.name}, which the run begins with "
                f"(init); leave model.{key} out, or init"
            )
    return config, checkpoint.processor.revised(**overrides) if overrides else checkpoint.processor


def _network(role: str, family: Family, config: GANConfig, checkpoint: Checkpoint | None) -> nn.Module:
    """The checkpoint's network; a new one where there is none (a discriminator that was not published)."""
    kind = family.networks[role]
    if checkpoint is None:
        return kind(config)
    subfolder = "" if role == family.main_role else role
    if not checkpoint.holds(subfolder):
        return kind(config)
    network = checkpoint.network(subfolder, kind)
    if network.config != config:
        raise UserError(f"init: the {role} of {checkpoint.name} has another config than its generator, or other packs")
    return network
