"""Hostile and damaged checkpoints: whatever the files hold, a load gives the right network or one sentence.

More than two thousand generated cases in this folder, over the tiny checkpoint of every registered family. "One sentence" is
an error of ganzoo's own, one printable line that names the file; never another exception, never a hang, and never more
memory than the files themselves hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_helpers import FAMILIES, JUNK, NUMBERS, SECONDS, TEXTS, WEIGHTS, Cases, Checkpoint, Target, refused
from hypothesis import given
from hypothesis import strategies as st

import ganzoo
from ganzoo.errors import CheckpointError
from ganzoo.registry import get_family
from ganzoo.utils.files import save_tensors

cases = Cases()


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


def test_there_are_enough_cases() -> None:
    assert sum(cases.numbers.values()) >= 1700, cases.numbers
