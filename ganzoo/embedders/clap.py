"""Embedders of sound beside the classifiers of ours: the log-mel spectrogram itself, and CLAP."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.embedders.base import EmbedderKind, Embedding
from ganzoo.embedders.listening import to_mono
from ganzoo.errors import GanzooError
from ganzoo.sound.spectral import resample

CLAP_REPOSITORY = "laion/clap-htsat-unfused"


class ClapEmbedder:
    """CLAP's audio embedding (Wu et al., 2023, https://arxiv.org/abs/2211.06687), which knows sounds of all kinds.

    transformers' model and feature extractor; the weights are downloaded (about 600 MB) when this is first built.
    """

    def __init__(self, source: str | Path = CLAP_REPOSITORY, *, sampling_rate: int | None = None) -> None:
        """Loads the audio half of a CLAP checkpoint.

        Args:
            source: A repository on the Hub, or a folder; with its weights as safetensors.
            sampling_rate: Of the waveforms, in Hz; by default the model's own, 48 kHz.

        Raises:
            GanzooError: The checkpoint cannot be loaded, or is of another model.
        """
        try:
            from transformers import ClapFeatureExtractor, ClapModel

            self.extractor = ClapFeatureExtractor.from_pretrained(source)
            model, report = ClapModel.from_pretrained(source, use_safetensors=True, output_loading_info=True)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise GanzooError(
                f"CLAP cannot be loaded from {source} ({error}); connect to the internet, or give a folder: 'clap:FOLDER'"
            ) from error
        if report["missing_keys"]:
            raise GanzooError(f"{source} is no CLAP checkpoint: it lacks {sorted(report['missing_keys'])[0]}")
        self.network = nn.ModuleDict({"encoder": model.audio_model, "projection": model.audio_projection}).eval()
        self.sampling_rate = sampling_rate or self.extractor.sampling_rate
        self.name = f"clap {Path(source).resolve().name if Path(source).is_dir() else source}"

    def to(self, device: str | torch.device) -> ClapEmbedder:
        """Moves the network; returns itself."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def __call__(self, waveforms: Tensor) -> Embedding:
        """Maps int16 waveforms `(B, C, L)` to features `(B, 512)` of length 1; of clips beyond 10 s their first 10."""
        rate = self.extractor.sampling_rate
        clips = resample(to_mono(waveforms), self.sampling_rate, rate)
        # The extractor would cut longer clips at a random place.
        clips = clips[:, : self.extractor.nb_max_samples].cpu().numpy()
        inputs = self.extractor(
            list(clips), sampling_rate=rate, truncation="rand_trunc", padding="repeatpad", return_tensors="pt"
        )
        device = next(self.network.parameters()).device
        encoded = self.network["encoder"](input_features=inputs["input_features"].to(device)).pooler_output
        return Embedding(F.normalize(self.network["projection"](encoded).float(), dim=1), None)


EMBEDDER = EmbedderKind(
    lambda source, sampling_rate: ClapEmbedder(source or CLAP_REPOSITORY, sampling_rate=sampling_rate)
)
