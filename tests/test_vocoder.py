"""Vocoders: the objective's numbers, the pipeline from spectrograms and from recordings, the command."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.cli import run
from ganzoo.data.dataset import ArrayDataset
from ganzoo.errors import UnusableSample, UserError
from ganzoo.families.audio.hifigan import HiFiGAN, HiFiGANConfig, HiFiGANDiscriminator, HiFiGANGenerator
from ganzoo.networks.audio import Vocoder
from ganzoo.networks.base import Discriminator, DiscriminatorOutput
from ganzoo.objectives import Batch, StepContext, build_objective
from ganzoo.objectives.vocoder import VocoderConfig
from ganzoo.pipelines import VocoderPipeline
from ganzoo.processors.waveform import PEAK
from ganzoo.sound.recording import FULL_SCALE, Recording, without_offset
from ganzoo.sound.spectral import log_mel

CONFIG = HiFiGANConfig.from_dict(HiFiGAN.tiny)
RATE, HOP = CONFIG.sampling_rate, CONFIG.hop_length


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def sound(seconds: float, *, rate: int = RATE, channels: int = 1, level: float = 0.5) -> Recording:
    """Noise under a slow swell, without an offset."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).uniform(-1, 1, (channels, len(time))) * (1.1 + np.sin(3 * time))
    samples = without_offset(noise.astype(np.float32), rate)
    return Recording(np.float32(level) * samples / np.abs(samples).max(), rate)


# ---------------------------------------------------------------------------------------------------------- the objective


