"""One-dimensional convolutions that are fast on CPUs, with fast gradients of every order.

PyTorch computes `nn.Conv1d` on CPUs in the layout (batch, channels, time). Long kernels with a stride, as WaveGAN's 25 taps
every 4 samples, and above all the second derivatives that a gradient penalty takes, then run at a fraction of the speed of
a matrix product. Here activations lie in memory as (batch, time, channels), and a convolution is done in the way that suits
its shape (benchmarks/train_audio.py):

- direct: a two-dimensional convolution of height 1, for many time steps;
- phases: `stride` neighbouring samples become channels of one time step, for few channels;
- product: one matrix product of the unfolded windows, for deep layers with few time steps.

A convolution, its transpose and its weight gradient are one trilinear form in the fine signal x (the convolution's input),
the coarse signal y (its output) and the weight w, differentiated by y, x or w: sum x[b, c, s t + k - before] w[d, c, k] y[b, d, t].
So three functions that are each other's gradients give all derivatives.

Values, parameters and names are those of `nn.Conv1d` and `nn.ConvTranspose1d`, and everything else (a GPU, groups, ...) goes
their way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Measured (benchmarks/train_audio.py): the matrix product is the faster way where a layer has this many times fewer windows
# than channel pairs; and phases are where one time step of them has at most so many channels.
CHANNEL_PAIRS_PER_WINDOW = 64
PHASE_CHANNELS = 64
DTYPES = (torch.float32, torch.bfloat16, torch.float64)


class Form(NamedTuple):
    """Which samples of the fine signal meet which of the coarse one; `before` and `after` are the zeros at its ends."""

    kernel: int
    stride: int
    before: int
    after: int
    dilation: int = 1

    def steps(self, length: int) -> int:
        """Length of the coarse signal."""
        return (length + self.before + self.after - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def length(self, steps: int) -> int:
        """Shortest fine signal of so many coarse steps."""
        return (steps - 1) * self.stride + self.dilation * (self.kernel - 1) + 1 - self.before - self.after


class _Fast1d:
    """What both layers share: the weight's layout in memory, and the cases that are theirs."""

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        module = super()._apply(function, recurse)
        self._lay()
        return module

    def _lay(self) -> None:
        """Puts the weight in memory as the products need it, on CPUs; as PyTorch expects it elsewhere."""
        weight = self._parameters.get("weight")
        if weight is None:  # a parametrisation computes it
            return
        if weight.device.type == "cpu" and self.groups == 1:
            weight.data = _rows(weight.data).transpose(1, 2)
        else:
            weight.data = weight.data.contiguous()

    def _form(self, before: int, after: int) -> Form:
        return Form(self.kernel_size[0], self.stride[0], before, after, self.dilation[0])

    def _is_fast(self, signals: Tensor, form: Form) -> bool:
        return (
            signals.device.type == "cpu"
            and signals.ndim == 3
            and signals.shape[1] == self.in_channels
            and signals.numel() > 0
            and _dtype(signals) in DTYPES
            and self.groups == 1
            and self.padding_mode == "zeros"
            and min(form.before, form.after) >= 0
            and (form.dilation == 1 or form.before == form.after)
            and not torch.compiler.is_compiling()
        )

    def _inputs(self, signals: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        if not torch.is_autocast_enabled("cpu"):
            return signals, self.weight, self.bias
        dtype = _dtype(signals)
        return signals.to(dtype), self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)


class Conv1d(_Fast1d, nn.Conv1d):
    """`nn.Conv1d`, faster on CPUs: values and gradients as in PyTorch, (B, C, L) results that lie in memory as (B, L, C)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lay()

    def forward(self, signals: Tensor) -> Tensor:
        form = self._form(*_margins(self))
        if not self._is_fast(signals, form) or form.steps(signals.shape[2]) < 1:
            return super().forward(signals)
        return _correlate(*self._inputs(signals), form)

    def with_margins(self, signals: Tensor, before: int, after: int) -> Tensor:
        """The convolution with `before` and `after` zeros at the ends of the signal instead of the layer's padding."""
        form = self._form(before, after)
        if not self._is_fast(signals, form) or form.steps(signals.shape[2]) < 1:
            padded = F.pad(signals, (before, after))
            return F.conv1d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return _correlate(*self._inputs(signals), form)


