"""A checkpoint as a value: opened once, saved as a whole, of one family."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

import ganzoo
from ganzoo.checkpoints.checkpoint import Checkpoint
from ganzoo.checkpoints.repository import LocalRepository
from ganzoo.checkpoints.weights import count_parameters, load_weights, plain_state_dict
from ganzoo.errors import CheckpointError
from ganzoo.registry import get_family
from ganzoo.utils.files import TensorFile, load_tensors, save_tensors


def pipeline(*, with_discriminator: bool = True, family: str = "dcgan", **config) -> ganzoo.GANPipeline:
    torch.manual_seed(0)
    tiny = get_family(family).tiny_config(**config)
    generator, discriminator = (network(tiny) for network in get_family(family).networks.values())
    judge = discriminator if with_discriminator else None
    return ganzoo.GANPipeline(generator, tiny.processor(), discriminator=judge)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# --------------------------------------------------------------------------------------------------------- opened once


def opened(code: str, folder: Path) -> Counter[str]:
    """How often Python opens each file of the folder."""
    watched = f"""
import json, os, sys
import ganzoo
folder, seen = {str(folder)!r}, []
def note(event, arguments):
    if event == "open" and str(arguments[0]).startswith(folder):
        seen.append(os.path.relpath(arguments[0], folder))