class Halve(Vocoder):
    """A vocoder that knows the answer, and gives it half as loud."""

    def __init__(self, config: HiFiGANConfig, answer: Tensor) -> None:
        super().__init__(config)
        self.mel_config = config.mel
        self.register_buffer("answer", answer)
        self.level = nn.Parameter(torch.tensor(0.5))

    def spectrogram(self, waveforms: Tensor) -> Tensor:
        return log_mel(waveforms.squeeze(1), self.mel_config)

    def forward(self, mel: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.level * self.answer[..., : mel.shape[-1] * HOP]


class Two(Discriminator):
    """Two linear judges with one and two layers."""

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__(config)
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> list[DiscriminatorOutput]:
        first = self.weight * samples[:, 0, :3]
        second = samples[:, 0, :1]
        return [DiscriminatorOutput(first, [first]), DiscriminatorOutput(second, [4 * second, second])]


@pytest.fixture
def pair():
    """Networks, a batch whose first three samples are 0.2, 0.4, 0.8 and 0.4, 0, -0.4, and a moment."""
    waveforms = torch.rand(2, 1, 405) - 0.5  # five samples more than whole frames
    waveforms[:, 0, :3] = torch.tensor([[0.2, 0.4, 0.8], [0.4, 0.0, -0.4]])
    networks = {"generator": Halve(CONFIG, waveforms), "discriminator": Two(CONFIG)}
    return networks, batch_of(networks, waveforms), StepContext(0, 0.0, None, nullcontext)


def batch_of(networks, waveforms):
    """As the trainer makes it."""
    batch = Batch(waveforms, None)
    return batch._replace(condition=networks["generator"].condition(batch))


def prepared(networks, **section):
    objective = build_objective(VocoderConfig(**section))
    objective.prepare(networks)
    return objective


def test_discriminator_loss_is_the_papers_sum(pair):
    """Equations 1 and 6: of each judge, the mean of (D(x) - 1)^2 and that of D(G(s))^2; the judges added up."""
    networks, batch, context = pair
    terms, stats = prepared(networks).discriminator_loss(networks, batch, context)
    # Judge 1 says 2x: 0.4, 0.8, 1.6, 0.8, 0, -0.8 of real ones, half of it of generated ones. Judge 2 says 0.2 and 0.4.
    real = (0.36 + 0.04 + 0.36 + 0.04 + 1 + 3.24) / 6 + (0.64 + 0.36) / 2
    fake = (0.04 + 0.16 + 0.64 + 0.16 + 0 + 0.16) / 6 + (0.01 + 0.04) / 2
    assert terms["real"].item() == pytest.approx(real, rel=1e-6)
    assert terms["fake"].item() == pytest.approx(fake, rel=1e-6)
    assert stats["real_accuracy"].item() == pytest.approx((3 / 6 + 0) / 2)
    assert stats["fake_accuracy"].item() == pytest.approx((5 / 6 + 1) / 2)
    sum(terms.values()).backward()
    assert networks["discriminator"].weight.grad is not None and networks["generator"].level.grad is None


def test_generator_loss_is_the_papers_sum(pair):
    """Equation 5: of each judge (D(G(s)) - 1)^2 and twice the features' distance; 45 times the spectrograms'."""
    networks, batch, context = pair
    terms, stats = prepared(networks).generator_loss(networks, batch, context)
    adversarial = (0.64 + 0.36 + 0.04 + 0.36 + 1 + 1.96) / 6 + (0.81 + 0.64) / 2
    # Halved: judge 1's features differ by the half of 0.4, 0.8, 1.6, 0.8, 0, 0.8; judge 2's by 4 x 0.1, 0.2 and 0.1, 0.2.
    features = 4.4 / 12 + (0.6 + 0.15)
    assert terms["adversarial"].item() == pytest.approx(adversarial, rel=1e-5)
    assert terms["feature_matching"].item() == pytest.approx(2 * features, rel=1e-5)
    # Half as loud is ln 2 less in every band of the logarithm.
    assert stats["mel_error"].item() == pytest.approx(math.log(2), rel=1e-3)
    assert terms["mel"].item() == pytest.approx(45 * stats["mel_error"].item())
    sum(terms.values()).backward()
    assert networks["generator"].level.grad.isfinite()


def test_spectrograms_are_compared_up_to_half_the_rate(pair):
    """A tone above the generator's own bands, which end at 3 kHz, counts all the same."""
    networks, batch, context = pair
    time = torch.arange(405) / RATE
    low, high = (torch.sin(2 * torch.pi * f * time).expand(2, 1, -1) for f in (1000, 3700))
    networks["generator"].answer = 2 * low  # half of which is the low tone alone
    _, stats = prepared(networks).generator_loss(networks, batch_of(networks, low + high), context)
    objective = prepared(networks)
    assert objective.mel_config == CONFIG.mel.model_copy(update={"f_max": None})
    own = log_mel(low + high, CONFIG.mel) - log_mel(low, CONFIG.mel)
    assert stats["mel_error"] > 3 * own.abs().mean()


def test_weights_and_the_discriminator_can_be_left_out(pair):
    networks, batch, context = pair
    terms, _ = prepared(networks, feature_matching=0, mel_weight=1).generator_loss(networks, batch, context)
    assert terms.keys() == {"mel", "adversarial"} and terms["mel"].item() == pytest.approx(math.log(2), rel=1e-3)
    alone = prepared(networks, adversarial=False)
    assert alone.generator_loss(networks, batch, context).terms.keys() == {"mel"}
    assert alone.updates(ganzoo.load_recipe("dcgan-digits").training) == {"generator": 1}


def test_generator_step_goes_on_from_the_discriminators(pair):
    """The samples of the discriminator's step, with their graph, and the loss that a pass of its own has."""
    networks, batch, context = pair
    objective = prepared(networks)
    expected = objective.generator_loss(networks, batch, context).terms
    context.keep_graph = True
    objective.discriminator_loss(networks, batch, context)
    kept = context.shared["fake"]
    found = objective.generator_loss(networks, batch, context).terms
    assert kept.requires_grad and not context.shared
    assert {name: term.item() for name, term in found.items()} == {name: t.item() for name, t in expected.items()}


def test_held_out_loss_is_the_spectrograms_distance(pair):
    networks, batch, context = pair
    objective = prepared(networks)
    assert objective.validation_loss(networks, batch, context).item() == pytest.approx(math.log(2), rel=1e-3)
    assert objective.validation_stats(networks, batch, context).keys() == {"generator/mel_error"}


# ----------------------------------------------------------------------------------------------------------- the pipeline


@pytest.fixture
def pipe() -> VocoderPipeline:
    generator = HiFiGANGenerator(CONFIG)
    with torch.no_grad():  # louder than at the start
        generator.conv_post.weight.mul_(5)
    return VocoderPipeline(generator, CONFIG.processor(), discriminator=HiFiGANDiscriminator(CONFIG))


def spectrogram(frames: int, count: int = 2) -> Tensor:
    return torch.randn(count, CONFIG.n_mels, frames) - 5


def test_vocode_is_the_networks_output(pipe):
    mel = spectrogram(30)
    output = pipe.vocode(mel)
    assert output.sampling_rate == RATE and output.audios.dtype == np.float32
    assert output.audios.shape == (2, 1, 30 * HOP)
    with torch.no_grad():
        np.testing.assert_allclose(output.audios, pipe.network(mel).numpy(), atol=1e-6)
    for same in (mel[1], mel[1].numpy(), mel[1].double()):
        np.testing.assert_allclose(pipe.vocode(same).audios, output.audios[1:], atol=1e-6)
    assert isinstance(pipe.vocode(mel, output_type="pt").audios, Tensor)


@pytest.mark.parametrize("chunk_frames", [1, 7, 64])
def test_parts_show_in_no_sample(pipe, chunk_frames):
    mel = spectrogram(100)
    whole = pipe.vocode(mel, chunk_frames=1000).audios
    np.testing.assert_allclose(pipe.vocode(mel, chunk_frames=chunk_frames, batch_size=1).audios, whole, atol=1e-5)
    recording = sound(0.31)  # 124 frames
    whole = pipe(recording, chunk_frames=1000).audios[0]
    np.testing.assert_allclose(pipe(recording, chunk_frames=chunk_frames).audios[0], whole, atol=1e-5)
    # The context is needed: without it the seams are heard.
    pipe.network.__class__ = type("Forgetful", (HiFiGANGenerator,), {"context": 0})
    assert np.abs(pipe.vocode(mel, chunk_frames=7).audios - pipe.vocode(mel).audios).max() > 1e-3


def test_bfloat16_is_near_and_no_other_precision_is_taken(pipe):
    mel = spectrogram(60)
    exact, rounded = pipe.vocode(mel).audios, pipe.vocode(mel, precision="bf16").audios
    assert rounded.dtype == np.float32 and not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
    assert np.abs(pipe(sound(0.2), precision="bf16").audios[0] - pipe(sound(0.2)).audios[0]).max() > 0
    with pytest.raises(UserError, match="fp32, bf16, fp16 or auto, not 'int8'"):
        pipe.vocode(mel, precision="int8")


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (torch.zeros(20, 10), r"not \(20, 10\); its last two axes are swapped, transpose them"),
        (torch.zeros(1, 1, 10, 20), "shape"),
        (torch.zeros(80, 20), r"\(10, frames\) or \(batch, 10, frames\), not \(80, 20\)"),
        (torch.zeros(10, 0), "shape"),
        ("mel", "shape"),
        (torch.full((10, 20), math.nan), "finite"),
        (torch.zeros(10, 20, dtype=torch.long), "floating-point"),
        (torch.full((10, 20), -80.0), "values from -80 to -80; .* natural logarithms.* not decibels"),
        (torch.full((10, 20), 100.0), "natural logarithms"),
    ],
)
def test_wrong_spectrograms_are_one_clear_error(pipe, mel, message):
    with pytest.raises(UserError, match=message):
        pipe.vocode(mel)


