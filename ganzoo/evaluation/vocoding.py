"""Measuring vocoders: by copy synthesis of real sound, beside Griffin-Lim from the same mel spectrograms.

The silence that fills a clip up to its length is left out: how far below 16 bits a copy's silence lies would outweigh how the
sound is."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganzoo.evaluation.base import Evaluation
from ganzoo.utils.finding import Kind
from ganzoo.utils.terminal import bar

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.sound.spectral import MelConfig

# Clips are cut to the sound in them, but not shorter: the longest spectrum needs so much.
SHORTEST = 2048


class Copies:
    """Real clips and their copies; each part is made when it is first needed."""

    def __init__(self, request: Request) -> None:
        self.request, self.pipeline = request, request.pipeline

    @cached_property
    def chosen(self) -> tuple[Tensor, Tensor | None]:
        """At most `num_samples` clips, int16 (N, 1, L), and their labels, if they have any."""
        real = self.request.real
        chosen = np.random.default_rng(self.request.seed).permutation(len(real))[: self.request.num_samples]
        return real.batch(np.sort(chosen))

    @property
    def labels(self) -> Tensor | None:
        return self.chosen[1]

    @cached_property
    def originals(self) -> list[Tensor]:
        """Float waveforms (1, 1, T), each as long as its sound."""
        return [_trimmed(clip)[None] for clip in self.pipeline.processor.normalize(self.chosen[0])]

    @cached_property
    def copies(self) -> list[Tensor]:
        return [self.pipeline.resynthesise(clip) for clip in self._shown(self.originals, "copying")]

    @cached_property
    def baselines(self) -> list[Tensor]:
        """What Griffin-Lim makes of the same spectrograms."""
        from ganzoo.sound.spectral import log_mel, mel_to_waveform

        mel, found = self.pipeline.network.mel_config, []
        for clip in self._shown(self.originals, "Griffin-Lim"):
            length = clip.shape[-1]
            padded = F.pad(clip, (0, -length % mel.hop_length))
            found.append(mel_to_waveform(log_mel(padded, mel), mel)[..., :length].clamp(-1, 1))
        return found

    def stored(self, waveforms: list[Tensor]) -> Tensor:
        """int16 (N, 1, L), with the silence again."""
        length = self.chosen[0].shape[-1]
        padded = torch.cat([F.pad(clip, (0, length - clip.shape[-1])) for clip in waveforms])
        return self.pipeline.processor.to_stored(padded)

    @property
    def mel(self) -> MelConfig:
        """The bands in which copies are compared: the model's, but up to half the sampling rate."""
        return self.pipeline.network.mel_config.model_copy(update={"f_max": None})

    @cached_property
    def log_mels(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of the originals, the copies, and Griffin-Lim's: (1, n_mels, T)."""
        from ganzoo.sound.spectral import log_mel

        mel = self.mel
        originals, copies, baselines = (
            [log_mel(clip[:, 0], mel) for clip in clips] for clips in (self.originals, self.copies, self.baselines)
        )
        return originals, copies, baselines

    def _shown(self, clips: list[Tensor], name: str) -> Any:
        return bar(clips, desc=name, unit=" clips", shown=None if self.request.progress else False)


def _trimmed(clip: Tensor) -> Tensor:
    """(1, L) -> (1, T), up to the last sample that is not 0."""
    sounding = clip[0].nonzero()
    end = int(sounding[-1]) + 1 if len(sounding) else 0
    return clip[:, : max(end, SHORTEST)]


def _default_metrics(copies: Copies) -> tuple[str, ...]:
    accuracy = () if copies.request.embedder in _NO_CLASSES or copies.labels is None else ("resynthesis_accuracy",)
    return ("log_mel_l1", "multi_resolution_stft", "mel_cepstral_distortion", *accuracy, "real_time_factor")


_NO_CLASSES = (None, "pixels", "log-mel")


EVALUATION = Evaluation(
    Copies, _default_metrics, (Kind("vocoder metric", "ganzoo.metrics.vocoding", "METRIC", joint="_"),)
)
