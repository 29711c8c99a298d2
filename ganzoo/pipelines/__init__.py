"""Pipelines: a network and its processor, called by a person."""

from ganzoo.pipelines.base import RECIPE_FILE, Pipeline
from ganzoo.pipelines.classifier import ClassifierPipeline, ClassifierResult
from ganzoo.pipelines.gan import CARD_SAMPLES, GANPipeline, Samples
from ganzoo.pipelines.loading import PIPELINES, from_pretrained, pipeline_class
from ganzoo.pipelines.text import TextPipeline
from ganzoo.pipelines.vocoder import VocoderPipeline

__all__ = [
    "CARD_SAMPLES",
    "PIPELINES",
    "RECIPE_FILE",
    "ClassifierPipeline",
    "ClassifierResult",
    "GANPipeline",
    "Pipeline",
    "Samples",
    "TextPipeline",
    "VocoderPipeline",
    "from_pretrained",
    "pipeline_class",
]
