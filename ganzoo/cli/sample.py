"""`ganzoo sample`."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.errors import UserError


@click.command(name="sample")
@click.argument("model")
@click.option("--num", "num_samples", type=click.IntRange(1, 100_000), default=16, show_default=True, help="Samples.")
@click.option("--seed", type=click.IntRange(0), default=None, help="Seed of the first sample; sample i has seed + i.")
@click.option(
    "--labels", default=None, metavar="N,N,...", help="Classes, repeated in turn (class-conditional models)."
)
@click.option("--truncation", type=float, default=None, help="Cut of the latents in standard deviations, e.g. 1.")
@click.option("--revision", default=None, help="Branch, tag or commit on the Hub.")
@click.option("--device", default=None, help="cpu, cuda or cuda:N.")
@click.option("--output", type=click.Path(path_type=Path), default=None, help="A .png for one sheet, or a folder.")
@click.option("--show", is_flag=True, help="Also show the sheet in the terminal.")
def command(
    model: str,
    num_samples: int,
    seed: int | None,
    labels: str | None,
    truncation: float | None,
    revision: str | None,
    device: str | None,
    output: Path | None,
    show: bool,
) -> None:
    """Draw samples from MODEL: a folder, a name from `ganzoo list`, or org/name[@revision] on the Hub.

    \b
    ganzoo sample dcgan-mnist --num 16 --seed 0                 samples/dcgan-mnist.png, one sheet
    ganzoo sample dcgan-mnist --num 8 --show                    in the terminal too
    ganzoo sample runs/mine/pipeline --num 4 --output pictures/ one file a sample
    """
    from ganzoo.pipelines import GANPipeline

    pipeline = GANPipeline.from_pretrained(model, revision=revision, device=device)
    arguments = {"seed": seed, "labels": _parse_labels(labels), "truncation": truncation}
    drawn = pipeline.sample(num_samples, **arguments)
    target = output or Path("samples") / f"{Path(model).resolve().name.partition('@')[0]}.png"
    if show:
        click.echo(pipeline.processor.show(drawn.samples))
    for path in pipeline.processor.save_samples(drawn.samples, target):
        click.echo(str(path))


def _parse_labels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--labels takes integers separated by commas, as in 3,7; not {text!r}") from None
