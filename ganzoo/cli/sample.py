"""`ganzoo sample`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ganzoo.errors import UserError, shorten

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from typing_extensions import Self

    from ganzoo.processors import Processor


@click.command(name="sample")
@click.argument("model")
@click.option(
    "--num-samples",
    "--num",
    "num_samples",
    type=click.IntRange(1, 100_000),
    default=16,
    show_default=True,
    help="Samples.",
)
@click.option("--seed", type=click.IntRange(0), default=None, help="Seed of the first sample; sample i has seed + i.")
@click.option(
    "--labels",
    default=None,
    metavar="N,N,...",
    help="Classes by number or name, repeated in turn (class-conditional models).",
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
@click.option(
    "--with",
    "further",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other argument of the model's `sample`, such as --with picture=cat.png; for tasks of other packages. May be repeated.",
)
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
def command(model: str, revision: str | None, device: str | None, **options: Any) -> None:
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
    ganzoo sample my-animals --num 8 --labels cat,dog           classes by name, where the data had names

    \b
    torchrun --nproc-per-node 4 -m ganzoo sample MODEL --num-samples 1000 --seed 0
    The processes share the work, and the first writes what one process would write. (--num works too after `-m -- ganzoo`:
    torchrun has options that begin so.)
    """
    from ganzoo.cli.processes import Processes
    from ganzoo.pipelines import load_pipeline

    view, files, processes = View.taken(options), Files.taken(options), Processes.of_this_run()
    pipeline = load_pipeline(
        model,
        fits=lambda found: found.command == "sample",
        wanted="GANPipeline",
        revision=revision,
        device=processes.device(device),
    )
    number, how = _how(model, pipeline, options)
    name, make = view.name_and_maker()
    if make is not None:
        if processes.is_main:
            path = files.output or Path("samples") / f"{_name(model)}-{name}"
            make = partial(make, pipeline, number, **how)
            _save_view(make, path, files.show, is_animated=name.endswith(".gif"))
        return
    if files.output is not None:
        pipeline.processor.names_a_file(files.output)  # refuses a wrong ending before anything is drawn
    samples = processes.sample(pipeline, number, **how)
    if samples is not None:
        files.write(model, pipeline.processor, samples)


class _Taken:
    """A part of the command's options."""

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Self:
        """Takes its own out of them."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})


@dataclass(frozen=True)
class Files(_Taken):
    """Where samples go.

    Attributes:
        output: A file or folder; None for the usual one.
        show: Whether they are also shown in the terminal.
    """

    output: Path | None
    show: bool

    def write(self, model: str, processor: Processor, samples: Tensor) -> None:
        """Samples in the network's space, (B, ...)."""
        printed, output = processor.sample_file is None, self.output
        if self.show or printed:
            click.echo(processor.show(samples))
        if output is None and not printed:
            output = _default_output(model, processor)
        if output is not None:
            # Where the samples themselves are printed, they have the standard output to themselves.
            for path in processor.save_samples(samples, output):
                click.echo(str(path), err=printed)


@dataclass(frozen=True)
class View(_Taken):
    """What is drawn in place of plain samples, if anything; the fields are options of the command."""

    stops: int | None
    frames: int | None
    by_class: bool
    direction: int | None
    neighbours: int | None
    data: str | None

    def name_and_maker(self) -> tuple[str, Callable[..., Any] | None]:
        """The end of the file's name, and what makes the sheet, or the animation's sheets, of (pipeline, number); None for
        plain samples.

        Raises:
            UserError: Several are asked for, or an option without the one that it belongs to.
        """
        from ganzoo.exploring import class_grid, direction_strip, interpolate, neighbour_sheet

        if self.data is not None and self.neighbours is None:
            raise UserError("--data is of --neighbours: give both")
        if self.frames is not None and self.stops is None:
            raise UserError("--frames is of --interpolate: give both")
        walk = partial(interpolate, stops=self.stops, frames=self.frames or 25)
        beside = partial(
            neighbour_sheet, neighbours=self.neighbours, data=None if self.data is None else {"path": self.data}
        )
        views = {
            "--interpolate": (self.stops is not None, "walk.gif", walk),
            "--grid-by-class": (self.by_class, "classes.png", class_grid),
            "--direction": (
                self.direction is not None,
                f"direction-{self.direction}.png",
                partial(direction_strip, index=self.direction),
            ),
            "--neighbours": (self.neighbours is not None, "neighbours.png", beside),
        }
        asked = [option for option, (is_asked, *_) in views.items() if is_asked]
        if len(asked) > 1:
            raise UserError(f"{' and '.join(asked)} are different pictures; ask for one at a time")
        return views[asked[0]][1:] if asked else ("", None)


def _how(model: str, pipeline: Any, options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many samples, and the arguments of the pipeline's `sample`, which has those that its task has."""
    given = {name: value for name, value in options.items() if value is not None}
    number, further = given.pop("num_samples"), dict(map(_named, given.pop("further")))
    known = inspect.signature(pipeline.sample).parameters
    asked = {**{name: f"--{name.replace('_', '-')}" for name in given}, **{name: f"--with {name}" for name in further}}
    if foreign := [option for name, option in asked.items() if name not in known]:
        raise UserError(f"{model} makes {pipeline.processor.modality}, which has no {' and no '.join(foreign)}")
    given |= further
    needed = [name for name, argument in known.items() if argument.kind is argument.KEYWORD_ONLY]
    if missing := [name for name in needed if known[name].default is inspect.Parameter.empty and name not in given]:
        raise UserError(f"{model} needs {' and '.join(f'--with {name}=...' for name in missing)}")
    if "labels" in given:
        given["labels"] = _parse_labels(given["labels"], pipeline.processor.class_names or ())
    return number, given


def _named(text: str) -> tuple[str, Any]:
    """`NAME=VALUE` as name and value: a number, true, false or null where it reads so, else the text itself."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UserError(f"--with takes NAME=VALUE, as in --with strength=0.5; not {shorten(text)}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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


def _parse_labels(text: str, names: tuple[str, ...]) -> list[int | str]:
    """Classes separated by commas: what is a class's name is that class, what is not is a number."""
    labels = [part.strip() for part in text.split(",")]
    if names:
        return [label if label in names or not label.isdecimal() else _number(label) for label in labels]
    return [_number(label, text) for label in labels]


def _number(label: str, text: str | None = None) -> int:
    try:
        return int(label)
    except ValueError:
        raise UserError(
            f"--labels takes integers separated by commas, as in 3,7; not {text or label!r}: the classes of this model have no "
            "names"
        ) from None
