"""Every command as a person uses it: what it prints, what it writes, its exit code, and its one sentence when it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ganzoo
from ganzoo.cli import COMMANDS, run
from ganzoo.errors import GanzooError
from ganzoo.version import DISTRIBUTION

GANZOO = [sys.executable, "-m", "ganzoo"]
TINY = [
    "model={family: dcgan, resolution: 8, channels: 1, width: 4, latent_dim: 8}",
    "data.processor={}",
    "training.steps=4",
    "training.batch_size=8",
    "training.precision=fp32",
    "training.checkpoint_every=2",
    "training.sample_every=2",
    "training.num_preview_samples=4",
    "evaluation.metrics=[]",
]


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Path:
    """A class-conditional checkpoint."""
    from ganzoo.pipelines import GANPipeline

    generator, discriminator = ganzoo.create("dcgan", resolution=8, channels=1, width=4, num_classes=3)
    pipeline = GANPipeline(generator, generator.config.processor(), discriminator=discriminator)
    return pipeline.save_pretrained(tmp_path_factory.mktemp("models") / "conditional")


# ---------------------------------------------------------------------------------------------------------- the group


def test_help_names_every_command(ok):
    shown = ok("--help")
    assert all(f"\n  {name}  " in shown and summary in shown for name, summary in COMMANDS.items())
    assert ok("-h") == shown
    assert ok("--version") == f"ganzoo {ganzoo.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(ok, name):
    shown = ok(name, "--help")
    assert shown.startswith(f"Usage: ganzoo {name} ") and len(shown.splitlines()) > 5


def test_no_command_shows_the_help(ok):
    ok("list")  # the module of this command has the name of a builtin that the group must not use then
    assert ok() == ok("--help")


def test_unknown_command_and_options(fails):
    fails(
        "smaple", code=2, said=("unknown command 'smaple'. Did you mean 'sample'?", "train, sample, vocode, evaluate")
    )
    fails("sample", "x", "--sead", "3", code=2, said=("--sead", "--seed", "ganzoo sample --help"))
    fails("sample", code=2, said=("MODEL",))
    fails("sample", "x", "--num", "0", code=2, said=("--num",))
    fails("list", "--modality", "video", code=2, said=("video", "image"))


# -------------------------------------------------------------------------------------------------------------- train


def test_train_writes_a_run(ok, fails, inside):
    shown = ok("train", "dcgan-digits", *TINY, "--quiet", "--output", "runs/mine")
    folder = inside / "runs" / "mine"
    assert f"model:  {Path('runs/mine/pipeline')}" in shown and "report: " in shown
    assert {path.name for path in folder.iterdir()} >= {"recipe.yaml", "metrics.jsonl", "pipeline", "report.html"}
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())][-1] == "step-00000004"
    assert len(list((folder / "samples").glob("*.png"))) == 2
    recipe = ganzoo.load_recipe(folder / "recipe.yaml")
    assert (recipe.training.steps, recipe.model["width"], recipe.training.batch_size) == (4, 4, 8)
    assert all(check.passed for check in ganzoo.verify(folder / "pipeline"))

    fails("train", "dcgan-digits", *TINY, "--output", "runs/mine", code=2, said=("holds a run", "--resume"))
    again = ok("train", "dcgan-digits", *TINY, "--quiet", "--output", "runs/mine", "--resume")
    assert "model:" in again


def test_train_takes_a_file_and_shows_metrics(ok, inside):
    text = ganzoo.load_recipe("dcgan-digits").to_yaml()
    Path("mine.yaml").write_text(text.replace("name: dcgan-digits", "name: mine"))
    shown = ok("train", "mine.yaml", *TINY[:-1], "evaluation.metrics=[kid]", "evaluation.embedder=pixels",
               "evaluation.num_samples=20", "--quiet")  # fmt: skip
    assert shown.startswith("kid ") and "20 generated vs 20 real digits[test]" in shown
    assert (inside / "runs" / "mine" / "pipeline" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dcgan-digit"], ("unknown recipe 'dcgan-digit'", "Did you mean 'dcgan-digits'")),
        (["missing.yaml"], ("there is no recipe file missing.yaml",)),
        (["dcgan-digits", "training.stepz=4"], ("unknown key 'training.stepz'", "Did you mean 'steps'", "batch_size")),
        (["dcgan-digits", "trainning.steps=4"], ("unknown key 'trainning'", "Did you mean 'training'")),
        (["dcgan-digits", "training.steps=many"], ("training.steps='many'",)),
        (["dcgan-digits", "training.steps=0"], ("training.steps=0",)),
        (["dcgan-digits", "training.precision=fp8"], ("training.precision='fp8'", "bf16")),
        (["dcgan-digits", "training.steps"], ("'training.steps' is no override", "training.steps=500")),
        (["dcgan-digits", "objective.loss=hing"], ("objective.loss='hing'", "hinge")),
        (["dcgan-digits", "model.widht=4"], ("'widht'", "Did you mean 'width'")),
        (["dcgan-digits", "model.family=dcgam"], ("unknown family 'dcgam'", "Did you mean 'dcgan'")),
        (["dcgan-digits", "training.device=gpu"], ("unknown device 'gpu'",)),
        (["dcgan-digits", "data.path=nowhere"], ("data.path=nowhere does not exist",)),
        (["dcgan-digits", "data.split=tset"], ("has no split 'tset'", "test, train")),
        (["dcgan-digits", "data.processor.resolution=16"], ("model.resolution",)),
    ],
)
def test_train_explains_mistakes(fails, inside, arguments, said):
    fails("train", *arguments, "--output", "run", code=2, said=said)
    assert not (inside / "run" / "checkpoints").exists()


def test_an_interrupted_training_saves_and_says_how_to_go_on(inside):
    steps = [argument for argument in TINY if "steps" not in argument and "every" not in argument]
    command = [*GANZOO, "train", "dcgan-digits", *steps, "training.steps=1000000", "training.log_every=10"]
    process = subprocess.Popen(
        [*command, "--output", "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(
        lambda: Path("run/metrics.jsonl").is_file() and '"train"' in Path("run/metrics.jsonl").read_text(), process
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("stopped at step ") and "ganzoo train run/recipe.yaml --output run --resume" in out
    assert "Traceback" not in err
    (checkpoint,) = Path("run/checkpoints").iterdir()
    assert (checkpoint / "model.safetensors").is_file()


def wait_until(condition, process: subprocess.Popen, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------------- sample


def test_processes_share_the_samples(ok, inside, conditional):
    """Under torchrun, which takes --num for one of its own options unless -- ends them."""
    from torch.distributed.run import parse_args

    drawn = ["--seed", "3", "--labels", "1,2,0"]
    ok("sample", conditional, "--num", 5, *drawn, "--output", "alone")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*torchrun, "-m", "ganzoo", "sample", "--num-samples", "5", str(conditional), *drawn]
    process = {"capture_output": True, "text": True, "timeout": 240, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    done = subprocess.run([*command, "--output", "together"], **process)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"together/{index:05d}.png" for index in range(5)]  # the first speaks for both
    read = parse_args(["-m", "--", "ganzoo", "sample", "--num", "5"])
    assert (read.module, read.training_script, read.training_script_args) == (True, "ganzoo", ["sample", "--num", "5"])
    for index in range(5):
        alone, together = (np.array(Image.open(f"{folder}/{index:05d}.png")) for folder in ("alone", "together"))
        assert np.abs(alone.astype(int) - together).max() <= 1


def test_sample_a_sheet(ok, inside, tiny_checkpoint):
    assert ok("sample", tiny_checkpoint, "--num", 6, "--seed", 0) == "samples/pipeline.png\n"
    first = Path("samples/pipeline.png").read_bytes()
    assert Image.open("samples/pipeline.png").size[0] > 3 * 8
    assert ok("sample", tiny_checkpoint, "--num", 6, "--seed", 0, "--output", "deep/sheet.png") == "deep/sheet.png\n"
    assert Path("deep/sheet.png").read_bytes() == first
    ok("sample", tiny_checkpoint, "--num", 6, "--seed", 1)
    assert Path("samples/pipeline.png").read_bytes() != first


def test_sample_from_the_folder_one_is_in(ok, tmp_path, tiny_checkpoint, monkeypatch):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "my-gan")
    monkeypatch.chdir(folder)
    assert ok("sample", ".", "--num", 2) == "samples/my-gan.png\n"


def test_sample_one_file_each(ok, inside, tiny_checkpoint):
    shown = ok("sample", tiny_checkpoint, "--num", 3, "--seed", 5, "--truncation", 0.5, "--output", "pictures")
    assert shown.split() == [f"pictures/{index:05d}.png" for index in range(3)]
    expected = ganzoo.from_pretrained(tiny_checkpoint)(num_samples=3, seed=5, truncation=0.5).images
    for path, picture in zip(shown.split(), expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(picture))


def test_sample_in_the_terminal(ok, inside, tiny_checkpoint):
    shown = ok("sample", tiny_checkpoint, "--num", 2, "--seed", 0, "--show").splitlines()
    assert len(shown) > 4 and shown[-1] == "samples/pipeline.png"


def test_sample_labels(ok, fails, inside, conditional, tiny_checkpoint):
    ok("sample", conditional, "--num", 4, "--seed", 0, "--labels", "2,0", "--output", "pictures")
    expected = ganzoo.from_pretrained(conditional)(num_samples=4, seed=0, labels=[2, 0]).images
    found = [np.asarray(Image.open(path)) for path in sorted(Path("pictures").iterdir())]
    assert all(np.array_equal(one, np.asarray(other)) for one, other in zip(found, expected, strict=True))
    for labels in ("3", "-1", "99999999999999999"):
        fails("sample", conditional, "--labels", labels, code=2, said=("labels must lie between 0 and 2",))
    fails("sample", conditional, "--labels", "cat", code=2, said=("--labels takes integers", "'cat'"))
    fails("sample", conditional, "--labels", "1" * 40, code=2, said=("labels must be an integer",))
    fails("sample", conditional, "--labels", "1" * 5000, code=2, said=("--labels takes integers",))
    fails("sample", tiny_checkpoint, "--labels", "1", code=2, said=("unconditional",))


def test_sample_explains_mistakes(ok, fails, inside, tiny_checkpoint):
    fails("sample", "digit-clasifier", code=2, said=("Did you mean 'digit-classifier'",))
    fails("sample", "digit-classifier", code=2, said=("makes a ClassifierPipeline, not a GANPipeline",))
    fails("sample", "./nothing-here", code=2, said=("neither a folder",))
    fails("sample", tiny_checkpoint, "--truncation", "-1", code=2, said=("truncation must be a positive number",))
    fails("sample", tiny_checkpoint, "--device", "gpu", code=2, said=("the device 'gpu' cannot be used",))
    fails("sample", tiny_checkpoint, "--output", "sheet.jpg", code=2, said=(".png",))
    Path("file").write_text("")
    fails("sample", tiny_checkpoint, "--output", "file/sheet.png", code=1, said=("cannot write",))
    fails("sample", tiny_checkpoint, "--output", "file", code=1, said=("cannot write",))
    assert sorted(path.name for path in inside.iterdir()) == ["file"]


# ----------------------------------------------------------------------------------------------------------- evaluate


def test_evaluate_prints_and_writes(ok, inside, tiny_checkpoint):
    metrics = "frechet_distance,kid,recall"
    arguments = ("--metrics", metrics, "--num-samples", 40, "--embedder", "pixels", "--seed", 7)
    lines = ok("evaluate", tiny_checkpoint, *arguments, "--output", "out/numbers.json").splitlines()
    assert [line.split()[0] for line in lines] == metrics.split(",")
    assert all("40 generated vs 40 real digits[test]; embedder pixels; seed 7" in line for line in lines)
    assert "floor " in lines[0]
    saved = json.loads(Path("out/numbers.json").read_text())["metrics"]
    assert [str(ganzoo.metrics.MetricResult(**record)) for record in saved] == lines


def test_evaluate_against_other_data(ok, inside, tiny_checkpoint):
    Path("pictures").mkdir()
    for index in range(12):
        Image.fromarray(np.full((8, 8), 20 * index, np.uint8)).save(f"pictures/{index}.png")
    arguments = ("--metrics", "kid", "--num-samples", 12, "--embedder", "pixels", "--split", "train")
    shown = ok("evaluate", tiny_checkpoint, *arguments, "--data", "pictures")
    assert "12 generated vs 12 real pictures[train]" in shown
    assert "vs 12 real digits[train]" in ok("evaluate", tiny_checkpoint, *arguments, "--data", "digits")


def test_evaluate_explains_mistakes(fails, inside, tiny_checkpoint, conditional):
    fails(
        "evaluate",
        tiny_checkpoint,
        "--metrics",
        "frechet",
        code=2,
        said=("'frechet'", "Did you mean", "frechet_distance"),
    )
    fails("evaluate", tiny_checkpoint, "--num-samples", "1", code=2, said=("--num-samples",))
    fails("evaluate", tiny_checkpoint, "--embedder", "pixel", code=2, said=("Did you mean 'pixels'",))
    fails("evaluate", tiny_checkpoint, "--split", "tset", code=2, said=("has no split 'tset'",))
    fails(
        "evaluate",
        tiny_checkpoint,
        "--metrics",
        "inception_score",
        "--embedder",
        "pixels",
        code=2,
        said=("inception_score",),
    )
    fails("evaluate", conditional, code=2, said=("no recipe that names its data",))
    fails("evaluate", "nothing-here", code=2, said=("neither a folder",))


# --------------------------------------------------------------------------------------------------- list, info, verify


def test_list(ok):
    shown = ok("list")
    for part in ("Pretrained models", "digit-classifier", "Families", "dcgan  ", "Recipes", "dcgan-digits"):
        assert part in shown
    listing = json.loads(ok("list", "--json"))
    assert {entry["name"] for entry in listing["families"]} == {*ganzoo.list_families(kind="all")}
    assert {entry["name"] for entry in listing["recipes"]} == {*ganzoo.list_recipes()}
    assert {entry["name"] for entry in listing["models"]} == {*ganzoo.list_models(pretrained=True)}
    assert all(set(entry) >= {"repo_id", "family", "modality", "parameters"} for entry in listing["models"])
    only = json.loads(ok("list", "--json", "--modality", "audio"))
    assert all(entry["modality"] == "audio" for entries in only.values() for entry in entries)
    assert "dcgan" in ok("list", "--modality", "image")


def test_info(ok, fails, tiny_checkpoint):
    family = ok("info", "dcgan")
    assert "family dcgan" in family and "https://arxiv.org/abs/1511.06434" in family and "resolution = 64" in family
    recipe = ok("info", "dcgan-digits")
    assert "recipe dcgan-digits" in recipe and "checkpoint_every = 500" in recipe
    assert all(f"\n{section}: " in recipe for section in ("data", "objective", "training", "evaluation", "card"))
    model = ok("info", tiny_checkpoint)
    assert "generator with " in model and "  width = 4\n" in model
    published = ok("info", "digit-classifier")
    assert "model digit-classifier" in published and "accuracy 0.99" in published
    both = ok("info", tiny_checkpoint / "recipe.yaml")
    assert "steps: 4" in both
    fails("info", "dcgn", code=2, said=("'dcgn' is no model, family or recipe. Did you mean 'dcgan'",))
    fails("info", "missing.yaml", code=2, said=("there is no recipe file",))


def test_verify_good_and_bad(ok, fails, tmp_path, tiny_checkpoint, capsys):
    shown = ok("verify", tiny_checkpoint)
    assert [line.split()[0] for line in shown.splitlines()] == ["ok"] * 7
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "bad"))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert run(["verify", str(folder)]) == 1
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == ["FAIL", "FAIL", *["ok"] * 5]
    assert "checksum does not match" in shown.out
    assert shown.err == f"ganzoo: {folder} did not pass: weights, golden outputs\n"
    fails("verify", tmp_path, code=2, said=("has no file config.json",))


# --------------------------------------------------------------------------------------------------------- push and pull


def test_push_dry_run(ok, fails, tiny_checkpoint, tmp_path):
    shown = ok("push", tiny_checkpoint, "alice/gan", "--dry-run")
    for name in ("config.json", "model.safetensors", "discriminator/model.safetensors", "samples/grid.png"):
        assert f"  {name}\n" in shown
    assert "library_name: ganzoo" in shown and shown.endswith("dry run: nothing was uploaded\n")
    fails("push", tiny_checkpoint, "alice", "--dry-run", code=2, said=("'alice' is no repository name", "org/name"))
    fails("push", tmp_path / "nothing", "alice/gan", "--dry-run", code=2, said=("there is no folder",))
    fails("push", tmp_path, "alice/gan", "--dry-run", code=2, said=("has no file config.json",))
    bare = Path(shutil.copytree(tiny_checkpoint, tmp_path / "bare"))
    (bare / "README.md").unlink()
    fails("push", bare, "alice/gan", "--dry-run", code=2, said=("there is no README.md",))


def test_push_and_pull(hub, ok, fails, tiny_checkpoint, tmp_path):
    ok("push", tiny_checkpoint, "alice/gan")
    folder = ok("pull", "alice/gan", "--output", tmp_path / "copy").strip()
    assert folder == str(tmp_path / "copy") and (tmp_path / "copy" / "model.safetensors").is_file()
    assert ok("verify", folder)
    fails("pull", "alice/nothing", code=2, said=("'alice/nothing' is not a repository on the Hub",))
    fails("pull", "nothing", code=2, said=("no repository name",))


# --------------------------------------------------------------------------------------------------- how a command ends


def test_a_reader_that_has_gone_is_no_error(tiny_checkpoint):
    for arguments in (["list"], ["info", "dcgan-digits"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([*GANZOO, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_control_c_is_130(tiny_checkpoint, tmp_path):
    command = [*GANZOO, "sample", str(tiny_checkpoint), "--num", "50000", "--output", str(tmp_path / "pictures")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell starts its background jobs, and they this one, with interrupts ignored.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, **pipes, text=True, preexec_fn=heed)
    wait_until(lambda: (tmp_path / "pictures" / "00000.png").is_file(), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert (process.returncode, err.strip()) == (130, "ganzoo: interrupted")
    left = [path.name for path in (tmp_path / "pictures").iterdir()]
    assert 0 < len(left) < 50_000 and all(name.endswith(".png") and name[0] != "." for name in left)


def test_a_traceback_is_shown_on_demand(monkeypatch):
    monkeypatch.setenv("GANZOO_TRACEBACK", "1")
    with pytest.raises(GanzooError, match="neither a folder"):
        run(["sample", "nothing-here"])


def test_an_error_nobody_foresaw_is_one_line(monkeypatch, capsys):
    import ganzoo.checkpoints.catalogue

    def broken() -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(ganzoo.checkpoints.catalogue, "catalogue", broken)
    assert run(["list"]) == 1
    shown = "ganzoo: unexpected ZeroDivisionError: first line (GANZOO_TRACEBACK=1 shows where)\n"
    assert capsys.readouterr().err == shown


WITHOUT = (
    "import sys\nfor name in sys.argv.pop(1).split(','): sys.modules[name] = None\nfrom ganzoo.cli import main\nmain()"
)


@pytest.mark.parametrize(
    ("missing", "arguments", "package"),
    [
        ("sklearn", ["train", "dcgan-digits", *TINY], "sklearn"),
        ("datasets", ["train", "dcgan-digits", *TINY, "data.dataset=org/pictures"], "datasets"),
        ("pyarrow", ["train", "dcgan-digits", *TINY, "data.path=train.parquet"], "pyarrow"),
        (
            "torch_fidelity",
            ["evaluate", "CHECKPOINT", "--embedder", "inception", "--num-samples", "4"],
            "torch_fidelity",
        ),
    ],
)
def test_a_missing_package_is_named_with_the_command(inside, tiny_checkpoint, missing, arguments, package):
    Path("train.parquet").write_bytes(b"PAR1")
    arguments = [str(tiny_checkpoint) if argument == "CHECKPOINT" else argument for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "GANZOO_CACHE": str(inside / "cache")} if arguments[0] == "train" else None,
    )
    assert done.returncode == 1, done.stderr
    (message,) = done.stderr.splitlines()
    assert message.startswith("ganzoo: ") and f"the package '{package}', which is not installed" in message
    assert f'pip install "{DISTRIBUTION}[' in message and "Traceback" not in message
