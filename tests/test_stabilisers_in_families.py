"""Layers against mode collapse and spectral norm, in every family of pictures and sound, switched on in its config."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ganzoo
from ganzoo.networks.base import Discriminator
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


NORM_LAYERS = (nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


def norms(discriminator: Discriminator) -> list[nn.Module]:
    return [module for module in discriminator.modules() if isinstance(module, NORM_LAYERS)]


def used_judge(name: str, **options: object) -> tuple[Discriminator, dict[str, Tensor]]:
    """As after some training: no branch that begins at zero is left."""
    discriminator, inputs = judge(name, **options)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return discriminator, inputs


@pytest.mark.parametrize(("norm", "over"), [("batch", [0]), ("layer", [1])])
@pytest.mark.parametrize("name", WITH_NORM)
def test_batch_and_layer_norm_bring_hidden_layers_to_mean_0_and_variance_1(name, norm, over) -> None:
    discriminator, inputs = used_judge(name, discriminator_norm=norm)
    normalised = []
    for module in norms(discriminator):
        nn.init.ones_(module.weight), nn.init.zeros_(module.bias)
        module.register_forward_hook(lambda _, __, output: normalised.append(output.detach().clone()))
    discriminator.train()(**inputs)
    assert normalised
    for hidden in normalised:
        axes = [*over, *range(2, hidden.ndim)]
        assert hidden.mean(axes).abs().max() < 1e-4
        variance = hidden.var(axes, correction=0)
        assert (variance < 1.001).all() and variance.median() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", WITH_NORM)
def test_layer_norm_leaves_each_sample_by_itself_and_batch_norm_does_not(name) -> None:
    for norm, is_training, alone in (("layer", False, True), ("batch", True, False)):
        discriminator, inputs = used_judge(name, discriminator_norm=norm)
        discriminator.train(is_training)
        half = {key: value[:4] for key, value in inputs.items()}
        logits = []
        for some in (inputs, half):
            torch.manual_seed(0)
            logits.append(discriminator(**some)[0].logits[:4])
        assert torch.allclose(*logits, atol=1e-5) == alone


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("name", WITH_NORM)
def test_with_batch_and_layer_norm_a_discriminator_learns_by_r1_and_is_saved_whole(name, norm, tmp_path) -> None:
    discriminator, inputs = used_judge(name, discriminator_norm=norm)
    samples = inputs["samples"].requires_grad_()
    logits = discriminator.train()(**inputs)[0].logits
    (gradient,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    (logits.square().mean() + gradient.square().sum()).backward()
    found = [module.weight.grad for module in norms(discriminator) if module.weight.grad is not None]
    assert found and all(gradient.isfinite().all() and gradient.any() for gradient in found)
    exact = discriminator.eval()(**inputs)[0].logits
    discriminator.save_pretrained(tmp_path)
    again = ganzoo.Discriminator.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**inputs)[0].logits, exact, rtol=0, atol=0)
    half = discriminator.to(torch.bfloat16)(**{**inputs, "samples": samples.detach().bfloat16()})[0].logits
    assert half.dtype == torch.bfloat16 and (half.float() - exact).abs().max() <= 0.1 * exact.abs().max()


@pytest.mark.parametrize("name", WITH_NORM)
def test_without_a_norm_there_is_none(name) -> None:
    assert norms(judge(name)[0]) == []


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
