"""The image GANs that are timed, and the plain PyTorch loop beside which ganzoo's step stands in `train_images.py`.

    python benchmarks/plain_images.py    # compares the losses of both, case by case

The plain loop computes in fp32 and puts PyTorch's own operations in the place of all that ganzoo has written anew (`PLAIN_WAYS`):
convolutions and rectifiers with their own second derivatives, repeated pixels before a convolution, a convolution for each
sample's modulated weights, zeros between the pixels that a filter averages. Weights lie as they were made, and the
discriminator is open in the generator's step. It makes as many passes as ganzoo.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ganzoo
from ganzoo.data.dataset import ArrayDataset
from ganzoo.nn import convolution, equalised, grouped, layers, modulated, rectifiers, resample, residual
from ganzoo.objectives import Batch, build_objective
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.trainer import Trainer

POOL = 512  # samples in memory
TOLERANCE = 0.01  # of the losses of plain and ganzoo


@dataclass(frozen=True)
class Case:
    """What is trained, and what a published project's loop reaches on the same arithmetic (images per CPU-second)."""

    family: str
    model: dict[str, Any]
    loss: str = "non-saturating"
    penalties: tuple[dict[str, Any], ...] = ()
    path_length: dict[str, Any] | None = None
    batch: int = 64
    critic_updates: int = 1
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    published: float | None = None
    target: float = 0.0  # times `published`
    rounds: int = 5
    steps: int = 1  # a round; so many that lazy regularisation has its share


GRADIENT_PENALTY = {"type": "gradient-penalty", "weight": 10.0}
SNGAN = Case("sngan", {}, "hinge", critic_updates=5, betas=(0.0, 0.9), published=18.7, target=1.3, rounds=2)
CASES = {
    "vanilla": Case("vanilla", {}, steps=10),
    "cgan": Case("cgan", {}, steps=10),
    "dcgan": Case("dcgan", {"resolution": 64}, published=71.6),
    "lapgan": Case("lapgan", {}, steps=2),
    "wgan-gp": Case(
        "wgan",
        {"generator_width": 64, "discriminator_width": 32, "discriminator_norm": "none"},
        **{"loss": "wasserstein", "penalties": (GRADIENT_PENALTY,)},
        **{"critic_updates": 5, "betas": (0.0, 0.9), "published": 155.4},
    ),
    "sngan": SNGAN,
    "sngan-small": replace(SNGAN, model={"generator_width": 64, "discriminator_width": 32}, published=221.8, rounds=5),
    "progressive": Case(
        "progressive",
        {"resolution": 32, "latent_dim": 128, "max_channels": 128},
        **{"loss": "wasserstein", "penalties": (GRADIENT_PENALTY, {"type": "drift", "weight": 0.001})},
        **{"batch": 16, "learning_rate": 1e-3, "betas": (0.0, 0.99), "published": 11.8, "target": 1.3},
    ),
    "r3gan-small": Case(
        "r3gan",
        {"width": 128, "blocks": 1},
        **{"loss": "relativistic", "penalties": tuple({"type": kind, "weight": 0.05} for kind in ("r1", "r2"))},
        **{"betas": (0.0, 0.9), "published": 11.1, "target": 2.0, "rounds": 3},
    ),
    "stylegan2-small": Case(
        "stylegan2",
        {"resolution": 32, "latent_dim": 128, "max_channels": 128},
        **{"penalties": ({"type": "r1", "weight": 10.0, "interval": 16},), "path_length": {"interval": 4}},
        **{"batch": 16, "learning_rate": 2e-3, "betas": (0.0, 0.99), "steps": 16, "rounds": 3},
    ),
}
# ------------------------------------------------------------------------------------------------- the plain formulations


def plain_generator_block(self: nn.Module, hidden: Tensor, labels: None = None) -> Tensor:
    main = self.conv1(F.relu(self.norm1(hidden)))
    main = self.conv2(F.relu(self.norm2(main)))
    return main + self.shortcut(F.interpolate(hidden, scale_factor=2))


def plain_discriminator_block(self: nn.Module, hidden: Tensor) -> Tensor:
    main = hidden if self.first else F.relu(self.norm1(hidden))
    main = self.conv2(F.relu(self.norm2(self.conv1(main))))
    shortcut = hidden if self.shortcut is None else self.shortcut(hidden)
    return main + (F.avg_pool2d(shortcut, 2) if self.down else shortcut)