class ConvTranspose1d(_Fast1d, nn.ConvTranspose1d):
    """`nn.ConvTranspose1d`, faster on CPUs: values and gradients as in PyTorch, results that lie in memory as (B, L, C)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lay()

    def forward(self, signals: Tensor, output_size: list[int] | None = None) -> Tensor:
        form = self._form(self.padding[0], self.padding[0])
        length = form.length(signals.shape[-1]) + self.output_padding[0]
        if output_size is not None or not self._is_fast(signals, form) or length < 1:
            return super().forward(signals, output_size)
        return _spread(*self._inputs(signals), form, length)

    def with_margins(self, signals: Tensor, before: int, after: int) -> Tensor:
        """The transposed convolution without the first `before` and the last `after` samples of its full result."""
        form = self._form(before, after)
        length = form.length(signals.shape[-1])
        if not self._is_fast(signals, form) or length < 1:
            full = F.conv_transpose1d(signals, self.weight, self.bias, self.stride, 0, 0, self.groups, self.dilation)
            return full[..., before : full.shape[-1] - after]
        return _spread(*self._inputs(signals), form, length)


class LeakyReLU(nn.LeakyReLU):
    """`nn.LeakyReLU` whose second derivative is nothing instead of zeros.

    It is zero (almost) everywhere, but PyTorch makes a tensor of zeros of it and, in a gradient penalty, sends that back
    through all layers before: a seventh of the arithmetic of a WaveGAN discriminator's step.
    """

    def forward(self, signals: Tensor) -> Tensor:
        if self.inplace or self.negative_slope <= 0 or not torch.is_grad_enabled():
            return super().forward(signals)
        return _Leak.apply(signals, self.negative_slope)


class _Leak(torch.autograd.Function):
    @staticmethod
    def forward(ctx, signals: Tensor, slope: float) -> Tensor:
        result = F.leaky_relu(signals, slope)
        ctx.save_for_backward(result)
        ctx.slope = slope
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (result,) = ctx.saved_tensors
        return _LeakGradient.apply(gradient, result.detach(), ctx.slope), None


class _LeakGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gradient: Tensor, result: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(result)
        ctx.slope = slope
        return torch.ops.aten.leaky_relu_backward(gradient, result, slope, True)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _LeakGradient.apply(gradient, *ctx.saved_tensors, ctx.slope), None, None


def _dtype(signals: Tensor) -> torch.dtype:
    """The type the convolution computes in. Autocast does not look into custom functions, so it is asked."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else signals.dtype


def _margins(layer: nn.Conv1d) -> tuple[int, int]:
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        zeros = layer.dilation[0] * (layer.kernel_size[0] - 1)
        return zeros // 2, zeros - zeros // 2
    return layer.padding[0], layer.padding[0]


# ------------------------------------------------------------------------------------------------ derivatives


def _correlate(fine: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    function = _Correlate.apply if torch.is_grad_enabled() else correlate
    return function(fine, weight, bias, form)


def _spread(coarse: Tensor, weight: Tensor, bias: Tensor | None, form: Form, length: int) -> Tensor:
    function = _Spread.apply if torch.is_grad_enabled() else spread
    return function(coarse, weight, bias, form, length)


class _Correlate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, fine: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
        ctx.save_for_backward(fine, weight)
        ctx.form = form
        return _own(correlate(fine, weight, bias, form))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        fine, weight = ctx.saved_tensors
        to_fine, to_weight, to_bias, *_ = ctx.needs_input_grad
        return (
            _spread(gradient, weight, None, ctx.form, fine.shape[2]) if to_fine else None,
            _Outer.apply(fine, gradient, ctx.form) if to_weight else None,
            gradient.sum((0, 2)) if to_bias else None,
            None,
        )


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coarse: Tensor, weight: Tensor, bias: Tensor | None, form: Form, length: int) -> Tensor:
        ctx.save_for_backward(coarse, weight)
        ctx.form = form
        return _own(spread(coarse, weight, bias, form, length))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        coarse, weight = ctx.saved_tensors
        to_coarse, to_weight, to_bias, *_ = ctx.needs_input_grad
        return (
            _correlate(gradient, weight, None, ctx.form) if to_coarse else None,
            _Outer.apply(gradient, coarse, ctx.form) if to_weight else None,
            gradient.sum((0, 2)) if to_bias else None,
            None,
            None,
        )


class _Outer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, fine: Tensor, coarse: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(fine, coarse)
        ctx.form = form
        return _own(outer(fine, coarse, form))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        fine, coarse = ctx.saved_tensors
        to_fine, to_coarse, _ = ctx.needs_input_grad
        return (
            _spread(coarse, gradient, None, ctx.form, fine.shape[2]) if to_fine else None,
            _correlate(fine, gradient, None, ctx.form) if to_coarse else None,
            None,
        )


def _own(view: Tensor) -> Tensor:
    """The same memory as a tensor of its own: of a view that a custom function made, autograd forbids `relu_`."""
    return view.new_empty(0).set_(view.untyped_storage(), view.storage_offset(), view.shape, view.stride())


# ------------------------------------------------------------------------------------------------ values


