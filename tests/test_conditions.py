"""Conditions: a picture that steers another one, from two columns of a table through the recipe into the networks."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from training_helpers import RECIPE, differing, state_of

import ganzoo
import ganzoo.registry as registry
from ganzoo.data import DataConfig, load_data, open_source
from ganzoo.errors import NotFoundError, UserError
from ganzoo.networks.base import Batch, Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.image import ImageGANConfig
from ganzoo.objectives import StepContext
from ganzoo.objectives.base import generate, judge
from ganzoo.processors import ImageProcessor
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.batches import RealBatches
from ganzoo.training.build import build_trainer
from ganzoo.training.distributed import World

SIZE = 8


class TranslatorConfig(ImageGANConfig):
    """Config of the smallest image-to-image pair."""


class Translator(Generator):
    """The picture to translate (B, C, R, R), and noise as one more plane -> (B, C, R, R)."""

    needs_condition = True

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__(config)
        self.layer = nn.Conv2d(config.channels + 1, config.channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        size = self.config.resolution
        if condition is None:
            condition = latents.new_zeros(len(latents), self.config.channels, size, size)
        plane = latents.mean(dim=1)[:, None, None, None].expand(-1, 1, size, size)
        return torch.tanh(self.layer(torch.cat([condition, plane], dim=1)))


class PairJudge(Discriminator):
    """Judges a picture beside the one that it was made of."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__(config)
        self.layer = nn.Conv2d(2 * config.channels, 1, 3)

    def forward(
        self, samples: Tensor, labels: Tensor | None = None, condition: Tensor | None = None
    ) -> list[DiscriminatorOutput]:
        hidden = self.layer(torch.cat([samples, torch.zeros_like(samples) if condition is None else condition], dim=1))
        return [DiscriminatorOutput(hidden.mean(dim=(1, 2, 3)), [hidden])]


@pytest.fixture(autouse=True)
def translator(monkeypatch):
    monkeypatch.setattr("ganzoo.training.run.write_report", lambda folder: None)

    @registry.register_family("translator", modality="image", paper="https://arxiv.org/abs/1611.07004")
    class Record:
        config = TranslatorConfig
        generator = Translator
        discriminator = PairJudge
        tiny = {"resolution": SIZE, "channels": 1}

    yield
    del registry._registered["translator"]


def png(pixels: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, format="png")
    return {"bytes": stream.getvalue(), "path": "x.png"}


def pictures(count: int) -> list[np.ndarray]:
    """Each of one grey value, which counts it, with one white pixel that tells where left is."""
    made = [np.full((SIZE, SIZE), index) for index in range(count)]
    for picture in made:
        picture[:, 0] = 255
    return made


@pytest.fixture
def table(tmp_path):
    """23 drawings with the photographs to make of them, which are 100 lighter; two rows of another file lack one of them."""
    drawings = pictures(23)
    photographs = [np.where(drawing == 255, 255, drawing + 100) for drawing in drawings]
    columns = {"photo": [png(photo) for photo in photographs], "drawing": [png(drawing) for drawing in drawings]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "pairs.parquet")
    columns["photo"][3] = None
    columns["drawing"][0] = columns["drawing"][7] = None
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "loose.parquet")
    return tmp_path


def recipe(table, *, unaligned=False, **overrides):
    data = {
        "path": str(table / ("loose.parquet" if unaligned else "pairs.parquet")),
        "sample_column": "photo",
        "condition_column": "drawing",
        "unaligned": unaligned,
        "flip": 0.5,
    }
    values = {
        **RECIPE,
        "name": "translator",
        "model": {"family": "translator", "resolution": SIZE, "channels": 1, "latent_dim": 4},
        "data": data,
        "training": {**RECIPE["training"], "steps": 4, "checkpoint_every": 2, "batch_size": 5, "keep_checkpoints": 9},
    }
    return load_recipe(values, overrides)


def trainer_of(table, **options):
    return build_trainer(recipe(table, **options), torch.device("cpu"))[1]


def numbers(batch: Batch) -> tuple[list[int], list[int]]:
    """Which photographs and which drawings a batch holds."""
    found = [((rows[:, 0, 0, 3] + 1) * 127.5).round().int() for rows in (batch.samples, batch.condition)]
    return (found[0] - 100).tolist(), found[1].tolist()


def test_aligned_conditions_stay_with_their_samples_also_mirrored(table):
    trainer = trainer_of(table)
    seen = []
    for ahead in range(23):
        (batch,) = trainer.batches.of_update(ahead)
        photographs, drawings = numbers(batch)
        assert photographs == drawings
        assert torch.equal(batch.samples == 1, batch.condition == 1)  # the same ones are mirrored
        seen += photographs
    assert sorted(seen) == sorted(list(range(23)) * 5)


