"""Embedders, and the way from two sets of pictures to a printed number."""

import json
import math
import sys

import pytest
import torch
from torch import nn

import ganzoo
from ganzoo.embedders.base import Embedding
from ganzoo.embedders.classifier import ClassifierEmbedder
from ganzoo.embedders.opening import get_embedder
from ganzoo.embedders.pixels import PixelEmbedder, fit_images
from ganzoo.errors import MissingPackageError, NotFoundError, UserError
from ganzoo.metrics import (
    METRICS,
    MetricResult,
    evaluate_samples,
    frechet_distance,
    kernel_inception_distance,
    precision_recall,
)
from ganzoo.networks.base import ClassifierOutput
from ganzoo.processors import ImageProcessor


def pictures(count, *, low=0, high=256, seed=0, shape=(1, 4, 4)):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, *shape), generator=random, dtype=torch.uint8)


class BrightnessClassifier(nn.Module):
    """Two features, the mean and the deviation of the pixels in [-1, 1]; class 1 is bright, class 0 is dark."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(50.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, samples):
        pixels = self.dropout(samples).flatten(1)
        mean, deviation = pixels.mean(dim=1), pixels.std(dim=1)
        logits = torch.stack([-mean, mean], dim=1) * self.sharpness
        return ClassifierOutput(logits, torch.stack([mean, deviation], dim=1))


def classifier(channels=1, resolution=4):
    processor = ImageProcessor(resolution=resolution, channels=channels)
    return ClassifierEmbedder(BrightnessClassifier(), processor, "brightness")


class TestFitImages:
    def test_fitting_images_come_back_unchanged(self):
        images = pictures(2, shape=(3, 8, 8))
        assert fit_images(images, 3, 8, 8) is images

    def test_grey_is_repeated_and_rgb_averaged(self):
        grey, colour = pictures(2), pictures(2, shape=(3, 4, 4))
        assert torch.equal(fit_images(grey, 3, 4, 4), grey.repeat(1, 3, 1, 1))
        assert torch.equal(fit_images(colour, 1, 4, 4), colour.double().mean(dim=1, keepdim=True).round().byte())

    def test_halving_averages_and_keeps_extremes(self):
        stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).expand(1, 1, 16, 16)
        halved = fit_images(stripes, 1, 8, 8)
        # Antialiasing turns one-pixel stripes into grey; picking every second column would leave 0 or 255.
        assert halved.shape == (1, 1, 8, 8)
        assert 100 < int(halved[..., 2:-2].min()) <= int(halved[..., 2:-2].max()) < 155
        white = torch.full((1, 1, 5, 5), 255, dtype=torch.uint8)
        assert torch.equal(fit_images(white, 1, 32, 32), torch.full((1, 1, 32, 32), 255, dtype=torch.uint8))

    def test_channels_without_a_meaning(self):
        with pytest.raises(UserError, match="2 channels cannot be shown to an embedder that takes 3"):
            fit_images(pictures(1, shape=(2, 4, 4)), 3, 4, 4)

    @pytest.mark.parametrize("images", [torch.zeros(2, 1, 4, 4), torch.zeros(1, 4, 4).byte(), [[0]]])
    def test_not_images(self, images):
        with pytest.raises(UserError, match="images must be uint8"):
            fit_images(images, 1, 4, 4)


class TestEmbedders:
    def test_pixels_of_small_pictures_are_the_pixels(self):
        images = pictures(3, shape=(3, 5, 7))
        features, probabilities, _ = PixelEmbedder()(images)
        assert torch.equal(features, images.flatten(1) / 255)
        assert probabilities is None

    def test_pixels_of_large_pictures_are_block_means(self):
        images = pictures(2, shape=(1, 64, 32))
        expected = images.double().reshape(2, 16, 4, 16, 2).mean(dim=(2, 4)).flatten(1) / 255
        torch.testing.assert_close(PixelEmbedder()(images).features.double(), expected, rtol=1e-5, atol=1e-6)

    def test_classifier(self):
        images = pictures(5)
        features, probabilities, _ = classifier()(images)
        pixels = images.flatten(1).double() / 127.5 - 1
        torch.testing.assert_close(features[:, 0].double(), pixels.mean(dim=1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(5))
        assert torch.equal(probabilities.argmax(dim=1), (pixels.mean(dim=1) > 0).long())
        assert not features.requires_grad

    def test_classifier_takes_other_sizes_and_channels(self):
        colour = torch.tensor([30, 60, 90], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 9, 9)
        features = classifier(channels=1, resolution=4)(colour).features
        torch.testing.assert_close(features, torch.tensor([[60 / 127.5 - 1, 0.0]] * 2))
        assert classifier(channels=3, resolution=8)(pictures(2)).features.shape == (2, 2)

    def test_a_network_in_training_is_put_into_eval(self):
        network = BrightnessClassifier().train()
        embedder = ClassifierEmbedder(network, ImageProcessor(resolution=4, channels=1), "x")
        images = pictures(3)
        assert torch.equal(embedder(images).features, embedder(images).features)

    def test_names(self):
        assert get_embedder("pixels").name == "pixels"
        own = classifier()
        assert get_embedder(own) is own

    def test_unknown_names_and_objects(self):
        with pytest.raises(NotFoundError, match="Did you mean 'pixels'"):
            get_embedder("pixel")
        with pytest.raises(UserError, match="not Conv2d"):
            get_embedder(nn.Conv2d(1, 1, 1))

    def test_checkpoint_folder(self, tmp_path):
        family = ganzoo.get_family("image-classifier")
        network = family.networks["classifier"](family.config.from_dict(family.tiny)).eval()
        folder = tmp_path / "my-classifier"
        network.save_pretrained(folder)
        ImageProcessor(resolution=8, channels=1).save_pretrained(folder)
        images = pictures(4, shape=(1, 8, 8))
        embedder = get_embedder(folder)
        assert embedder.name == "my-classifier"
        expected = network(ImageProcessor(resolution=8, channels=1).normalize(images))
        assert torch.equal(embedder(images).features, expected.features)

    def test_a_generator_is_no_embedder(self, tmp_path):
        family = ganzoo.get_family("dcgan")
        config = family.tiny_config()
        family.networks["generator"](config).save_pretrained(tmp_path)
        config.processor().save_pretrained(tmp_path)
        with pytest.raises(UserError, match="must be a classifier"):
            get_embedder(tmp_path)

    def test_inception_without_its_package(self):
        try:
            import torch_fidelity  # noqa: F401
        except Exception:
            with pytest.raises(MissingPackageError, match=r"ganzoo\[inception\]"):
                get_embedder("inception")
        else:
            pytest.skip("torch-fidelity is installed, and its weights are a download of 95 MB")


class TestEvaluateSamples:
    def test_every_metric(self):
        generated, real = pictures(120, seed=1), pictures(100, seed=2)
        embedder = classifier()
        protocol = {"seed": 3, "dataset": "noise", "split": "test", "labels": torch.arange(120) % 2}
        results = evaluate_samples(generated, real, embedder=embedder, metrics=METRICS.names(), **protocol)
        assert [result.name for result in results] == METRICS.names()
        value = {result.name: result.value for result in results}
        first, second = embedder(generated), embedder(real)
        assert value["frechet_distance"] == pytest.approx(frechet_distance(first.features, second.features))
        kid = kernel_inception_distance(first.features, second.features, seed=3)
        assert value["kid"] == pytest.approx(kid.mean)
        assert (value["precision"], value["recall"]) == precision_recall(first.features, second.features)
        assert 1 < value["inception_score"] <= 2
        assert 0 <= value["class_balance"] < math.log(2)
        hits = first.probabilities.argmax(dim=1) == torch.arange(120) % 2
        assert value["label_accuracy"] == pytest.approx(float(hits.float().mean()))
        for result in results:
            compares = METRICS.all()[result.name].compares
            assert (result.num_generated, result.num_real) == (120, 100 if compares else 0)
            assert (result.embedder, result.dataset, result.split, result.seed) == ("brightness", "noise", "test", 3)
            assert (result.ganzoo_version, result.torch_version) == (ganzoo.__version__, torch.__version__)
            assert result.floor is None
        assert METRICS.all()["recall"].higher_is_better and not METRICS.all()["kid"].higher_is_better

    def test_batches_and_tensors_agree(self):
        generated, real = pictures(600, seed=1), pictures(300, seed=2)
        options = {"embedder": "pixels", "metrics": ["frechet_distance", "kid", "coverage"], "progress": False}
        whole = evaluate_samples(generated, real, **options)
        assert evaluate_samples((batch for batch in generated.split(70)), list(real.split(299)), **options) == whole

    def test_better_pictures_score_better(self):
        real = pictures(300, low=0, high=128, seed=1)
        close, far = pictures(300, low=0, high=140, seed=2), pictures(300, low=0, high=256, seed=3)
        names = ["frechet_distance", "kid", "precision", "coverage", "density"]
        good, bad = (evaluate_samples(set_, real, embedder="pixels", metrics=names) for set_ in (close, far))
        for better, worse in zip(good, bad, strict=True):
            assert (better.value > worse.value) == METRICS.all()[better.name].higher_is_better

    def test_floor(self):
        generated, real, reference = pictures(80, high=200, seed=1), pictures(90, seed=2), pictures(300, seed=3)
        names = ["frechet_distance", "kid", "recall"]
        frechet, kid, recall = evaluate_samples(generated, real, embedder="pixels", metrics=names, reference=reference)
        assert recall.floor > 2 * recall.value
        assert kid.floor < kid.value
        assert frechet.floor < frechet.value
        # Thinned to the number of generated samples: a larger reference would have a lower floor.
        assert frechet.details["num_reference"] == 80
        features = [PixelEmbedder()(images).features for images in (reference, real)]
        assert frechet.floor > 1.05 * frechet_distance(*features)

    def test_small_reference_is_used_whole(self):
        real, reference = pictures(90, seed=2), pictures(50, seed=3)
        names = ["frechet_distance", "recall", "precision", "class_balance", "modes", "label_accuracy"]
        embedder = classifier()
        labels = {"labels": torch.zeros(90, dtype=torch.long), "real_labels": torch.ones(90, dtype=torch.long)}
        results = evaluate_samples(pictures(90), real, embedder=embedder, reference=reference, metrics=names, **labels)
        floors = {result.name: result.floor for result in results}
        ours, theirs = embedder(reference), embedder(real)
        assert floors["frechet_distance"] == pytest.approx(frechet_distance(ours.features, theirs.features))
        assert (floors["precision"], floors["recall"]) == precision_recall(ours.features, theirs.features)
        # Of a metric that compares with nothing, what the real samples score.
        shares = theirs.probabilities.argmax(dim=1).bincount(minlength=2) / 90
        assert floors["label_accuracy"] == pytest.approx(float(shares[1]))
        assert floors["class_balance"] == pytest.approx(float((shares * (2 * shares).log()).sum()), rel=1e-4)
        assert floors["modes"] == 2

    def test_labels_of_what_cannot_be_asked_for_a_class(self):
        with pytest.raises(UserError, match="label_accuracy is of conditional models"):
            evaluate_samples(pictures(20), None, embedder=classifier(), metrics=["label_accuracy"])

    def test_each_set_is_embedded_once(self):
        seen = []

        class Counting(PixelEmbedder):
            def __call__(self, images):
                seen.append(len(images))
                return super().__call__(images)

        sets = [pictures(count, seed=count) for count in (20, 30, 40)]
        names = ["frechet_distance", "kid", "precision", "recall", "density", "coverage"]
        evaluate_samples(sets[0], sets[1], embedder=Counting(), metrics=names, reference=sets[2])
        assert sorted(seen) == [20, 30, 40]

    def test_pairs_share_one_computation(self):
        assert METRICS.all()["precision"].compute is METRICS.all()["recall"].compute
        assert METRICS.all()["density"].compute is METRICS.all()["coverage"].compute

    def test_without_real_samples(self):
        dark = pictures(30, high=100)
        (result,) = evaluate_samples(dark, None, embedder=classifier(), metrics="class_balance")
        assert result.value == pytest.approx(math.log(2))
        assert result.details["counts"] == [30, 0]
        with pytest.raises(UserError, match="kid compares with real samples"):
            evaluate_samples(dark, None, embedder=classifier(), metrics=["kid"])

    def test_deterministic_under_a_seed(self):
        def evaluate(seed):
            names = ["kid", "inception_score"]
            sets = pictures(60, seed=1), pictures(60, seed=2)
            return evaluate_samples(*sets, embedder=classifier(), metrics=names, seed=seed, reference=pictures(99))

        state = torch.get_rng_state()
        assert evaluate(0) == evaluate(0)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(first.value != second.value for first, second in zip(evaluate(0), evaluate(1), strict=True))

    def test_device(self):
        (result,) = evaluate_samples(
            pictures(30, seed=1), pictures(30, seed=2), embedder=classifier(), metrics=["recall"], device="cpu"
        )
        assert 0 <= result.value <= 1

    def test_progress_goes_to_standard_error_of_a_terminal(self, capsys, monkeypatch):
        evaluate_samples(pictures(9), pictures(9), embedder="pixels")
        assert capsys.readouterr() == ("", ""), "a log file is not for bars"
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
        evaluate_samples(pictures(9), pictures(9), embedder="pixels", progress=False)
        assert capsys.readouterr() == ("", "")
        evaluate_samples(pictures(9), pictures(9), embedder="pixels")
        output, errors = capsys.readouterr()
        assert output == ""
        assert "embedding generated" in errors


class TestEvaluateErrors:
    def test_unknown_metric(self):
        with pytest.raises(UserError, match="no metric 'recal'. Did you mean 'recall'"):
            evaluate_samples(pictures(9), pictures(9), embedder="pixels", metrics=["kid", "recal"])
        with pytest.raises(UserError, match="name at least one metric"):
            evaluate_samples(pictures(9), pictures(9), embedder="pixels", metrics=[])

    def test_probabilities_that_the_embedder_lacks(self):
        def endless():
            while True:
                yield pictures(2)

        with pytest.raises(UserError, match="inception_score, class_balance read class probabilities.*'pixels'"):
            evaluate_samples(
                endless(), None, embedder="pixels", metrics=["inception_score", "class_balance"], progress=False
            )

    def test_empty_set(self):
        with pytest.raises(UserError, match="the generated set is empty"):
            evaluate_samples([], pictures(9), embedder="pixels")
        with pytest.raises(UserError, match="the real set is empty"):
            evaluate_samples(pictures(9), iter(()), embedder="pixels")

    def test_pictures_in_network_space(self):
        with pytest.raises(UserError, match="decode a generator's output"):
            evaluate_samples(torch.rand(9, 1, 4, 4), pictures(9), embedder="pixels")

    def test_other_channels(self):
        with pytest.raises(UserError, match="width 16, but real features have width 48"):
            evaluate_samples(pictures(9), pictures(9, shape=(3, 4, 4)), embedder="pixels")

    def test_an_embedder_that_breaks(self):
        class Broken:
            name = "broken"

            def __call__(self, images):
                return Embedding(torch.full((len(images), 2), torch.nan), None)

        with pytest.raises(UserError, match="generated features hold NaN"):
            evaluate_samples(pictures(9), pictures(9), embedder=Broken(), metrics=["recall"])


class TestMetricResult:
    result = MetricResult(
        name="frechet_distance",
        value=3.4231,
        num_real=10_000,
        num_generated=10_000,
        embedder="digit-classifier",
        dataset="ylecun/mnist",
        split="test",
        seed=0,
        floor=0.3077,
    )

    def test_line(self):
        assert str(self.result) == (
            "frechet_distance 3.42  (floor 0.308; 10,000 generated vs 10,000 real ylecun/mnist[test]; "
            "embedder digit-classifier; seed 0)"
        )

    def test_line_of_a_metric_with_spread_and_of_one_without_real_samples(self):
        (kid,) = evaluate_samples(pictures(20), pictures(20, seed=1), embedder="pixels", metrics=["kid"])
        assert " ± " in str(kid) and "(20 generated vs 20 real; embedder pixels; seed 0)" in str(kid)
        (balance,) = evaluate_samples(pictures(20, high=90), None, embedder=classifier(), metrics=["class_balance"])
        assert str(balance) == (
            "class_balance 0.693  (KL to uniform; a class has 0.0% to 100.0% of the samples; 20 generated; "
            "embedder brightness; seed 0)"
        )

    def test_survives_json(self):
        options = {"metrics": METRICS.names(), "labels": torch.zeros(40, dtype=torch.long)}
        results = evaluate_samples(
            pictures(40), pictures(40, seed=1), embedder=classifier(), reference=pictures(50), **options
        )
        records = json.loads(json.dumps([result.to_dict() for result in results], allow_nan=False))
        assert [MetricResult(**record) for record in records] == results
        assert set(records[0]) >= {
            "name",
            "value",
            "num_real",
            "num_generated",
            "embedder",
            "dataset",
            "split",
            "seed",
        }
        assert set(records[0]) >= {"parameters", "floor", "ganzoo_version", "torch_version"}
