"""Hostile and damaged checkpoints: whatever the files hold, a load gives the right network or one sentence.

More than two thousand generated cases, over the tiny checkpoint of every registered family. "One sentence" is an error of
ganzoo's own, one printable line that names the file; never another exception, never a hang, and never more memory than
the files themselves hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_helpers import SECONDS, Cases, no_hang  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from training_helpers import fitted_processor

import ganzoo
from ganzoo.cli import run
from ganzoo.errors import MAX_MESSAGE, CheckpointError, GanzooError, NotFoundError, UserError
from ganzoo.files import TensorFile, save_tensors
from ganzoo.hub import push_folder
from ganzoo.metrics import MetricResult
from ganzoo.pipelines import pipeline_class
from ganzoo.registry import get_family
from ganzoo.training.recipe import load_recipe

FAMILIES = ganzoo.list_families(kind="all")
WEIGHTS = "model.safetensors"

cases = Cases()


# ---------------------------------------------------------------------------------------------------- the checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint folder, whose files a test may replace for a moment."""

    family: str
    folder: Path

    @contextlib.contextmanager
    def replaced(self, name: str, content: bytes) -> Iterator[None]:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        original = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        try:
            yield
        finally:
            if original is None:
                path.unlink()
            else:
                path.write_bytes(original)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@dataclass(frozen=True)
class Target:
    """One network of a checkpoint."""

    checkpoint: Checkpoint
    role: str
    state: dict[str, torch.Tensor]

    def __repr__(self) -> str:
        return f"<{self.role} of {self.checkpoint.family}>"

    def file(self, name: str) -> str:
        return f"discriminator/{name}" if self.role == "discriminator" else name

    def load(self) -> Any:
        network = get_family(self.checkpoint.family).networks[self.role]
        return network.from_pretrained(self.checkpoint.folder)

    def loads_intact(self) -> bool:
        """Whether the network loads as it was saved; if not, the error must be one sentence that names the file."""
        try:
            network = self.load()
        except GanzooError as error:
            assert is_sentence(error), str(error)
            return False
        loaded = network.state_dict()
        assert set(loaded) == set(self.state)
        assert all(torch.equal(loaded[name], tensor) for name, tensor in self.state.items())
        return True


def is_sentence(error: GanzooError) -> bool:
    message = str(error)
    return bool(message) and message.isprintable() and len(message) <= MAX_MESSAGE


