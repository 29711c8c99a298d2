"""Layers against mode collapse and spectral norm, in every family of pictures and sound, switched on in its config."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.modeling import Discriminator
from ganzoo.nn import EqualisedConv2d, EqualisedLinear, normalise_spectrally
from ganzoo.registry import get_family

FIELDS = {name: set(get_family(name).config.model_fields) for name in ganzoo.list_families()}
WITH_MINIBATCH = [name for name, fields in FIELDS.items() if "minibatch_discrimination" in fields]
WITH_STD = [name for name in WITH_MINIBATCH if "minibatch_std" in FIELDS[name]]
WITH_NORM = [name for name, fields in FIELDS.items() if "discriminator_norm" in fields]
OPTIONS = [(name, {"minibatch_discrimination": 3}) for name in WITH_MINIBATCH]
OPTIONS += [(name, {"minibatch_std": True}) for name in WITH_STD]


def test_every_family_of_pictures_and_sound_can_have_them() -> None:
    """Not the vocoder, which draws nothing that could vary too little; SNGAN has its norm, Karras's families their deviation."""
    families = {name for name in FIELDS if get_family(name).modality != "text"} - {"hifigan"}
    assert set(WITH_MINIBATCH) == families
    assert families - set(WITH_STD) == {name for name, fields in FIELDS.items() if "minibatch_group" in fields}
    assert set(WITH_NORM) == families - {"sngan"}


def judge(name: str, **options: object) -> tuple[Discriminator, dict[str, Tensor]]:
    """A small discriminator and eight samples; of its own layers none that sees the whole batch."""
    torch.manual_seed(0)
    alone = {"minibatch_group": 1} if "minibatch_group" in FIELDS[name] else {}
    alone |= {"discriminator_norm": "none"} if name in WITH_NORM else {}
    discriminator = ganzoo.create(name, **{**get_family(name).tiny, **alone, **options})[1].eval()
    return discriminator, discriminator.example_inputs(8, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", WITH_MINIBATCH)
def test_without_them_a_discriminator_judges_each_sample_by_itself(name) -> None:
    discriminator, inputs = judge(name)
    assert not any("minibatch" in key for key in discriminator.state_dict())
    half = {key: value[:4] for key, value in inputs.items()}
    torch.testing.assert_close(discriminator(**inputs)[0].logits[:4], discriminator(**half)[0].logits)


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_with_them_it_sees_the_whole_batch_and_learns_from_it(name, option) -> None:
    discriminator, inputs = judge(name, **option)
    half = {key: value[:4] for key, value in inputs.items()}
    assert not torch.allclose(discriminator(**inputs)[0].logits[:4], discriminator(**half)[0].logits)
    samples = inputs.pop("samples").requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(samples, **inputs)[0].logits.sum(), samples, create_graph=True)
    gradient.square().sum().backward()  # as R1 does
    added = [parameter for key, parameter in discriminator.named_parameters() if "minibatch" in key]
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in added)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in discriminator.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "option"), [*((name, {}) for name in WITH_MINIBATCH), *OPTIONS])
def test_it_computes_with_weights_of_half_precision(name, option, dtype) -> None:
    discriminator, inputs = judge(name, **option)
    exact = discriminator(**inputs)[0].logits
    inputs["samples"] = inputs["samples"].to(dtype)
    found = discriminator.to(dtype)(**inputs)[0].logits
    assert found.dtype == dtype
    assert (exact - found.float()).abs().max() <= 0.05 * exact.abs().max()


def singular_values(network: nn.Module) -> list[float]:
    """The largest one of each weight in use, by a decomposition, after as many power iterations as are needed."""
    layers = [m for m in network.modules() if isinstance(m, (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding))]
    for layer in layers:
        for _ in range(200):
            layer.train().weight  # noqa: B018 - reading it iterates
    weights = (layer.eval().weight.detach() * getattr(layer, "scale", 1.0) for layer in layers)
    return [torch.linalg.svdvals(weight.flatten(1))[0].item() for weight in weights]


@pytest.mark.parametrize("name", WITH_NORM)
def test_spectral_norm_makes_every_largest_singular_value_1(name) -> None:
    discriminator, inputs = judge(name, discriminator_norm="spectral")
    values = singular_values(discriminator)
    assert values == pytest.approx([1.0] * len(values), abs=0.01)
    logits = discriminator(**inputs)[0].logits
    assert logits.isfinite().all() and logits.std() > 0
    logits.sum().backward()
    plain, _ = judge(name)
    assert max(singular_values(plain)) != pytest.approx(1.0, abs=0.01)


def test_spectral_norm_of_equalised_layers_is_that_of_what_they_compute() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList([EqualisedLinear(6, 5, gain=3.0), EqualisedConv2d(4, 3, 3)])
    normalise_spectrally(layers)
    for layer, size in zip(layers, ((6,), (4, 3, 3)), strict=True):
        for _ in range(200):
            layer.train()(torch.zeros(1, *size))
        # The network as a matrix: of the convolution at its middle pixel, whose window is the whole picture.
        basis = torch.eye(layer.weight[0].numel()).unflatten(1, size)
        images = (layer.eval()(basis) - layer.bias.view(-1, *(1,) * (len(size) - 1))).detach()
        matrix = images if images.ndim == 2 else images[:, :, 1, 1]
        assert torch.linalg.svdvals(matrix)[0].item() == pytest.approx(1.0, abs=1e-3)