def plain_modulated(self: nn.Module, pictures: Tensor, style: Tensor, offset: Tensor | None = None) -> Tensor:
    batch, inputs = pictures.shape[:2]
    weight = self.convolution.weight.transpose(0, 1) if self.up else self.convolution.weight
    weights = weight * self.scale * self.to_scales(style)[:, None, :, None, None]
    if self.demodulate:
        weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    weights, row = weights * self.gain, pictures.reshape(1, batch * inputs, *pictures.shape[2:])
    if self.up:
        hidden = F.conv_transpose2d(row, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    else:
        hidden = F.conv2d(row, weights.flatten(0, 1), padding=weights.shape[-1] // 2, groups=batch)
    hidden = hidden.view(batch, -1, *hidden.shape[2:])
    hidden = resample.blur(hidden, (1, 3, 3, 1), padding=(1, 1)) if self.up else hidden
    return hidden if offset is None else hidden + offset


def plain_resample(pictures: Tensor, kernel: tuple[float, ...], up: int, down: int, before: Any, after: Any) -> Tensor:
    batch, channels, height, width = pictures.shape
    spread = F.pad(pictures[:, :, :, None, :, None], (0, up - 1, 0, 0, 0, up - 1))
    spread = spread.reshape(batch, channels, height * up, width * up)
    spread = F.pad(spread, (before[1], after[1] - up + 1, before[0], after[0] - up + 1))
    line = torch.tensor(kernel, device=pictures.device)
    return F.conv2d(spread, torch.outer(line, line).expand(channels, 1, -1, -1), stride=down, groups=channels)


def plain_upsample(self: nn.Module, pictures: Tensor) -> Tensor:
    weight = self.weight * getattr(self, "scale", 1.0)
    return F.conv2d(F.interpolate(pictures, scale_factor=2), weight, self.bias, padding=1)


def plain_downsample(self: nn.Module, pictures: Tensor) -> Tensor:
    return F.avg_pool2d(F.conv2d(pictures, self.weight, self.bias, padding=1), 2)


PLAIN_WAYS = [
    (grouped, "_is_plain", lambda: True),  # F.conv2d, F.conv_transpose2d
    (convolution, "_pays", lambda *_, **__: False),  # nn.Conv2d, nn.ConvTranspose2d
    (rectifiers._Rectify, "apply", lambda hidden, slope, inplace: F.leaky_relu(hidden, slope)),
    (resample._Resample, "apply", plain_resample),
    (layers.ProjectLatents, "forward", lambda self, x: nn.ConvTranspose2d.forward(self, x[:, :, None, None])),
    (layers.JudgeWhole, "forward", nn.Conv2d.forward),
    (residual.UpsampleConv2d, "forward", plain_upsample),
    (residual.ConvDownsample2d, "forward", plain_downsample),
    (residual.GeneratorBlock, "forward", plain_generator_block),
    (residual.DiscriminatorBlock, "forward", plain_discriminator_block),
    (equalised.EqualisedUpsampleConv2d, "forward", plain_upsample),
    (modulated.ModulatedConv2d, "forward", plain_modulated),
]
LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {  # of real and fake logits
    "non-saturating": (
        lambda real, fake: (
            F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        ),
        lambda real, fake: F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake)),
    ),
    "hinge": (lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(), lambda real, fake: -fake.mean()),
    "wasserstein": (lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()),
    "relativistic": (
        lambda real, fake: F.softplus(fake - real).mean(),
        lambda real, fake: F.softplus(real - fake).mean(),
    ),
}


