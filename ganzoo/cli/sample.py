"""`ganzoo sample`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ganzoo.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from ganzoo.processors import Processor


@click.command(name="sample")
@click.argument("model")
@click.option("--num", "num_samples", type=click.IntRange(1, 100_000), default=16, show_default=True, help="Samples.")
@click.option("--seed", type=click.IntRange(0), default=None, help="Seed of the first sample; sample i has seed + i.")
@click.option(
    "--labels", default=None, metavar="N,N,...", help="Classes, repeated in turn (class-conditional models)."
)
@click.option(
    "--truncation",
    type=float,
    default=None,
    help="Cut of the latents in standard deviations, e.g. 1; of stylegan2 the share of a style's distance from the mean, e.g. 0.7.",
)
@click.option(
    "--interpolate",
    "stops",
    type=click.IntRange(2, 1000),
    default=None,
    metavar="STOPS",
    help="Pictures: an animated walk through so many random points, --num of them side by side, as a .gif or .webp.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, 1000),
    default=None,
    help="Of --interpolate: frames from stop to stop.  [default: 25]",
)
@click.option("--grid-by-class", "by_class", is_flag=True, help="Pictures: a row for each class, --num columns.")
@click.option(
    "--direction",
    type=click.IntRange(0),
    default=None,
    metavar="K",
    help="Pictures: --num samples, a row each, moved along the latent direction K; 0 is the strongest.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(1, 100),
    default=None,
    metavar="K",
    help="Pictures: --num samples, a row each, beside the K pictures nearest to it in the recipe's data, or in --data.",
)
@click.option("--data", default=None, help="Of --neighbours: a local copy of the training data, a file or folder.")
@click.option("--prompt", default=None, help="Text: what the sentences begin with, or answer.")
@click.option(
    "--temperature", type=float, default=None, help="Text: below 1 safer, above more varied, 0 for the best."
)
@click.option("--top-k", type=int, default=None, help="Text: draw among the so many most probable tokens.")
@click.option("--top-p", type=float, default=None, help="Text: among the most probable that reach this probability.")
@click.option("--max-length", type=int, default=None, help="Text: tokens of a sentence at most.")
@click.option("--revision", default=None, help="Branch, tag or commit on the Hub.")
@click.option("--device", default=None, help="cpu, cuda or cuda:N.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="Pictures: a .png for one sheet, or a folder. Sound: a folder, or a .wav for all in one. Text: a .txt besides what is "
    "printed.",
)
@click.option("--show", is_flag=True, help="Also show pictures, or waveforms, in the terminal.")
def command(
    model: str,
    num_samples: int,
    seed: int | None,
    labels: str | None,
    revision: str | None,
    device: str | None,
    output: Path | None,
    show: bool,
    stops: int | None,
    frames: int | None,
    by_class: bool,
    direction: int | None,
    neighbours: int | None,
    data: str | None,
    **options: Any,
) -> None:
    """Draw samples from MODEL: a folder, a name from `ganzoo list`, or org/name[@revision] on the Hub.

    \b
    ganzoo sample dcgan-mnist --num 16 --seed 0                 samples/dcgan-mnist.png, one sheet
    ganzoo sample dcgan-mnist --num 8 --show                    in the terminal too
    ganzoo sample runs/mine/pipeline --num 4 --output pictures/ one file a sample
    ganzoo sample dcgan-mnist --interpolate 6                   samples/dcgan-mnist-walk.gif, animated
    ganzoo sample dcgan-mnist --num 4 --direction 0             what the strongest latent direction changes
    ganzoo sample dcgan-digits --num 8 --neighbours 5           are they copies? the nearest training pictures
    ganzoo sample wavegan-digits --num 8 --labels 3             samples/wavegan-digits/: a .wav each, overview.png
    ganzoo sample seqgan-coco --num 10 --prompt "a man"         sentences, printed
    """
    from ganzoo.pipelines import load_pipeline

    pipeline = load_pipeline(
        model, fits=lambda found: found.command == "sample", wanted="GANPipeline", revision=revision, device=device
    )
    options = {name: value for name, value in options.items() if value is not None}
    known = inspect.signature(pipeline.sample).parameters
    if foreign := [f"--{name.replace('_', '-')}" for name in options if name not in known]:
        raise UserError(f"{model} makes {pipeline.processor.modality}, which has no {' and no '.join(foreign)}")
    how = {"seed": seed, "labels": _parse_labels(labels), **options}
    view = _view(stops, frames, by_class, direction, neighbours, data)
    if view is not None:
        name, make = view
        path = output or Path("samples") / f"{_name(model)}-{name}"
        return _save_view(partial(make, pipeline, num_samples, **how), path, show, is_animated=name.endswith(".gif"))
    if output is not None:
        pipeline.processor.names_a_file(output)  # refuses a wrong ending before anything is drawn
    samples = pipeline.sample(num_samples, **how).samples

    printed = pipeline.processor.sample_file is None
    if show or printed:
        click.echo(pipeline.processor.show(samples))
    if output is None and not printed:
        output = _default_output(model, pipeline.processor)
    if output is not None:
        # Where the samples themselves are printed, they have the standard output to themselves.
        for path in pipeline.processor.save_samples(samples, output):
            click.echo(str(path), err=printed)


def _view(
    stops: int | None,
    frames: int | None,
    by_class: bool,
    direction: int | None,
    neighbours: int | None,
    data: str | None,
) -> tuple[str, Callable[..., Any]] | None:
    """The end of the file's name, and what makes the sheet, or the animation's sheets, of (pipeline, number); None for plain
    samples."""
    from ganzoo.exploring import class_grid, direction_strip, interpolate, neighbour_sheet

    if data is not None and neighbours is None:
        raise UserError("--data is of --neighbours: give both")
    if frames is not None and stops is None:
        raise UserError("--frames is of --interpolate: give both")
    views = {
        "--interpolate": stops and ("walk.gif", partial(interpolate, stops=stops, frames=frames or 25)),
        "--grid-by-class": by_class and ("classes.png", class_grid),
        "--direction": direction is not None
        and (f"direction-{direction}.png", partial(direction_strip, index=direction)),
        "--neighbours": neighbours
        and (
            "neighbours.png",
            partial(neighbour_sheet, neighbours=neighbours, data=None if data is None else {"path": data}),
        ),
    }
    asked = [name for name, view in views.items() if view]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} are different pictures; ask for one at a time")
    return views[asked[0]] if asked else None


def _save_view(make: Callable[[], Image | list[Image]], path: Path, show: bool, *, is_animated: bool) -> None:
    from ganzoo.exploring import saving
    from ganzoo.utils.terminal import draw

    # A wrong ending is refused before anything is drawn.
    (saving.check_animation_path if is_animated else saving.check_sheet_path)(path)
    made = make()
    if show:
        click.echo(draw(made[0] if is_animated else made))
    click.echo(str((saving.save_animation if is_animated else saving.save_sheet)(made, path)))


def _name(model: str) -> str:
    return Path(model).resolve().name.partition("@")[0]


def _default_output(model: str, processor: Processor) -> Path:
    """One picture shows many; of sounds each has a file."""
    name = _name(model)
    return Path("samples") / (name if processor.one_file_each else f"{name}{processor.sample_file}")


def _parse_labels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--labels takes integers separated by commas, as in 3,7; not {text!r}") from None
