"""Metrics of sound against closed forms: what is known of a shifted spectrum, a louder copy, a sample that is a copy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import ganzoo
from ganzoo.embedders.base import Embedding
from ganzoo.embedders.clap import ClapEmbedder
from ganzoo.embedders.classifier import ClassifierEmbedder
from ganzoo.embedders.listening import fit_waveforms, listening_features, listening_mel
from ganzoo.embedders.log_mel import LogMelEmbedder
from ganzoo.embedders.opening import get_embedder
from ganzoo.embedders.validation import check_samples
from ganzoo.errors import GanzooError, NotFoundError, UserError
from ganzoo.metrics import (
    RESOLUTIONS,
    cosine_basis,
    evaluate_embeddings,
    evaluate_samples,
    frechet_distance,
    inception_score,
    log_mel_l1,
    mel_cepstral_distortion,
    multi_resolution_stft,
    nearest_distances,
    nearest_distances_within,
)
from ganzoo.networks.base import ClassifierOutput
from ganzoo.processors import ImageProcessor, WaveformProcessor


def sounds(count, *, channels=1, length=4096, loudness=0.3, seed=0):
    random = torch.Generator().manual_seed(seed)
    samples = torch.randn(count, channels, length, generator=random) * loudness * 32767
    return samples.round().clamp(-32767, 32767).to(torch.int16)


def tone(pitch, rate, seconds=0.5, amplitude=0.5):
    time = torch.arange(round(seconds * rate)) / rate
    return (amplitude * 32767 * torch.sin(2 * math.pi * pitch * time)).round().to(torch.int16)[None, None]


class LoudnessClassifier(nn.Module):
    """Two features, the mean and the loudness of a clip; class 1 is loud, class 0 is quiet."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, samples):
        mean, loudness = samples.flatten(1).mean(dim=1), samples.flatten(1).std(dim=1)
        logits = torch.stack([0.1 - loudness, loudness - 0.1], dim=1) * self.scale
        return ClassifierOutput(logits, torch.stack([mean, loudness], dim=1))


def classifier(**options):
    processor = WaveformProcessor(length=4096, channels=1, sampling_rate=8000)
    return ClassifierEmbedder(LoudnessClassifier(), processor, "loudness", **options)


class TestFitWaveforms:
    processor = WaveformProcessor(length=4000, channels=1, sampling_rate=8000)

    def test_fitting_waveforms_come_back_unchanged(self):
        waveforms = sounds(2, length=4000)
        assert fit_waveforms(waveforms, 8000, self.processor) is waveforms

    def test_longer_is_cut_and_shorter_padded(self):
        waveforms = sounds(2, length=5000)
        assert torch.equal(fit_waveforms(waveforms, 8000, self.processor), waveforms[..., :4000])
        short = fit_waveforms(waveforms[..., :1000], 8000, self.processor)
        assert torch.equal(short[..., :1000], waveforms[..., :1000]) and not short[..., 1000:].any()
        centred = fit_waveforms(waveforms[..., :1000], 8000, self.processor.revised(position="centre"))
        assert torch.equal(centred[..., 1500:2500], waveforms[..., :1000])
        assert not centred[..., :1500].any() and not centred[..., 2500:].any()

    def test_stereo_is_averaged_and_mono_repeated(self):
        stereo = sounds(3, channels=2, length=4000)
        expected = stereo.double().mean(dim=1, keepdim=True).round().short()
        assert torch.equal(fit_waveforms(stereo, 8000, self.processor), expected)
        wide = self.processor.revised(channels=2)
        assert torch.equal(fit_waveforms(stereo[:, :1], 8000, wide), stereo[:, :1].repeat(1, 2, 1))
        with pytest.raises(UserError, match="3 channels cannot be heard by an embedder that takes 2"):
            fit_waveforms(sounds(1, channels=3), 8000, wide)

    def test_another_rate_keeps_the_pitch(self):
        found = fit_waveforms(tone(500, 16_000), 16_000, self.processor)
        assert found.shape == (1, 1, 4000)
        inner = slice(200, 3800)
        assert (found[..., inner].int() - tone(500, 8000)[..., inner].int()).abs().max() < 0.01 * 32767

    @pytest.mark.parametrize("wrong", [torch.zeros(1, 1, 9), torch.zeros(2, 9, dtype=torch.int16), [[0]]])
    def test_not_waveforms(self, wrong):
        with pytest.raises(UserError, match="waveforms must be int16 tensors of shape"):
            fit_waveforms(wrong, 8000, self.processor)


