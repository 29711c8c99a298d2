"""From two sets of samples to numbers that say what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import UserError, did_you_mean
from ganzoo.metrics.classes import class_balance
from ganzoo.metrics.embedders import Embedder, Embedding, get_embedder
from ganzoo.metrics.frechet import frechet_distance
from ganzoo.metrics.inception_score import inception_score
from ganzoo.metrics.kid import kernel_inception_distance
from ganzoo.metrics.manifold import density_coverage, precision_recall
from ganzoo.metrics.validation import check_samples
from ganzoo.terminal import bar

BATCH_SIZE = 256

SampleSet = Tensor | Iterable[Tensor]


@dataclass(frozen=True)
class MetricResult:
    """A number with its protocol.

    Attributes:
        name: One of `METRICS`.
        value: The number.
        num_real: Real samples it was measured against; 0 when the metric looks at generated samples only.
        num_generated: Generated samples.
        embedder: Name of the embedder.
        dataset: Where the real samples are from.
        split: Which part of it.
        seed: Of the samples and of the metric's own random choices.
        parameters: Settings of the metric, e.g. `{"k": 3}`.
        details: What else it found, e.g. `{"standard_error": 0.0001}`.
        floor: What real samples get in place of the generated ones; of a distance, two sets of real samples.
        ganzoo_version: Software that measured it.
        torch_version: Likewise.
    """

    name: str
    value: float
    num_real: int
    num_generated: int
    embedder: str
    dataset: str | None
    split: str | None
    seed: int
    parameters: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    floor: float | None = None
    ganzoo_version: str = ""
    torch_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record that `metrics.json` holds; `MetricResult(**record)` is its inverse."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        context = [] if self.floor is None else [f"floor {_short(self.floor)}"]
        context += [f"Griffin-Lim {_short(self.details['griffin_lim'])}"] if "griffin_lim" in self.details else []
        if "min_share" in self.details:
            shares = f"{self.details['min_share']:.1%} to {self.details['max_share']:.1%}"
            context.append(f"KL to uniform; a class has {shares} of the samples")
        context += [f"{self.num_generated:,} generated{self._against()}", f"embedder {self.embedder}"]
        context += [f"temperature {self.parameters['temperature']:g}"] if "temperature" in self.parameters else []
        context.append(f"seed {self.seed}")
        spread = self.details.get("standard_error", self.details.get("standard_deviation"))
        value = _short(self.value) if spread is None else f"{_short(self.value)} ± {_short(spread)}"
        return f"{self.name} {value}  ({'; '.join(context)})"

    def _against(self) -> str:
        if not self.num_real:
            return ""
        split = f"[{self.split}]" if self.split else ""
        return f" vs {self.num_real:,} real {self.dataset or ''}{split}".rstrip()


class Measurement(NamedTuple):
    """What a metric found, before its protocol is added: see `MetricResult`."""

    value: float
    parameters: dict[str, Any] = {}
    details: dict[str, Any] = {}


class Choices(NamedTuple):
    """What a metric leaves open.

    Attributes:
        seed: Of random subsets and splits.
        splits: Of the inception score. The paper's 10 suit its 50,000 samples; a part with few samples of each class
            scores too low.
    """

    seed: int = 0
    splits: int = 10


class Metric(NamedTuple):
    """How a metric is computed.

    Attributes:
        compute: `(generated, real, choices)` -> measurements by name. Metrics that share a computation share the
            function, and it runs once for all of them.
        higher_is_better: Direction.
        needs: The part of an embedding that it reads; what reads labels reads probabilities as well.
        compares: It needs real samples.
    """

    compute: Callable[[Embedding, Embedding | None, Choices], dict[str, Measurement]]
    higher_is_better: bool
    needs: Literal["features", "probabilities", "labels"] = "features"
    compares: bool = True


def _frechet_distance(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    return {"frechet_distance": Measurement(frechet_distance(generated.features, real.features))}


def _kid(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    kid = kernel_inception_distance(generated.features, real.features, seed=choices.seed)
    parameters = {"subsets": kid.subsets, "subset_size": kid.subset_size}
    return {"kid": Measurement(kid.mean, parameters, {"standard_error": kid.standard_error})}


def _precision_recall(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    found = precision_recall(generated.features, real.features, k=3)
    return {name: Measurement(value, {"k": 3}) for name, value in found._asdict().items()}


def _density_coverage(generated: Embedding, real: Embedding, choices: Choices) -> dict[str, Measurement]:
    found = density_coverage(generated.features, real.features, k=5)
    return {name: Measurement(value, {"k": 5}) for name, value in found._asdict().items()}


def _inception_score(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    score = inception_score(generated.probabilities, splits=choices.splits, seed=choices.seed)
    details = {} if score.standard_deviation is None else {"standard_deviation": score.standard_deviation}
    return {"inception_score": Measurement(score.mean, {"splits": choices.splits}, details)}


def _class_balance(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    found = class_balance(generated.probabilities)
    details = {name: getattr(found, name) for name in ("min_share", "max_share", "entropy")}
    return {"class_balance": Measurement(found.kl_to_uniform, {}, {"counts": list(found.counts), **details})}


def _modes(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    classes = generated.probabilities.shape[1]
    covered = len(generated.probabilities.argmax(dim=1).unique())
    return {"modes": Measurement(float(covered), {"classes": classes})}


def _label_accuracy(generated: Embedding, real: Embedding | None, choices: Choices) -> dict[str, Measurement]:
    wanted, probabilities = generated.labels, generated.probabilities
    if probabilities.shape[1] <= int(wanted.max()):
        raise UserError(
            f"label_accuracy: the embedder knows {probabilities.shape[1]} classes, the model has {int(wanted.max()) + 1}"
        )
    correct = (probabilities.argmax(dim=1) == wanted).double()
    by_class = [float(correct[wanted == label].mean()) for label in wanted.unique()]
    return {"label_accuracy": Measurement(float(correct.mean()), {"labels": "in turn"}, {"by_class": by_class})}


METRICS: dict[str, Metric] = {
    "frechet_distance": Metric(_frechet_distance, higher_is_better=False),
    "kid": Metric(_kid, higher_is_better=False),
    "inception_score": Metric(_inception_score, higher_is_better=True, needs="probabilities", compares=False),
    "precision": Metric(_precision_recall, higher_is_better=True),
    "recall": Metric(_precision_recall, higher_is_better=True),
    "density": Metric(_density_coverage, higher_is_better=True),
    "coverage": Metric(_density_coverage, higher_is_better=True),
    "modes": Metric(_modes, higher_is_better=True, needs="probabilities", compares=False),
    "class_balance": Metric(_class_balance, higher_is_better=False, needs="probabilities", compares=False),
    "label_accuracy": Metric(_label_accuracy, higher_is_better=True, needs="labels", compares=False),
}


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
        _result(
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
    if isinstance(names, str):
        names = [names]
    if not names:
        raise UserError(f"name at least one metric of: {', '.join(METRICS)}")
    for name in names:
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise UserError(f"there is no metric {name!r}.{did_you_mean(name, METRICS)} The metrics are: {known}")
        if METRICS[name].compares and not has_real:
            raise UserError(f"{name} compares with real samples, but none are given")
        if METRICS[name].needs == "labels" and not has_labels:
            raise UserError(f"{name} is of conditional models: this one cannot be asked for a class")
    return {name: METRICS[name] for name in names}


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


def _result(name: str, found: Measurement, floor: Measurement | None, **protocol: Any) -> MetricResult:
    from ganzoo import __version__

    return MetricResult(
        name=name,
        value=found.value,
        parameters=dict(found.parameters),
        details=found.details | (floor.details if floor else {}),
        floor=floor.value if floor else None,
        ganzoo_version=__version__,
        torch_version=str(torch.__version__),
        **protocol,
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