def correlate(fine: Tensor, weight: Tensor, bias: Tensor | None, form: Form) -> Tensor:
    """The convolution: fine (B, C, L), weight (D, C, K), bias (D,) or None -> coarse (B, D, T)."""
    batch, channels, length = fine.shape
    depth, steps = len(weight), form.steps(length)
    if _is_product(channels, depth, batch * steps, form):
        matrix = _rows(weight).view(depth, -1).t()
        windows = _windows(fine, form, steps)
        rows = windows @ matrix if bias is None else torch.addmm(bias, windows, matrix)
        return rows.view(batch, steps, depth).transpose(1, 2)
    if phases := _phases(form, channels, length, steps):
        lead, form = phases.lead, phases.form
        fine, weight = _to_phases(fine, phases.stride), _taps_to_phases(weight, phases.stride, lead, form.kernel)
    weight, form = _symmetric(weight, form)
    axis = _time_axis(form)
    planes = F.conv2d(
        _planes(fine, axis),
        _planes(weight, axis),
        bias,
        _along(axis, form.stride, 1),
        _along(axis, form.before, 0),
        _along(axis, form.dilation, 1),
    )
    return planes.squeeze(5 - axis)


def spread(coarse: Tensor, weight: Tensor, bias: Tensor | None, form: Form, length: int) -> Tensor:
    """The transposed convolution: coarse (B, D, T), weight (D, C, K), bias (C,) or None -> fine (B, C, length)."""
    batch, depth, steps = coarse.shape
    channels = weight.shape[1]
    thin = channels * form.stride <= 8
    if form.dilation == 1 and (thin or _is_product(channels, depth, batch * steps, form)):
        rows, matrix = _rows(coarse).view(-1, depth), _rows(weight).view(depth, -1)
        if thin:
            fine = _fold_columns((matrix.t() @ rows.t()).view(form.kernel, channels, batch, steps), form, length)
        else:
            fine = _fold((rows @ matrix).view(batch, steps, -1), channels, form, length)
        return fine.to(coarse.dtype) if bias is None else (fine + bias[:, None]).to(coarse.dtype)
    phases = _phases(form, channels, length, steps)
    if phases:
        lead, form, fine_length = phases.lead, phases.form, length // phases.stride
        weight = _taps_to_phases(weight, phases.stride, lead, form.kernel)
        bias_phases = None if bias is None else bias.repeat(phases.stride)
    else:
        fine_length, bias_phases = length, bias
    weight, form = _symmetric(weight, form)
    extra = fine_length - form.length(steps)
    planes = F.conv_transpose2d(
        _planes(coarse),
        _planes(weight),
        bias_phases,
        _along(3, form.stride, 1),
        _along(3, form.before, 0),
        _along(3, extra, 0),
        1,
        _along(3, form.dilation, 1),
    )
    fine = planes.squeeze(2)
    return _from_phases(fine, phases.stride) if phases else fine


def outer(fine: Tensor, coarse: Tensor, form: Form) -> Tensor:
    """The gradient in the weight: fine (B, C, L), coarse (B, D, T) -> (D, C, K)."""
    batch, channels, length = fine.shape
    depth, steps = coarse.shape[1:]
    if _is_product(channels, depth, batch * steps, form):
        rows = _rows(coarse).view(-1, depth)
        return (rows.t() @ _windows(fine, form, steps)).view(depth, form.kernel, channels).transpose(1, 2)
    wide = fine.dtype == torch.float32
    if phases := _phases(form, channels, length, steps, wide=wide):
        taps = _outer_planes(_to_phases(fine, phases.stride), coarse, phases.form)
        taps = _rows(taps).view(depth, -1, channels)[:, phases.lead : phases.lead + form.kernel]
        return taps.contiguous().transpose(1, 2)
    return _outer_planes(fine, coarse, form)


def _outer_planes(fine: Tensor, coarse: Tensor, form: Form) -> Tensor:
    first = max(0, form.after - form.before)
    wider = _symmetric_form(form)
    depth, channels = coarse.shape[1], fine.shape[1]
    like = torch.empty(depth, 1, wider.kernel, channels, dtype=fine.dtype).permute(0, 3, 1, 2)
    geometry = _along(3, wider.stride, 1), _along(3, wider.before, 0), _along(3, wider.dilation, 1)
    gradient = torch.ops.aten.convolution_backward(
        _planes(coarse), _planes(fine), like, None, *geometry, False, [0, 0], 1, [False, True, False]
    )[1].squeeze(2)
    return _rows(gradient[..., first : first + form.kernel]).transpose(1, 2)


# ------------------------------------------------------------------------------------------------ layouts


def _is_product(channels: int, depth: int, windows: int, form: Form) -> bool:
    return form.dilation == 1 and windows * CHANNEL_PAIRS_PER_WINDOW <= channels * depth


