"""The base networks, and what they return."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ganzoo.errors import UserError
from ganzoo.networks.config import GANConfig
from ganzoo.registry import get_family

if TYPE_CHECKING:
    from typing_extensions import Self


class Batch(NamedTuple):
    """Real data.

    Attributes:
        samples: (B, ...) in the networks' space.
        labels: (B,) int64 classes, of a conditional model, else None.
        condition: (B, ...), whatever else steers the networks: the input picture, a coarse one, a spectrogram, a prompt;
            None where nothing does.
    """

    samples: Tensor
    labels: Tensor | None
    condition: Tensor | None = None


class DiscriminatorOutput(NamedTuple):
    """What one discriminator says of a batch.

    Attributes:
        logits: Real-ness before any sigmoid; batch first, `(B,)` for a plain discriminator, `(B, ...)` for one that
            judges patches or frames.
        features: Intermediate activations, shallow to deep, for feature matching.
        class_logits: `(B, num_classes)` of a discriminator that also classifies (Odena et al., 2017), else None.
    """

    logits: Tensor
    features: list[Tensor]
    class_logits: Tensor | None = None


class ClassifierOutput(NamedTuple):
    """What a classifier says of a batch.

    Attributes:
        logits: `(B, num_classes)`.
        features: `(B, D)`, the layer before the logits.
    """

    logits: Tensor
    features: Tensor


class GANModel(nn.Module):
    """Base of all networks: built from one config, saved as `config.json` and `model.safetensors`.

    Batch-norm statistics and spectral-norm vectors are buffers and travel with the weights. Every buffer must be
    persistent: a checkpoint that loads must be complete.
    """

    family: ClassVar[str] = ""
    role: ClassVar[str] = ""
    # What a person does with it, which finds the pipeline `pipelines/<task>.py`; None of a network that only helps to train.
    task: ClassVar[str | None] = None
    config_class: ClassVar[type[GANConfig]] = GANConfig
    # Whether samples may be shorter in training than the config says (`data.segment`).
    any_length: ClassVar[bool] = False
    # Whether data must bring a condition of their own (`data.condition_column`); without one they must bring none.
    needs_condition: ClassVar[bool] = False
    # The level at which everything of a network that grows is in use (`ganzoo.nn.growing`); None: it does not grow.
    top_level: int | None = None

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        device: str | int | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        **others: Any,
    ) -> Self:
        """Loads a network, in `eval()` mode, with every key checked.

        Args:
            source: A checkpoint folder, a name of the catalogue (`"dcgan-mnist"`), or `org/name[@revision]` on the Hub.
            subfolder: Folder of the network inside the checkpoint; by default the one of this class's role.
            revision: Branch, tag or commit on the Hub.
            token: Hub token; by default the saved one or `HF_TOKEN`.
            cache_dir: Hub cache; by default that of `HF_HOME`.
            local_files_only: Use only what is cached (also `HF_HUB_OFFLINE=1`).
            force_download: Download again.
            device: Where the weights go, `"cuda"`, or `"auto"` for the GPU where there is one; by default the CPU.
            dtype: Type of the floating-point parameters, `torch.bfloat16` or `"bfloat16"`, or `"auto"` for that of the file;
                by default float32. In half precision, layers with statistics stay float32.
            **others: What diffusers' and transformers' take: `torch_dtype`, `device_map`, `use_safetensors`,
                `low_cpu_mem_usage`, `config`, and `output_loading_info`, with which the network comes with a report.

        Raises:
            NotFoundError: There is no such folder, name, repository, revision or file.
            UserError: The checkpoint holds another family or role than this class, or an argument cannot be.
            CheckpointError: The files are damaged or not a ganzoo checkpoint.
        """
        from ganzoo.checkpoints.checkpoint import Checkpoint

        checkpoint = Checkpoint.open(
            source,
            device=device,
            dtype=dtype,
            **others,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        network = checkpoint.network(checkpoint.folder_of(cls) if subfolder is None else subfolder, cls)
        return checkpoint.loading.reported(network)

    def prepare_for_training(self) -> None:
        """Called by the trainer once, before it makes the optimisers: what only training needs, such as weight norm."""

    def match(self, samples: Tensor) -> Tensor:
        """Real samples as they look to the networks at the moment; mostly as they are, smaller while a growing one is small.

        Args:
            samples: (B, *network_shape) of the processor.

        Returns:
            The same, or (B, ...) of the shape that `forward` gives now.
        """
        return samples

    def condition(self, batch: Batch) -> Tensor | None:
        """What steers the networks besides labels when they are shown this real data: (B, ...) or None.

        Asked once a batch, of the main network, without a graph; the batch's samples have passed `match`. By default what
        the data bring along, `batch.condition`; a network that makes its condition of the samples computes it here.
        """
        return batch.condition

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Named inputs of `replay`, on the CPU: what the golden file of a checkpoint holds.

        Args:
            generator: Source of randomness, on the CPU.

        Returns:
            Tensors (num_samples, ...), such as `latents` (num_samples, latent_dim) and `labels` (num_samples,) int64.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what its inputs look like")

    def replay(self, **inputs: Tensor) -> Tensor:
        """A smooth function of the weights and `inputs`, to compare with a published output.

        Args:
            **inputs: What `example_inputs` gave, (B, ...), on the network's device.

        Returns:
            (B, ...); of a generator its samples, of a discriminator all logits of a sample in one row, (B, K).
        """
        raise NotImplementedError(f"{type(self).__name__} must say what it computes of its inputs")

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.safetensors` into `folder`, each atomically.

        Raises:
            GanzooError: The folder cannot be written (no permission, disk full).
        """
        from ganzoo.checkpoints.checkpoint import save_network

        save_network(self, Path(folder))


