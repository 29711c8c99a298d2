"""What a training checkpoint holds besides plain networks: histories of objectives, and weights that layers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from training_helpers import RECIPE

from ganzoo.families.image.dcgan import DCGANDiscriminator, DCGANGenerator
from ganzoo.objectives.adversarial import AdversarialObjective
from ganzoo.recipe.reading import load_recipe
from ganzoo.training.build import build_trainer
from ganzoo.training.state import load_checkpoint, save_checkpoint
from ganzoo.training.trainer import Trainer

CPU = torch.device("cpu")


class History(nn.Module):
    """The last `size` generated samples; a batch is swapped with random older ones."""

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("samples", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def swap(self, fake: Tensor) -> Tensor:
        places = torch.randperm(len(self.samples), device=fake.device)[: len(fake)]
        older = self.samples[places].clone()
        self.samples[places] = fake
        self.count += 1
        return older if self.count > 1 else fake


class WithHistory(AdversarialObjective):
    """The discriminator is shown older samples too (Shrivastava et al., 2017, section 2.3)."""

    def prepare(self, networks) -> None:
        shape = networks["generator"].config.processor().network_shape
        self.modules["discriminator"] = History(32, shape)

    def _generate(self, networks, batch, context, *, with_graph):
        fake = super()._generate(networks, batch, context, with_graph=with_graph)
        return fake if with_graph else self.modules["discriminator"].swap(context.gather(fake))


def trainer_with_history() -> Trainer:
    recipe = load_recipe(RECIPE, {"training.n_critic": 2})
    trainer = build_trainer(recipe, CPU)[1]
    objective = WithHistory(recipe.objective)
    return Trainer(recipe, trainer.networks, objective, trainer.dataset, trainer.processor, device=CPU)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in trainer.modules.items()
        for key, value in module.state_dict().items()
    }


def assert_resumes(make, tmp_path) -> dict[str, Tensor]:
    """Six steps are three, a checkpoint, and three in another process's trainer; gives the end's weights."""
    whole, first, second = make(), make(), make()
    for _ in range(6):
        whole.train_step()
    for _ in range(3):
        first.train_step()
    path = save_checkpoint(first, tmp_path, keep=1, write_model=lambda folder: None)
    load_checkpoint(second, path)
    for _ in range(3):
        second.train_step()
    expected, found = weights(whole), weights(second)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    return found


def test_a_history_of_samples_resumes_exactly(tmp_path):
    found = assert_resumes(trainer_with_history, tmp_path)
    assert found["objective0_discriminator.count"] == 6
    assert found["objective0_discriminator.samples"].flatten(1).any(dim=1).sum() >= 16


class Tied(nn.Module):
    """Two layers of one weight, as embedding and projection of a language model."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, size)
        self.second.weight = self.first.weight
        norm = nn.BatchNorm1d(size)
        self.norms = nn.ModuleList([norm, norm])


class TiedGenerator(DCGANGenerator):
    def __init__(self, config) -> None:
        super().__init__(config)
        self.tied = Tied(nn.Identity(), config.latent_dim)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        tied = self.tied
        hidden = tied.norms[1](tied.second(tied.norms[0](tied.first(latents)).relu()))
        return super().forward(hidden, labels)


def tied_trainer() -> Trainer:
    recipe = load_recipe(RECIPE, {"generator_optimizer.clip_norm": 1.0})
    plain = build_trainer(recipe, CPU)[1]
    config = plain.networks["generator"].config
    torch.manual_seed(0)
    networks = {"generator": TiedGenerator(config), "discriminator": DCGANDiscriminator(config)}
    return Trainer(recipe, networks, plain.objective, plain.dataset, plain.processor, device=CPU)


def test_weights_that_layers_share_are_trained_averaged_and_resumed_once(tmp_path):
    found = assert_resumes(tied_trainer, tmp_path)
    for network in ("generator", "ema"):
        assert torch.equal(found[f"{network}.tied.first.weight"], found[f"{network}.tied.second.weight"])
    trainer = tied_trainer()
    before = [tensor.clone() for tensor in trainer.ema._targets]
    trainer.train_step()
    names = [name for name, _ in trainer.networks["generator"].named_parameters()]
    assert "tied.first.weight" in names and "tied.second.weight" not in names
    assert len({id(target) for target in trainer.ema._targets}) == len(trainer.ema._targets)
    assert sum(len(group["params"]) for group in trainer.optimizers["generator"].param_groups) == len(names)
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.ema._targets, strict=True))
    average = trainer.ema.average.tied
    assert average.first.weight is average.second.weight and average.norms[0] is average.norms[1]