def refused(action: Callable[[], Any], *named: str, kind: type[GanzooError] = GanzooError) -> str:
    """Runs what must fail, and returns its one sentence, in which every `named` thing occurs."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert is_sentence(caught.value), message
    assert all(name in message for name in named), message
    return message


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """A complete checkpoint of every registered family, with recipe and metrics."""
    root = tmp_path_factory.mktemp("zoo")
    metric = {
        "name": "kid",
        "value": 0.1,
        "num_real": 10,
        "num_generated": 10,
        "embedder": "pixels",
        "dataset": "digits",
    }
    found = {}
    for name in FAMILIES:
        family = get_family(name)
        config = family.tiny_config()
        torch.manual_seed(0)
        networks = {role: network(config) for role, network in family.networks.items()}
        recipe = {"name": f"{name}-test", "model": {"family": name, **family.tiny}, "training": {"steps": 2}}
        pipeline = pipeline_class(networks[family.main_role])(
            networks[family.main_role],
            fitted_processor(config),
            discriminator=networks.get("discriminator"),
            recipe=load_recipe(recipe),
            metrics=[{**metric, "split": "test", "seed": 0}],
            training={"steps": 2, "batch_size": 4},
        )
        found[name] = Checkpoint(name, pipeline.save_pretrained(root / name))
    return found


@pytest.fixture(scope="module")
def targets(zoo: dict[str, Checkpoint]) -> list[Target]:
    found = []
    for checkpoint in zoo.values():
        for role, network in get_family(checkpoint.family).networks.items():
            state = network.from_pretrained(checkpoint.folder).state_dict()
            found.append(Target(checkpoint, role, {name: tensor.clone() for name, tensor in state.items()}))
    return found


def test_the_intact_checkpoints_load(targets: list[Target]) -> None:
    assert {target.checkpoint.family for target in targets} == set(FAMILIES)
    assert all(target.loads_intact() for target in targets)
    for checkpoint in {target.checkpoint.folder for target in targets}:
        checks = ganzoo.verify(checkpoint)
        assert all(check.passed for check in checks), checks


# ------------------------------------------------------------------------------------------------------ model.safetensors


@cases(600)
@given(data=st.data())
def test_any_flipped_byte_is_noticed_or_harmless(targets: list[Target], data: st.DataObject) -> None:
    target = data.draw(st.sampled_from(targets))
    name = target.file(WEIGHTS)
    content = bytearray(target.checkpoint.read(name))
    header = 8 + int.from_bytes(content[:8], "little")
    offset = data.draw(st.integers(0, header - 1) | st.integers(header, len(content) - 1))
    content[offset] ^= data.draw(st.sampled_from([1 << bit for bit in range(8)]) | st.integers(1, 255))
    with target.checkpoint.replaced(name, bytes(content)):
        intact = target.loads_intact()
    assert not (intact and offset >= header)


@cases(150)
@given(data=st.data())
def test_any_truncation_or_addition_is_noticed(targets: list[Target], data: st.DataObject) -> None:
    target = data.draw(st.sampled_from(targets))
    name = target.file(WEIGHTS)
    content = target.checkpoint.read(name)
    cut = data.draw(st.integers(0, len(content) - 1))
    content = data.draw(st.sampled_from([content[:cut], content + content[:1] + content[:cut]]))
    with target.checkpoint.replaced(name, content):
        refused(target.load, WEIGHTS, kind=CheckpointError)


@cases(150)
@given(data=st.data())
def test_random_bytes_in_the_weights_are_noticed(targets: list[Target], data: st.DataObject) -> None:
    target = data.draw(st.sampled_from(targets))
    name = target.file(WEIGHTS)
    content = target.checkpoint.read(name)
    noise = data.draw(st.binary(min_size=1, max_size=200))
    start = data.draw(st.integers(0, len(content)))
    changed = data.draw(st.sampled_from([noise, content[:start] + noise + content[start:], content[:start] + noise]))
    with target.checkpoint.replaced(name, changed):
        intact = target.loads_intact()
    assert changed == content or not intact


@cases(60)
@given(data=st.data(), length=st.integers(0, 2**64 - 1) | st.integers(0, 5000) | st.just(2**63))
def test_any_header_length_but_the_right_one_is_refused(
    targets: list[Target], data: st.DataObject, length: int
) -> None:
    target = data.draw(st.sampled_from(targets))
    name = target.file(WEIGHTS)
    content = target.checkpoint.read(name)
    with target.checkpoint.replaced(name, length.to_bytes(8, "little") + content[8:]):
        assert target.loads_intact() == (content[:8] == length.to_bytes(8, "little"))


NUMBERS = st.sampled_from([-1, 0, 1, 3, 2**31, 2**40, 2**63, 2**64, 10**18, 10**30, 0.5, float("nan"), float("inf")])
TEXTS = st.sampled_from(["", "..", "/etc/passwd", "a\0b", "line\nbreak", "\x1b[31mred", "\ud800", "é", "x" * 3000])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NUMBERS | TEXTS
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | TEXTS, inner, max_size=4),
)


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def with_header(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@cases(300)
@given(data=st.data(), junk=JUNK)
def test_any_other_header_is_refused(targets: list[Target], data: st.DataObject, junk: Any) -> None:
    target = data.draw(st.sampled_from(targets))
    name = target.file(WEIGHTS)
    content = target.checkpoint.read(name)
    header, body = header_of(content)
    tensor = data.draw(st.sampled_from(sorted(target.state)))
    key = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "tensor", "name", "extra", "metadata"]))
    if key == "tensor":
        header[tensor] = junk
    elif key == "name":
        header[f"{tensor}{data.draw(TEXTS)}x"] = header.pop(tensor)
    elif key == "extra":
        header[f"{data.draw(TEXTS)}y"] = junk
    elif key == "metadata":
        header["__metadata__"] = data.draw(st.sampled_from([junk, {"sha256": junk}, {"sha256": "0" * 64}]))
    else:
        junk_list = st.lists(NUMBERS, max_size=6)
        header[tensor][key] = data.draw(
            junk_list | st.sampled_from(["F16", "BF16", "I64", "F8_E4M3", "BOOL"]) | st.just(junk)
        )
    with target.checkpoint.replaced(name, with_header(header, body)):
        intact = target.loads_intact()
    # Metadata is not ours to refuse; without a checksum in it, the data counts as it is.
    assert not intact or key == "metadata" or header == header_of(content)[0]


@pytest.mark.parametrize(("family", "role"), [(name, role) for name in FAMILIES for role in get_family(name).networks])
def test_missing_extra_and_wrong_tensors_are_named(
    targets: list[Target], family: str, role: str, tmp_path: Path
) -> None:
    (target,) = (target for target in targets if (target.checkpoint.family, target.role) == (family, role))
    path = tmp_path / WEIGHTS
    # Of a network with hundreds of tensors, some of all depths.
    for name, tensor in list(target.state.items())[:: max(1, len(target.state) // 24)]:
        others = {other: value for other, value in target.state.items() if other != name}
        wrong_type = tensor.to(torch.int16 if tensor.is_floating_point() else torch.float32)
        for tensors, expected in (
            (others, "missing keys"),
            ({**target.state, f"{name}.more": tensor.clone()}, "unexpected keys"),
            ({**others, name: tensor[None]}, "wrong tensors"),
            ({**others, name: wrong_type}, "wrong tensors"),
        ):
            save_tensors(path, tensors)
            with target.checkpoint.replaced(target.file(WEIGHTS), path.read_bytes()):
                refused(target.load, WEIGHTS, expected, name, kind=CheckpointError)


def test_header_bombs_are_refused_quickly(targets: list[Target]) -> None:
    target = targets[0]
    name = target.file(WEIGHTS)
    header, body = header_of(target.checkpoint.read(name))
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    one = b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    bombs = {
        "deep": b"[" * 1_000_000,
        "deep objects": b'{"a":' * 100_000,
        "many tensors": json.dumps({f"t{index}": empty for index in range(100_000)}).encode(),
        "one name a hundred thousand times": b"{" + one * 100_000 + b'"b":{}}',
        "long name": json.dumps({**header, "n" * 5_000_000: empty}).encode(),
        "long shape": json.dumps({**header, "s": {**empty, "shape": [0] * 1_000_000}}).encode(),
        "long metadata": json.dumps({**header, "__metadata__": {"k": "v" * 20_000_000}}).encode(),
        "spaces": b" " * 20_000_000,
        "null bytes": b"\0" * 20_000_000,
    }
    for text in bombs.values():
        with target.checkpoint.replaced(name, with_header(text, body)):
            refused(target.load, WEIGHTS, kind=CheckpointError)


# ----------------------------------------------------------------------------------------------------------- config.json


@cases(500)
@given(data=st.data(), junk=JUNK)
def test_any_config_is_the_right_one_or_refused(targets: list[Target], data: st.DataObject, junk: Any) -> None:
    target = data.draw(st.sampled_from(targets))
    name = target.file("config.json")
    values = json.loads(target.checkpoint.read(name))
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from(sorted(values)) | st.text(max_size=10) | TEXTS)
        if data.draw(st.booleans()) and key in values:
            del values[key]
        else:
            values[key] = data.draw(st.just(junk) | NUMBERS | st.integers(0, 2048))
    with target.checkpoint.replaced(name, json.dumps(values).encode()):
        target.loads_intact()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_wrong_key_and_value_of_a_config_is_named(zoo: dict[str, Checkpoint], family: str) -> None:
    checkpoint = zoo[family]
    values = json.loads(checkpoint.read("config.json"))

    def check(changed: Any, *named: str) -> None:
        with checkpoint.replaced("config.json", json.dumps(changed).encode()):
            refused(lambda: ganzoo.from_pretrained(checkpoint.folder), "config.json", *named)

    for key in ("model_type", "family", "role"):
        check({k: v for k, v in values.items() if k != key})
        for wrong in (None, 3, ["dcgan"], {"a": 1}, "", "nobody", "../dcgan", "a\0b", "a\nb", "x" * 100_000, "\ud800"):
            check({**values, key: wrong})
    check({**values, "widht": 4}, "'widht'")
    check({**values, "x" * 100_000: 4}, "unknown key")
    check({**values, **{f"key{index}": index for index in range(30_000)}}, "unknown key", "more")
    numbers = [key for key, value in values.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
    assert numbers
    for key in numbers:
        for wrong in (
            10**9,
            2**40,
            10**18,
            10**400,
            -1,
            1.5,
            float("nan"),
            float("inf"),
            -float("inf"),
            "many",
            [4],
            {},
        ):
            if not (isinstance(values[key], float) and wrong == 1.5):
                check({**values, key: wrong}, key)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{",
        b"{}",
        b"{'a': 1}",
        b"\0" * 100,
        b"\xff\xfe\x00",
        b'{"model_type": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"model_type": "ganzoo", "family": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"model_type": "ganzoo", "family": "dcgan", "role": "generator", "width": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a": "' + b"x" * 10_000_000 + b'"}',
        b" " * 10_000_000,
        b"\xef\xbb\xbf{}",
        '{"model_type": "ganzoo"}'.encode("utf-16"),
    ],
    ids=lambda text: f"{len(text)}-{text[:8]!r}",
)
@pytest.mark.parametrize("name", ["config.json", "processor_config.json"])
def test_what_is_no_json_object_is_refused(zoo: dict[str, Checkpoint], name: str, text: bytes) -> None:
    for checkpoint in zoo.values():
        with checkpoint.replaced(name, text):
            refused(lambda folder=checkpoint.folder: ganzoo.from_pretrained(folder), name, kind=CheckpointError)


LIMITED = """
import json, resource, sys
from pathlib import Path
import ganzoo
from ganzoo.errors import GanzooError
from ganzoo.registry import get_family