def test_copies_are_as_long_and_as_loud_as_their_recordings(pipe):
    loud, quiet = sound(0.203), sound(0.203, level=0.01)
    output = pipe([loud, quiet])
    assert [audio.shape for audio in output.audios] == [(1, 1624)] * 2
    # The processor's clips have one peak, so that is what the vocoder hears of both.
    np.testing.assert_allclose(output.audios[0], 50 * output.audios[1], atol=1e-5)
    clip = torch.from_numpy(loud.samples)[None] * (PEAK / 0.5)
    padded = torch.nn.functional.pad(clip, (0, -1624 % HOP))
    with torch.no_grad():
        direct = pipe.network(pipe.network.spectrogram(padded))[0, :, :1624] * (0.5 / PEAK)
    np.testing.assert_allclose(output.audios[0], direct.numpy(), atol=1e-5)
    as_it_is = VocoderPipeline(pipe.network, CONFIG.processor(peak_normalize=False))
    assert not np.allclose(as_it_is(quiet).audios[0], output.audios[1], atol=1e-4)


def test_recordings_of_any_kind(pipe, tmp_path):
    soundfile.write(tmp_path / "stereo.flac", sound(0.2, rate=22_050, channels=2).samples.T, 22_050)
    (copy,) = pipe(tmp_path / "stereo.flac").audios
    assert copy.shape == (1, 1600)
    for seconds in (1 / RATE, 3 / RATE, 0.01):
        (copy,) = pipe(sound(seconds)).audios
        assert copy.shape == (1, round(seconds * RATE)) and np.isfinite(copy).all()
    silence = pipe(Recording(np.zeros((1, 500), np.float32), RATE)).audios[0]
    assert silence.shape == (1, 500) and np.isfinite(silence).all()
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(UnusableSample, match="text.wav"):
        pipe(str(tmp_path / "text.wav"))
    with pytest.raises(UserError, match="no recording"):
        pipe([])