def test_images_and_waveforms_are_samples_and_nothing_else():
    assert check_samples(sounds(2)).dtype == torch.int16
    assert check_samples(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)).dtype == torch.uint8
    with pytest.raises(UserError, match="waveforms must be int16"):
        check_samples(torch.zeros(1, 1, 2, 2, dtype=torch.int16))
    with pytest.raises(UserError, match="images must be uint8"):
        check_samples(torch.zeros(1, 1, 9))


class TestListening:
    def test_bands_scale_with_the_rate(self):
        mel = listening_mel(8000)
        assert (mel.n_fft, mel.hop_length, mel.n_mels, mel.f_min, mel.upper) == (256, 64, 40, 40.0, 3900.0)
        assert (listening_mel(16_000).n_fft, listening_mel(22_050).n_fft, listening_mel(48_000).n_fft) == (
            512,
            512,
            2048,
        )

    @pytest.mark.parametrize("rate", [1000, 2000, 4000, 11_025, 22_050, 44_100, 192_000])
    def test_every_rate_has_bands(self, rate):
        features = listening_features(sounds(1, length=rate), rate)
        # No band is empty: noise is in all of them.
        assert features.shape[1] == listening_mel(rate).n_mels and features.mean(dim=2).min() > math.log(1e-4) + 1

    def test_twice_as_loud_is_log_2_more(self):
        quiet = sounds(2, loudness=0.1)
        difference = listening_features(quiet * 2, 8000) - listening_features(quiet, 8000)
        assert difference.shape == (2, 40, 64)
        # A little less where the floor still counts.
        assert difference.median().item() == pytest.approx(math.log(2), abs=0.02)

    def test_silence_is_the_floor(self):
        silence = listening_features(torch.zeros(1, 2, 4096, dtype=torch.int16), 8000)
        torch.testing.assert_close(silence, torch.full_like(silence, math.log(1e-4)), rtol=0, atol=0.02)


class TestNearest:
    def test_against_double_loops(self):
        random = torch.Generator().manual_seed(0)
        points, others = torch.randn(20, 5, generator=random), torch.randn(30, 5, generator=random)
        slow = [min(float(np.linalg.norm(point - other)) for other in others.numpy()) for point in points.numpy()]
        np.testing.assert_allclose(nearest_distances(points, others), slow, rtol=1e-5)
        assert torch.equal(nearest_distances(points, iter(others.split(7))), nearest_distances(points, others))
        rows = points.numpy()
        within = [min(float(np.linalg.norm(a - b)) for j, b in enumerate(rows) if i != j) for i, a in enumerate(rows)]
        np.testing.assert_allclose(nearest_distances_within(points), within, rtol=1e-5)

    def test_a_copy_is_at_exactly_0(self):
        points = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0)) * 1000
        others = torch.cat([points[3:4], points[:1] + 1])
        distances = nearest_distances(points, others)
        assert distances[3] == 0 and distances[0].item() == pytest.approx(4000**0.5, rel=1e-3)
        assert (nearest_distances_within(torch.cat([points, points[:1]]))[[0, 5]] == 0).all()

    def test_errors(self):
        points = torch.zeros(3, 2)
        with pytest.raises(UserError, match="the other set is empty"):
            nearest_distances(points, [])
        with pytest.raises(UserError, match="have width 2, but real features have width 3"):
            nearest_distances(points, torch.zeros(3, 3))
        with pytest.raises(UserError, match="at least 2 samples"):
            nearest_distances_within(points[:1])
        with pytest.raises(UserError, match="NaN"):
            nearest_distances_within(points * math.nan)


