"""Hostile processors, metrics, recipes, cards and golden outputs: the right ones, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_helpers import FAMILIES, JUNK, NUMBERS, TEXTS, Cases, Checkpoint, is_sentence, refused
from hypothesis import given
from hypothesis import strategies as st

import ganzoo
from ganzoo.errors import CheckpointError, GanzooError, UserError
from ganzoo.metrics import MetricResult
from ganzoo.recipe.reading import load_recipe
from ganzoo.registry import get_family
from ganzoo.utils.files import TensorFile, save_tensors

cases = Cases()


# ------------------------------------------------------------------------------------------- processor, metrics, recipe, card


@cases(150)
@given(data=st.data(), junk=JUNK)
def test_any_processor_fits_or_is_refused(zoo: dict[str, Checkpoint], data: st.DataObject, junk: Any) -> None:
    checkpoint = zoo[data.draw(st.sampled_from(FAMILIES))]
    values = json.loads(checkpoint.read("processor_config.json"))
    key = data.draw(st.sampled_from(sorted(values)) | st.text(max_size=8) | TEXTS)
    changed = {k: v for k, v in values.items() if k != key}
    if data.draw(st.integers(0, 5)):
        changed[key] = junk if data.draw(st.booleans()) else data.draw(NUMBERS)
    with checkpoint.replaced("processor_config.json", json.dumps(changed).encode()):
        try:
            processor = ganzoo.from_pretrained(checkpoint.folder).processor
        except CheckpointError as error:
            assert is_sentence(error) and "processor_config.json" in str(error)
        else:
            fitting = get_family(checkpoint.family).tiny_config().processor()
            assert processor.sample_shape == fitting.sample_shape


@cases(150)
@given(data=st.data(), junk=JUNK)
def test_any_metrics_are_records_or_refused(zoo: dict[str, Checkpoint], data: st.DataObject, junk: Any) -> None:
    checkpoint = zoo[data.draw(st.sampled_from(FAMILIES))]
    values = json.loads(checkpoint.read("metrics.json"))
    record = values["metrics"][0]
    changed = data.draw(
        st.sampled_from(
            [
                junk,
                {**values, "metrics": junk},
                {**values, "metrics": [junk]},
                {**values, "training": junk},
                {**values, "metrics": [{**record, data.draw(st.sampled_from(sorted(record))): junk}]},
                {
                    **values,
                    "metrics": [{k: v for k, v in record.items() if k != data.draw(st.sampled_from(sorted(record)))}],
                },
            ]
        )
    )
    with checkpoint.replaced("metrics.json", json.dumps(changed).encode()):
        pipeline = ganzoo.from_pretrained(checkpoint.folder)
        try:
            lines = [str(MetricResult(**record)) for record in pipeline.metrics]
        except GanzooError as error:
            assert is_sentence(error) and "metrics.json" in str(error)
        else:
            assert all(isinstance(line, str) for line in lines)


YAML_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_PIECES = [
    YAML_BOMB,
    "!!python/object/apply:os.system ['touch HACKED']",
    "!!python/object/new:os.system ['touch HACKED']",
    "!!python/name:os.system",
    "model: !!python/object/apply:subprocess.check_output [[touch, HACKED]]",
    "&a [*a]",
    "[" * 5_000,
    "a: " * 5_000,
    "x: " + "9" * 10_000,
    "x: 0x" + "f" * 10_000,
    "x: 2024-13-45",
    "x: !!bool maybe",
    "x: !!timestamp now",
    "x: !!int many",
    "? [1]\n: 2",
    "1: 2",
    "null: 3",
    "base: ../../../etc/passwd",
    "base: /dev/zero",
    "base: [1]",
    "base: dcgan-digits",
    "base: recipe",
    "model: {family: nobody}",
    "model: {family: [dcgan]}",
    "model: 3",
    "training: {steps: .nan}",
    "training: {steps: 10000000000000000000000}",
    "training: {steps: 10, seed: -1}",
    "objective: [hinge]",
    "name: ../../evil",
    "phases: [{updates: {generator: 0}}]",
    "\x00",
    "\x85",
    "--- 1\n--- 2",
    "",
    "# nothing",
    "%YAML 9.9\n---\na: 1",
]


@cases(200)
@given(data=st.data())
def test_any_recipe_is_read_or_refused(zoo: dict[str, Checkpoint], data: st.DataObject) -> None:
    checkpoint = zoo[data.draw(st.sampled_from(FAMILIES))]
    original = checkpoint.read("recipe.yaml").decode()
    piece = data.draw(st.sampled_from(YAML_PIECES) | st.text(max_size=40) | TEXTS)
    start = data.draw(st.integers(0, len(original)))
    text = data.draw(st.sampled_from([piece, f"{original}\n{piece}\n", original[:start] + piece + original[start:]]))
    with checkpoint.replaced("recipe.yaml", text.encode("utf-8", "surrogatepass")):
        try:
            recipe = ganzoo.from_pretrained(checkpoint.folder).recipe
        except GanzooError as error:
            assert is_sentence(error) and "recipe" in str(error), str(error)
        else:
            assert load_recipe(recipe.model_dump()) == recipe


@pytest.mark.parametrize(
    ("name", "content", "check"),
    [
        ("recipe.yaml", b"name: [1", "recipe"),
        ("recipe.yaml", b"\xff", "recipe"),
        ("metrics.json", b"{}[", "metrics"),
        ("metrics.json", b'{"metrics": [{"name": "kid"}]}', "metrics"),
        ("README.md", b"no metadata", "card"),
        ("README.md", b"\xff", "card"),
        ("processor_config.json", b"{}", "processor"),
        ("discriminator/model.safetensors", b"", "discriminator"),
        ("test/golden.safetensors", b"", "golden outputs"),
    ],
)
def test_verify_says_which_file_is_damaged(zoo: dict[str, Checkpoint], name: str, content: bytes, check: str) -> None:
    with zoo["dcgan"].replaced(name, content):
        checks = ganzoo.verify(zoo["dcgan"].folder)
    assert [failed.name for failed in checks if not failed.passed] == [check]
    assert all(each.message.isprintable() for each in checks)


def test_python_tags_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = [piece for piece in YAML_PIECES if "python" in piece]
    for index, text in enumerate(hostile):
        path = tmp_path / f"{index}.yaml"
        path.write_text(text)
        refused(lambda path=path: load_recipe(path), path.name, kind=UserError)
    assert len(hostile) == 4 and not (tmp_path / "HACKED").exists()


def test_yaml_bombs_and_huge_files_are_refused(tmp_path: Path) -> None:
    """A bomb in the model section, whose keys a recipe does not know, would go off when the recipe is saved."""
    path = tmp_path / "bomb.yaml"
    inside = "".join(f"  {line}\n" for line in YAML_BOMB.splitlines())
    path.write_text(f"name: bomb\ntraining: {{steps: 1}}\nmodel:\n  family: dcgan\n{inside}")
    refused(lambda: load_recipe(path), "bomb.yaml", "aliases", kind=UserError)
    for text in (YAML_BOMB, "a: [" + "1," * 10_000_000 + "]", "[" * 1_000_000, "- " * 1_000_000):
        path.write_text(text)
        refused(lambda: load_recipe(path), "bomb.yaml", kind=UserError)


@cases(60)
@given(data=st.data())
def test_any_card_is_judged(zoo: dict[str, Checkpoint], data: st.DataObject) -> None:
    checkpoint = zoo[data.draw(st.sampled_from(FAMILIES))]
    original = checkpoint.read("README.md").decode()
    piece = data.draw(st.sampled_from(YAML_PIECES) | st.text(max_size=40) | TEXTS)
    text = data.draw(
        st.sampled_from([piece, f"---\n{piece}\n---\ntext", original.replace("---\n", f"---\n{piece}\n", 1)])
    )
    with checkpoint.replaced(
        "README.md", data.draw(st.sampled_from([b"", b"\xff"])) + text.encode("utf-8", "surrogatepass")
    ):
        card = {check.name: check for check in ganzoo.verify(checkpoint.folder)}["card"]
        assert card.passed or card.message
        assert card.message.isprintable()


@cases(100)
@given(data=st.data())
def test_only_the_true_golden_file_passes(
    zoo: dict[str, Checkpoint], tmp_path_factory: Any, data: st.DataObject
) -> None:
    checkpoint = zoo[data.draw(st.sampled_from(FAMILIES))]
    name = "test/golden.safetensors"
    tensors = TensorFile(checkpoint.folder / name).load()
    key = data.draw(st.sampled_from([*sorted(tensors), "labels", "other"]))
    shape = data.draw(st.lists(st.integers(0, 5), max_size=5))
    types = [torch.float32, torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8, torch.complex64]
    changed = {
        "drop": {other: tensor for other, tensor in tensors.items() if other != key},
        "shape": {**tensors, key: torch.full(shape, 0.25).to(data.draw(st.sampled_from(types)))},
        "batch": {
            other: torch.cat([tensor] * 50_000) if tensor.ndim == 1 else tensor.repeat(50, *[1] * (tensor.ndim - 1))
            for other, tensor in tensors.items()
        },
        "nan": {**tensors, "expected": tensors["expected"] * float("nan")},
        "value": {**tensors, "expected": tensors["expected"] + 0.01},
        "labels": {**tensors, "labels": torch.tensor([10**9, -1, 0, 0])},
    }[data.draw(st.sampled_from(["drop", "shape", "batch", "nan", "value", "labels"]))]
    if changed.keys() == tensors.keys() and all(torch.equal(changed[other], tensors[other]) for other in tensors):
        return
    path = tmp_path_factory.getbasetemp() / "golden.safetensors"
    save_tensors(path, changed)
    with checkpoint.replaced(name, path.read_bytes()):
        checks = {check.name: check for check in ganzoo.verify(checkpoint.folder)}
    assert not checks["golden outputs"].passed and checks["weights"].passed


def test_there_are_enough_cases() -> None:
    assert sum(cases.numbers.values()) >= 600, cases.numbers
