"""The model card: README.md of a checkpoint, with the metadata by which the Hub lists it.

The text comes from `hub/card_template.md`. A card that a person has edited keeps its text for ever: the last line of a
generated card holds a hash of the text above it, and where the two disagree only the metadata is brought up to date.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ganzoo.errors import UserError, one_line
from ganzoo.hub.metadata import LIBRARY_NAME, check_card, metadata_problems, split_card
from ganzoo.hub.words import CardWords
from ganzoo.metrics.records import MetricResult, TrainingFacts
from ganzoo.processors.text import sentence_line
from ganzoo.utils.files import read_text, write_text
from ganzoo.utils.layout import CARD_FILE
from ganzoo.utils.resources import resource
from ganzoo.version import DISTRIBUTION

TEMPLATE_FILE = "card_template.md"
# What ganzoo writes; whatever else a person put into the metadata stays there.
OWN_KEYS = (
    "license",
    "license_name",
    "license_link",
    "library_name",
    "pipeline_tag",
    "tags",
    "datasets",
    "model-index",
)

MAX_SENTENCE = 300
MAX_NAMES = 50

_MARKER = re.compile(r"<!-- written by ganzoo[^>]*sha256:([0-9a-f]{64}) -->\s*\Z")

# The line of cards written before the distribution had a name of its own.
_FORMER_INSTALL = re.compile(r'^(pip install "?)ganzoo\b', re.MULTILINE)


class CardData(BaseModel):
    """Everything that a card says.

    Attributes:
        name: Name of the checkpoint, `"dcgan-mnist"`.
        repo_id: Its repository on the Hub, if it has one.
        summary: One sentence, the first of the card.
        family: Name of the family.
        words: What is said of its task and of its modality.
        num_classes: Classes that can be asked for; None for an unconditional model.
        class_names: Their names by label, where the data has them.
        sampling_rate: Of audio: samples a second.
        paper_title: Title of the family's paper.
        paper: Its link.
        license: Identifier from the Hub's list; `"other"` needs the two below.
        license_name: Name of a licence that the Hub does not know.
        license_link: Where its text is: a link, or a file of the repository.
        datasets: Data sets on the Hub that it was trained on.
        data: The training data in words, with its origin.
        tags: Tags besides those that the card always has.
        metrics: What was measured, as in `metrics.json`.
        parameters: Number of parameters by network.
        samples: Files under `samples/` to show.
        order: What one sees or hears there in turn, `"the classes in turn"`.
        sentences: Samples of text, shown as they are.
        prompt: Of text: words to try the model with.
        answers: It answers prompts, and needs one; otherwise it goes on from them.
        training: How it was trained.
        recipe: Name of the recipe.
        limitations: What it does not do, one sentence each.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    repo_id: str | None = None
    summary: str = Field(min_length=1)
    family: str
    words: CardWords
    num_classes: int | None = None
    class_names: list[str] = Field(default_factory=list)
    sampling_rate: int | None = None
    paper_title: str = ""
    paper: str = ""
    license: str
    license_name: str | None = None
    license_link: str | None = None
    datasets: list[str] = Field(default_factory=list)
    data: str = ""
    tags: list[str] = Field(default_factory=list)
    metrics: list[MetricResult] = Field(default_factory=list)
    parameters: dict[str, int] = Field(default_factory=dict)
    samples: list[str] = Field(default_factory=list)
    order: str = ""
    sentences: list[str] = Field(default_factory=list)
    prompt: str = ""
    answers: bool = False
    training: TrainingFacts | None = None
    recipe: str | None = None
    limitations: list[str] = Field(default_factory=list)

    @property
    def pipeline_tag(self) -> str | None:
        """The Hub's task, None where it has no fitting one."""
        return self.words.hub_task

    @property
    def all_tags(self) -> list[str]:
        """The tags of the card, without repetition."""
        words = self.words
        conditional = ["class-conditional"] if words.asks_for_classes and self.num_classes else []
        return list(dict.fromkeys([words.tag, self.family, "safetensors", *words.tags, *conditional, *self.tags]))


def render_card(data: CardData, *, present: str = "", where: str = CARD_FILE) -> str:
    """Returns the text of README.md for a checkpoint.

    Args:
        present: The card that is there. What was added by hand to its metadata is kept, and the text that a person has edited.
        where: Its name in an error.

    Raises:
        UserError: The Hub would refuse the card, e.g. for an unknown licence, or the present one's metadata cannot be read.
    """
    metadata, body = metadata_of(data), _signed(_body(data))
    own, own_body = split_card(present, where=where)
    own_tags = own.get("tags") if isinstance(own.get("tags"), list) else []
    metadata |= {key: value for key, value in own.items() if key not in OWN_KEYS}
    metadata["tags"] = list(dict.fromkeys([*metadata["tags"], *own_tags]))
    return _join(metadata, body if _is_generated(own_body) else own_body)


