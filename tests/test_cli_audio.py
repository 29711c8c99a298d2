"""`ganzoo sample` and `ganzoo train` of sound: which files there are, what is in them, what is said when it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import ganzoo
from ganzoo.pipelines import GANPipeline

RATE, LENGTH = 2000, 1024
STEP = 1 / 32768  # of a 16-bit file


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A class-conditional checkpoint of an untrained WaveGAN."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create(
        "wavegan", length=LENGTH, sampling_rate=RATE, width=4, latent_dim=8, channels=2, num_classes=4
    )
    pipeline = GANPipeline(generator, generator.config.processor())
    return pipeline.save_pretrained(tmp_path_factory.mktemp("models") / "my-wavegan")


def read(path: str | Path) -> np.ndarray:
    """(channels, T)."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE and soundfile.info(path).subtype == "PCM_16"
    return samples.T


def test_a_folder_with_a_file_each_and_an_overview(ok, inside, model):
    shown = ok("sample", model, "--num", 3, "--seed", 5, "--labels", "3,0").splitlines()
    folder = Path("samples/my-wavegan")
    assert shown == [str(folder / name) for name in ("00000.wav", "00001.wav", "00002.wav", "overview.png")]
    assert sorted(map(str, folder.iterdir())) == shown
    expected = ganzoo.from_pretrained(model)(num_samples=3, seed=5, labels=[3, 0]).audios
    for path, clip in zip(shown, expected, strict=False):
        np.testing.assert_allclose(read(path), clip, atol=2 * STEP)
    assert Image.open(shown[-1]).size[0] > 100


def test_one_file_for_one_clip_or_all(ok, inside, model):
    ok("sample", model, "--num", 1, "--seed", 2, "--output", "deep/one.wav")
    pipe = ganzoo.from_pretrained(model)
    np.testing.assert_allclose(read("deep/one.wav"), pipe(seed=2).audios[0], atol=2 * STEP)
    ok("sample", model, "--num", 3, "--seed", 2, "--output", "all.wav")
    several, clips = read("all.wav"), pipe(num_samples=3, seed=2).audios
    assert several.shape[1] > 3 * LENGTH
    np.testing.assert_allclose(several[:, :LENGTH], clips[0], atol=2 * STEP)
    np.testing.assert_allclose(several[:, -LENGTH:], clips[2], atol=2 * STEP)
    ok("sample", model, "--num", 2, "--seed", 2, "--output", "clips")
    np.testing.assert_allclose(read("clips/00001.wav"), clips[1], atol=2 * STEP)


def test_drawn_in_the_terminal(ok, inside, model):
    shown = ok("sample", model, "--num", 2, "--show").splitlines()
    files = [line for line in shown if line.startswith("samples/")]
    assert len(files) == 3 and shown[-3:] == files
    assert len(shown) > 6 and any(line.strip() for line in shown[:-3])


def test_mistakes_are_one_sentence(fails, inside, model):
    assert "sound is written as .wav" in fails("sample", model, "--output", "clip.mp3")
    assert "makes audio, which has no --prompt and no --top-k" in fails("sample", model, "--prompt", "a", "--top-k", 3)
    assert "labels must lie between 0 and 3" in fails("sample", model, "--labels", "4")
    assert list(inside.iterdir()) == []


def test_a_vocoder_is_pointed_to_its_own_command(fails, inside):
    from ganzoo.pipelines import pipeline_class
    from ganzoo.registry import get_family

    family = get_family("hifigan")
    config = family.tiny_config()
    generator = family.networks["generator"](config)
    try:
        pipeline_class(generator)(generator, config.processor()).save_pretrained("vocoder")
    except ganzoo.errors.MissingPackageError:
        pytest.skip("needs a torchaudio that loads")
    message = fails("sample", "./vocoder")
    assert "not a GANPipeline; see 'ganzoo vocode --help'" in message


def test_a_run_leaves_sound_in_its_report_and_its_model(ok, inside):
    """From the built-in drums to a page with players, a card, and files to hear."""
    overrides = [
        "model={family: wavegan, length: 1024, sampling_rate: 8000, width: 4, latent_dim: 8, num_classes: 3}",
        "training.steps=2",
        "training.batch_size=4",
        "training.n_critic=1",
        "training.sample_every=1",
        "training.num_preview_samples=3",
        "training.precision=fp32",
        "evaluation.metrics=[]",
    ]
    ok("train", "wavegan-drums", "--output", "run", "--quiet", *overrides)
    names = {path.name for path in Path("run/samples").iterdir()}
    assert names == {f"step-{step:08d}.{kind}" for step in (1, 2) for kind in ("wav", "png")}
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<div class="sheet"[^>]*><img [^>]*><audio [^>]*src="data:audio/wav;base64,', page)) == 2
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rows if row["event"] == "samples"} == {f"samples/{name}" for name in names}
    assert ok("verify", "run/pipeline").count("\n") >= 7
    shown = ok("sample", "run/pipeline", "--num", 2, "--labels", 1).splitlines()
    assert shown == [f"samples/pipeline/{name}" for name in ("00000.wav", "00001.wav", "overview.png")]
    clip, rate = soundfile.read(shown[0])
    assert clip.shape == (1024,) and rate == 8000


def test_recordings_nobody_can_train_on_are_named_with_the_reason(fails, inside, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(inside / "cache"))
    tone = 0.5 * np.sin(np.arange(4096) / 5)
    Path("sounds").mkdir()
    soundfile.write("sounds/opposite.wav", np.stack([tone, -tone], axis=1), RATE, subtype="FLOAT")
    run = ("train", "wavegan-drums", "data.path=sounds", "model.num_classes=null", "--output", "run")
    message = fails(*run, code=2, said=("opposite.wav", "channels are of opposite phase"))
    assert "silent" not in message


def test_a_recording_of_a_pipe_is_judged(ok, inside):
    """`ffmpeg -i speech.mp3 -f wav - > speech.wav`, and a writer that leaves the sizes at 0."""
    torch.manual_seed(0)
    (classifier,) = ganzoo.create("audio-classifier", length=LENGTH, sampling_rate=RATE, width=4, num_classes=3)
    pipeline = ganzoo.ClassifierPipeline(classifier, classifier.config.processor())
    soundfile.write("whole.wav", 0.5 * np.sin(np.arange(LENGTH) / 5), RATE)
    content = Path("whole.wav").read_bytes()
    start = content.index(b"data") + 8
    for size in (b"\0" * 4, b"\xff" * 4):
        Path("pipe.wav").write_bytes(content[:4] + size + content[8 : start - 4] + size + content[start:])
        assert torch.equal(pipeline("pipe.wav").probabilities, pipeline("whole.wav").probabilities)