def test_an_offset_is_taken_away_as_from_the_training_data(pipe):
    clean = sound(0.2)
    shifted = Recording(clean.samples + np.float32(0.25), clean.sampling_rate)
    torch.testing.assert_close(pipe.read(shifted), pipe.read(clean), atol=1e-3, rtol=0)
    before = VocoderPipeline(pipe.network, pipe.processor.revised(remove_offset=False))
    torch.testing.assert_close(before.read(shifted), torch.from_numpy(shifted.samples), atol=1e-6, rtol=0)


def test_mel_distance(pipe):
    real = torch.from_numpy(sound(4.0).samples)  # several parts
    assert pipe.mel_distance(real, real) == 0
    assert pipe.mel_distance(real, real / 2) == pytest.approx(math.log(2), rel=0.01)
    # The part of the floor does not depend on the level at which it was recorded.
    quiet = pipe.mel_distance(real / 100, real / 200)
    assert quiet == pytest.approx(pipe.mel_distance(real, real / 2), rel=1e-3)
    mel = CONFIG.mel.model_copy(update={"f_max": None})
    short, gain = real[..., :900], PEAK / real[..., :900].abs().max()
    expected = (log_mel(short * gain, mel) - log_mel(short * gain / 3, mel)).abs().mean().item()
    assert pipe.mel_distance(short, short / 3) == pytest.approx(expected, rel=1e-5)
    assert pipe.mel_distance(real[..., :5], real[..., :5]) == 0


