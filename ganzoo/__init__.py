"""ganzoo: a zoo of generative adversarial networks for images, audio and text.

    import ganzoo
    pipe = ganzoo.from_pretrained("dcgan-mnist")
    pipe(num_samples=16, seed=0).images

Everything below is imported when it is first touched (PEP 562): `import ganzoo` costs milliseconds and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. The one place that says what the public face is.
_EXPORTS = {
    "from_pretrained": "ganzoo.pipelines",
    "GANPipeline": "ganzoo.pipelines",
    "TextPipeline": "ganzoo.pipelines",
    "ClassifierPipeline": "ganzoo.pipelines",
    "Generator": "ganzoo.modeling",
    "Discriminator": "ganzoo.modeling",
    "Classifier": "ganzoo.modeling",
    "DiscriminatorOutput": "ganzoo.modeling",
    "ClassifierOutput": "ganzoo.modeling",
    "create": "ganzoo.modeling",
    "GANConfig": "ganzoo.config",
    "ImageGANConfig": "ganzoo.config",
    "TextGANConfig": "ganzoo.language",
    "TextGenerator": "ganzoo.language",
    "TextDiscriminator": "ganzoo.language",
    "Processor": "ganzoo.processors",
    "ImageProcessor": "ganzoo.processors",
    "TextProcessor": "ganzoo.processors",
    "Family": "ganzoo.registry",
    "register_family": "ganzoo.registry",
    "get_family": "ganzoo.registry",
    "list_families": "ganzoo.registry",
    "list_models": "ganzoo.catalogue",
    "train": "ganzoo.training",
    "TrainingRun": "ganzoo.training",
    "Recipe": "ganzoo.training",
    "load_recipe": "ganzoo.training",
    "list_recipes": "ganzoo.training",
    "evaluate": "ganzoo.evaluation",
    "interpolate": "ganzoo.exploring",
    "directions": "ganzoo.exploring",
    "project": "ganzoo.exploring",
    "verify": "ganzoo.verification",
    "pull": "ganzoo.hub",
    "push_folder": "ganzoo.hub",
    "GanzooError": "ganzoo.errors",
    "UserError": "ganzoo.errors",
    "NotFoundError": "ganzoo.errors",
    "CheckpointError": "ganzoo.errors",
    "TrainingError": "ganzoo.errors",
    "MissingPackageError": "ganzoo.errors",
    "AudioGANConfig": "ganzoo.config",
    "Vocoder": "ganzoo.modeling",
    "VocoderPipeline": "ganzoo.pipelines",
    "WaveformProcessor": "ganzoo.processors",
    "SpectrogramProcessor": "ganzoo.processors",
    "Recording": "ganzoo.recording",
    "read_recording": "ganzoo.recording",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from ganzoo.catalogue import list_models as list_models
    from ganzoo.config import AudioGANConfig as AudioGANConfig
    from ganzoo.config import GANConfig as GANConfig
    from ganzoo.config import ImageGANConfig as ImageGANConfig
    from ganzoo.errors import CheckpointError as CheckpointError
    from ganzoo.errors import GanzooError as GanzooError
    from ganzoo.errors import MissingPackageError as MissingPackageError
    from ganzoo.errors import NotFoundError as NotFoundError
    from ganzoo.errors import TrainingError as TrainingError
    from ganzoo.errors import UserError as UserError
    from ganzoo.evaluation import evaluate as evaluate
    from ganzoo.exploring import directions as directions
    from ganzoo.exploring import interpolate as interpolate
    from ganzoo.exploring import project as project
    from ganzoo.hub import pull as pull
    from ganzoo.hub import push_folder as push_folder
    from ganzoo.language import TextDiscriminator as TextDiscriminator
    from ganzoo.language import TextGANConfig as TextGANConfig
    from ganzoo.language import TextGenerator as TextGenerator
    from ganzoo.modeling import Classifier as Classifier
    from ganzoo.modeling import ClassifierOutput as ClassifierOutput
    from ganzoo.modeling import Discriminator as Discriminator
    from ganzoo.modeling import DiscriminatorOutput as DiscriminatorOutput
    from ganzoo.modeling import Generator as Generator
    from ganzoo.modeling import Vocoder as Vocoder
    from ganzoo.modeling import create as create
    from ganzoo.pipelines import ClassifierPipeline as ClassifierPipeline
    from ganzoo.pipelines import GANPipeline as GANPipeline
    from ganzoo.pipelines import TextPipeline as TextPipeline
    from ganzoo.pipelines import VocoderPipeline as VocoderPipeline
    from ganzoo.pipelines import from_pretrained as from_pretrained
    from ganzoo.processors import ImageProcessor as ImageProcessor
    from ganzoo.processors import Processor as Processor
    from ganzoo.processors import SpectrogramProcessor as SpectrogramProcessor
    from ganzoo.processors import TextProcessor as TextProcessor
    from ganzoo.processors import WaveformProcessor as WaveformProcessor
    from ganzoo.recording import Recording as Recording
    from ganzoo.recording import read_recording as read_recording
    from ganzoo.registry import Family as Family
    from ganzoo.registry import get_family as get_family
    from ganzoo.registry import list_families as list_families
    from ganzoo.registry import register_family as register_family
    from ganzoo.training import Recipe as Recipe
    from ganzoo.training import TrainingRun as TrainingRun
    from ganzoo.training import list_recipes as list_recipes
    from ganzoo.training import load_recipe as load_recipe
    from ganzoo.training import train as train
    from ganzoo.verification import verify as verify


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'ganzoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
