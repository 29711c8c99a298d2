"""The fast one-dimensional convolutions against PyTorch's: values, first and second derivatives, layouts, state dicts."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ganzoo.nn.convolution1d as convolution1d
from ganzoo.nn.convolution1d import Conv1d, ConvTranspose1d, Form, LeakyReLU

PAIRS = [(Conv1d, nn.Conv1d), (ConvTranspose1d, nn.ConvTranspose1d)]
GEOMETRIES = [  # channels in and out, kernel, stride, padding, output padding, dilation, length
    (1, 3, 25, 4, 11, 1, 1, 32),
    (3, 1, 25, 4, 11, 1, 1, 32),
    (3, 5, 25, 4, 11, 1, 1, 36),
    (2, 1, 4, 2, 1, 0, 1, 9),
    (3, 4, 7, 1, 3, 0, 1, 11),
    (3, 4, 3, 1, 2, 0, 2, 11),
    (2, 3, 5, 3, 0, 2, 1, 17),
    (2, 3, 3, 4, 1, 3, 1, 16),
    (2, 3, 16, 8, 4, 0, 1, 24),
    (2, 3, 5, 2, 4, 1, 3, 21),
    (2, 2, 1, 1, 0, 0, 1, 5),
    (20, 3, 5, 2, 2, 1, 1, 12),
]
WAYS = {  # CHANNEL_PAIRS_PER_WINDOW, PHASE_CHANNELS: each makes every layer that can go one way go it
    "as measured": (convolution1d.CHANNEL_PAIRS_PER_WINDOW, convolution1d.PHASE_CHANNELS),
    "direct": (1e9, 0),
    "phases": (1e9, 1e9),
    "product": (1e-9, 0),
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    pairs, phases = WAYS[request.param]
    monkeypatch.setattr(convolution1d, "CHANNEL_PAIRS_PER_WINDOW", pairs)
    monkeypatch.setattr(convolution1d, "PHASE_CHANNELS", phases)
    return request.param


def layers(ours: type, theirs: type, geometry: tuple, *, bias: bool = True, dtype=torch.float64) -> tuple:
    inputs, outputs, kernel, stride, padding, extra, dilation, _ = geometry
    options = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    if ours is ConvTranspose1d:
        options["output_padding"] = extra
    torch.manual_seed(0)
    layer, reference = (kind(inputs, outputs, kernel, **options).to(dtype) for kind in (ours, theirs))
    reference.load_state_dict(layer.state_dict())
    return layer, reference


def signals(geometry: tuple, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(2, geometry[0], geometry[-1], dtype=dtype, generator=torch.Generator().manual_seed(1))


def derivatives(network, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Values, first derivatives, and the gradients of a penalty on them, which every second derivative enters."""
    inputs = inputs.clone().requires_grad_()
    parameters = list(network.parameters())
    outputs = network(inputs)
    weights = torch.randn(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(2))
    first = torch.autograd.grad((torch.tanh(outputs) * weights).sum(), [inputs, *parameters], create_graph=True)
    second = torch.autograd.grad(sum(slope.square().sum() for slope in first), [inputs, *parameters])
    return [outputs, *first, *second]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_values_and_derivatives_are_pytorchs(way, ours, theirs, geometry):
    layer, reference = layers(ours, theirs, geometry, bias=geometry[0] != 3)
    results = [derivatives(network, signals(geometry)) for network in (layer, reference)]
    for mine, expected in zip(*results, strict=True):
        assert mine.shape == expected.shape
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("geometry", GEOMETRIES[:3], ids=str)
def test_derivatives_in_single_precision(way, ours, theirs, geometry):
    layer, reference = layers(ours, theirs, geometry, dtype=torch.float32)
    results = [derivatives(network, signals(geometry, torch.float32)) for network in (layer, reference)]
    for mine, expected in zip(*results, strict=True):
        assert (mine - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("geometry", GEOMETRIES[:6], ids=str)
def test_under_autocast_as_exact_as_pytorch(way, ours, theirs, geometry):
    """Against float64: bfloat16 has 8 bits, and we may lose no more of them than PyTorch (give or take a half)."""
    layer, reference = layers(ours, theirs, geometry, dtype=torch.float32)
    exact = copy.deepcopy(reference).double()
    inputs = signals(geometry, torch.float32)
    results = []
    for network in (layer, reference, exact):
        network_inputs = inputs.to(network.weight.dtype, copy=True).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=network is not exact):
            outputs = network(network_inputs)
        assert network is exact or outputs.dtype == torch.bfloat16
        weights = torch.linspace(0.1, 1, outputs.numel(), dtype=network.weight.dtype).view(outputs.shape)
        (outputs * weights).sum().backward()
        assert network.weight.grad.dtype == network.weight.dtype
        results.append([outputs, network_inputs.grad, network.weight.grad, network.bias.grad])
    for mine, theirs_, expected in zip(*results, strict=True):
        error, allowed = ((value - expected).norm() / expected.norm() for value in (mine, theirs_))
        assert error < 0.02 and error <= 1.5 * allowed + 0.003


