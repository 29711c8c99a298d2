"""BLEU-2..5 and self-BLEU-2..5 of 10,000 sentences, exactly, beside nltk's sentence BLEU.

    python benchmarks/bleu.py [hypotheses.txt references.txt] [--check]

Files hold one sentence a line; without them, the sentences are synthetic, with Zipf's distribution of words. The
tokeniser is not part of the time. nltk takes hours for what is measured here, so in each round it scores one sentence
against the same references, and its time for all is computed from these. Both must agree on them.

Processor seconds: wall time would charge a long call, nltk's, with more of what other processes take than a short one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from timing import environment, ratio, summarise

from ganzoo.metrics.text import bleu, self_bleu, tokenize
from ganzoo.metrics.text.bleu import ORDERS

RESULTS = Path(__file__).parent / "results"
SENTENCES = 10_000
ROUNDS = 9
# What is promised for both together; `--check` ends with 1 beyond it.
TARGET_SECONDS = 5

Words = list[list[str]]


def synthetic(count: int, seed: int) -> Words:
    """Sentences of 5 to 20 words, the r-th of 5,000 words with probability in proportion to 1 / r."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 5001)
    lengths = rng.integers(5, 21, count)
    words = rng.choice(5000, lengths.sum(), p=weights / weights.sum()).astype(str)
    return [sentence.tolist() for sentence in np.split(words, np.cumsum(lengths)[:-1])]


def read(path: str) -> Words:
    return tokenize(Path(path).read_text(encoding="utf-8").split("\n")[:SENTENCES])


def by_nltk(hypothesis: list[str], references: Words) -> list[float]:
    weights = [[1 / n] * n for n in ORDERS]
    return sentence_bleu(references, hypothesis, weights, smoothing_function=SmoothingFunction().method1)


def measure(hypotheses: Words, references: Words) -> dict[str, list[float]]:
    """Seconds by case and round; a round has one turn of each, nltk's with another sentence, evenly spread."""
    ours = np.stack([*bleu(hypotheses, references).values(), *self_bleu(hypotheses).values()], axis=1)
    seconds: dict[str, list[float]] = {"bleu": [], "self_bleu": [], "nltk": []}
    for index in np.linspace(0, len(hypotheses) - 1, ROUNDS, dtype=int):
        hypothesis, others = hypotheses[index], hypotheses[:index] + hypotheses[index + 1 :]
        candidates = {
            "bleu": lambda: bleu(hypotheses, references),
            "self_bleu": lambda: self_bleu(hypotheses),
            "nltk": lambda a=hypothesis, b=others: [*by_nltk(a, references), *by_nltk(a, b)],
        }
        for name, candidate in candidates.items():
            start = time.process_time()
            scores = candidate()
            seconds[name].append(time.process_time() - start)
        np.testing.assert_allclose(ours[index], scores, rtol=0, atol=1e-9)  # nltk's, the last
    return seconds


def main() -> int:
    files = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    hypotheses, references = map(read, files) if files else (synthetic(SENTENCES, 0), synthetic(SENTENCES, 1))
    seconds = measure(hypotheses, references)
    both = [sum(pair) for pair in zip(seconds["bleu"], seconds["self_bleu"], strict=True)]
    nltk = [sentence * len(hypotheses) for sentence in seconds["nltk"]]
    exact, times = summarise(both).median, ratio(nltk, both)
    rows = [
        {"case": f"{name}-2..5", "cpu_seconds": round(summarise(seconds[name]).median, 3)}
        for name in ("bleu", "self_bleu")
    ]
    rows.append({"case": "both", "cpu_seconds": round(exact, 3)})
    rows.append({"case": f"both by nltk, from {ROUNDS} sentences", "cpu_seconds": round(summarise(nltk).median)})
    quartiles = [round(times.low), round(times.high)]
    rows.append({"case": "nltk / exact index", "ratio": round(times.median), "quartiles": quartiles})
    for row in rows:
        print(row)
    source = [Path(file).name for file in files] or "synthetic"
    sizes = {"hypotheses": len(hypotheses), "references": len(references)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "bleu.json"
    record = {"environment": environment(), "text": source, **sizes, "rows": rows}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")
    if exact > TARGET_SECONDS:
        print(f"short of its target: both {exact:.2f} s > {TARGET_SECONDS}")
    return int("--check" in sys.argv and exact > TARGET_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
