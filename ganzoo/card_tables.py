"""What the Hub accepts in a model card's metadata; its server refuses or ignores everything else.

Sources: https://huggingface.co/docs/hub/repositories-licenses and `packages/tasks/src/pipelines.ts` of huggingface.js.
"""

from __future__ import annotations

LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda
    cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++
    osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl deepfloyd-if-license llama2 gemma unknown other
    """.split()
)

PIPELINE_TAGS = frozenset(
    """
    text-classification token-classification table-question-answering question-answering zero-shot-classification
    translation summarization feature-extraction text-generation text2text-generation fill-mask sentence-similarity
    text-to-speech text-to-audio automatic-speech-recognition audio-to-audio audio-classification audio-text-to-text
    voice-activity-detection depth-estimation image-classification object-detection image-segmentation text-to-image
    image-to-text image-to-image image-to-video unconditional-image-generation video-classification
    reinforcement-learning robotics tabular-classification tabular-regression tabular-to-text table-to-text
    multiple-choice text-ranking text-retrieval time-series-forecasting text-to-video image-text-to-text
    visual-question-answering document-question-answering zero-shot-image-classification graph-ml mask-generation
    zero-shot-object-detection text-to-3d image-to-3d image-feature-extraction video-text-to-text keypoint-detection
    visual-document-retrieval any-to-any biology other
    """.split()
)

# (modality, kind) -> the Hub's task. It has none for audio that is made from nothing: those cards go by their tags.
PIPELINE_TAG = {
    ("image", "gan"): "unconditional-image-generation",
    ("text", "gan"): "text-generation",
    ("audio", "gan"): None,
    ("points", "gan"): None,
    ("audio", "vocoder"): "audio-to-audio",
    ("image", "classifier"): "image-classification",
    ("text", "classifier"): "text-classification",
    ("audio", "classifier"): "audio-classification",
}
EXTRA_TAGS = {
    ("audio", "gan"): ("audio", "audio-generation", "unconditional-audio-generation"),
    ("audio", "vocoder"): ("gan", "audio", "neural-vocoder", "text-to-speech", "audio-generation"),
    ("audio", "classifier"): ("audio",),
}

INSTALL = "pip install ganzoo"
# To copy a recording, a vocoder makes its mel spectrogram, by the filters of torchaudio.
INSTALLS = {("audio", "vocoder"): 'pip install "ganzoo[audio]"'}

_FLOOR_NOTE = "The floor is what real data scores against other real data under the same protocol."
# Modality -> two heads of the table of metrics, and what is said below it of the first.
METRIC_WORDS = {
    "image": ("Floor", "Embedder", _FLOOR_NOTE),
    "audio": ("Floor", "Embedder", _FLOOR_NOTE),
    "points": ("Real points", "Embedder", "Real points are as many of the data's own, counted alike."),
    "text": (
        "Real text",
        "Protocol",
        "Real text is what training sentences score in place of the generated ones or, compared with the training "
        "sentences, test sentences.",
    ),
}