@pytest.mark.parametrize("margins", [(10, 11), (11, 10), (0, 3), (5, 0), (0, 0), (12, 12)])
@pytest.mark.parametrize("channels", [1, 3, 20])
def test_margins_that_differ(way, margins, channels):
    before, after = margins
    signal = torch.randn(2, channels, 64, dtype=torch.float64)
    down = Conv1d(channels, 5, 25, stride=4).double()
    coarse = down.with_margins(signal, before, after)
    torch.testing.assert_close(
        coarse, F.conv1d(F.pad(signal, margins), down.weight, down.bias, stride=4), rtol=1e-7, atol=1e-7
    )
    up = ConvTranspose1d(5, channels, 25, stride=4).double()
    full = F.conv_transpose1d(coarse, up.weight, up.bias, stride=4)
    torch.testing.assert_close(up.with_margins(coarse, before, after), full[..., before : full.shape[-1] - after])


def test_tensorflows_same_margins_make_adjoint_layers(way):
    """<conv x, y> = <x, transposed conv y>, with 10 zeros before and 11 after, as WaveGAN has them."""
    down, up = (
        Conv1d(3, 5, 25, stride=4, bias=False).double(),
        ConvTranspose1d(5, 3, 25, stride=4, bias=False).double(),
    )
    up.load_state_dict(down.state_dict())
    x, y = torch.randn(2, 3, 64, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close((down.with_margins(x, 10, 11) * y).sum(), (x * up.with_margins(y, 10, 11)).sum())


@pytest.mark.parametrize("ours", [Conv1d, ConvTranspose1d])
def test_gradcheck_to_the_second_order(way, ours):
    layer = ours(2, 3, 5, stride=2, padding=1).double()

    def apply(inputs, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, inputs)

    inputs = (torch.randn(2, 2, 9, dtype=torch.float64, requires_grad=True), *layer.parameters())
    assert torch.autograd.gradcheck(apply, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(apply, inputs, fast_mode=True)


def test_the_ways_are_taken(monkeypatch):
    """What the fixture `way` relies on; and with the measured bounds, WaveGAN's layers at width 64."""
    down = Form(25, 4, 10, 11)
    assert convolution1d._phases(down, 1, 16_384, 4096)
    assert not convolution1d._phases(down, 64, 4096, 1024)
    assert not convolution1d._is_product(64, 128, 16 * 1024, down)
    assert convolution1d._is_product(512, 1024, 16 * 16, down)
    calls = []
    windows = convolution1d._windows
    monkeypatch.setattr(convolution1d, "_windows", lambda *inputs: calls.append(1) or windows(*inputs))
    Conv1d(128, 128, 5, stride=2)(torch.randn(1, 128, 9))
    assert calls == [1]


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_state_dicts_are_interchangeable(ours, theirs, tmp_path):
    from safetensors.torch import load_file, save_file

    layer, reference = layers(ours, theirs, GEOMETRIES[2], dtype=torch.float32)
    inputs = signals(GEOMETRIES[2], torch.float32)
    assert {name: value.shape for name, value in layer.state_dict().items()} == {
        name: value.shape for name, value in reference.state_dict().items()
    }
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    for assign in (False, True):
        fresh = ours(3, 5, 25, stride=4, padding=11, **({"output_padding": 1} if ours is ConvTranspose1d else {}))
        fresh.load_state_dict(load_file(tmp_path / "weights.safetensors"), assign=assign)
        torch.testing.assert_close(fresh(inputs), reference(inputs))
        torch.testing.assert_close(copy.deepcopy(fresh)(inputs), reference(inputs))


@pytest.mark.parametrize("ours", [Conv1d, ConvTranspose1d])
def test_nothing_is_rearranged_from_layer_to_layer(ours):
    """Weights, results and gradients lie in memory with the channels innermost; optimisers get gradients laid as weights."""
    layer = ours(8, 8, 5, stride=2)
    outputs = layer(torch.randn(2, 8, 12))
    outputs.square().sum().backward()
    assert outputs.transpose(1, 2).is_contiguous()
    assert layer.weight.transpose(1, 2).is_contiguous()
    assert layer.weight.grad.stride() == layer.weight.stride()
    assert layer.double().weight.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("ours", [Conv1d, ConvTranspose1d])
def test_results_may_be_changed_in_place(ours):
    layer = ours(2, 3, 5, stride=2)
    inputs = torch.randn(2, 2, 12, requires_grad=True)
    layer(inputs).mul_(2).relu_().sum().backward()
    mine = inputs.grad.clone()
    inputs.grad = None
    F.relu(layer(inputs) * 2).sum().backward()
    torch.testing.assert_close(mine, inputs.grad)


@pytest.mark.parametrize("ours, theirs", PAIRS)
@pytest.mark.parametrize("options", [{"groups": 2}, {"groups": 4, "stride": 2, "padding": 3}], ids=str)
def test_groups_go_pytorchs_way(ours, theirs, options):
    layer, reference = ours(4, 8, 5, **options), theirs(4, 8, 5, **options)
    reference.load_state_dict(layer.state_dict())
    inputs = torch.randn(2, 4, 16)
    torch.testing.assert_close(layer(inputs), reference(inputs))
    padded = F.pad(inputs, (1, 2))
    if ours is Conv1d:
        expected = F.conv1d(padded, layer.weight, layer.bias, layer.stride, 0, 1, layer.groups)
        torch.testing.assert_close(layer.with_margins(inputs, 1, 2), expected)


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"padding": "valid"}, {"padding": 2, "padding_mode": "reflect"}], ids=str
)
def test_named_paddings(options):
    layer, reference = Conv1d(2, 3, 4, **options), nn.Conv1d(2, 3, 4, **options)
    reference.load_state_dict(layer.state_dict())
    inputs = torch.randn(2, 2, 16)
    torch.testing.assert_close(layer(inputs), reference(inputs))


