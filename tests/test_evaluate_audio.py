"""Sound measured: models of which is known what they make, on a few recordings of tones."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from test_metrics_audio import clap_folder  # noqa: F401

import ganzoo
from ganzoo.cli import run
from ganzoo.embedders.base import Embedding
from ganzoo.errors import UserError
from ganzoo.evaluation.audio import CLASS_METRICS, DEFAULT_METRICS
from ganzoo.families.audio.audio_classifier import AudioClassifier
from ganzoo.families.audio.hifigan import HiFiGANConfig, HiFiGANGenerator
from ganzoo.families.audio.wavegan import WaveGANConfig, WaveGANGenerator
from ganzoo.metrics.records import MetricResult
from ganzoo.pipelines import ClassifierPipeline, GANPipeline, VocoderPipeline

LENGTH, RATE = 1024, 2000
PITCHES = (200, 400, 800)


def tone(pitch, phase=0.0, length=LENGTH, rate=RATE):
    return 0.9 * np.sin(2 * math.pi * pitch * np.arange(length) / rate + phase)


def write_tones(folder, *, rate=RATE, sounding=LENGTH, silence=0, train=12, test=9):
    """Recordings of the three pitches with a little noise, a folder a class: `sounding` samples, then silence."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            clip = tone(PITCHES[number % 3], random.uniform(0, 6), sounding, rate) + 0.02 * random.normal(
                size=sounding
            )
            clip = np.pad(clip, (0, silence))
            path = folder / split / "abc"[number % 3] / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip.clip(-1, 1), rate, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return {"path": str(write_tones(tmp_path_factory.mktemp("tones")))}


class PitchEmbedder:
    """Knows the three pitches by the peak of the spectrum; its features are the spectrum."""

    name = "pitch"

    def __init__(self, rate=RATE):
        self.rate = rate

    def __call__(self, waveforms):
        spectrum = torch.fft.rfft(waveforms[:, 0].float() / 32767).abs()
        pitch = spectrum.argmax(dim=1) * self.rate / waveforms.shape[-1]
        classes = (pitch[:, None] - torch.tensor(PITCHES)).abs().argmin(dim=1)
        groups = spectrum[:, :512].reshape(len(waveforms), 8, 64).mean(dim=2)
        return Embedding(groups, torch.nn.functional.one_hot(classes, 3).float())


class Tones(WaveGANGenerator):
    """Sings the pitch of its label, or the one that `sings` says instead; the phase is from the latents."""

    sings = (0, 1, 2)

    def forward(self, latents, labels=None):
        labels = torch.zeros(len(latents), dtype=torch.long) if labels is None else labels
        rows = [
            tone(PITCHES[self.sings[label]], 3 * latent)
            for label, latent in zip(labels, latents[:, 0].tolist(), strict=True)
        ]
        return torch.tensor(np.stack(rows), dtype=torch.float32)[:, None] * 0.95


def pipeline(generator_class=Tones, **config):
    torch.manual_seed(0)
    config = WaveGANConfig(**{"length": LENGTH, "sampling_rate": RATE, "width": 4, "latent_dim": 8, **config})
    return GANPipeline(generator_class(config), config.processor())


def evaluate(model, data, **options):
    results = ganzoo.evaluate(model, data=data, **{"num_samples": 30, "embedder": PitchEmbedder(), **options})
    return {result.name: result for result in results}