class PlainLoop:
    """A call is a step; what would be drawn can be given. Returns the last losses of discriminator and generator."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device, self.number, self.mean_length = case, device, 0, torch.zeros((), device=device)
        self.generator, self.discriminator = (network.to(device).train() for network in networks(case))
        rates = {"lr": case.learning_rate, "betas": case.betas}
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(network.parameters(), **rates) for network in (self.generator, self.discriminator)
        )
        config = self.generator.config
        self.real = (
            torch.rand(case.batch, config.channels, config.resolution, config.resolution, device=device) * 2 - 1
        )
        classes = config.num_classes
        self.labels = None if classes is None else torch.arange(case.batch, device=device) % classes

    def __call__(self, real: Tensor | None = None, latents: Tensor | None = None, places: Tensor | None = None) -> Any:
        real = self.real if real is None else real
        with ExitStack() as stack:
            for owner, name, plain in PLAIN_WAYS:
                stack.enter_context(patch.object(owner, name, plain))
            for _ in range(self.case.critic_updates):
                fake = self.generate(real, latents)
                self.optimizer_d.zero_grad()
                of_discriminator = self.discriminator_loss(real, fake.detach(), places)
                of_discriminator.backward()
                self.optimizer_d.step()
            self.optimizer_g.zero_grad()
            of_generator = self.generator_loss(real, fake)
            of_generator.backward()
            self.optimizer_g.step()
        self.number += 1
        return of_discriminator, of_generator

    def generate(self, real: Tensor, latents: Tensor | None) -> Tensor:
        latents = self.generator.sample_latents(len(real)) if latents is None else latents
        condition = self.generator.condition(Batch(real, self.labels))
        return self.generator(latents, self.labels, *(() if condition is None else (condition,)))

    def judge(self, samples: Tensor) -> Tensor:
        return self.discriminator(samples, self.labels)[0].logits

    def discriminator_loss(self, real: Tensor, fake: Tensor, places: Tensor | None) -> Tensor:
        real_logits, fake_logits = self.judge(real), self.judge(fake)
        loss = LOSSES[self.case.loss][0](real_logits, fake_logits)
        for penalty in self.case.penalties:
            interval = penalty.get("interval", 1)
            if self.number % interval:
                continue
            if penalty["type"] == "drift":
                value = real_logits.square().mean()
            else:
                value = self.penalty(penalty["type"], real, fake, places)
            loss = loss + penalty["weight"] * interval * value
        return loss

    def penalty(self, kind: str, real: Tensor, fake: Tensor, places: Tensor | None) -> Tensor:
        samples = real if kind == "r1" else fake
        if kind == "gradient-penalty":
            places = torch.rand(len(real), 1, 1, 1, device=real.device) if places is None else places
            samples = places * real + (1 - places) * fake
        samples = samples.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(self.judge(samples).sum(), samples, create_graph=True)
        squares = slopes.square().sum((1, 2, 3))
        return (squares.sqrt() - 1).square().mean() if kind == "gradient-penalty" else 0.5 * squares.mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real_logits = self.judge(real) if self.case.loss == "relativistic" else None
        loss = LOSSES[self.case.loss][1](real_logits, self.judge(fake))
        if self.case.path_length and self.number % self.case.path_length["interval"] == 0:
            loss = loss + 2.0 * self.case.path_length["interval"] * self.path_length(len(real) // 2)
        return loss

    def path_length(self, count: int) -> Tensor:
        styles = self.generator.styles(self.generator.sample_latents(count))
        pictures = self.generator(styles)
        noise = torch.randn_like(pictures) / pictures.shape[-1]
        (slopes,) = torch.autograd.grad((pictures * noise).sum(), styles, create_graph=True)
        lengths = slopes.square().sum(2).mean(1).sqrt()
        self.mean_length = self.mean_length.lerp(lengths.detach().mean(), 0.01)
        return (lengths - self.mean_length).square().mean()


# -------------------------------------------------------------------------------------------------------------- ganzoo's


def networks(case: Case) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return ganzoo.create(case.family, **case.model)


def trainer(case: Case, device: str, precision: str, penalties: str = "fp32") -> Trainer:
    optimizer = {"learning_rate": case.learning_rate, "betas": case.betas}
    recipe = load_recipe(
        {
            "name": "benchmark",
            "model": {"family": case.family, **case.model},
            "objective": {
                "loss": case.loss,
                "penalties": [{**penalty, "precision": penalties} for penalty in case.penalties],
                "path_length": case.path_length,
            },
            "training": {
                "steps": 1_000_000,
                "batch_size": case.batch,
                "precision": precision,
                "n_critic": case.critic_updates,
                "ema_half_life": None,  # the plain loop has no average
            },
            "generator_optimizer": optimizer,
            "discriminator_optimizer": optimizer,
        }
    )
    generator, discriminator = networks(case)
    config, random = generator.config, np.random.default_rng(0)
    stored = random.integers(0, 256, (POOL, config.channels, config.resolution, config.resolution), dtype=np.uint8)
    return Trainer(
        recipe,
        {"generator": generator, "discriminator": discriminator},
        build_objective(recipe.objective),
        ArrayDataset(stored, None if config.num_classes is None else np.arange(POOL) % config.num_classes),
        config.processor(),
        device=torch.device(device),
    )


def check_equality(case: Case, device: str) -> None:
    """Compares the losses of a step of plain and of ganzoo, both in fp32, on the same weights, samples and latents."""
    still = {name: 0.0 for name in ("dropout", "style_mixing") if hasattr(networks(case)[0].config, name)}
    case = replace(case, model=case.model | still, batch=8, critic_updates=1, path_length=None)
    ours, plain = trainer(case, device, "fp32"), PlainLoop(case, device)
    generator, discriminator = ours.networks["generator"], ours.networks["discriminator"]
    plain.generator.load_state_dict(generator.state_dict())
    plain.discriminator.load_state_dict(discriminator.state_dict())
    given, judged = [], []
    generator.register_forward_pre_hook(lambda module, inputs: given.append(inputs))
    discriminator.register_forward_pre_hook(lambda module, inputs: judged.append(inputs))
    ours.train_step()
    (latents, plain.labels, *_), (real, fake) = given[0], (inputs[0] for inputs in judged[:2])
    places = None
    if GRADIENT_PENALTY in case.penalties:
        shares = ((judged[2][0] - fake) / (real - fake)).flatten(1)
        places = shares.median(dim=1).values[:, None, None, None].detach()
    losses = dict(zip(("discriminator", "generator"), plain(real, latents, places), strict=True))
    theirs = ours.stats.read()
    for role, loss in losses.items():
        wanted, found = loss.item(), theirs[f"{role}/loss"]
        if not abs(wanted - found) <= TOLERANCE * max(1.0, abs(wanted)):
            raise AssertionError(
                f"{case.family}: the {role}'s loss is {found} in ganzoo and {wanted} in the plain loop"
            )


def main() -> int:
    torch.set_num_threads(1)
    for name, case in CASES.items():
        check_equality(case, "cpu")
        print(f"{name}: the losses are equal", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
