"""Audio through the public API: what a call gives, what is saved and said of it, what is refused and how."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import ganzoo
from ganzoo.errors import UserError
from ganzoo.hub.card import CardData, render_card
from ganzoo.hub.metadata import check_card, split_card
from ganzoo.pipelines import ClassifierPipeline, GANPipeline, VocoderPipeline
from ganzoo.processors import SpectrogramProcessor, WaveformProcessor
from ganzoo.registry import get_family
from ganzoo.sound.recording import Recording
from ganzoo.version import install_command

LENGTH, RATE, LATENT_DIM = 1024, 2000, 8
TINY = {"length": LENGTH, "sampling_rate": RATE, "width": 4, "latent_dim": LATENT_DIM}
CLASSES = 5
STEP = 1 / 32768  # of a 16-bit file


def build(**config) -> GANPipeline:
    """A pipeline of freshly initialised networks, the same ones every time."""
    torch.manual_seed(0)
    generator, discriminator = ganzoo.create("wavegan", **{**TINY, **config})
    return GANPipeline(generator, generator.config.processor(), discriminator=discriminator)


@pytest.fixture(scope="module")
def pipe() -> GANPipeline:
    return build()


@pytest.fixture(scope="module")
def conditional() -> GANPipeline:
    return build(num_classes=CLASSES)


@pytest.fixture(scope="module")
def checkpoint(conditional, tmp_path_factory) -> Path:
    """A saved class-conditional model; tests must not change it."""
    return conditional.save_pretrained(tmp_path_factory.mktemp("models") / "tiny-wavegan")


def has_torchaudio() -> bool:
    from ganzoo.errors import MissingPackageError
    from ganzoo.sound.spectral import require_torchaudio

    try:
        require_torchaudio()
    except MissingPackageError:
        return False
    return True


needs_torchaudio = pytest.mark.skipif(not has_torchaudio(), reason="needs a torchaudio that loads")


# ---------------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("channels", [1, 2])
def test_a_call_gives_waveforms_with_their_rate(channels):
    pipe = build(channels=channels)
    drawn = pipe(num_samples=3, seed=0)
    assert isinstance(drawn.audios, np.ndarray) and drawn.audios.dtype == np.float32
    assert drawn.audios.shape == (3, channels, LENGTH) and drawn.sampling_rate == RATE
    assert -1 <= drawn.audios.min() < 0 < drawn.audios.max() <= 1
    assert drawn.labels is None and drawn.latents.shape == (3, LATENT_DIM)
    with torch.inference_mode():
        assert np.array_equal(drawn.audios, pipe.generator(drawn.latents).numpy())


def test_output_types(pipe):
    tensor = pipe(num_samples=2, seed=0, output_type="pt").audios
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32
    array = pipe(num_samples=2, seed=0).audios
    assert np.array_equal(tensor.numpy(), array)
    assert np.array_equal(pipe(num_samples=2, seed=0, output_type="np").audios, array)
    for wrong in ("pil", "wav", ""):
        with pytest.raises(UserError, match=f"unknown output_type '{wrong}'; it is one of np, pt$"):
            pipe(output_type=wrong)


def test_pictures_are_still_pil_by_default():
    torch.manual_seed(0)
    generator, _ = ganzoo.create("dcgan", resolution=8, channels=1, width=4)
    pipe = GANPipeline(generator, generator.config.processor())
    assert isinstance(pipe(seed=0).images[0], Image.Image)


def test_labels_decide_the_class(conditional):
    threes = conditional(num_samples=8, labels=[3], seed=0)
    assert threes.audios.shape == (8, 1, LENGTH) and threes.labels.tolist() == [3] * 8
    assert np.array_equal(threes.audios, conditional(num_samples=8, labels=3, seed=0).audios)
    assert not np.array_equal(threes.audios, conditional(num_samples=8, labels=2, seed=0).audios)
    assert conditional(num_samples=5, labels=[0, 4], seed=0).labels.tolist() == [0, 4, 0, 4, 0]
    for labels, message in (
        ([5], "labels must lie between 0 and 4; got \\[5\\]"),
        ("three", "no class is called .three."),
    ):
        with pytest.raises(UserError, match=message):
            conditional(num_samples=2, labels=labels)


def test_an_unconditional_model_refuses_labels(pipe):
    with pytest.raises(UserError, match="this model is unconditional: it takes no labels"):
        pipe(num_samples=2, labels=[3])


def test_sample_i_has_seed_plus_i_whatever_the_batch(conditional):
    together = conditional(num_samples=5, seed=40)
    for batch_size in (1, 3):
        apart = conditional(num_samples=5, seed=40, batch_size=batch_size)
        np.testing.assert_allclose(apart.audios, together.audios, atol=1e-5)
    alone = conditional(seed=43)
    np.testing.assert_allclose(alone.audios[0], together.audios[3], atol=1e-5)
    assert alone.labels[0] == together.labels[3]


def test_truncated_latents_are_within_the_cut(pipe):
    drawn = pipe(num_samples=50, seed=0, truncation=0.25)
    assert 0.2 < drawn.latents.abs().max() <= 0.25
    assert np.abs(drawn.audios - pipe(num_samples=50, seed=0).audios).max() > 0.01
    with pytest.raises(UserError, match="truncation must be a positive number"):
        pipe(truncation=0)


# -------------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_whole_and_sounds_the_same(checkpoint, conditional):
    files = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()}
    assert {"samples/grid.wav", "samples/grid.png", "processor_config.json", "test/golden.safetensors"} <= files
    assert [check for check in ganzoo.verify(checkpoint) if not check.passed] == []
    loaded = ganzoo.from_pretrained(checkpoint)
    assert type(loaded) is GANPipeline and loaded.processor == conditional.processor
    drawn = loaded(num_samples=3, seed=1)
    assert np.array_equal(drawn.audios, conditional(num_samples=3, seed=1).audios) and drawn.sampling_rate == RATE


def test_the_preview_holds_the_clips_that_the_same_seeds_give(checkpoint, conditional):
    sheet, rate = soundfile.read(checkpoint / "samples" / "grid.wav", dtype="float32")
    assert rate == RATE and sheet.ndim == 1
    turns = [index % CLASSES for index in range(16)]
    clips = conditional(num_samples=16, labels=turns, seed=0).audios[:, 0]
    pause = (len(sheet) - clips.size) // 15
    assert len(sheet) == clips.size + 15 * pause and pause > 0
    for index, clip in enumerate(clips):
        start = index * (LENGTH + pause)
        np.testing.assert_allclose(sheet[start : start + LENGTH], clip, atol=2 * STEP)
        assert not sheet[start + LENGTH : start + LENGTH + pause].any()


@pytest.mark.parametrize("tamper", ["model", "golden"])
def test_verify_hears_a_difference(checkpoint, tmp_path, tamper):
    from ganzoo.utils.files import load_tensors, save_tensors

    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    if tamper == "model":
        other = build(num_classes=CLASSES)
        with torch.no_grad():
            next(other.generator.parameters()).add_(0.05)
        other.save_pretrained(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    else:
        tensors, _ = load_tensors(folder / "test" / "golden.safetensors")
        tensors["expected"][0, 0, 5] += 0.01
        save_tensors(folder / "test" / "golden.safetensors", tensors)
    assert [check.name for check in ganzoo.verify(folder) if not check.passed] == ["golden outputs"]


# -------------------------------------------------------------------------------------------------------------------- card


def test_the_card_is_accepted_and_has_player_picture_and_tags(checkpoint):
    text = (checkpoint / "README.md").read_text(encoding="utf-8")
    assert check_card(text) == []
    metadata, body = split_card(text)
    assert "pipeline_tag" not in metadata, "the Hub has no task for sound from nothing"
    assert {"gan", "wavegan", "audio", "audio-generation", "class-conditional"} <= set(metadata["tags"])
    assert '<audio controls src="samples/grid.wav"></audio>' in body
    assert "Sound, the classes in turn: [samples/grid.wav](samples/grid.wav)" in body
    assert "![Samples of tiny-wavegan](samples/grid.png)" in body
    assert "| Modality | audio |" in body and "| Sampling rate | 2,000 Hz |" in body


def snippet(card: str) -> str:
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]


def test_the_cards_snippet_writes_what_it_says(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = snippet((checkpoint / "README.md").read_text(encoding="utf-8"))
    assert len(code.strip().splitlines()) == 6  # two imports, an empty line, three that do it
    exec(code.replace('"tiny-wavegan")', f'"{checkpoint}")'), {})
    written, rate = soundfile.read("tiny-wavegan.wav", dtype="float32", always_2d=True)
    expected = ganzoo.from_pretrained(checkpoint)(num_samples=4, seed=0).audios[0].T
    assert rate == RATE and written.shape == (LENGTH, 1)
    np.testing.assert_allclose(written, expected, atol=2 * STEP)


@pytest.mark.parametrize(
    ("kind", "task", "tag", "install", "call"),
    [
        (VocoderPipeline, "audio-to-audio", "neural-vocoder", install_command("audio"), 'pipe("recording.wav")'),
        (ClassifierPipeline, "audio-classification", "audio", install_command(), 'classifier(["recording.wav"])'),
    ],
)
def test_cards_of_other_models_of_sound(kind, task, tag, install, call):
    values = {"name": "mine", "summary": "Mine.", "family": "hifigan", "license": "mit"}
    text = render_card(CardData(**values, words=kind.card_words(WaveformProcessor), sampling_rate=22_050))
    assert check_card(text) == []
    metadata, body = split_card(text)
    assert metadata["pipeline_tag"] == task and tag in metadata["tags"]
    assert install in body.splitlines() and call in snippet(text) and "22,050 Hz" in body
    assert ("soundfile.write(" in body) == (kind is VocoderPipeline) and "$" not in body
    compile(snippet(text), "card", "exec")


def test_an_image_network_with_a_spectrogram_processor_makes_sound(tmp_path):
    """Its card, its call and its files are those of audio."""
    torch.manual_seed(0)
    generator, _ = ganzoo.create("dcgan", resolution=8, channels=1, width=4)
    noise = np.random.default_rng(0).uniform(-1, 1, (20, 1, 64)).astype(np.float32)
    processor = SpectrogramProcessor(length=64, channels=1, sampling_rate=RATE, n_fft=16, hop_length=8, min_seconds=0)
    pipe = GANPipeline(generator, processor.fitted(Recording(clip, RATE) for clip in noise))
    drawn = pipe(num_samples=3, seed=0)
    assert drawn.audios.shape == (3, 1, 64) and drawn.sampling_rate == RATE and np.isfinite(drawn.audios).all()
    pipe.save_pretrained(tmp_path)
    metadata, body = split_card((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert "pipeline_tag" not in metadata and {"dcgan", "audio"} <= set(metadata["tags"])
    assert "| Modality | audio |" in body and "soundfile.write(" in body
    loaded = ganzoo.from_pretrained(tmp_path)
    assert isinstance(loaded.processor, SpectrogramProcessor)
    assert np.array_equal(loaded(num_samples=3, seed=0).audios, drawn.audios)
    assert [check for check in ganzoo.verify(tmp_path) if not check.passed] == []


# -------------------------------------------------------------------------------------------------------------- classifier


@needs_torchaudio
def test_a_classifier_judges_recordings(tmp_path):
    torch.manual_seed(0)
    family = get_family("audio-classifier")
    config = family.tiny_config()
    classifier = ClassifierPipeline(family.networks["classifier"](config), config.processor())
    times = np.arange(2 * config.length) / config.sampling_rate
    tone = (0.5 * np.sin(2 * np.pi * 0.1 * config.sampling_rate * times)).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, config.sampling_rate, subtype="FLOAT")
    first = Recording(tone[None, : config.length], config.sampling_rate)
    judged = classifier([str(tmp_path / "tone.wav"), Recording(tone[None], config.sampling_rate), first])
    assert judged.labels.shape == (3,) and judged.probabilities.shape == (3, config.num_classes)
    torch.testing.assert_close(judged.probabilities.sum(dim=1), torch.ones(3))
    assert judged.features.shape == (3, config.feature_dim)
    for row in (1, 2):  # of a longer recording the beginning counts
        torch.testing.assert_close(judged.probabilities[row], judged.probabilities[0], rtol=0, atol=1e-4)
    for alone in (tmp_path / "tone.wav", first, (first,)):
        torch.testing.assert_close(classifier(alone).features, judged.features[:1], rtol=0, atol=1e-3)
    with pytest.raises(UserError, match="there is no recording to classify"):
        classifier([])
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(UserError, match="text.wav"):
        classifier(tmp_path / "text.wav")
    classifier.save_pretrained(tmp_path / "model")
    metadata, body = split_card((tmp_path / "model" / "README.md").read_text(encoding="utf-8"))
    assert metadata["pipeline_tag"] == "audio-classification" and 'classifier(["recording.wav"])' in body
    assert [check for check in ganzoo.verify(tmp_path / "model") if not check.passed] == []
