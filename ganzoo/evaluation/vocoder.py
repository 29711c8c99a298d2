"""Measuring vocoders: by copy synthesis of real sound, beside Griffin-Lim from the same mel spectrograms."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.utils.terminal import bar

if TYPE_CHECKING:
    from ganzoo.evaluation.request import Request
    from ganzoo.metrics.records import MetricResult
    from ganzoo.sound.spectral import MelConfig

# Clips are cut to the sound in them, but not shorter: the longest spectrum needs so much.
SHORTEST = 2048
TIMED_RUNS = 5


def evaluate_vocoder(request: Request) -> list[MetricResult]:
    """Clips of the split against what the vocoder makes of their mel spectrograms.

    The silence that fills a clip up to its length is left out: how far below 16 bits a copy's silence lies would outweigh
    how the sound is.

    Raises:
        UserError: An unknown metric, or an accuracy where nothing is classified.
    """
    copies = Copies(request)
    names = request.metrics or _default_metrics(copies)
    for name in names:
        if name not in VOCODER_METRICS:
            hint = did_you_mean(name, VOCODER_METRICS)
            known = ", ".join(VOCODER_METRICS)
            raise UserError(f"there is no vocoder metric {shorten(name)}.{hint} The vocoder metrics are: {known}")
    return [VOCODER_METRICS[name](copies) for name in names]


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


def _log_mel_l1(copies: Copies) -> MetricResult:
    from ganzoo.metrics.copies import log_mel_l1

    return _of_mels(copies, "log_mel_l1", log_mel_l1)


def _mel_cepstral_distortion(copies: Copies) -> MetricResult:
    from ganzoo.metrics.copies import mel_cepstral_distortion

    return _of_mels(copies, "mel_cepstral_distortion", mel_cepstral_distortion)


def _of_mels(copies: Copies, name: str, distance: Callable[[Tensor, Tensor], Tensor]) -> MetricResult:
    originals, made, baselines = copies.log_mels
    mel = copies.mel
    parameters = {"n_mels": mel.n_mels, "n_fft": mel.n_fft, "hop_length": mel.hop_length, "f_max": mel.upper}
    return _distance(copies, name, distance, originals, made, baselines, parameters, embedder="log-mel")


def _multi_resolution_stft(copies: Copies) -> MetricResult:
    from ganzoo.metrics.copies import RESOLUTIONS, multi_resolution_stft

    parameters = {"resolutions": [list(resolution) for resolution in RESOLUTIONS]}
    sets = copies.originals, copies.copies, copies.baselines
    return _distance(copies, "multi_resolution_stft", multi_resolution_stft, *sets, parameters, embedder="three STFTs")


def _distance(
    copies: Copies,
    name: str,
    distance: Callable[[Tensor, Tensor], Tensor],
    originals: list[Tensor],
    made: list[Tensor],
    baselines: list[Tensor],
    parameters: dict[str, Any],
    *,
    embedder: str,
) -> MetricResult:
    """The mean over clips, each as important as the other."""
    found, baseline = (
        torch.cat([distance(copy, original) for copy, original in zip(set_, originals, strict=True)]).double()
        for set_ in (made, baselines)
    )
    details = {"standard_error": float(found.std() / len(found) ** 0.5)} if len(found) > 1 else {}
    return copies.request.result(
        name,
        float(found.mean()),
        parameters=parameters,
        details={**details, "griffin_lim": float(baseline.mean())},
        num_real=len(found),
        num_generated=len(found),
        embedder=embedder,
    )


def _resynthesis_accuracy(copies: Copies) -> MetricResult:
    """Whether a classifier still hears what was said: its accuracy on the copies, beside that on the originals."""
    from ganzoo.embedders.names import get_embedder
    from ganzoo.metrics.evaluate import embed_samples

    labels, request = copies.labels, copies.request
    if labels is None:
        raise UserError(f"resynthesis_accuracy: {request.real.description} has no labels")
    embedder = get_embedder(request.embedder or "log-mel", sampling_rate=copies.pipeline.processor.sampling_rate)

    def accuracy(waveforms: list[Tensor]) -> float:
        stored, needed_for = copies.stored(waveforms), ("resynthesis_accuracy",)
        embedding = embed_samples(stored, embedder=embedder, needed_for=needed_for, progress=request.progress)
        return float((embedding.probabilities.argmax(dim=1) == labels).double().mean())

    return request.result(
        "resynthesis_accuracy",
        accuracy(copies.copies),
        details={"griffin_lim": accuracy(copies.baselines)},
        floor=accuracy(copies.originals),
        num_real=len(labels),
        num_generated=len(labels),
        embedder=embedder.name,
    )


@torch.inference_mode()
def _real_time_factor(copies: Copies) -> MetricResult:
    """Seconds of work for a second of sound: a clip from its spectrogram, alone in its batch, the median of five times."""
    pipeline = copies.pipeline
    network, rate = pipeline.network, pipeline.processor.sampling_rate
    clip = pipeline.processor.normalize(copies.chosen[0][:1].to(pipeline.device))
    mel = network.condition(clip).to(network.dtype)
    length = network(mel).cpu().shape[-1]  # the first time is slower
    seconds = [_seconds(lambda: network(mel).cpu()) for _ in range(TIMED_RUNS)]
    factor = statistics.median(seconds) * rate / length
    machine = {"device": str(pipeline.device), "threads": torch.get_num_threads()}
    return copies.request.result(
        "real_time_factor",
        factor,
        parameters={"seconds": round(length / rate, 3), "runs": TIMED_RUNS, "batch_size": 1, **machine},
        details={"times_real_time": 1 / factor},
        num_real=0,
        num_generated=1,
        embedder="none",
    )


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


VOCODER_METRICS: dict[str, Callable[[Copies], MetricResult]] = {
    "log_mel_l1": _log_mel_l1,
    "multi_resolution_stft": _multi_resolution_stft,
    "mel_cepstral_distortion": _mel_cepstral_distortion,
    "resynthesis_accuracy": _resynthesis_accuracy,
    "real_time_factor": _real_time_factor,
}
