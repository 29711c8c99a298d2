"""Writes the documents' tables from the files that hold the numbers: hub/*/metrics.json and benchmarks/results/*.json.

python benchmarks/readme.py            # rewrite README.md and docs/benchmarks.md
python benchmarks/readme.py --check    # exit 1 if one is out of date
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import cifar10
import modes
import stacked

from ganzoo.checkpoints.catalogue import catalogue
from ganzoo.registry import get_family, list_families
from ganzoo.utils.modalities import modalities

# The metrics that the README shows, and how their values are written; the others are in the cards.
HEADLINES = {
    "accuracy": "{:.2%}",
    "frechet_distance": "{:.2f}",
    "inception_score": "{:.2f}",
    "label_accuracy": "{:.1%}",
    "bleu_4": "{:.3f}",
    "self_bleu_4": "{:.3f}",
    "nll_test": "{:.3f}",
    "log_mel_l1": "{:.3f}",
    "multi_resolution_stft": "{:.3f}",
    "mel_cepstral_distortion": "{:.2f} dB",
    "resynthesis_accuracy": "{:.1%}",
}
# What stands beside a value, where it is not what real samples score.
BESIDE = {"nll_test": None, "resynthesis_accuracy": "originals"}
ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


def models() -> str:
    rows = []
    for entry in catalogue().values():
        folder = ROOT / "hub" / entry.name
        records = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["metrics"]
        chosen = [r for r in records if r["name"] in HEADLINES and r["parameters"].get("temperature", 1) == 1]
        measured = "; ".join(_measured(record) for record in chosen)
        protocol = f" ({_protocol(chosen)})" if chosen else ""
        rows.append(f"| [`{entry.name}`](hub/{entry.name}) | {entry.summary} | {measured}{protocol} |")
    return "\n".join(rows)


def gallery() -> str:
    """Samples of the image GANs, which the first seeds drew; each leads to its card."""
    names = [name for name, entry in catalogue().items() if entry.modality == "image"]
    return "\n".join(
        f'[<img src="hub/{name}/samples/grid.png" alt="samples of {name}" title="{name}" width="24%">](hub/{name})'
        for name in names
        if (ROOT / "hub" / name / "samples" / "grid.png").is_file()
    )


def families() -> str:
    """A line for each modality: its families, each with its paper."""
    lines = []
    for modality in modalities():
        links = [f"[`{name}`]({get_family(name).paper})" for name in list_families(modality=modality)]
        lines += [f"- {modality}: {', '.join(links)}"] if links else []
    return "\n".join(lines)


def _measured(record: dict) -> str:
    name, write = record["name"], HEADLINES[record["name"]].format
    words = f"{name.replace('_', ' ').replace('frechet', 'Fréchet')} {write(record['value'])}"
    if "griffin_lim" in record["details"]:
        words += f" (Griffin-Lim {write(record['details']['griffin_lim'])})"
    beside = BESIDE.get(name, "real")
    return words if record["floor"] is None or beside is None else f"{words} ({beside} {write(record['floor'])})"


def _protocol(records: list[dict]) -> str:
    """How the one that compares with most real samples was measured."""
    record = max(records, key=lambda record: record["num_real"])
    generated = f"{record['num_generated']:,} against " if record["num_generated"] else ""
    return f"{generated}{record['num_real']:,} {record['dataset']} {record['split']}"


def speed() -> str:
    path = ROOT / "benchmarks" / "results" / "train_dcgan_cpu.json"
    if not path.is_file():
        return "Not measured yet."
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for row in data["rows"] if "speedup" in row]
    lines = ["| resolution | threads | case | ms a step | samples/s | against plain |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['resolution']} | {r['threads']} | {r['case']} | {r['ms_per_step']:.0f} | {r['samples_per_second']:.0f} "
        f"| {r['speedup']:.2f}x |"
        for r in rows
    ]
    for row in (row for row in data["rows"] if "overhead" in row):
        low, middle, high = (ratio - 1 for ratio in row["median_ratio_quartiles"])
        lines.append(
            f"\nA whole run (logs, averages, a checkpoint every 500 steps, data from the cache) beside the bare step at "
            f"{row['resolution']}x{row['resolution']}: median {middle:+.1%}, quartiles {low:+.1%} to {high:+.1%} on a noisy machine."
        )
    return "\n".join([*lines, f"\n{data['environment']['processor']}, torch {data['environment']['torch']}."])


# Benchmark's results -> what a row is called, from its fields, and the fields of its time and of its ratio to the plain code.
OTHERS = {
    "train_audio-cpu": ("WaveGAN of width {width}, 5 + 1 updates, {case}", "seconds_per_step", "speedup"),
    "vocode-cpu": ("HiFi-GAN {version}, two seconds of sound, {case}", "seconds", "speedup"),
    "train_text-cpu": ("SeqGAN, {case}", "ganzoo", "ratio"),
}


def other_speed() -> str:
    lines = ["| work, one thread | CPU seconds | against plain |", "|---|---|---|"]
    for name, (words, seconds, ratio) in OTHERS.items():
        path = ROOT / "benchmarks" / "results" / f"{name}.json"
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
        for row in (row for row in rows if row[ratio] != 1.0):
            lines.append(f"| {words.format(**row)} | {row[seconds]:.2f} | {row[ratio]:.2f}x |")
    return "\n".join(lines)


def image_speed() -> str:
    path = ROOT / "benchmarks" / "results" / "train_images-cpu.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    codes = ("plain fp32", "ganzoo fp32", "ganzoo bf16", "ganzoo bf16, penalties too")
    lines = [f"| networks | {' | '.join(codes)} | peak MiB, plain and least | published loop |", "|---" * 7 + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        found = {row["code"]: row for row in rows if row["case"] == case}
        cells = [_rate(found[code]) if code in found else "" for code in codes]
        memory = f"{found[codes[0]]['peak_mib']}, {min(row['peak_mib'] for row in found.values())}"
        lines.append(f"| {case} | {' | '.join(cells)} | {memory} | {found[codes[0]]['published'] or ''} |")
    return "\n".join(lines)


def _rate(row: dict) -> str:
    rate = row["images_per_second"]
    return (f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}") + (
        "" if row["speedup"] == 1 else f" ({row['speedup']:.1f}x)"
    )


def results(name: str, key: str, as_markdown: Callable[[list[dict]], str]) -> Callable[[], str]:
    """The table of a benchmark that writes its own."""

    def table() -> str:
        path = ROOT / "benchmarks" / "results" / f"{name}.json"
        return (
            as_markdown(json.loads(path.read_text(encoding="utf-8"))[key]) if path.is_file() else "Not measured yet."
        )

    return table


def scaling() -> str:
    """How the cost of a SeqGAN step grows."""
    path = ROOT / "benchmarks" / "results" / "train_text-cpu.json"
    if not path.is_file():
        return "Not measured yet."
    lines = [
        "| vocabulary | length | rollouts | rollouts, s | generator step, s | µs a token |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['vocabulary']:,} | {row['length']} | {row['rollouts']} | {row['rollouts_s']:.2f} | {row['step_s']:.2f} "
        f"| {row['us_a_token']:.1f} |"
        for row in json.loads(path.read_text(encoding="utf-8"))["scaling"]
    ]
    return "\n".join(lines)


# Rows of the oracle benchmark that the README shows: method -> what it is, and its temperatures.
ORACLE = {
    "mle": ("maximum likelihood, early stopping", (1.0, 0.7, 0.5)),
    "cot": ("the same, then cooperative training", (1.0, 0.7, 0.5)),
    "early": ("the published likelihood protocol, stopped in time", (1.0,)),
    "plateau": ("the same, 60 epochs: overfitted", (1.0,)),
    "seqgan": ("SeqGAN, 50 rounds from there", (1.0,)),
    "constant": ("the control: a constant reward, 80 steps from there", (1.0,)),
}


def oracle() -> str:
    path = ROOT / "benchmarks" / "results" / "oracle.json"
    if not path.is_file():
        return "Not measured yet."
    methods = json.loads(path.read_text(encoding="utf-8"))["methods"]
    lines = ["| method | temperature | NLL_oracle | NLL_test | entropy |", "|---|---|---|---|---|"]
    for name, (words, temperatures) in ORACLE.items():
        rows = [row for row in methods.get(name, {"summary": []})["summary"] if row["temperature"] in temperatures]
        for row in sorted(rows, key=lambda row: -row["temperature"]):
            cells = " | ".join(
                f"{row[n]:.2f} ± {row[f'{n}_spread']:.2f}" for n in ("nll_oracle", "nll_test", "entropy")
            )
            lines.append(f"| {words} | {row['temperature']:g} | {cells} |")
    gaps = [row for row in methods.get("cot", {}).get("against_mle", []) if row["temperature"] in (0.7, 0.6, 0.5)]
    if gaps:
        shown = ", ".join(
            f"{row['nll_test']:+.3f} ± {row['nll_test_spread']:.3f} ({row['temperature']:g})" for row in gaps
        )
        entropy = ", ".join(f"{row['entropy']:+.2f}" for row in gaps)
        lines.append(
            f"\nCooperative training beside the likelihood model of the same seed, at the same NLL_oracle: NLL_test {shown}, entropy {entropy}."
        )
    return "\n".join(lines)


TABLES = {
    "gallery": gallery,
    "models": models,
    "families": families,
    "modes": results("modes", "summary", modes.as_markdown),
    "stacked": results("stacked", "rows", stacked.as_markdown),
    "cifar10": results("cifar10", "rows", cifar10.as_markdown),
    "oracle": oracle,
    "speed": speed,
    "other speed": other_speed,
    "image speed": image_speed,
    "scaling": scaling,
}


def render(text: str) -> str:
    """The document with each table that it has a place for."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- {name}: written by benchmarks/readme.py -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda m, table=table: f"{m[1]}{table()}\n{m[2]}", text, flags=re.DOTALL)
    return text


def main() -> int:
    outdated = False
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        rendered = render(text)
        if rendered != text and "--check" in sys.argv:
            outdated = True
            print(f"{path.name} is out of date; run: python benchmarks/readme.py", file=sys.stderr)
        elif rendered != text:
            path.write_text(rendered, encoding="utf-8")
    return int(outdated)


if __name__ == "__main__":
    sys.exit(main())
