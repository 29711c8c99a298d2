"""From two sets of samples to numbers that say what they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ganzoo.embedders.base import Embedder, Embedding
from ganzoo.embedders.opening import get_embedder
from ganzoo.embedders.validation import check_samples
from ganzoo.errors import UserError
from ganzoo.metrics.metric import METRICS, Choices, Measurement, Metric, choose, result_of
from ganzoo.metrics.records import MetricResult
from ganzoo.utils.terminal import bar

BATCH_SIZE = 256

SampleSet = Tensor | Iterable[Tensor]


@torch.no_grad()
def evaluate_samples(
    generated: SampleSet,
    real: SampleSet | None,
    *,
    embedder: str | Path | Embedder,
    metrics: Sequence[str] = ("frechet_distance",),
    seed: int = 0,
    splits: int = 10,
    dataset: str | None = None,
    split: str | None = None,
    reference: SampleSet | None = None,
    labels: Tensor | None = None,
    real_labels: Tensor | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> list[MetricResult]:
    """Measures generated samples, mostly against real ones. Each set is embedded once, and only if a metric needs it.

    Args:
        generated: Images, uint8 `(N, C, H, W)`, or waveforms, int16 `(N, C, L)`; or an iterable of such batches.
        real: The same for real samples; None when no metric compares.
        embedder: A name for `get_embedder`, or an embedder.
        metrics: Names of `METRICS`; the results come in this order.
        seed: Of the metrics' random subsets and splits; recorded.
        splits: Parts of the samples whose inception scores are averaged; recorded.
        dataset: Where `real` is from; recorded.
        split: Which part of it; recorded.
        reference: A third set, real like the second (the training split against the test split). With it come floors: what
            it scores in place of the generated samples, or, of a metric that does not compare, what `real` does. Both are
            thinned to at most as many samples as there are generated ones, because the Fréchet distance depends on their
            number.
        labels: (N,) classes that the generated samples were asked to be of, for `label_accuracy`.
        real_labels: (N,) classes of `real`, for its floor.
        progress: Show a bar on standard error, if that is a terminal.
        device: Where to embed; by default where the embedder and the samples are. The metrics are computed on the
            CPU, in float64, so that a number does not depend on the device.

    Raises:
        UserError: An unknown metric; one that needs class probabilities with an embedder that has none, or real
            samples without any; too few samples; samples that the embedder is not for; features that are not finite.
        NotFoundError: An unknown embedder.
    """
    chosen = _choose(metrics, has_real=real is not None, has_labels=labels is not None)
    embedder = get_embedder(embedder)
    if device is not None and hasattr(embedder, "to"):
        embedder = embedder.to(device)
    classified = [name for name, metric in chosen.items() if metric.needs != "features"]
    compares = any(metric.compares for metric in chosen.values())

    embed = partial(embed_samples, embedder=embedder, progress=progress, device=device)
    return evaluate_embeddings(
        embed(generated, name="generated", needed_for=classified)._replace(labels=labels),
        embed(real, name="real")._replace(labels=real_labels) if compares or reference is not None else None,
        reference=embed(reference, name="reference") if compares and reference is not None else None,
        floor=reference is not None,
        metrics=metrics,
        embedder=embedder.name,
        seed=seed,
        splits=splits,
        dataset=dataset,
        split=split,
    )


def evaluate_embeddings(
    generated: Embedding,
    real: Embedding | None,
    *,
    embedder: str,
    metrics: Sequence[str] = ("frechet_distance",),
    seed: int = 0,
    splits: int = 10,
    dataset: str | None = None,
    split: str | None = None,
    reference: Embedding | None = None,
    floor: bool = False,
) -> list[MetricResult]:
    """`evaluate_samples` for what has been embedded already; `embedder` is the name of what did it. With `floor`, metrics that
    do not compare have that of `real`.

    Raises:
        UserError: An unknown metric; one that needs real samples, or labels, without any; too few samples; features that are
            not finite.
    """
    chosen = _choose(metrics, has_real=real is not None, has_labels=generated.labels is not None)
    choices = Choices(seed, splits)
    found = _compute(chosen.values(), generated, real, choices)
    floors: dict[str, Measurement] = {}
    if reference is not None:
        reference = _thin(reference, len(generated.features), seed)
        compared = [metric for metric in chosen.values() if metric.compares]
        floors |= _counted(_compute(compared, reference, real, choices), reference)
    if floor and real is not None:
        thinned = _thin(real, len(generated.features), seed)
        alone = [m for m in chosen.values() if not m.compares and getattr(thinned, m.needs) is not None]
        floors |= _counted(_compute(alone, thinned, None, choices), thinned)
    return [
        result_of(
            name,
            found[name],
            floors.get(name),
            num_generated=len(generated.features),
            num_real=len(real.features) if metric.compares else 0,
            embedder=embedder,
            dataset=dataset,
            split=split,
            seed=seed,
        )
        for name, metric in chosen.items()
    ]


def embed_samples(
    samples: SampleSet,
    *,
    embedder: Embedder,
    name: str = "samples",
    needed_for: Sequence[str] = (),
    progress: bool = False,
    device: str | torch.device | None = None,
) -> Embedding:
    """Embeds a set, batch by batch; the result lies on the CPU.

    Args:
        samples: Images, uint8 `(N, C, H, W)`, or waveforms, int16 `(N, C, L)`; or an iterable of such batches.
        embedder: Maps a batch to an `Embedding`.
        name: The set in words, for the bar and for errors.
        needed_for: Metrics that read the probabilities; without probabilities the first batch is an error.
        progress: Show a bar on standard error, if that is a terminal.
        device: Where to move each batch first; by default nowhere.

    Raises:
        UserError: No samples, samples of another kind than the embedder's, or probabilities that are needed and missing.
    """
    total = len(samples) if isinstance(samples, Tensor) else None
    batches = samples.split(BATCH_SIZE) if isinstance(samples, Tensor) else samples
    features, probabilities = [], []
    shown = None if progress else False
    with bar(total=total, desc=f"embedding {name}", unit=" samples", shown=shown) as samples_bar:
        for batch in batches:
            embedding = embedder(check_samples(batch).to(device))
            if needed_for and embedding.probabilities is None:
                raise UserError(
                    f"{', '.join(needed_for)} read class probabilities, which the embedder {embedder.name!r} does not "
                    "give; choose a classifier or 'inception'"
                )
            features.append(embedding.features.cpu())
            if embedding.probabilities is not None:
                probabilities.append(embedding.probabilities.cpu())
            samples_bar.update(len(batch))
    if not features:
        raise UserError(f"the {name} set is empty")
    return Embedding(torch.cat(features), torch.cat(probabilities) if probabilities else None)


def _choose(names: Sequence[str], *, has_real: bool, has_labels: bool) -> dict[str, Metric]:
    chosen = choose([METRICS], names)
    for name, metric in chosen.items():
        if metric.compares and not has_real:
            raise UserError(f"{name} compares with real samples, but none are given")
        if metric.needs == "labels" and not has_labels:
            raise UserError(f"{name} is of conditional models: this one cannot be asked for a class")
    return chosen


def _compute(
    metrics: Iterable[Metric], generated: Embedding, real: Embedding | None, choices: Choices
) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    # dict.fromkeys: each shared computation once, in a fixed order.
    for compute in dict.fromkeys(metric.compute for metric in metrics):
        found |= compute(generated, real, choices)
    return found


def _counted(floors: dict[str, Measurement], reference: Embedding) -> dict[str, Measurement]:
    return {name: floor._replace(details={"num_reference": len(reference.features)}) for name, floor in floors.items()}


def _thin(embedding: Embedding, count: int, seed: int) -> Embedding:
    """At most `count` samples, chosen at random: a data set may be sorted by class."""
    if len(embedding.features) <= count:
        return embedding
    chosen = torch.randperm(len(embedding.features), generator=torch.Generator().manual_seed(seed))[:count]
    return Embedding(*(part if part is None else part[chosen] for part in embedding))