def used(field):
    return int(next(line for line in open("/proc/self/status") if line.startswith(field)).split()[1]) * 1024

folders = [Path(folder) for folder in sys.argv[1:]]
for folder in folders:
    ganzoo.from_pretrained(folder)            # everything is imported now
limit = used("VmSize") + (128 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = used("VmHWM")
refused = 0
for folder in folders:
    path = folder / "config.json"
    original = path.read_text()
    values = json.loads(original)
    fields = get_family(values["family"]).config.model_fields
    largest = {}
    for name, field in fields.items():
        bounds = [bound.le for bound in field.metadata if getattr(bound, "le", None) is not None]
        if bounds and isinstance(values.get(name), int | None):
            largest[name] = int(bounds[0])
    huge = [{name: number} for name in largest for number in (10**9, 2**40, 10**18)]
    for change in [largest, *({name: value} for name, value in largest.items()), *huge]:
        path.write_text(json.dumps({**values, **change}))
        try:
            ganzoo.from_pretrained(folder)
        except GanzooError as error:
            assert "config.json" in str(error), error
            refused += 1
        else:  # it made no difference to the tensors
            assert change not in huge and change != largest, change
    path.write_text(original)
print(refused, used("VmHWM") - before)
"""


def test_the_largest_configs_allocate_nothing(zoo: dict[str, Checkpoint]) -> None:
    """Every number at its bound, and beyond: such networks have gigabytes of weights, and 128 MiB are left."""
    folders = [str(checkpoint.folder) for checkpoint in zoo.values()]
    done = subprocess.run([sys.executable, "-c", LIMITED, *folders], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr or done.stdout
    count, grown = (int(part) for part in done.stdout.split())
    assert count >= 10 * len(FAMILIES)
    assert grown < 64 << 20


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


# ------------------------------------------------------------------------------------------------------- names and links

PARTS = st.sampled_from(["..", ".", "", "discriminator", "secret", "~", "a\0b", "\ud800", "\n", "x" * 300, "con", "*"])


@cases(200)
@given(parts=st.lists(PARTS, min_size=1, max_size=5), absolute=st.booleans())
def test_no_subfolder_leads_out_of_the_checkpoint(
    zoo: dict[str, Checkpoint], parts: list[str], absolute: bool
) -> None:
    checkpoint = zoo["dcgan"]
    name = "/".join(parts)
    subfolder = f"{checkpoint.folder.parent}/{name}" if absolute else name
    kept = [part for part in parts if part not in ("", ".")]
    try:
        network = ganzoo.Discriminator.from_pretrained(checkpoint.folder, subfolder=subfolder)
    except GanzooError as error:
        assert is_sentence(error)
        assert absolute or kept != ["discriminator"]
    else:
        assert kept == ["discriminator"] and not absolute and not name.startswith("/")
        assert network.role == "discriminator"


@pytest.mark.parametrize(
    "name", ["..", "../outside", "discriminator/..", "discriminator/../discriminator", "/etc", "//", "a/../../b"]
)
def test_a_name_that_goes_up_or_starts_at_the_root_is_refused(zoo: dict[str, Checkpoint], name: str) -> None:
    folder = zoo["dcgan"].folder
    refused(lambda: ganzoo.Discriminator.from_pretrained(folder, subfolder=name), "leads out of the checkpoint")
    refused(lambda: ganzoo.Generator.from_pretrained("org/gan", subfolder=name), "leads out of the checkpoint")


@cases(150)
@given(source=st.lists(PARTS | st.text(max_size=12), min_size=1, max_size=4).map("/".join))
def test_any_name_of_a_model_is_understood_or_refused(source: str) -> None:
    refused(lambda: ganzoo.from_pretrained(source, local_files_only=True))


@pytest.fixture
def copy(zoo: dict[str, Checkpoint], tmp_path: Path) -> Path:
    """A checkpoint of its own, with something to reach beside it."""
    import shutil

    shutil.copytree(zoo["dcgan"].folder, tmp_path / "outside")
    return Path(shutil.copytree(zoo["dcgan"].folder, tmp_path / "checkpoint"))


FILES = ["config.json", WEIGHTS, "processor_config.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_a_file_outside_is_refused(copy: Path, name: str) -> None:
    for target in (copy.parent / "outside" / name, Path("..") / "outside" / name, Path("/etc/hostname")):
        (copy / name).unlink()
        (copy / name).symlink_to(target)
        refused(lambda: ganzoo.from_pretrained(copy), name, "symbolic link", kind=CheckpointError)


def test_a_link_to_a_folder_outside_is_refused(copy: Path) -> None:
    import shutil

    shutil.rmtree(copy / "discriminator")
    (copy / "discriminator").symlink_to(copy.parent / "outside" / "discriminator")
    refused(lambda: ganzoo.Discriminator.from_pretrained(copy), "discriminator", "symbolic link", kind=CheckpointError)
    refused(lambda: ganzoo.from_pretrained(copy).discriminator, "discriminator", kind=CheckpointError)


def test_a_link_inside_the_checkpoint_is_fine(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "weights")
    (copy / WEIGHTS).symlink_to("weights")
    assert ganzoo.from_pretrained(copy)(num_samples=1, seed=0).images


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_regular_file_is_refused(copy: Path, name: str) -> None:
    path = copy / name
    path.unlink()
    path.symlink_to(name)
    refused(lambda: ganzoo.from_pretrained(copy), name)
    path.unlink()
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=NotFoundError)
    os.mkfifo(path)
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=NotFoundError)
    path.unlink()
    path.mkdir()
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=NotFoundError)


@pytest.mark.parametrize("name", ["recipe.yaml", "metrics.json", "README.md", "test/golden.safetensors"])
def test_what_is_no_regular_file_fails_its_check(copy: Path, name: str) -> None:
    path = copy / name
    path.unlink()
    os.mkfifo(path)
    assert len(ganzoo.verify(copy)) == 7
    path.unlink()
    path.symlink_to("/etc/hostname")
    assert [check.passed for check in ganzoo.verify(copy)].count(False) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).chmod(0)
    refused(lambda: ganzoo.from_pretrained(copy), name, kind=CheckpointError)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    empty, other, foreign = (tmp_path / name for name in ("empty", "other", "foreign"))
    for folder in (empty, other, foreign):
        folder.mkdir()
    (other / "picture.png").write_bytes(b"\x89PNG")
    (foreign / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    (foreign / WEIGHTS).write_bytes(b"")
    for folder in (empty, other):
        refused(lambda folder=folder: ganzoo.from_pretrained(folder), "config.json", kind=NotFoundError)
    refused(lambda: ganzoo.from_pretrained(foreign), "config.json", "ganzoo", kind=CheckpointError)
    refused(lambda: ganzoo.from_pretrained(other / "picture.png"), "is a file", kind=UserError)


def test_a_push_takes_nothing_from_outside(copy: Path) -> None:
    assert push_folder(copy, "alice/gan", dry_run=True).files
    (copy / "samples" / "passwords.png").symlink_to("/etc/passwd")
    refused(
        lambda: push_folder(copy, "alice/gan", dry_run=True), "passwords.png", "symbolic link", kind=CheckpointError
    )


# -------------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        (WEIGHTS, b"garbage", 1),
        (WEIGHTS, b"\xff" * 8 + b"{}", 1),
        ("config.json", b'{"model_type": "ganzoo", "family": "dcgan", "role": "generator", "width": 1000000000}', 1),
        ("config.json", b'{"model_type": "ganzoo", "family": "\\ud800\\u001b[31m", "role": "generator"}', 2),
        ("config.json", b"[" * 100_000, 1),
        ("processor_config.json", b'{"processor_type": "pickle"}', 1),
    ],
)
def test_the_commands_say_one_line_and_fail(
    zoo: dict[str, Checkpoint], tmp_path: Path, capsys: pytest.CaptureFixture, name: str, content: bytes, code: int
) -> None:
    folder = str(zoo["dcgan"].folder)
    with zoo["dcgan"].replaced(name, content):
        for command in (["sample", folder, "--output", str(tmp_path / "x.png")], ["info", folder]):
            assert run(command) == code
            shown = capsys.readouterr()
            assert shown.err.startswith("ganzoo: ") and shown.err.count("\n") == 1, shown.err
            assert name in shown.err and "Traceback" not in shown.err and "unexpected" not in shown.err
        assert run(["verify", folder]) == 1
        shown = capsys.readouterr()
        assert "FAIL" in shown.out and shown.err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


def test_a_hostile_checkpoint_leaves_no_traceback(zoo: dict[str, Checkpoint], tmp_path: Path) -> None:
    """In a process of its own: nothing is printed behind the command's back either."""
    command = [sys.executable, "-c", "from ganzoo.cli import main; main()"]
    with zoo["dcgan"].replaced(WEIGHTS, b"\x08" + b"\0" * 7 + b'{"a":{}}'):
        done = subprocess.run(
            [*command, "sample", str(zoo["dcgan"].folder)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ganzoo: ") and done.stderr.count("\n") == 1


def test_there_are_enough_cases() -> None:
    assert sum(cases.numbers.values()) >= 2000, cases.numbers