class TestVocoderMetrics:
    def test_a_shift_of_the_log_mel_is_the_distance(self):
        mel = torch.randn(3, 20, 9, generator=torch.Generator().manual_seed(0))
        shifts = torch.tensor([0.0, 0.5, -2.0])
        torch.testing.assert_close(log_mel_l1(mel + shifts[:, None, None], mel), shifts.abs())

    def test_cepstral_distortion_leaves_out_loudness(self):
        mel = torch.randn(2, 20, 9, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(mel_cepstral_distortion(mel + 3.0, mel), torch.zeros(2), rtol=0, atol=1e-3)

    @pytest.mark.parametrize(("order", "heard"), [(1, True), (13, True), (14, False)])
    def test_cepstral_distortion_of_one_coefficient(self, order, heard):
        """A cosine of height a over n bands is a coefficient of a * sqrt(n / 2): 10 / ln 10 * sqrt(2) times that."""
        bands, height = 32, 0.3
        cosine = height * torch.cos(math.pi / bands * order * (torch.arange(bands) + 0.5))
        mel = torch.randn(1, bands, 7, generator=torch.Generator().manual_seed(0))
        expected = 10 / math.log(10) * math.sqrt(2) * height * math.sqrt(bands / 2) if heard else 0.0
        assert mel_cepstral_distortion(mel + cosine[:, None], mel).item() == pytest.approx(expected, abs=1e-4)

    def test_cosines_are_orthonormal(self):
        basis = cosine_basis(20, 13).double()
        torch.testing.assert_close(basis @ basis.T, torch.eye(13, dtype=torch.float64), rtol=0, atol=1e-6)
        with pytest.raises(UserError, match="13 cepstral coefficients need more than 13 mel bands, not 13"):
            cosine_basis(13, 13)

    @pytest.mark.parametrize("gain", [2.0, 0.5])
    def test_stft_of_a_gain(self, gain):
        """Six decibels: the convergence is |gain - 1|, the log magnitudes differ by ln 2 everywhere."""
        loud = torch.randn(2, 8192, generator=torch.Generator().manual_seed(0))
        expected = abs(gain - 1) + math.log(2)
        torch.testing.assert_close(
            multi_resolution_stft(loud * gain, loud), torch.full((2,), expected), rtol=1e-3, atol=0
        )
        assert not multi_resolution_stft(loud, loud).any()

    def test_stft_against_a_slow_one(self):
        original, copy = np.random.default_rng(0).normal(size=(2, 3000)) * 0.1
        parts = []
        for n_fft, hop, width in RESOLUTIONS:
            window = np.zeros(n_fft)
            start = (n_fft - width) // 2
            window[start : start + width] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
            spectra = []
            for signal in (original, copy):
                padded = np.pad(signal, n_fft // 2, mode="reflect")
                frames = [padded[at : at + n_fft] * window for at in range(0, len(padded) - n_fft + 1, hop)]
                spectra.append(np.maximum(np.abs(np.fft.rfft(frames)), 1e-4))
            real, fake = spectra
            parts.append(
                np.linalg.norm(real - fake) / np.linalg.norm(real) + np.abs(np.log(real) - np.log(fake)).mean()
            )
        found = multi_resolution_stft(torch.tensor(copy[None]).float(), torch.tensor(original[None]).float())
        assert found.item() == pytest.approx(np.mean(parts), rel=1e-4)

    def test_silence_is_finite_and_each_clip_counts_for_itself(self):
        loud = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0))
        silence = torch.zeros(1, 1, 4096)
        both = multi_resolution_stft(torch.cat([loud, silence]), torch.cat([loud * 2, silence + 1e-3]))
        assert both.isfinite().all()
        torch.testing.assert_close(both[:1], multi_resolution_stft(loud, loud * 2))

    def test_shapes_must_be_one(self):
        for metric in (log_mel_l1, mel_cepstral_distortion, multi_resolution_stft):
            with pytest.raises(UserError, match="do not match originals"):
                metric(torch.zeros(1, 20, 3000), torch.zeros(1, 20, 3001))
        with pytest.raises(UserError, match="too short"):
            multi_resolution_stft(torch.zeros(1, 1024), torch.zeros(1, 1024))


