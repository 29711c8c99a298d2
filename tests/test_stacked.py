"""StackedMNIST: pictures of three digits, and the judge that counts their thousand modes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.data import load_data
from ganzoo.embedders.channels import ChannelwiseEmbedder
from ganzoo.embedders.classifier import ClassifierEmbedder
from ganzoo.embedders.opening import get_embedder
from ganzoo.errors import NotFoundError, UserError
from ganzoo.metrics.evaluate import evaluate_samples
from ganzoo.processors import ImageProcessor
from ganzoo.recipe.data import DataConfig


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A stand-in for MNIST, three pictures a class; the brightness is the class."""
    root = tmp_path_factory.mktemp("mnist")
    for split, offset in (("train", 0), ("test", 1)):
        for digit in range(10):
            folder = root / split / str(digit)
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.full((28, 28), 20 * digit + 4 * number + offset, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


class Brightness(torch.nn.Module):
    """Says the class of the stand-ins."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(127.5))

    def forward(self, samples):
        grey = (samples.mean(dim=(1, 2, 3)) + 1) * self.scale
        distance = (grey[:, None] - 20 * torch.arange(10) - 5).abs()
        return SimpleNamespace(logits=-distance, features=grey[:, None])


@pytest.fixture
def judge():
    return ChannelwiseEmbedder(
        ClassifierEmbedder(Brightness(), ImageProcessor(resolution=28, channels=1), "brightness")
    )


@pytest.fixture
def stacks(mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    config = DataConfig(dataset="stacked-mnist", path=str(mnist), limit=6000)
    return load_data(config, ImageProcessor(resolution=32, channels=3, fit="pad"))


def test_the_label_is_the_number_that_the_channels_make(stacks):
    assert len(stacks) == 6000 and stacks.num_classes == 1000
    digits = (stacks.samples[:, :, 16, 16].astype(int) // 20).tolist()
    assert [100 * a + 10 * b + c for a, b, c in digits] == stacks.labels.tolist()
    assert np.unique(stacks.labels).size > 990  # of 6,000 draws 2.5 modes are expected to be missing
    assert not stacks.samples[:, :, :2].any(), "28x28, padded to 32x32"


def test_splits_are_drawn_of_their_own_digits_and_others_refused(mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path))
    processor = ImageProcessor(resolution=28, channels=3)
    test = load_data(DataConfig(dataset="stacked-mnist", path=str(mnist), limit=50), processor, split="test")
    assert (test.samples[:, :, 0, 0] % 4 == 1).all(), "only the test pictures are odd"
    with pytest.raises(NotFoundError, match="'stacked-mnist' has no split 'dev'; there is test, train"):
        load_data(DataConfig(dataset="stacked-mnist", path=str(mnist)), processor, split="dev")


def test_every_channel_is_judged_by_itself(judge, stacks):
    images = torch.from_numpy(stacks.samples[:500, :, 2:30, 2:30].copy())
    embedding = judge(images)
    assert embedding.features.shape == (500, 3) and embedding.probabilities.shape == (500, 1000)
    assert embedding.probabilities.sum(dim=1) == pytest.approx(1, abs=1e-4)
    assert embedding.probabilities.argmax(dim=1).tolist() == stacks.labels[:500].tolist()


def test_modes_and_divergence_are_counted(judge):
    picture = torch.zeros(4, 3, 28, 28, dtype=torch.uint8)
    picture[1:3] = torch.tensor([20, 40, 60])[:, None, None] + 5  # 123, twice
    picture[3] = 185  # 999
    found = {r.name: r for r in evaluate_samples(picture, None, embedder=judge, metrics=["modes", "class_balance"])}
    assert found["modes"].value == 3 and found["modes"].parameters == {"classes": 1000}
    assert found["class_balance"].value == pytest.approx(2 * 0.25 * math.log(250) + 0.5 * math.log(500))
    assert found["modes"].embedder == "channels:brightness"


def test_combinations_that_cannot_be_counted_are_refused(judge):
    with pytest.raises(UserError, match="6 channels of 10 classes each make more than 100,000 classes"):
        judge(torch.zeros(1, 6, 28, 28, dtype=torch.uint8))


def test_the_published_classifier_by_name():
    assert get_embedder("channels:digit-classifier").name == "channels:digit-classifier"