class Generator(GANModel):
    """Maps `(latents, labels=None, condition=None)` to samples in the space of its processor.

    One that draws nothing takes no latents: `(condition, labels=None)`.
    """

    role = "generator"
    task = "generation"
    draws_latents: ClassVar[bool] = True

    # What draws the numbers of latents: torch.randn, or torch.rand.
    noise: ClassVar[Callable[..., Tensor]] = staticmethod(torch.randn)

    @property
    def latent_size(self) -> int:
        """Numbers in the latents of one sample."""
        return self.config.latent_dim

    def sample_latents(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws latents `(num_samples, latent_size)`, standard normal unless the class says otherwise, on the network's device.

        Args:
            generator: Source of randomness; by default the global one of the device.
        """
        device = generator.device if generator else self.device
        return self.noise((num_samples, self.latent_size), generator=generator, device=device).to(self.device)

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        inputs = {"latents": self.sample_latents(num_samples, generator=generator).cpu()}
        if self.config.num_classes is not None:
            inputs["labels"] = torch.arange(num_samples) % self.config.num_classes
        return inputs

    def replay(self, **inputs: Tensor) -> Tensor:
        return self(**inputs)

    @property
    def style_shape(self) -> tuple[int, ...] | None:
        """Shape of one sample's styles, which `forward` takes in place of latents; None where there are none."""
        return None

    def styles(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the layers are steered by, (B, *style_shape); of most generators the latents themselves."""
        return latents

    def latent_weight(self) -> Tensor:
        """The matrix (outputs, D) by which the first layer multiplies its input: latents, or each of the styles.

        Raises:
            UserError: There is no such layer.
        """
        raise UserError(f"the generator of {self.family!r} has no layer that multiplies its latents by a matrix")

    def truncate(self, latents: Tensor, truncation: float, labels: Tensor | None = None) -> Tensor:
        """Latents that give more typical samples: here, the normal distribution cut at +-`truncation` (Brock et al., 2019,
        section 3.1). A generator with styles may mean something else by the number, and return styles.

        By the inverse distribution function instead of resampling, so that one latent stays one draw: the order of the
        values is kept and no randomness is used.

        Raises:
            UserError: `truncation` is not positive.
        """
        if not truncation > 0:
            raise UserError(f"truncation must be a positive number, not {truncation}; leave it out for none")
        low, high = (
            torch.special.ndtr(torch.tensor(bound, dtype=torch.float64)) for bound in (-truncation, truncation)
        )
        inside = low + torch.special.ndtr(latents.double()) * (high - low)
        return torch.special.ndtri(inside).clamp(-truncation, truncation).to(latents.dtype)


class Discriminator(GANModel):
    """Maps `(samples, labels=None, condition=None)` to a list of `DiscriminatorOutput`; a single one is a list of one."""

    role = "discriminator"

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        processor = self.config.processor()
        dtype = getattr(torch, processor.storage_dtype)
        if processor.network_shape == processor.sample_shape and not dtype.is_floating_point:
            limits = torch.iinfo(dtype)
            shape = (num_samples, *processor.sample_shape)
            samples = processor.normalize(
                torch.randint(limits.min, limits.max + 1, shape, generator=generator).to(dtype)
            )
        else:  # the way to the networks' space may need what only data can tell
            samples = torch.rand(num_samples, *processor.network_shape, generator=generator) * 2 - 1
        labels = self.config.num_classes and torch.arange(num_samples) % self.config.num_classes
        return {"samples": samples, **({} if labels is None else {"labels": labels})}

    def replay(self, **inputs: Tensor) -> Tensor:
        return torch.cat([output.logits.reshape(len(output.logits), -1) for output in self(**inputs)], dim=1)


class Classifier(GANModel):
    """Maps samples to a `ClassifierOutput`: the embedder behind the metrics that need no download."""

    role = "classifier"
    task = "classification"

    def example_inputs(self, num_samples: int, generator: torch.Generator) -> dict[str, Tensor]:
        shape = (num_samples, *self.config.processor().sample_shape)
        return {"samples": torch.rand(shape, generator=generator) * 2 - 1}

    def replay(self, **inputs: Tensor) -> Tensor:
        return self(**inputs).logits


def create(family: str, **config: Any) -> tuple[GANModel, ...]:
    """Builds the freshly initialised networks of a family: `generator, discriminator = create("dcgan", resolution=64)`.

    Args:
        family: A family's name, see `ganzoo.list_families()`.
        **config: Fields of its config.

    Raises:
        NotFoundError: Unknown family.
        UserError: Unknown key, wrong type, or impossible combination.
    """
    record = get_family(family)
    validated = record.config.from_dict(config, where=f"config of {family!r}")
    return tuple(network(validated) for network in record.networks.values())


class UniformLatents:
    """For a `Generator` whose latents are uniform in [-1, 1]: `class MyGenerator(UniformLatents, Generator)`."""

    noise = staticmethod(torch.rand)

    def sample_latents(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        return super().sample_latents(num_samples, generator=generator).mul_(2).sub_(1)

    def truncate(self, latents: Tensor, truncation: float, labels: Tensor | None = None) -> Tensor:
        """Maps uniform latents to the uniform distribution cut at +-`truncation`, which shrinks them; above 1 cuts nothing.

        Raises:
            UserError: `truncation` is not positive.
        """
        if not truncation > 0:
            raise UserError(f"truncation must be a positive number, not {truncation}; leave it out for none")
        return latents * min(truncation, 1.0)
