"""The pipeline of generators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import UserError, did_you_mean, shorten
from ganzoo.hub.words import CardWords
from ganzoo.networks.base import Generator
from ganzoo.pipelines.base import CARD_SAMPLES, Pipeline
from ganzoo.pipelines.drawing import check_positive, count_samples, sources_of
from ganzoo.processors import Processor
from ganzoo.utils.terminal import PATIENCE, bar

# Classes of samples: one for all, or one for each.
Labels = int | str | Sequence[int | str] | Tensor | None


class Samples(NamedTuple):
    """Raw samples (B, ...) in the network's space, their labels (B,) or None, and the latents (or truncated styles) that they
    can be made of again."""

    samples: Tensor
    labels: Tensor | None
    latents: Tensor


class GANPipeline(Pipeline):
    """Draws samples from a generator.

    Example:
        >>> pipe = ganzoo.from_pretrained("dcgan-mnist")
        >>> pipe(num_samples=16, seed=0).images
        >>> pipe = ganzoo.from_pretrained("wavegan-digits")
        >>> output = pipe(num_samples=4, labels=3, seed=0)
        >>> soundfile.write("three.wav", output.audios[0].T, output.sampling_rate)
    """

    command = "sample"

    @classmethod
    def card_words(cls, processor: Processor | type[Processor]) -> CardWords:
        words, common = processor.words, super().card_words(processor)
        return replace(
            common,
            hub_task=words.hub_task,
            tags=(*words.tags, *words.drawn_tags),
            usage=(*common.usage, *words.drawn),
            imports=words.imports,
            asks_for_classes=True,
        )

    @property
    def generator(self) -> Generator:
        return self.network

    def __call__(
        self,
        num_samples: int | None = None,
        *,
        labels: Labels = None,
        truncation: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str | None = None,
        batch_size: int = 64,
    ) -> Any:
        """Draws samples.

        Sample i depends on its own seed alone: with `seed=s` it is the sample of seed s + i, whatever the number of
        samples, the batch size or the device (up to the floating-point rounding of the arithmetic). The global random
        state is never touched.

        Args:
            num_samples: How many; by default as many as labels, latents or generators are given, else 1.
            labels: Class of every sample, or of each: its number or, where the data named it (`processor.class_names`), its
                name; a shorter list is repeated. Class-conditional models draw it at random, from the sample's seed, when it is
                left out.
            truncation: Cut of the latents' normal distribution, in standard deviations: 0.5 gives typical samples, 2
                varied ones; None for no cut. Of generators with styles (stylegan2), the share that is left of a style's
                distance from the mean style: 0.7 gives typical samples, 1 changes nothing, 0 gives the mean picture.
            seed: From 0; by default a random one.
            generator: Instead of a seed: one `torch.Generator`, from which the samples are drawn one after another, or
                a list with one for each.
            latents: Instead of either: (num_samples, latent_dim), or styles (num_samples, *generator.style_shape).
            output_type: Of pictures `"pil"` (the default), `"np"` or `"pt"`; of sound `"np"` (the default) or `"pt"`; see the
                processor.
            batch_size: Samples computed at once.

        Returns:
            An object with the samples, their `labels` and `latents`: of pictures `.images`; of sound `.audios`, float32
            (num_samples, channels, length) in [-1, 1], with their `.sampling_rate` in Hz.

        Raises:
            UserError: Arguments that contradict each other or the model.
        """
        drawn = self.sample(
            num_samples,
            labels=labels,
            truncation=truncation,
            seed=seed,
            generator=generator,
            latents=latents,
            batch_size=batch_size,
        )
        output_type = output_type if output_type is not None else self.processor.output_types[0]
        return self.processor.output(drawn.samples, output_type, labels=drawn.labels, latents=drawn.latents)

    @torch.inference_mode()
    def sample(
        self,
        num_samples: int | None = None,
        *,
        labels: Labels = None,
        truncation: float | None = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
        batch_size: int = 64,
    ) -> Samples:
        """Draws samples as the call does, and returns them as the network gives them: (B, ...) in its own space."""
        model = self.network
        count = count_samples(num_samples, latents, generator, labels)
        check_positive("batch_size", batch_size)
        drawn, chosen = self.inputs(count, labels=labels, seed=seed, generator=generator, latents=latents)
        if truncation is not None:
            drawn = model.truncate(drawn, truncation, chosen)
        outputs = []
        starts = range(0, count, batch_size)
        for start in bar(starts, desc="drawing", unit=" batches", delay=PATIENCE):
            rows = slice(start, start + batch_size)
            part = drawn[rows].to(model.device, model.dtype)
            outputs.append(model(part, None if chosen is None else chosen[rows].to(model.device)))
        return Samples(outputs[0] if len(outputs) == 1 else torch.cat(outputs), chosen, drawn)

    def save_preview(self, folder: Path, name: str, *, num_samples: int = CARD_SAMPLES, seed: int = 0) -> list[str]:
        """Writes samples, the classes of a conditional model in turn."""
        return self.processor.save_preview(self._preview(num_samples, seed).samples, folder, name)

    def _preview(self, num_samples: int, seed: int, **options: Any) -> Samples:
        num_classes = self.config.num_classes
        labels = None if num_classes is None else torch.arange(num_samples) % num_classes
        return self.sample(num_samples, seed=seed, labels=labels, **options)

    def inputs(
        self,
        count: int,
        *,
        labels: Labels = None,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Latents (count, ...) and labels (count,) of samples that are not made yet, on the CPU, each from its own source; the
        arguments are those of a call."""
        if sum(argument is not None for argument in (seed, generator, latents)) > 1:
            raise UserError("give one of seed, generator and latents")
        drawn, random_labels = self._draw(sources_of(count, seed, generator), latents, count)
        return drawn, self._labels(count, labels, random_labels)

    def _draw(
        self, sources: Iterable[torch.Generator], latents: Tensor | None, count: int
    ) -> tuple[Tensor, Tensor | None]:
        num_classes, draw = self.config.num_classes, self.network.sample_latents
        rows, labels = [], []
        for source in sources:
            if latents is None:
                rows.append(draw(1, generator=source).cpu())
            if num_classes is not None:
                labels.append(torch.randint(num_classes, (), generator=source))
        random_labels = torch.stack(labels) if labels else None
        if latents is None:
            return torch.cat(rows), random_labels
        shapes = [(count, *draw(1, generator=torch.Generator()).shape[1:])]
        if self.network.style_shape is not None:
            shapes.append((count, *self.network.style_shape))
        if latents.shape not in shapes:
            allowed = " or ".join(map(str, shapes))
            raise UserError(f"latents must have the shape {allowed}, not {tuple(latents.shape)}")
        return latents.detach().cpu(), random_labels

    def label_numbers(self, labels: Any) -> Any:
        """Labels with the names among them replaced by their classes' numbers; all else as it is.

        Args:
            labels: Of a call: a class's number or name, a list of them, or a tensor.

        Raises:
            UserError: There is no class of that name, or the classes have no names.
        """
        if isinstance(labels, str):
            return self._class_number(labels)
        if isinstance(labels, (list, tuple)):
            return [self._class_number(label) if isinstance(label, str) else label for label in labels]
        return labels

    def _class_number(self, name: str) -> int:
        names = self.processor.class_names
        if self.config.num_classes is None:
            raise UserError("this model is unconditional: it takes no labels")
        if names is None:
            raise UserError(
                f"no class is called {shorten(name)}: this model's have no names; give integers from 0 to "
                f"{self.config.num_classes - 1}"
            )
        if name not in names:
            raise UserError(f"no class is called {shorten(name)}.{did_you_mean(name, names)}")
        return names.index(name)

    def _labels(self, count: int, labels: Any, random_labels: Tensor | None) -> Tensor | None:
        num_classes = self.config.num_classes
        if num_classes is None:
            if labels is not None:
                raise UserError("this model is unconditional: it takes no labels")
            return None
        if labels is None:
            return random_labels
        labels = self.label_numbers(labels)
        try:
            values = torch.as_tensor(labels)
        except (RuntimeError, TypeError, ValueError):
            values = torch.empty(0)
        if values.is_floating_point() or values.ndim > 1 or not values.numel() or values.numel() > count:
            raise UserError(f"labels must be an integer or a list of 1 to {count} integers")
        if values.min() < 0 or values.max() >= num_classes:
            raise UserError(f"labels must lie between 0 and {num_classes - 1}; got {values.flatten().tolist()[:8]}")
        return values.reshape(-1).repeat(-(-count // values.numel()))[:count].long()

    def _save_examples(self, folder: Path) -> dict[str, Any]:
        names = self.save_preview(folder / "samples", "grid")
        order = "the classes in turn" if self.config.num_classes else ""
        return {**super()._save_examples(folder), "samples": [f"samples/{name}" for name in names], "order": order}


PIPELINE = GANPipeline
