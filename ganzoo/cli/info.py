"""`ganzoo info`."""

from __future__ import annotations

from typing import Any

import click

from ganzoo.errors import NotFoundError, did_you_mean


@click.command(name="info")
@click.argument("name")
def command(name: str) -> None:
    """Show what is known of NAME: a model (folder, catalogue name, org/name), a family, or a recipe."""
    from ganzoo.checkpoints.catalogue import catalogue
    from ganzoo.recipe.names import list_recipes
    from ganzoo.registry import list_families

    families, recipes = list_families(kind="all"), list_recipes()
    found = False
    if name in families:
        _family(name)
        found = True
    if name in recipes or name.endswith((".yaml", ".yml")):
        _recipe(name)
        found = True
    if name in catalogue() or not found:
        try:
            _model(name)
        except NotFoundError as error:
            if found or "/" in name:
                raise
            raise NotFoundError(
                f"{name!r} is no model, family or recipe.{did_you_mean(name, [*catalogue(), *families, *recipes])}"
            ) from error


def _family(name: str) -> None:
    from ganzoo.registry import get_family

    family = get_family(name)
    click.secho(f"family {name}", bold=True)
    click.echo(f"  {family.summary}\n  {family.modality}; {', '.join(family.networks)}; {family.paper}\n")
    click.secho("config", bold=True)
    _fields(family.config)


def _recipe(name: str) -> None:
    from ganzoo.recipe.names import find_recipe
    from ganzoo.recipe.reading import load_recipe
    from ganzoo.recipe.recipe import Recipe

    recipe = load_recipe(name)
    click.secho(f"recipe {recipe.name}", bold=True)
    click.echo(find_recipe(name).read_text(encoding="utf-8"))
    click.secho("every key, its default and meaning", bold=True)
    for section, field in Recipe.model_fields.items():
        for model in _models(field.annotation):
            click.echo(f"\n{section}: {model.__doc__.splitlines()[0] if model.__doc__ else ''}")
            _fields(model)


def _model(name: str) -> None:
    from ganzoo.pipelines import from_pretrained

    pipeline = from_pretrained(name)
    click.secho(f"model {name}", bold=True)
    parameters = sum(parameter.numel() for parameter in pipeline.network.parameters())
    click.echo(f"  {pipeline.family.summary}; {pipeline.network.role} with {parameters:,} parameters")
    for key, value in pipeline.config.model_dump().items():
        click.echo(f"  {key} = {value}")
    from ganzoo.metrics.records import MetricResult

    for record in pipeline.metrics:
        click.echo(f"  {MetricResult(**record)}")


def _fields(model: Any) -> None:
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        if len(default) > 60:
            default = "..."
        click.echo(f"  {key} = {default}   {field.description or ''}")


def _models(annotation: Any) -> list[Any]:
    from ganzoo.utils.validation import models_in

    return models_in(annotation)
