"""A task of another package: a pipeline file and an evaluation file, found by what its networks say of their task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FILES = {
    "repair/__init__.py": "",
    "repair/family.py": '''
"""Repairs pictures (a test)."""
import torch
from ganzoo.networks.base import Discriminator, DiscriminatorOutput, Generator
from ganzoo.networks.image import ImageGANConfig
from ganzoo.registry import register_family

class RepairConfig(ImageGANConfig):
    pass

class Repairer(Generator):
    task = "repair"

    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Conv2d(config.channels, config.channels, 3, padding=1)

    def example_inputs(self, num_samples, generator):
        size = self.config.resolution
        return {"pictures": torch.randn(num_samples, self.config.channels, size, size, generator=generator)}

    def forward(self, pictures):
        return self.layer(pictures).tanh()

class Judge(Discriminator):
    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(config.channels * config.resolution**2, 1)

    def forward(self, samples, labels=None):
        return [DiscriminatorOutput(self.layer(samples.flatten(1))[:, 0], [])]

@register_family("repairer", modality="image", paper="https://example.org/repair")
class RepairFamily:
    config = RepairConfig
    generator = Repairer
    discriminator = Judge
    tiny = {"resolution": 8, "channels": 1}
''',
    "repair/pipeline.py": """
from dataclasses import replace
import torch
from ganzoo.pipelines import Pipeline, Samples

class RepairPipeline(Pipeline):
    command = "sample"

    @classmethod
    def card_words(cls, processor):
        common = super().card_words(processor)
        usage = (*common.usage, 'images = pipe("broken.png").images')
        return replace(common, tag="repair", hub_task="image-to-image", usage=usage)

    @torch.inference_mode()
    def sample(self, num_samples=1, *, picture, strength=1.0, seed=None):
        stored = torch.from_numpy(self.processor.encode(picture))[None].repeat(num_samples, 1, 1, 1)
        return Samples(strength * self.network(self.processor.normalize(stored)), None, None)

    def __call__(self, picture, **how):
        drawn = self.sample(picture=picture, **how)
        return self.processor.output(drawn.samples, "pil", labels=None, latents=None)

PIPELINE = RepairPipeline
""",
    "repair/evaluation.py": """
def EVALUATION(request):
    return [request.result("repaired", 0.5, num_real=len(request.real), num_generated=2, embedder="none")]
""",
    "repair-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: repair\nVersion: 1.0\n",
    "repair-1.0.dist-info/entry_points.txt": "\n".join(
        [
            "[ganzoo.families]\nrepairer = repair.family",
            "[ganzoo.pipelines]\nrepair = repair.pipeline",
            "[ganzoo.evaluation]\nrepair = repair.evaluation",
            "",
        ]
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder of installed packages, and a checkpoint of the task beside it."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, text in FILES.items():
        path = folder / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "broken.png")
    code = """
import ganzoo
from ganzoo.pipelines import pipeline_class
generator, judge = ganzoo.create("repairer", **ganzoo.get_family("repairer").tiny)
pipeline_class(generator)(generator, generator.config.processor(), discriminator=judge).save_pretrained("model")
"""
    done = ran(folder / "site", "-c", code)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def ran(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": paths},
    )


def test_a_task_is_its_pipeline(site):
    """Called, described by its card and verified, without a word of it anywhere in ganzoo."""
    card = (site.parent / "model" / "README.md").read_text()
    assert "pipeline_tag: image-to-image" in card and "- repair\n" in card and 'pipe("broken.png").images' in card
    code = """
import ganzoo
pipe = ganzoo.from_pretrained("model")
print(type(pipe).__name__, pipe("broken.png").images[0].size)
print(all(check.passed for check in ganzoo.verify("model")))
print(ganzoo.evaluate(pipe, data={"dataset": "digits"})[0].name)
"""
    done = ran(site, "-c", code)
    assert done.stdout.splitlines() == ["RepairPipeline (8, 8)", "True", "repaired"], done.stderr


def test_ganzoo_sample_calls_it(site):
    sample = ("-m", "ganzoo", "sample", "model", "--num", "2", "--output", "repaired")
    done = ran(site, *sample, "--with", "picture=broken.png", "--with", "strength=0")
    assert done.stdout.splitlines() == ["repaired/00000.png", "repaired/00001.png"], done.stderr
    grey = np.array(Image.open(site.parent / "repaired" / "00001.png"))  # strength is the number 0
    assert set(grey.flatten().tolist()) <= {127, 128}
    for arguments, message in (
        ((), "model needs --with picture=..."),
        (("--with", "picture=x", "--truncation", "1"), "which has no --truncation"),
        (("--with", "colour=red"), "which has no --with colour"),
        (("--with", "picture"), "--with takes NAME=VALUE"),
    ):
        done = ran(site, *sample, *arguments)
        assert done.returncode == 2 and message in done.stderr


def test_another_pipeline_refuses_it(site):
    done = ran(site, "-c", "import ganzoo; ganzoo.GANPipeline.from_pretrained('model')")
    assert "model makes a RepairPipeline, not a GANPipeline; see 'ganzoo sample --help'" in done.stderr
    assert json.loads((site.parent / "model" / "config.json").read_text())["family"] == "repairer"