def test_unaligned_conditions_have_an_order_and_a_number_of_their_own(table):
    trainer = trainer_of(table, unaligned=True)
    assert (len(trainer.dataset), len(trainer.dataset.conditions)) == (22, 21)
    photographs, drawings = zip(*(numbers(*trainer.batches.of_update(ahead)) for ahead in range(21 * 22)), strict=True)
    photographs, drawings = sum(photographs, []), sum(drawings, [])
    for order, missing in ((photographs, {3}), (drawings, {0, 7})):
        there = sorted(set(range(23)) - missing)
        assert sorted(order[: len(there)]) == there and sorted(order[len(there) : 2 * len(there)]) == there
    assert photographs[:21] != drawings[:21]
    assert numbers(*trainer.batches.of_update(3)) == (photographs[15:20], drawings[15:20])  # a function of the step


@pytest.mark.parametrize("unaligned", [False, True])
def test_two_processes_share_what_one_would_see(table, unaligned):
    trainer = trainer_of(table, unaligned=unaligned, **{"data.flip": 0, "training.batch_size": 6})
    halves = recipe(table, unaligned=unaligned, **{"data.flip": 0, "training.batch_size": 3})
    main = trainer.networks["generator"]
    for ahead in range(9):
        shares = [
            next(
                RealBatches(
                    halves, trainer.dataset, trainer.processor, main, trainer.device, World(rank, 2)
                ).of_update(ahead)
            )
            for rank in range(2)
        ]
        (whole,) = trainer.batches.of_update(ahead)
        assert torch.equal(torch.cat([share.samples for share in shares]), whole.samples)
        assert torch.equal(torch.cat([share.condition for share in shares]), whole.condition)


@pytest.mark.parametrize("unaligned", [False, True])
def test_a_run_with_conditions_resumes_exactly(table, tmp_path, unaligned):
    run = recipe(table, unaligned=unaligned)
    ganzoo.train(run, output=tmp_path / "whole", quiet=True)
    folder = shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(folder / "pipeline")
    shutil.rmtree(folder / "checkpoints/step-00000004")
    ganzoo.train(run, output=folder, quiet=True, resume=True)
    assert differing(state_of(folder, 4), state_of(tmp_path / "whole", 4)) == []


def test_both_networks_learn_from_the_condition(table):
    trainer = trainer_of(table)
    before = trainer.networks["discriminator"].layer.weight.clone()
    for _ in range(2):
        trainer.train_step()
    moved = (trainer.networks["discriminator"].layer.weight != before).flatten(2).all(dim=2)
    assert moved.all(), "also the half that reads the condition"


def test_held_out_pairs_stay_pairs(table):
    config = DataConfig(
        path=str(table / "pairs.parquet"), sample_column="photo", condition_column="drawing", holdout=0.3
    )
    processor = ImageProcessor(resolution=SIZE, channels=1)
    for split in ("train", "holdout"):
        data = load_data(config, processor, split=split)
        assert np.array_equal(data.samples[:, 0, 0, 3], data.conditions[:, 0, 0, 3] + 100)


def test_a_processor_may_hold_another_one_for_the_condition(table):
    config = DataConfig(path=str(table / "pairs.parquet"), sample_column="photo", condition_column="drawing", limit=6)
    processor = ImageProcessor(resolution=SIZE, channels=1, condition=ImageProcessor(resolution=4, channels=3))
    data = load_data(config, processor)
    assert data.samples.shape == (6, 1, SIZE, SIZE) and data.conditions.shape == (6, 3, 4, 4)
    again = type(processor).model_validate(processor.model_dump())
    assert again == processor and again.of_conditions.resolution == 4
    assert "condition" not in ImageProcessor(resolution=SIZE, channels=1).to_json()


def test_what_does_not_fit_is_one_clear_error(table):
    with pytest.raises(
        UserError, match="'translator' are steered by a condition; name its column by data.condition_column"
    ):
        trainer_of(table, **{"data.condition_column": None})
    with pytest.raises(UserError, match="'dcgan' take no condition of the data; leave data.condition_column out"):
        trainer_of(table, **{"model.family": "dcgan"})
    with pytest.raises(NotFoundError, match=r"no column 'draw' \(data.condition_column\).*Did you mean.*drawing"):
        trainer_of(table, **{"data.condition_column": "draw"})
    with pytest.raises(UserError, match="data.condition_column is for tables"):
        open_source(DataConfig(dataset="digits", condition_column="x"))
    with pytest.raises(UserError, match="data.unaligned is about conditions"):
        open_source(DataConfig(dataset="digits", unaligned=True))


def test_networks_that_know_of_no_condition_are_never_told_of_one():
    """Families of before there were any."""

    class Old(Generator):
        def forward(self, latents, labels=None):
            return latents

    def old_judge(samples, labels=None):
        return samples

    context = StepContext(0, 0.0, lambda network, count: torch.zeros(count, 3), None)
    batch = Batch(torch.zeros(2, 3), None)
    assert generate(Old(TranslatorConfig()), batch, context).shape == (2, 3)
    assert judge(old_judge, *batch) is batch.samples
