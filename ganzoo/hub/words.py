"""What a card says by modality and kind of pipeline: tags, install line, the words of its table of metrics."""

from __future__ import annotations

from ganzoo.version import install_command

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


INSTALL = install_command()


# To copy a recording, a vocoder makes its mel spectrogram, by the filters of torchaudio.
INSTALLS = {("audio", "vocoder"): install_command("audio")}


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