def test_one_signal_without_a_batch_and_an_output_size():
    layer, reference = layers(*PAIRS[1], GEOMETRIES[2], dtype=torch.float32)
    inputs = signals(GEOMETRIES[2], torch.float32)
    torch.testing.assert_close(layer(inputs[0]), reference(inputs[0]))
    torch.testing.assert_close(layer(inputs, [145]), reference(inputs, [145]))


@pytest.mark.parametrize("ours, theirs", PAIRS)
def test_errors_are_pytorchs(ours, theirs):
    for inputs in (torch.randn(2, 4, 16), torch.randn(2, 3, 2) if ours is Conv1d else torch.randn(3, 3, 3, 3)):
        for kind in (ours, theirs):
            with pytest.raises(RuntimeError):
                kind(3, 5, 5)(inputs)
    with pytest.raises(RuntimeError):  # other types than the weight's, too
        ours(3, 5, 5)(torch.randn(2, 3, 16, dtype=torch.float64))


def test_weight_norm_trains_and_folds():
    from torch.nn.utils.parametrizations import weight_norm
    from torch.nn.utils.parametrize import remove_parametrizations

    layer = Conv1d(2, 3, 5)
    inputs = torch.randn(2, 2, 12)
    expected = layer(inputs)
    weight_norm(layer).double().float()
    torch.testing.assert_close(layer(inputs), expected)
    layer(inputs).sum().backward()
    assert layer.parametrizations.weight.original1.grad is not None
    torch.testing.assert_close(remove_parametrizations(layer, "weight")(inputs), expected)


def test_inference_mode_gives_the_same():
    layer = Conv1d(2, 3, 25, stride=4, padding=11)
    inputs = torch.randn(2, 2, 64)
    with torch.inference_mode():
        result = layer(inputs)
    torch.testing.assert_close(result, layer(inputs))


def penalised(activation: nn.Module) -> list[torch.Tensor]:
    """Weight gradients of a WGAN discriminator's loss with a gradient penalty."""
    torch.manual_seed(0)
    network = nn.Sequential(
        Conv1d(1, 4, 25, stride=4, padding=11), activation, Conv1d(4, 8, 25, stride=4, padding=11), activation
    ).double()
    samples = torch.randn(3, 1, 64, dtype=torch.float64, requires_grad=True)
    logits = network(samples)
    (slopes,) = torch.autograd.grad(logits.sum(), samples, create_graph=True)
    (logits.mean() + 10 * (slopes.flatten(1).norm(dim=1) - 1).square().mean()).backward()
    return [parameter.grad for parameter in network.parameters()]


def test_leaky_relu_has_pytorchs_derivatives():
    for mine, expected in zip(penalised(LeakyReLU(0.2)), penalised(nn.LeakyReLU(0.2)), strict=True):
        torch.testing.assert_close(mine, expected)


def test_leaky_relu_sends_nothing_back_through_its_input():
    """The penalty's gradient in a bias that only moves the activations' signs is None, where PyTorch's is a zero tensor."""
    signals_, bias = torch.randn(2, 3), torch.zeros(3, requires_grad=True)
    inputs = torch.randn(2, 3, requires_grad=True)
    for activation, is_none in ((LeakyReLU(0.2), True), (nn.LeakyReLU(0.2), False)):
        values = (activation(inputs + bias) * signals_).sum()
        scale = torch.ones((), requires_grad=True)
        (slopes,) = torch.autograd.grad(values * scale, inputs, create_graph=True)
        gradient, _ = torch.autograd.grad(slopes.square().sum(), (bias, scale), allow_unused=True)
        assert (gradient is None) == is_none
