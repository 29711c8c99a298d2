"""A deep layer's weight gradient: one matrix product of unfolded windows beside PyTorch's, on DCGAN's layers.

    python benchmarks/convolution.py

Where the product wins decides `WINDOWS_PER_CHANNEL_PAIR` in ganzoo/nn/convolution.py.
"""

from __future__ import annotations

import torch
from timing import interleave

from ganzoo.nn.convolution import WINDOWS_PER_CHANNEL_PAIR, weight_gradient

BATCH = 64
LAYERS = [(64, 128, 32), (128, 256, 16), (256, 512, 8), (64, 128, 16), (128, 256, 8)]  # channels in, out, pixels in
GEOMETRY = (2, 2), (1, 1)  # stride, padding


def candidates(inputs: int, outputs: int, pixels: int, dtype: torch.dtype) -> dict:
    form = {"dtype": dtype, "memory_format": torch.channels_last}
    pictures = torch.randn(BATCH, inputs, pixels, pixels).to(**form)
    weight = torch.randn(outputs, inputs, 4, 4).to(**form)
    gradient = torch.randn(BATCH, outputs, pixels // 2, pixels // 2).to(**form)
    mask = (False, True, False)

    def pytorch() -> None:
        torch.ops.aten.convolution_backward(
            gradient, pictures, weight, None, *GEOMETRY, (1, 1), False, (0, 0), 1, mask
        )

    return {"pytorch": pytorch, "product": lambda: weight_gradient(pictures, gradient, (4, 4), *GEOMETRY)}


def main() -> None:
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for dtype, share in WINDOWS_PER_CHANNEL_PAIR.items():
            for inputs, outputs, pixels in LAYERS:
                timings, _ = interleave(candidates(inputs, outputs, pixels, dtype), rounds=15, steps=1, device="cpu")
                windows = BATCH * (pixels // 2) ** 2
                print(
                    f"{threads} threads {str(dtype):<15} {inputs:>3} -> {outputs:<3} at {pixels:>2} px"
                    f"  PyTorch {timings['pytorch'].median * 1e3:7.2f} ms  product {timings['product'].median * 1e3:7.2f} ms"
                    f"  windows per channel pair {windows / inputs / outputs:7.3f}"
                    f"  {'product' if windows <= share * inputs * outputs else 'PyTorch'} is used"
                )


if __name__ == "__main__":
    main()
