"""`ganzoo evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.command(name="evaluate")
@click.argument("model")
@click.option("--metrics", default=None, help="Names separated by commas; by default those of the model's recipe.")
@click.option("--num-samples", type=click.IntRange(2), default=None, help="Generated samples.")
@click.option(
    "--data", default=None, help="A local copy of the data (file or folder), a Hub data set id, or 'digits'."
)
@click.option("--split", default=None, help="Split to compare with.")
@click.option(
    "--embedder",
    default=None,
    help="Of pictures: 'pixels', 'inception'; of sound: 'log-mel', 'clap'; or a classifier checkpoint.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Of text: below 1 the sentences are safer, above 1 more varied; by default that of the model's recipe.",
)
@click.option("--seed", type=click.IntRange(0), default=None, help="Seed of the first sample.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=None, help="Also write the numbers to this JSON file."
)
def command(
    model: str,
    metrics: str | None,
    num_samples: int | None,
    data: str | None,
    split: str | None,
    embedder: str | None,
    temperature: float | None,
    seed: int | None,
    output: Path | None,
) -> None:
    """Measure MODEL against real data, and print each number with its protocol.

    \b
    ganzoo evaluate dcgan-digits
    ganzoo evaluate dcgan-mnist --data ../mnist --metrics frechet_distance,kid --num-samples 10000
    ganzoo evaluate seqgan-coco --temperature 0.8 --metrics bleu_4,self_bleu_4,nll_test
    """
    from ganzoo.evaluation import evaluate
    from ganzoo.utils.files import write_text

    section = None
    if data is not None:
        section = {"path": data} if Path(data).exists() else {"dataset": data, "path": None}
    results = evaluate(
        model,
        metrics=[name.strip() for name in metrics.split(",")] if metrics else None,
        num_samples=num_samples,
        data=section,
        split=split,
        embedder=embedder,
        temperature=temperature,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    for result in results:
        click.echo(str(result))
    if output is not None:
        write_text(output, json.dumps({"metrics": [result.to_dict() for result in results]}, indent=2) + "\n")