sys.addaudithook(note)
{code}
print(json.dumps(seen))
"""
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=True)
    return Counter(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("ganzoo.from_pretrained(folder)", ["config.json", "processor_config.json", "model.safetensors"]),
        ("ganzoo.Generator.from_pretrained(folder)", ["config.json", "model.safetensors"]),
        (
            "pipe = ganzoo.from_pretrained(folder); seen.clear(); pipe.discriminator; pipe.discriminator; pipe(2)",
            ["discriminator/config.json", "discriminator/model.safetensors"],
        ),
        (
            "assert all(check.passed for check in ganzoo.verify(folder))",
            [
                "config.json",
                "model.safetensors",
                "discriminator/config.json",
                "discriminator/model.safetensors",
                "processor_config.json",
                "recipe.yaml",
                "metrics.json",
                "README.md",
                "test/golden.safetensors",
            ],
        ),
    ],
)
def test_every_file_is_opened_once_and_only_when_asked_for(tiny_checkpoint, code, files):
    assert opened(code, tiny_checkpoint) == Counter(files)


def test_a_checkpoint_gives_the_same_network_each_time(tiny_checkpoint):
    checkpoint = Checkpoint(LocalRepository(tiny_checkpoint))
    assert checkpoint.network() is checkpoint.network() and checkpoint.processor is checkpoint.processor
    assert checkpoint.discriminator is checkpoint.discriminator and checkpoint.discriminator.role == "discriminator"
    assert checkpoint.family == "dcgan" and checkpoint.network().config is checkpoint.config


# ----------------------------------------------------------------------------------------------------- saving replaces


def test_saving_replaces_the_checkpoint_that_was_there(tiny_checkpoint, tmp_path):
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "gan"))
    own = ["notes.txt", "samples/mine.png", "discriminator/thoughts.md", "deep/config.json"]
    for name in own:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("kept")
    pipeline(with_discriminator=False, family="wgan").save_pretrained(folder)
    pipeline(with_discriminator=False, family="wgan").save_pretrained(tmp_path / "fresh")
    assert names(folder) == names(tmp_path / "fresh") | {*own, "discriminator", "deep"}
    assert all((folder / name).read_text() == "kept" for name in own)
    loaded = ganzoo.from_pretrained(folder)
    assert (loaded.network.family, loaded.discriminator, loaded.recipe) == ("wgan", None, None)
    assert all(check.passed for check in ganzoo.verify(folder))


def test_saving_leaves_no_empty_folder_of_a_discriminator(tmp_path):
    pipeline().save_pretrained(tmp_path)
    pipeline(with_discriminator=False).save_pretrained(tmp_path)
    assert not (tmp_path / "discriminator").exists()


def test_saving_that_fails_changes_nothing(tiny_checkpoint, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "gan"))
    before = {name: (folder / name).read_bytes() for name in names(folder) if (folder / name).is_file()}
    pipe = pipeline(with_discriminator=False, family="wgan")
    monkeypatch.setattr(type(pipe), "_save_examples", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pipe.save_pretrained(folder)
    assert {name: (folder / name).read_bytes() for name in names(folder) if (folder / name).is_file()} == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"family": "wgan"}, r"is of the family 'wgan', and the generator of 'dcgan'"),
        ({"num_classes": 3}, r"has another config than the generator \(num_classes\)"),
    ],
)
def test_networks_of_two_checkpoints_are_refused(tmp_path, other, message):
    pipeline().save_pretrained(tmp_path)
    pipeline(**other).discriminator.save_pretrained(tmp_path / "discriminator")
    message = f"the network in discriminator/ {message}; it is left from another checkpoint, delete that folder$"
    for load in (lambda: ganzoo.from_pretrained(tmp_path).discriminator, lambda: ganzoo.push_folder(tmp_path, "a/b")):
        with pytest.raises(CheckpointError, match=message):
            load()
    with pytest.raises(CheckpointError, match=message):
        ganzoo.Discriminator.from_pretrained(tmp_path)
    assert [check.name for check in ganzoo.verify(tmp_path) if not check.passed] == ["discriminator"]


def test_a_discriminator_that_judges_several_samples_at_once_belongs(tmp_path):
    pipe = pipeline(with_discriminator=False)
    pipe.save_pretrained(tmp_path)
    get_family("dcgan").networks["discriminator"](pipe.config.packed(3)).save_pretrained(tmp_path / "discriminator")
    assert ganzoo.from_pretrained(tmp_path).discriminator.config == pipe.config.packed(3)
    assert load_tensors(tmp_path / "discriminator" / "model.safetensors")


# ------------------------------------------------------------------------------------------------------ formats named

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
)


def problem(load) -> str:
    with pytest.raises(CheckpointError) as caught:
        load()
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "processor_config.json"])
def test_a_git_lfs_pointer_is_named(tmp_path, name):
    pipeline().save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(POINTER)
    said = problem(lambda: ganzoo.from_pretrained(tmp_path))
    assert said == (
        f"{tmp_path / name} is a Git LFS pointer instead of the file itself: run 'git lfs install' and 'git lfs pull' in "
        "that folder"
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl", "model.safetensors"])
def test_pickled_weights_are_named_and_not_opened(tmp_path, name):
    pipeline().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(2)}, tmp_path / name)
    said = problem(lambda: ganzoo.from_pretrained(tmp_path))
    assert (
        "pickled weights, which ganzoo never opens" in said and name in said and "safetensors.torch.save_file" in said
    )


def test_weights_in_several_files_are_named(tmp_path):
    pipeline().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    said = problem(lambda: ganzoo.from_pretrained(tmp_path))
    assert "has no model.safetensors, but weights in several files" in said and "larger max_shard_size" in said


@pytest.mark.parametrize(("version", "newer"), [("0.1.1", True), ("0.10.0.dev1", True), ("0.0.9", False), (7, False)])
def test_a_file_of_a_newer_ganzoo_is_named(tmp_path, version, newer):
    pipeline().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "ganzoo_version": version, "colours": 3}))
    said = problem(lambda: ganzoo.from_pretrained(tmp_path))
    assert "colours" in said
    update = f"written by ganzoo {version}, and this is {ganzoo.__version__}: update it with 'pip install --upgrade "
    assert (update in said) == newer
    (tmp_path / "config.json").write_text(json.dumps({**config, "ganzoo_version": version, "family": "dcgan9"}))
    with pytest.raises(ganzoo.NotFoundError, match="dcgan9") as caught:
        ganzoo.from_pretrained(tmp_path)
    assert (update in str(caught.value)) == newer


# ------------------------------------------------------------------------------- in the words of diffusers and transformers

LOADERS = {"pipeline": ganzoo.from_pretrained, "network": ganzoo.Generator.from_pretrained}


def network_of(loaded) -> torch.nn.Module:
    return getattr(loaded, "network", loaded)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": "torch.float16"}, torch.float16),
        ({"torch_dtype": torch.float64}, torch.float64),
        ({"torch_dtype": "float16", "dtype": torch.float16}, torch.float16),
        ({"dtype": "auto"}, torch.float32),
        ({"device": "auto", "use_safetensors": True, "low_cpu_mem_usage": True, "variant": None}, torch.float32),
        ({"device_map": {"": "cpu"}}, torch.float32),
        ({"device_map": "auto"}, torch.float32),
        ({"device_map": "cpu", "device": torch.device("cpu")}, torch.float32),
    ],
)
def test_what_other_libraries_take_works(tiny_checkpoint, loader, options, dtype):
    network = network_of(LOADERS[loader](tiny_checkpoint, **options))
    automatic = torch.cuda.is_available() and "auto" in (options.get("device"), options.get("device_map"))
    assert (network.dtype, network.device.type) == (dtype, "cuda" if automatic else "cpu")


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat61"}, r"dtype='bfloat61' is no type of torch; .* Did you mean 'bfloat16'"),
        ({"torch_dtype": 16}, r"torch_dtype=16 is no type of torch"),
        ({"dtype": "int8"}, r"dtype must be a floating-point type such as torch.bfloat16, not torch.int8"),
        ({"dtype": "float16", "torch_dtype": "bfloat16"}, r"dtype and torch_dtype say two things"),
        ({"device_map": "balanced"}, r"device_map='balanced': a network of ganzoo goes to one device as a whole"),
        ({"device_map": {"blocks": "cpu", "to_image": "disk"}}, r"device_map=\{.*one device as a whole"),
        ({"device_map": "gpu"}, r"the device 'gpu' cannot be used"),
        ({"use_safetensors": False}, r"use_safetensors=False: ganzoo reads safetensors and nothing else"),
        ({"variant": "fp16"}, r"variant='fp16': a checkpoint of ganzoo has one file of weights"),
        ({"revison": "main"}, r"has no argument 'revison'. Did you mean 'revision'\?"),
        ({"config": "dcgan"}, r"config= is a str, and .* has a DCGANConfig"),
    ],
)
def test_what_cannot_be_is_said_of_the_argument_that_was_given(tiny_checkpoint, loader, options, message):
    with pytest.raises(ganzoo.UserError, match=message):
        LOADERS[loader](tiny_checkpoint, **options)


def test_auto_is_the_type_of_the_file(tmp_path):
    pipe = pipeline(with_discriminator=False)
    pipe.save_pretrained(tmp_path)
    ganzoo.from_pretrained(tmp_path, dtype="float16").network.save_pretrained(tmp_path)
    assert ganzoo.from_pretrained(tmp_path).network.dtype == torch.float32
    half = ganzoo.from_pretrained(tmp_path, dtype="auto").network
    assert half.dtype == torch.float16
    assert {buffer.dtype for buffer in half.buffers() if buffer.is_floating_point()} == {torch.float32}


def test_a_config_is_taken_if_it_is_that_of_the_weights(tiny_checkpoint):
    config = ganzoo.from_pretrained(tiny_checkpoint).config
    assert ganzoo.Generator.from_pretrained(tiny_checkpoint, config=config).config == config
    other = config.from_dict({**config.model_dump(), "latent_dim": 9})
    with pytest.raises(
        ganzoo.UserError, match=r"config= differs from the config of .* in latent_dim; the weights fit"
    ):
        ganzoo.Generator.from_pretrained(tiny_checkpoint, config=other)


def test_loading_information_is_given_as_transformers_gives_it(tiny_checkpoint):
    for load in LOADERS.values():
        loaded, report = load(tiny_checkpoint, output_loading_info=True)
        assert network_of(loaded).family == "dcgan"
        assert report.keys() == {"missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"}
        assert not any(report.values())


def test_automodel_takes_what_transformers_takes(tiny_checkpoint):
    pytest.importorskip("transformers")
    from transformers import AutoConfig, AutoModel

    import ganzoo.integrations.transformers as bridge

    folder = str(tiny_checkpoint)
    assert AutoModel.from_pretrained(folder, dtype="bfloat16", device_map="cpu").dtype == torch.bfloat16
    assert AutoModel.from_pretrained(folder, dtype="auto", trust_remote_code=True).dtype == torch.float32
    network, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert network.role == "generator" and not any(report.values())
    config = AutoConfig.from_pretrained(folder)
    assert AutoModel.from_pretrained(folder, config=config).config == network.config
    fresh = AutoModel.from_config(config, dtype="float16")
    assert type(fresh) is type(network) and fresh.config == network.config and fresh.dtype == torch.float16
    config.latent_dim = 9
    with pytest.raises(ganzoo.UserError, match="config= differs from the config of .* in latent_dim"):
        AutoModel.from_pretrained(folder, config=config)
    assert AutoModel.from_config(config).config.latent_dim == 9
    with pytest.raises(ganzoo.UserError, match="a GanzooConfig needs family="):
        AutoModel.from_config(bridge.GanzooConfig())
    with pytest.raises(ganzoo.UserError, match="has no argument 'atn_implementation'"):
        AutoModel.from_pretrained(folder, atn_implementation="sdpa")
    with pytest.raises(ganzoo.UserError, match="has no argument 'trust_remote_code'"):
        ganzoo.Generator.from_pretrained(folder, trust_remote_code=True)


# -------------------------------------------------------------------------------------------------------- shared weights


class Sharing(torch.nn.Module):
    """An embedding tied to the output, and one module under two names."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.embed, self.output = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
        self.output.weight = self.embed.weight
        self.norm = self.again = torch.nn.BatchNorm1d(3)


def test_what_layers_share_is_saved_once_and_comes_back_shared(tmp_path):
    network, path = Sharing(None), tmp_path / "model.safetensors"
    state = plain_state_dict(network)
    assert not [name for name in state if name.startswith(("output", "again"))]
    save_tensors(path, state)
    loaded = load_weights(Sharing, None, TensorFile(path))
    assert loaded.output.weight is loaded.embed.weight and loaded.again is loaded.norm
    assert isinstance(loaded.embed.weight, torch.nn.Parameter)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert count_parameters(network) == 5 * 3 + 2 * 3
    for tensors, message in (
        ({**state, "output.weight": torch.zeros(5, 3)}, "unexpected keys: output.weight"),
        ({name: tensor for name, tensor in state.items() if name != "embed.weight"}, "missing keys: embed.weight"),
    ):
        save_tensors(path, tensors)
        with pytest.raises(CheckpointError, match=message):
            load_weights(Sharing, None, TensorFile(path))
