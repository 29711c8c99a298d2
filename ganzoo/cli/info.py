"""`ganzoo info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import click

from ganzoo.errors import NotFoundError, did_you_mean
from ganzoo.recipe.section import NameOf
from ganzoo.utils.validation import models_in


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
    shown: set[Any] = set()
    for section, field in Recipe.model_fields.items():
        for model in models_in(field.annotation):
            _section(section, model, shown)


def _model(name: str) -> None:
    from ganzoo.checkpoints.weights import count_parameters
    from ganzoo.metrics.records import MetricResult
    from ganzoo.pipelines import from_pretrained

    pipeline = from_pretrained(name)
    click.secho(f"model {name}", bold=True)
    parameters = count_parameters(pipeline.network)
    click.echo(f"  {pipeline.family.summary}; {pipeline.network.role} with {parameters:,} parameters")
    for key, value in pipeline.config.model_dump().items():
        click.echo(f"  {key} = {value}")
    for record in pipeline.metrics:
        click.echo(f"  {MetricResult(**record)}")


def _section(key: str, model: Any, shown: set[Any]) -> None:
    """A section's fields; of one whose `type` finds its class, those of every type, and of the sections in them, once."""
    kinds: dict[Any, list[str]] = {model: []}
    if "kind" in vars(model):
        kinds = {}
        for name, thing in model.kind.all().items():
            kinds.setdefault(thing.config_class, []).append(name)
    for section, types in kinds.items():
        if section in shown:
            continue
        if types or "." in key:
            shown.add(section)
        of = f"type {', '.join(types)}. " if types else ""
        click.echo(f"\n{key}: {of}{(section.__doc__ or '').partition(chr(10))[0]}")
        _fields(section)
        for inner, field in section.model_fields.items() if types else ():
            for nested in models_in(field.annotation):
                _section(f"{key}.{inner}", nested, shown)


def _fields(model: Any) -> None:
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        if len(default) > 60:
            default = "..."
        choices = _choices(field.annotation, field.metadata)
        one_of = f" One of {', '.join(choices)}." if len(choices) > 1 else ""
        click.echo(f"  {key} = {default}   {field.description or ''}{one_of}")


def _choices(annotation: Any, metadata: Sequence[Any] = ()) -> list[str]:
    """The names or values that a field may say, where it lists them."""
    for part in (*metadata, *getattr(annotation, "__metadata__", ())):
        if isinstance(names := getattr(part, "func", None), NameOf):
            return names.kind.names()
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return next(filter(None, map(_choices, get_args(annotation))), [])