def write_card(folder: str | Path, data: CardData) -> Path:
    """Writes README.md; of one that a person has edited, only the metadata changes: see `render_card`.

    Returns:
        The file.

    Raises:
        UserError: The Hub would refuse the card, or the present file's metadata cannot be read.
        GanzooError: The file cannot be written.
    """
    path = Path(folder) / CARD_FILE
    text = render_card(data, present=read_text(path) if path.is_file() else "", where=str(path))
    _refuse(check_card(text), path)
    write_text(path, text)
    return path


def address_card(text: str, repo_id: str) -> str:
    """Returns a card that tells how to load it from a repository, whatever name or folder it told before.

    A card that a person has edited is returned as it is.

    Args:
        text: The content of README.md.
        repo_id: `org/name`.
    """
    body = split_card(text)[1]
    marker = _MARKER.search(body)
    if marker is None or not _is_generated(body):
        return text
    head, told = text[: len(text) - len(body)], body[: marker.start()]
    told = re.sub(r'from_pretrained\("[^"]*"\)', lambda _: f'from_pretrained("{repo_id}")', told)
    told = _FORMER_INSTALL.sub(rf"\1{DISTRIBUTION}", told)
    told = re.sub(r'src="(?!https:)', lambda _: f'src="{_files_of(repo_id)}', told)
    return head + _signed(told)


def metadata_of(data: CardData) -> dict[str, Any]:
    """Returns the metadata block, evaluation results included, as the Hub's own `ModelCardData` lays them out.

    Raises:
        UserError: The Hub would refuse it.
    """
    from huggingface_hub import ModelCardData

    # A metric that came out as "not a number" stands in the text; the Hub takes numbers only.
    results = [_eval_result(data, metric) for metric in data.metrics if math.isfinite(metric.value)]
    card = ModelCardData(
        license=data.license,
        license_name=data.license_name,
        license_link=data.license_link,
        library_name=LIBRARY_NAME,
        pipeline_tag=data.pipeline_tag,
        tags=data.all_tags,
        datasets=data.datasets or None,
        model_name=data.name if results else None,
        eval_results=results or None,
    ).to_dict()
    metadata = {key: card[key] for key in OWN_KEYS if key in card}
    _refuse(metadata_problems(metadata), data.name)
    return metadata


def _refuse(problems: list[str], where: str | Path) -> None:
    if problems:
        raise UserError(f"the model card of {where} needs work: {'; '.join(problems)}")


def _join(metadata: dict[str, Any], body: str) -> str:
    from huggingface_hub.utils import yaml_dump

    return f"---\n{yaml_dump(metadata, sort_keys=False).strip()}\n---\n\n" + body.lstrip("\n")


def _signed(body: str) -> str:
    return (
        f"{body.rstrip()}\n\n<!-- written by ganzoo; edit freely, an edited text is kept. sha256:{_digest(body)} -->\n"
    )


def _is_generated(body: str) -> bool:
    """Whether nobody has touched a card's text (an empty one counts as untouched)."""
    match = _MARKER.search(body)
    return _digest(body[: match.start()]) == match[1] if match else not body.strip()


def _digest(body: str) -> str:
    # By lines without their ends: an editor or git that changes only those has edited nothing.
    return hashlib.sha256("\n".join(line.rstrip() for line in body.strip().splitlines()).encode()).hexdigest()


def _body(data: CardData) -> str:
    template = string.Template((resource("hub") / TEMPLATE_FILE).read_text(encoding="utf-8"))
    text = template.substitute(
        name=data.name,
        summary=data.summary,
        samples=_samples(data),
        install=data.words.install,
        usage=_usage(data),
        model=_model(data),
        training=_training(data),
        evaluation=_evaluation(data),
        limitations="\n".join(f"- {line}" for line in data.limitations) or "Not examined beyond the numbers above.",
        license=_license(data),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _samples(data: CardData) -> str:
    lines = [sentence_line(text, limit=MAX_SENTENCE) or "(empty)" for text in data.sentences]
    files = [_sample(data, name) for name in data.samples]
    return "\n\n".join([_verbatim(lines), *files] if lines else files)


def _verbatim(lines: list[str]) -> str:
    """A code block, with a fence that none of its lines can close."""
    longest = max(len(run) for run in re.findall(r"`+", "\n".join([*lines, "``"])))
    fence = "`" * (longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])


def _sample(data: CardData, name: str) -> str:
    if name.endswith((".png", ".jpg", ".gif")):
        return f"![Samples of {data.name}]({name})"
    if name.endswith((".wav", ".flac", ".mp3", ".ogg")):
        # The Hub's pages resolve relative addresses of pictures, but not of players. Where there are no players, a link.
        base = _files_of(data.repo_id) if data.repo_id else ""
        order = f", {data.order}" if data.order else ""
        return f'<audio controls src="{base}{name}"></audio>\n\nSound{order}: [{name}]({name})'
    return f"More: [{name}]({name})" if data.sentences else f"[{name}]({name})"