def clips(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    noise = rng.integers(-FULL_SCALE, FULL_SCALE + 1, (count, 1, CONFIG.length // 2)).astype(np.int16)
    return np.concatenate([noise, -noise], axis=2)  # without an offset


def dataset(count: int) -> ArrayDataset:
    return ArrayDataset(samples=clips(count), labels=None, class_names=None, description="noise", split="train")


def test_previews_are_originals_beside_their_copies(pipe, tmp_path):
    assert pipe.save_preview(tmp_path, "nothing") == []
    pipe.take_examples(dataset(100))
    assert pipe.save_preview(tmp_path, "pairs", num_samples=3) == ["pairs.wav", "pairs.png"]
    written, rate = soundfile.read(tmp_path / "pairs.wav", dtype="int16")
    pause = rate // 4
    heard = [written[i * (CONFIG.length + pause) :][: CONFIG.length] for i in range(6)]
    assert rate == RATE and len(written) == 6 * CONFIG.length + 5 * pause
    originals = clips(100)[[0, 14, 28], 0]
    for number, original in enumerate(originals):
        np.testing.assert_array_equal(heard[2 * number], original)
        (copy,) = pipe(Recording(original[None], RATE)).audios
        np.testing.assert_allclose(heard[2 * number + 1] / FULL_SCALE, copy[0], atol=1e-3)


def test_checkpoint_keeps_what_its_previews_need(pipe, tmp_path):
    pipe.take_examples(dataset(3))
    pipe.save_pretrained(tmp_path / "first")
    assert [check for check in ganzoo.verify(tmp_path / "first") if not check.passed] == []
    card = (tmp_path / "first" / "README.md").read_text(encoding="utf-8")
    assert "each recording followed by its copy: [samples/pairs.wav]" in card and "vocode" in card
    loaded = ganzoo.from_pretrained(tmp_path / "first")
    assert isinstance(loaded, VocoderPipeline)
    np.testing.assert_array_equal(loaded.examples.numpy(), clips(3))
    loaded.save_pretrained(tmp_path / "second")
    for name in ("originals.wav", "pairs.wav", "pairs.png"):
        first, second = ((tmp_path / folder / "samples" / name).read_bytes() for folder in ("first", "second"))
        assert first == second
    # From noise to noise: the spectrograms are made without the front end, and of the right kind.
    with torch.no_grad():
        mel = loaded.network.example_inputs(2, torch.default_generator)["condition"]
    assert loaded.vocode(mel).audios.shape == (2, 1, mel.shape[-1] * HOP)


def test_half_precision(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    half = ganzoo.from_pretrained(tmp_path, dtype=torch.bfloat16)
    expected = pipe(sound(0.2)).audios[0]
    assert np.abs(half(sound(0.2)).audios[0] - expected).max() < 0.05 * np.abs(expected).max()


# ------------------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def published(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipe.save_pretrained("model")
    speech = sound(0.5, rate=16_000).samples.T
    soundfile.write("speech.wav", speech, 16_000)
    soundfile.write("opposite.wav", np.concatenate([speech, -speech], axis=1), 16_000, subtype="FLOAT")
    return pipe


def test_vocode_writes_the_copy_and_says_how_near_it_is(published, tmp_path, capsys):
    assert run(["vocode", "speech.wav", "--model", "model"]) == 0
    path, distance = capsys.readouterr().out.splitlines()
    assert path == "speech-vocoded.wav"
    written, rate = soundfile.read(path, dtype="float32")
    original = published.read("speech.wav")
    (copy,) = published("speech.wav").audios
    assert rate == RATE and written.shape == (4000,)
    np.testing.assert_allclose(written, copy[0], atol=1e-4)
    expected = published.mel_distance(original, torch.from_numpy(copy))
    assert distance == f"log-mel L1 {expected:.4f} (10 bands up to 4000 Hz)"
    assert run(["vocode", "speech.wav", "--model", "model", "--output", "deep/copy.wav"]) == 0
    assert (tmp_path / "deep" / "copy.wav").read_bytes() == (tmp_path / path).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav"], "missing.wav"),
        (["model/README.md"], "README.md"),
        (["opposite.wav"], "channels are of opposite phase"),
        (["speech.wav", "--output", "copy.mp3"], "copy.mp3.*a name that ends so"),
        (["speech.wav", "--output", "speech.wav"], "is the recording itself"),
        (["speech.wav", "--model", "hifigan-digit"], "hifigan-digit"),
    ],
)
def test_vocode_says_what_is_wrong(published, capsys, arguments, message):
    options = arguments if "--model" in arguments else [*arguments, "--model", "model"]
    assert run(["vocode", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert re.search(message, shown.err)


def test_vocode_wants_a_vocoder(published, capsys):
    generator, _ = ganzoo.create("dcgan", resolution=8, width=4)
    ganzoo.GANPipeline(generator, generator.config.processor()).save_pretrained("pictures")
    assert run(["vocode", "speech.wav", "--model", "pictures"]) == 2
    assert "makes a GANPipeline, not a VocoderPipeline" in capsys.readouterr().err
