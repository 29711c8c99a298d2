"""Pipelines: a network and its processor, called by a person."""

from ganzoo.pipelines.base import CARD_SAMPLES, PIPELINES, Pipeline, from_pretrained, load_pipeline, pipeline_class
from ganzoo.pipelines.classification import ClassifierPipeline, ClassifierResult
from ganzoo.pipelines.continuation import TextPipeline
from ganzoo.pipelines.generation import GANPipeline, Samples
from ganzoo.pipelines.vocoding import VocoderPipeline
from ganzoo.utils.layout import RECIPE_FILE

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
    "load_pipeline",
    "pipeline_class",
]
