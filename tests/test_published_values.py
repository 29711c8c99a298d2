"""Published checkpoints give what they gave: bit for bit where the arithmetic is that of the record, else closely.

What is compared, and how it is recorded: `published_values.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from published_values import (
    RECORDS,
    ROOT,
    Observed,
    Record,
    arithmetic,
    digest_of,
    file_digests,
    observe,
    one_thread,
    read_record,
    record_of,
    record_path,
    thinned,
)

import ganzoo

MODELS = ganzoo.list_models(pretrained=True)
# Of a tensor's largest value. Measured with older instruction sets (ATEN_CPU_CAPABILITY=default, ONEDNN_MAX_CPU_ISA=SSE41,
# MKL_CBWR=SSE4_2) and two threads: sound of Griffin-Lim differs by 2e-5 at most, all else by 8e-6.
TOLERANCE = 3e-4
# Of texts, tokens, labels. They are choices: rounding moves one only where two candidates are as good as equal, and with it what
# follows in that row. With those instruction sets none moved.
ROWS_THAT_AGREE = 0.75


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def machine(threads: None) -> dict[str, str]:
    """The arithmetic of this machine."""
    return arithmetic()


@pytest.fixture
def record(name: str) -> Record:
    assert record_path(name).is_file(), f"no record of {name}: python tests/published_values.py {name} writes it"
    return read_record(name)


def differences(record: Record, seen: Observed, *, to_the_bit: bool) -> list[str]:
    """What is not as it was recorded, a line each."""
    found = [f"{key} is missing" for key in {*record.rows, *record.tensors} - {*seen.rows, *seen.tensors}]
    for key, was in record.facts.items():
        if seen.facts.get(key) != was:
            found.append(f"{key} is {seen.facts.get(key)}, not {was}")
    for key in record.rows.keys() & seen.rows.keys():
        if not rows_agree(record.rows[key], seen.rows[key], to_the_bit):
            found.append(f"{key} are {seen.rows[key]}, not {record.rows[key]}")
    for key in record.tensors.keys() & seen.tensors.keys():
        if record.digests[key] != digest_of(seen.tensors[key]):
            found += tensor_differs(key, record, seen.tensors[key], to_the_bit)
    return found


def rows_agree(old: list[Any], new: list[Any], to_the_bit: bool) -> bool:
    agreeing = sum(before == now for before, now in zip(old, new, strict=False))
    return len(old) == len(new) and agreeing >= len(old) * (1 if to_the_bit else ROWS_THAT_AGREE)


def tensor_differs(key: str, record: Record, tensor: torch.Tensor, to_the_bit: bool) -> list[str]:
    """Of a tensor with other bits: whether by more than is allowed."""
    (was, _), (kind, _) = (digest.rsplit(" ", 1) for digest in (record.digests[key], digest_of(tensor)))
    if kind != was:
        return [f"{key} is {kind}, not {was}"]
    old, new = record.tensors[key].double(), thinned(tensor).double()
    distance, scale = (old - new).abs().max().item(), old.abs().max().item()
    if not to_the_bit and distance <= TOLERANCE * scale:
        return []
    return [f"{key} has other bits: {distance:.2g} apart, the largest value being {scale:.2g}"]


@pytest.mark.parametrize("name", MODELS)
def test_values_are_those_of_the_record(name, record, machine):
    seen = observe(ganzoo.from_pretrained(name))
    assert not differences(record, seen, to_the_bit=machine == record.arithmetic)


@pytest.mark.parametrize("name", MODELS)
def test_files_are_those_of_the_record(name, record):
    """So that old files are what is opened: a checkpoint saved anew would no longer show that they can be."""
    assert file_digests(name) == record.files


def leaves(value: Any, *keys: Any) -> dict[tuple, Any]:
    """{"a": {"b": [1]}} -> {("a", "b", 0): 1}."""
    if not isinstance(value, dict | list):
        return {keys: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {path: leaf for key, inner in pairs for path, leaf in leaves(inner, *keys, key).items()}


@pytest.mark.parametrize("name", MODELS)
def test_files_are_read_with_the_values_that_they_hold(name):
    folder, pipe = ROOT / "hub" / name, ganzoo.from_pretrained(name)
    read = {
        "config.json": pipe.config,
        "processor_config.json": pipe.processor,
        "recipe.yaml": pipe.recipe,
    }
    written_for_the_loader = {"model_type", "family", "role", "ganzoo_version", "processor_type"}
    for file, value in read.items():
        text = (folder / file).read_text(encoding="utf-8")
        held = leaves(yaml.safe_load(text) if file.endswith(".yaml") else json.loads(text))
        held = {path: leaf for path, leaf in held.items() if len(path) > 1 or path[0] not in written_for_the_loader}
        found = leaves(value.model_dump(mode="json"))
        # When all penalties had one class, those without a target were saved with its default; it never meant anything.
        held = {path: leaf for path, leaf in held.items() if path in found or (path[-1], leaf) != ("target", 1.0)}
        assert {path: found.get(path, "nothing") for path in held} == held, file


def test_every_record_is_of_a_published_checkpoint():
    assert {path.stem for path in RECORDS.iterdir()} == {*MODELS}


@pytest.mark.parametrize(("to_the_bit", "change"), [(True, 1e-4), (False, 0.1)])
def test_a_changed_weight_shows(to_the_bit, change):
    pipe = ganzoo.from_pretrained("dcgan-digits")
    record = record_of(observe(pipe), {}, {})
    assert not differences(record, observe(pipe), to_the_bit=True)
    with torch.no_grad():
        next(pipe.network.parameters()).view(-1)[0] += change
    assert differences(record, observe(pipe), to_the_bit=to_the_bit)