class TestGenerators:
    def test_a_perfect_model_by_default(self, data):
        found = evaluate(pipeline(num_classes=3), data)
        assert set(found) == {*CLASS_METRICS, "label_accuracy", *DEFAULT_METRICS}
        for result in found.values():
            assert MetricResult(**json.loads(json.dumps(result.to_dict()))) == result
            assert math.isfinite(result.value) and result.name in str(result)
        accuracy, score = found["label_accuracy"], found["inception_score"]
        assert (accuracy.value, accuracy.floor, accuracy.details["by_class"]) == (1.0, 1.0, [1.0, 1.0, 1.0])
        # Three classes, sure and equally frequent: exp(log 3); the nine real recordings score the same, all at once.
        assert score.value == pytest.approx(3.0) and score.floor == pytest.approx(3.0)
        assert score.parameters == {"splits": 1} and score.details["num_reference"] == 9
        assert found["class_balance"].value == pytest.approx(0.0, abs=1e-6)
        assert found["class_balance"].details["counts"] == [10, 10, 10]
        frechet = found["frechet_distance"]
        assert (frechet.num_generated, frechet.num_real, frechet.details["num_reference"]) == (30, 9, 12)
        assert frechet.floor is not None and frechet.split == "test"

    def test_a_model_that_mistakes_a_class(self, data):
        class Wrong(Tones):
            sings = (0, 1, 0)

        found = evaluate(pipeline(Wrong, num_classes=3), data, metrics=["class_balance", "label_accuracy"])
        assert list(found) == ["class_balance", "label_accuracy"]
        assert found["label_accuracy"].value == pytest.approx(2 / 3)
        assert found["label_accuracy"].details["by_class"] == [1.0, 1.0, 0.0]
        assert found["class_balance"].details["counts"] == [20, 10, 0]
        assert found["class_balance"].floor == pytest.approx(0.0, abs=1e-6)

    def test_copies_of_the_training_data_are_found_out(self, data):
        from ganzoo.data import load_data
        from ganzoo.recipe.data import DataConfig

        processor = WaveGANConfig(length=LENGTH, sampling_rate=RATE).processor()
        training = load_data(DataConfig(**data), processor)

        class Copies(Tones):
            def forward(self, latents, labels=None):
                chosen = (latents[:, 0].abs() * 1e4).long() % len(training)
                return processor.normalize(training.batch(chosen.numpy())[0])

        metrics = ["nearest_training", "nearest_self"]
        copied, fresh = (evaluate(pipeline(kind), data, metrics=metrics) for kind in (Copies, Tones))
        assert copied["nearest_training"].value == 0 and copied["nearest_training"].details["minimum"] == 0
        assert fresh["nearest_training"].value > 0.5 * fresh["nearest_training"].floor > 0
        assert copied["nearest_training"].floor == fresh["nearest_training"].floor
        assert copied["nearest_training"].split == "train" and copied["nearest_training"].num_real == 12
        # The number of points is that of the smaller set: distances depend on it.
        assert {copied[name].num_generated for name in metrics} == {9}

    def test_a_collapsed_model_is_found_out(self, data):
        class Collapsed(Tones):
            def forward(self, latents, labels=None):
                return super().forward(torch.zeros_like(latents))

        collapsed, fresh = (
            evaluate(pipeline(kind), data, metrics=["nearest_self"])["nearest_self"] for kind in (Collapsed, Tones)
        )
        assert collapsed.value == 0 and fresh.value > 0
        assert collapsed.floor == fresh.floor > 0
        assert collapsed.details["floor_standard_deviation"] > 0

    def test_without_floors(self, data):
        found = evaluate(pipeline(num_classes=3), data, floor=False)
        assert all(result.floor is None for result in found.values())

    def test_log_mel_knows_no_classes(self, data):
        found = evaluate(pipeline(), data, embedder="log-mel")
        assert tuple(found) == DEFAULT_METRICS
        assert found["frechet_distance"].embedder == "log-mel" and found["frechet_distance"].value > 0
        with pytest.raises(UserError, match="inception_score read class probabilities.*'log-mel' does not give"):
            evaluate(pipeline(), data, embedder="log-mel", metrics=["inception_score"])

    def test_what_cannot_be_measured(self, data):
        with pytest.raises(UserError, match="label_accuracy is of conditional models"):
            evaluate(pipeline(), data, metrics=["label_accuracy"])
        with pytest.raises(UserError, match="embedder knows 3 classes, the model has 4"):
            evaluate(pipeline(WaveGANGenerator, num_classes=4), data, metrics=["label_accuracy"])
        with pytest.raises(UserError, match="no audio metric 'nearest_trainig'. Did you mean 'nearest_training'"):
            evaluate(pipeline(), data, metrics=["nearest_trainig"])
        with pytest.raises(UserError, match="images must be uint8"):
            evaluate(pipeline(), data, embedder="pixels", metrics=["frechet_distance"])

    def test_seeds_decide(self, data):
        metrics = ["frechet_distance", "nearest_training"]
        first, again, other = (evaluate(pipeline(), data, metrics=metrics, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first["frechet_distance"].value != other["frechet_distance"].value

    def test_frechet_audio_distance(self, data, clap_folder):  # noqa: F811
        found = evaluate(
            pipeline(), data, num_samples=9, embedder=f"clap:{clap_folder}", metrics=["frechet_audio_distance"]
        )
        distance = found["frechet_audio_distance"]
        assert distance.embedder == "clap tiny-clap"
        assert distance.value > 0 and distance.floor is not None and distance.num_real == 9


def test_accuracy_of_a_classifier(data):
    torch.manual_seed(0)
    config = ganzoo.get_family("audio-classifier").tiny_config(length=LENGTH, sampling_rate=RATE)
    network = AudioClassifier(config).eval()
    model = ClassifierPipeline(network, config.processor())
    (result,) = ganzoo.evaluate(model, data=data)
    from ganzoo.data import load_data
    from ganzoo.recipe.data import DataConfig

    stored, labels = load_data(DataConfig(**data), model.processor, split="test").batch(np.arange(9))
    with torch.no_grad():
        expected = (network(stored.float() / 32767).logits.argmax(dim=1) == labels).double().mean()
    assert (result.name, result.value, result.num_real) == ("accuracy", expected, 9)


def test_command_line_with_a_classifier_checkpoint(data, tmp_path, capsys):
    torch.manual_seed(0)
    config = ganzoo.get_family("audio-classifier").tiny_config(length=LENGTH, sampling_rate=RATE)
    ClassifierPipeline(AudioClassifier(config), config.processor()).save_pretrained(tmp_path / "ears")
    pipeline(WaveGANGenerator, num_classes=3).save_pretrained(tmp_path / "model")
    options = ["--embedder", str(tmp_path / "ears"), "--num-samples", "12", "--output", str(tmp_path / "found.json")]
    metrics = ["--metrics", "inception_score,label_accuracy,nearest_training"]
    assert run(["evaluate", str(tmp_path / "model"), "--data", data["path"], *options, *metrics]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["inception_score", "label_accuracy", "nearest_training"]
    assert "12 generated; embedder ears" in lines[0]
    assert len(json.loads((tmp_path / "found.json").read_text())["metrics"]) == 3


class Quieter(VocoderPipeline):
    """Makes everything half as loud, and changes nothing else."""

    def resynthesise(self, waveforms, **options):
        return waveforms * 0.5


class TestVocoders:
    rate, length, sounding = 8000, 4000, 3000

    @pytest.fixture
    def speech(self, tmp_path):
        silence = self.length - self.sounding
        return {"path": str(write_tones(tmp_path / "a", rate=self.rate, sounding=self.sounding, silence=silence))}

    def vocoder(self, kind=VocoderPipeline):
        torch.manual_seed(0)
        tiny = ganzoo.get_family("hifigan").tiny
        config = HiFiGANConfig(**{**tiny, "length": self.length, "sampling_rate": self.rate, "n_mels": 16})
        return kind(HiFiGANGenerator(config).eval(), config.processor())

    def test_half_as_loud(self, speech):
        """Known in every metric: ln 2, 0.5 + ln 2, nothing, and every pitch still heard."""
        found = evaluate(self.vocoder(Quieter), speech, embedder=PitchEmbedder(self.rate))
        assert list(found) == [
            "log_mel_l1",
            "multi_resolution_stft",
            "mel_cepstral_distortion",
            "resynthesis_accuracy",
            "real_time_factor",
        ]
        assert found["log_mel_l1"].value == pytest.approx(math.log(2), rel=0.01)
        assert found["multi_resolution_stft"].value == pytest.approx(0.5 + math.log(2), rel=0.01)
        assert found["mel_cepstral_distortion"].value == pytest.approx(0, abs=0.1)
        accuracy = found["resynthesis_accuracy"]
        assert (accuracy.value, accuracy.floor, accuracy.num_generated) == (1.0, 1.0, 9)
        for name in ("log_mel_l1", "multi_resolution_stft", "mel_cepstral_distortion"):
            assert found[name].details["griffin_lim"] > 0 and found[name].num_real == 9
            assert "Griffin-Lim" in str(found[name])

    def test_a_network(self, speech):
        found = evaluate(self.vocoder(), speech, embedder="log-mel", num_samples=4)
        assert "resynthesis_accuracy" not in found and all(math.isfinite(result.value) for result in found.values())
        # Random weights are worse than Griffin-Lim.
        assert found["log_mel_l1"].value > found["log_mel_l1"].details["griffin_lim"]
        assert found["log_mel_l1"].num_generated == 4
        speed = found["real_time_factor"]
        assert speed.details["times_real_time"] == pytest.approx(1 / speed.value)
        assert 0 < speed.value and speed.parameters["seconds"] == self.length / self.rate

    def test_padding_does_not_count(self, speech, tmp_path):
        """The same recordings without their silence have the same distances."""
        short = {"path": str(write_tones(tmp_path / "b", rate=self.rate, sounding=self.sounding))}
        metrics = ["log_mel_l1", "multi_resolution_stft"]
        padded, cut = (evaluate(self.vocoder(), where, metrics=metrics, num_samples=9) for where in (speech, short))
        for name in metrics:
            assert padded[name].value == pytest.approx(cut[name].value, rel=1e-6)

    def test_what_cannot_be_measured(self, speech):
        with pytest.raises(UserError, match="no vocoder metric 'mel_l1'. Did you mean 'log_mel_l1'"):
            evaluate(self.vocoder(), speech, metrics=["mel_l1"])
        with pytest.raises(UserError, match="resynthesis_accuracy read class probabilities"):
            evaluate(self.vocoder(), speech, embedder="log-mel", metrics=["resynthesis_accuracy"])
