"""`ganzoo train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ganzoo.recipe.recipe import Recipe


@click.command(name="train")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the run; runs/RECIPE by default.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in the output folder.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def command(recipe: str, overrides: tuple[str, ...], output: Path | None, resume: bool, quiet: bool) -> int:
    """Train RECIPE: a name from `ganzoo list`, or the path of a YAML file.

    \b
    ganzoo train dcgan-digits
    ganzoo train dcgan-mnist data.path=../mnist training.steps=5000 --output runs/mine
    ganzoo train dcgan-mnist --output runs/mine --resume

    `ganzoo info RECIPE` shows every key with its meaning.
    """
    from ganzoo.recipe.reading import load_recipe, parse_overrides
    from ganzoo.training import train
    from ganzoo.training.distributed import World
    from ganzoo.training.run import run_folder

    loaded = load_recipe(recipe, parse_overrides(overrides))
    folder = run_folder(loaded, output, resume=resume)  # before anything is built
    if not quiet and not resume:
        _announce(loaded)
    run = train(loaded, output=folder, resume=resume, quiet=quiet)
    if not World.from_environment().is_main:
        return 0  # the first process speaks for all
    if not run.finished:
        click.echo(
            f"stopped at step {run.step:,}; the checkpoint is in {run.folder / 'checkpoints'}. "
            f"Go on with: ganzoo train {run.folder / 'recipe.yaml'} --output {run.folder} --resume"
        )
        return 0
    for record in run.metrics:
        from ganzoo.metrics.records import MetricResult

        click.echo(str(MetricResult(**record)))
    click.echo(f"model:  {run.folder / 'pipeline'}   (ganzoo sample {run.folder / 'pipeline'})")
    click.echo(f"report: {run.folder / 'report.html'}")
    if run.not_measured and quiet:  # otherwise it has been said
        click.echo(f"ganzoo: {run.not_measured}", err=True)
    return 1 if run.not_measured else 0


def _announce(recipe: Recipe) -> None:
    """Says how long a run of several phases will take: some are over in minutes, some go on for days."""
    from ganzoo.training.devices import resolve_device
    from ganzoo.training.distributed import World
    from ganzoo.training.estimate import describe, estimate_seconds

    world = World.from_environment()
    if recipe.phases and world.is_main:
        device = resolve_device(recipe.training.device, world)
        click.echo(f"{recipe.name} takes {describe(estimate_seconds(recipe, device))}", err=True)