def _files_of(repo_id: str) -> str:
    return f"https://huggingface.co/{repo_id}/resolve/main/"


def _usage(data: CardData) -> str:
    source = data.repo_id or data.name
    load, *calls = (line.format(source=source, name=data.name) for line in data.words.usage)
    lines = [load] if data.answers else [load, *calls]
    if data.prompt:
        prompted = "answers" if data.answers else "sentences that begin so"
        prompt = json.dumps(data.prompt, ensure_ascii=False)
        lines.append(f"texts = pipe({prompt}, num_samples=5, seed=0).texts  # {prompted}")
    imports = [f"import {package}" for package in ("ganzoo", *data.words.imports)]
    return "\n".join([*imports, "", *lines])


def _model(data: CardData) -> str:
    conditional = f"{data.num_classes} classes" if data.num_classes else "none"
    rows = [("Family", f"`{data.family}`"), ("Modality", data.words.modality)]
    rows += [("Paper", f"[{data.paper_title or data.paper}]({data.paper})")] if data.paper else []
    rows += [("Classes to ask for", conditional)] if data.words.asks_for_classes else []
    rows += [("Names of the classes", _names(data.class_names))] if data.class_names else []
    rows += [("Sampling rate", f"{data.sampling_rate:,} Hz")] if data.sampling_rate else []
    rows += [(f"Parameters of the {role}", f"{count:,}") for role, count in data.parameters.items()]
    return _table(("", ""), rows)


def _names(names: list[str]) -> str:
    """As many as fit; `processor_config.json` has them all."""
    plain = [one_line(name.replace("`", "'"), limit=60) for name in names[:MAX_NAMES]]
    shown = ", ".join(f"{label} `{name}`" for label, name in enumerate(plain))
    return shown if len(names) <= MAX_NAMES else f"{shown}, ... ({len(names):,} in `processor_config.json`)"


def _training(data: CardData) -> str:
    paragraphs = []
    datasets = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in data.datasets)
    if data.data or datasets:
        paragraphs.append(f"Data: {data.data or datasets}" + (f" ({datasets})" if data.data and datasets else ""))
    if data.training:
        facts = data.training
        spent = f", {facts.minutes:,.4g} minutes" if facts.minutes is not None else ""
        machine = f" on {facts.machine}" if facts.machine else ""
        paragraphs.append(f"{facts.steps:,} steps of batch size {facts.batch_size:,}{spent}{machine}.")
    if data.recipe:
        repeat = "`ganzoo train recipe.yaml` repeats the training"
        paragraphs.append(f"The recipe is `{data.recipe}`, kept here as `recipe.yaml`; {repeat}.")
    return "\n\n".join(paragraphs) or "Not recorded."


def _evaluation(data: CardData) -> str:
    if not data.metrics:
        return "Not measured."
    words = data.words.samples
    head = ("Metric", "Value", words.floor, "N real", "N generated", words.protocol, "Data", "Split", "Seed")
    rows = [
        (
            metric.name,
            *(_number(value) for value in (metric.value, metric.floor, metric.num_real, metric.num_generated)),
            *(_text(value) for value in (_protocol(data, metric), metric.dataset, metric.split, metric.seed)),
        )
        for metric in data.metrics
    ]
    has_floor = any(metric.floor is not None for metric in data.metrics)
    return _table(head, rows) + (f"\n\n{words.floor_note}" if has_floor else "")


def _protocol(data: CardData, metric: MetricResult) -> str | None:
    """The embedder; numbers of text also hang on the settings, such as the temperature."""
    if not data.words.samples.lists_settings:
        return metric.embedder
    settings = [f"{name.replace('_', ' ')} {value}" for name, value in metric.parameters.items()]
    return ", ".join([*([metric.embedder] if metric.embedder else []), *settings]) or None


def _license(data: CardData) -> str:
    if data.license != "other":
        return f"`{data.license}`"
    return f"[{data.license_name}]({data.license_link})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _eval_result(data: CardData, metric: MetricResult) -> Any:
    from huggingface_hub import EvalResult

    dataset = metric.dataset or next(iter(data.datasets), None) or data.data or "unknown"
    against = [f"{metric.num_generated:,} generated"] if metric.num_generated else []
    against += [f"{metric.num_real:,} real"] if metric.num_real else []
    stated = {key: getattr(metric, key) for key in ("num_real", "num_generated", "embedder", "seed", "floor")}
    protocol = {key: value for key, value in stated.items() if value is not None}
    return EvalResult(
        task_type=data.pipeline_tag or f"unconditional-{data.words.modality}-generation",
        dataset_type=dataset,
        dataset_name=dataset,
        dataset_split=metric.split,
        metric_type=metric.name,
        metric_name=" ".join([metric.name, *([f"({', '.join(against)})"] if against else [])]),
        metric_value=metric.value,
        metric_args={**protocol, **metric.parameters} or None,
    )