def _rows(signals: Tensor) -> Tensor:
    """(B, C, L) -> (B, L, C), contiguous; no copy where it lies so already."""
    return signals.transpose(1, 2).contiguous()


def _planes(signals: Tensor, axis: int = 3) -> Tensor:
    """(B, C, L) -> channels-last pictures with time as their width (B, C, 1, L) or, `axis` 2, their height (B, C, L, 1)."""
    return _rows(signals).unsqueeze(1 if axis == 3 else 2).permute(0, 3, 1, 2)


def _along(axis: int, time: int, other: int) -> tuple[int, int]:
    return (other, time) if axis == 3 else (time, other)


def _time_axis(form: Form) -> int:
    """Without strides and gaps the library is a little faster along the height."""
    return 2 if form.stride == form.dilation == 1 else 3


def _windows(fine: Tensor, form: Form, steps: int) -> Tensor:
    """(B, C, L) -> (B T, K C): what each output sees."""
    batch, channels, _ = fine.shape
    padded = F.pad(_rows(fine), (0, 0, form.before, form.after))
    shape = batch, steps, form.kernel * channels
    return padded.as_strided(shape, (padded.stride(0), form.stride * channels, 1)).reshape(batch * steps, -1)


def _fold(windows: Tensor, channels: int, form: Form, length: int) -> Tensor:
    """Adds overlapping windows (B, T, K C) up, in float32 at least -> (B, C, length)."""
    batch, steps, _ = windows.shape
    width = form.stride * channels  # the windows move by it, so a piece of it lands on whole rows
    pieces = windows.split(width, dim=2)
    rows = max(steps + len(pieces) - 1, -(-(form.before + length) // form.stride))
    folded = windows.new_zeros(batch, rows, width, dtype=torch.promote_types(windows.dtype, torch.float32))
    for number, piece in enumerate(pieces):
        folded[:, number : number + steps, : piece.shape[2]] += piece
    return folded.view(batch, -1, channels)[:, form.before : form.before + length].transpose(1, 2)


def _fold_columns(windows: Tensor, form: Form, length: int) -> Tensor:
    """The same for few channels, with time as the innermost axis: windows (K, C, B, T) -> (B, C, length)."""
    _, channels, batch, steps = windows.shape
    pieces = windows.split(form.stride)
    columns = max(steps + len(pieces) - 1, -(-(form.before + length) // form.stride))
    dtype = torch.promote_types(windows.dtype, torch.float32)
    folded = windows.new_zeros(form.stride, channels, batch, columns, dtype=dtype)
    for number, piece in enumerate(pieces):
        folded[: len(piece), ..., number : number + steps] += piece
    fine = folded.permute(2, 3, 0, 1).reshape(batch, -1, channels)
    return fine[:, form.before : form.before + length].transpose(1, 2)


class _Phases(NamedTuple):
    stride: int
    lead: int  # taps of zeros before the first
    form: Form


def _phases(form: Form, channels: int, length: int, steps: int, *, wide: bool = False) -> _Phases | None:
    """The form in which `stride` samples are one time step, if that is the faster one and exists."""
    stride = form.stride
    if stride == 1 or form.dilation > 1 or length % stride or (channels * stride > PHASE_CHANNELS and not wide):
        return None
    lead = -form.before % stride
    kernel = -(-(form.kernel + lead) // stride)
    before = (form.before + lead) // stride
    after = steps + kernel - 1 - length // stride - before
    return _Phases(stride, lead, Form(kernel, 1, before, after)) if after >= 0 else None


def _to_phases(fine: Tensor, stride: int) -> Tensor:
    batch, channels, length = fine.shape
    return _rows(fine).view(batch, length // stride, stride * channels).transpose(1, 2)


def _from_phases(phases: Tensor, stride: int) -> Tensor:
    batch, wide, steps = phases.shape
    return _rows(phases).view(batch, steps * stride, wide // stride).transpose(1, 2)


def _taps_to_phases(weight: Tensor, stride: int, lead: int, kernel: int) -> Tensor:
    depth, channels, taps = weight.shape
    padded = F.pad(_rows(weight), (0, 0, lead, kernel * stride - taps - lead))
    return padded.view(depth, kernel, stride * channels).transpose(1, 2)


def _symmetric_form(form: Form) -> Form:
    more = abs(form.after - form.before)
    margin = max(form.before, form.after)
    return Form(form.kernel + more, form.stride, margin, margin, form.dilation)


def _symmetric(weight: Tensor, form: Form) -> tuple[Tensor, Form]:
    """The same convolution with equal margins, as PyTorch needs them: taps of zeros make up for the difference."""
    if form.before == form.after:
        return weight, form
    ends = max(0, form.after - form.before), max(0, form.before - form.after)
    return F.pad(_rows(weight), (0, 0, *ends)).transpose(1, 2), _symmetric_form(form)