class TestEmbedders:
    def test_a_classifier_hears_what_its_processor_gives(self):
        waveforms = torch.cat([sounds(3, loudness=0.05), sounds(3, loudness=0.4)])
        features, probabilities, _ = classifier()(waveforms)
        expected = (waveforms.double() / 32767).flatten(1).std(dim=1)
        torch.testing.assert_close(features[:, 1].double(), expected, rtol=1e-4, atol=0)
        assert probabilities.argmax(dim=1).tolist() == [0, 0, 0, 1, 1, 1]

    def test_a_classifier_is_told_the_rate(self):
        loud, quiet = tone(300, 16_000, amplitude=0.6), tone(300, 16_000, amplitude=0.02)
        waveforms = torch.cat([loud, quiet])
        found = classifier(sampling_rate=16_000)(waveforms).features
        # Half a second becomes 4,000 of its 4,096 samples.
        assert found[0, 1].item() == pytest.approx(0.6 / 2**0.5 * (4000 / 4096) ** 0.5, rel=0.01)
        # Without it 4,096 of the 8,000 are heard as they are.
        assert classifier()(waveforms).features[0, 1].item() == pytest.approx(0.6 / 2**0.5, rel=0.01)

    def test_pictures_are_no_sound(self):
        pictures = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        with pytest.raises(UserError, match="waveforms must be int16 .* not torch.uint8"):
            classifier()(pictures)
        with pytest.raises(UserError, match="waveforms must be int16"):
            LogMelEmbedder(8000)(pictures)
        eyes = ClassifierEmbedder(LoudnessClassifier(), ImageProcessor(resolution=8, channels=1), "eyes")
        for embedder in (eyes, get_embedder("pixels")):
            with pytest.raises(UserError, match="images must be uint8 .* not torch.int16"):
                embedder(sounds(2))

    def test_log_mel(self):
        waveforms = sounds(3, channels=2)
        embedder = get_embedder("log-mel", sampling_rate=8000)
        features, probabilities, _ = embedder(waveforms)
        assert (embedder.name, features.shape, probabilities) == ("log-mel", (3, 256), None)
        spectrum = listening_features(waveforms, 8000)
        # The means of 16 x 16 blocks keep the mean: 64 frames divide evenly, the 40 bands nearly.
        assert features.reshape(3, 16, 16)[:, 0].mean().item() == pytest.approx(
            spectrum[:, :3].mean().item(), rel=1e-4
        )
        with pytest.raises(UserError, match="must be told the sampling rate"):
            get_embedder("log-mel")

    def test_checkpoint_folder(self, tmp_path):
        family = ganzoo.get_family("audio-classifier")
        config = family.tiny_config()
        network = family.networks["classifier"](config).eval()
        folder = tmp_path / "my-ears"
        network.save_pretrained(folder)
        config.processor().save_pretrained(folder)
        waveforms = sounds(4, length=config.length)
        embedder = get_embedder(folder, sampling_rate=config.sampling_rate)
        assert embedder.name == "my-ears"
        expected = network(waveforms.float() / 32767)
        torch.testing.assert_close(embedder(waveforms).features, expected.features)
        torch.testing.assert_close(embedder(waveforms).probabilities, expected.logits.softmax(dim=1))

    def test_unknown_names(self):
        with pytest.raises(NotFoundError, match="Did you mean 'log-mel'"):
            get_embedder("logmel", sampling_rate=8000)


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory):
    """CLAP's architecture with two small layers and random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    audio = {
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "projection_dim": 12,
    }
    text = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=12)
    folder = tmp_path_factory.mktemp("clap") / "tiny-clap"
    transformers.ClapModel(config).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad").save_pretrained(folder)
    return folder


class TestClap:
    def test_features_are_those_of_the_whole_model(self, clap_folder):
        import transformers

        waveforms = sounds(2, channels=2, length=6000)
        embedder = get_embedder(f"clap:{clap_folder}", sampling_rate=48_000)
        features, probabilities, _ = embedder(waveforms)
        assert (embedder.name, features.shape, probabilities) == ("clap tiny-clap", (2, 12), None)
        model = transformers.ClapModel.from_pretrained(clap_folder).eval()
        extractor = transformers.ClapFeatureExtractor.from_pretrained(clap_folder)
        clips = (waveforms.float() / 32767).mean(dim=1).numpy()
        inputs = extractor(list(clips), sampling_rate=48_000, return_tensors="pt")
        with torch.no_grad():
            expected = model.get_audio_features(**inputs).pooler_output
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(features[0], features[1], atol=1e-4)
        assert torch.equal(embedder(waveforms).features, features), "nothing is random"

    def test_other_rates_are_resampled(self, clap_folder):
        slow, fast = ClapEmbedder(clap_folder, sampling_rate=8000), ClapEmbedder(clap_folder)
        assert fast.sampling_rate == 48_000
        features = slow(tone(440, 8000, seconds=1)).features, fast(tone(440, 48_000, seconds=1)).features
        other = fast(tone(3000, 48_000, seconds=1)).features
        assert (features[0] - features[1]).norm() < 0.5 * (features[0] - other).norm()

    def test_wrong_folders(self, clap_folder, tmp_path):
        with pytest.raises(GanzooError, match="CLAP cannot be loaded from .*'clap:FOLDER'"):
            get_embedder(f"clap:{tmp_path}")


class TestEvaluateSamples:
    def test_waveforms(self):
        generated, real, reference = sounds(70, seed=1, loudness=0.2), sounds(60, seed=2), sounds(90, seed=3)
        embedder = classifier()
        names = ["frechet_distance", "inception_score", "precision"]
        frechet, score, precision = evaluate_samples(
            generated.split(30), real, embedder=embedder, metrics=names, splits=1, reference=reference, progress=False
        )
        ours, theirs = embedder(generated), embedder(real)
        assert frechet.value == pytest.approx(frechet_distance(ours.features, theirs.features))
        assert frechet.floor < frechet.value and frechet.num_generated == 70
        assert score.value == pytest.approx(inception_score(ours.probabilities, splits=1).mean)
        assert score.parameters == {"splits": 1} and "±" not in str(score)
        assert 0 <= precision.floor <= 1 and score.floor >= 1

    def test_small_parts_score_lower(self):
        random = torch.Generator().manual_seed(0)
        probabilities = nn.functional.one_hot(torch.randint(10, (40,), generator=random), 10).double()
        embedding = Embedding(torch.zeros(40, 2), probabilities)
        protocol = {"embedder": "x", "metrics": ["inception_score"]}
        (one,) = evaluate_embeddings(embedding, None, splits=1, **protocol)
        (ten,) = evaluate_embeddings(embedding, None, **protocol)
        shares = probabilities.mean(dim=0)
        entropy = -(shares[shares > 0] * shares[shares > 0].log()).sum()
        assert one.value == pytest.approx(math.exp(entropy)) and ten.value < 4 < one.value
        assert ten.parameters == {"splits": 10} and ten.details["standard_deviation"] > 0
