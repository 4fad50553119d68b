"""Capability of a device: its fastest rates, and whether ``torch.compile`` works on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from robust_lpips.evaluation.timing import WARM_UP, seconds_of

_CALLS = 16
# Sides of the matrices, and sizes of the convolved batches: large enough for the highest rate.
_SIDE = {"cpu": 2048, "cuda": 8192}
_BATCH = {"cpu": 16, "cuda": 256}
_CHANNELS, _MAP, _KERNELS = 256, 32, (1, 3, 5)


@dataclass(frozen=True)
class Peaks:
    """Fastest observed float32 rates of a device, in operations per second.

    A multiply-accumulate is two operations. Convolutions are counted as if computed directly.

    Attributes:
        side: side of the square matrices.
        matmul: rate of multiplying two of them.
        kernel: side of the kernel whose convolution was the fastest.
        convolution: its rate.
    """

    side: int
    matmul: float
    kernel: int
    convolution: float

    def shares(self, rates: Mapping[str, float], multiply_accumulates: int) -> dict[str, float]:
        """``ours_share`` and ``released_share``, in percent of the matrix multiply's rate.

        Args:
            rates: ``ours`` and ``released`` in units per second.
            multiply_accumulates: those of one unit.
        """
        return {
            f"{side}_share": 100.0 * rates[side] * 2 * multiply_accumulates / self.matmul
            for side in ("ours", "released")
        }

    def __str__(self) -> str:
        return (
            f"Float32 multiplication of {self.side}x{self.side} matrices by torch reached "
            f"{self.matmul / 1e9:.0f} GFLOP/s here, just before; its fastest convolution "
            f"({self.kernel}x{self.kernel}, {_CHANNELS} to {_CHANNELS} channels, counted as if "
            f"computed directly) {self.convolution / 1e9:.0f} GFLOP/s."
        )


@torch.inference_mode()
def peaks(device: str) -> Peaks:
    """Measure the fastest rates of ``device``; takes seconds."""
    kind = torch.device(device).type
    side, batch = _SIDE[kind], _BATCH[kind]
    a, b = torch.rand(2, side, side, device=device)
    matmul = 2 * side**3 / _fastest(lambda: a @ b, device)
    images = torch.rand(batch, _CHANNELS, _MAP, _MAP, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    convolutions = {}
    for kernel in _KERNELS:
        weight = torch.rand(_CHANNELS, _CHANNELS, kernel, kernel, device=device)
        weight = weight.contiguous(memory_format=torch.channels_last)
        operations = 2 * batch * _MAP**2 * _CHANNELS**2 * kernel**2
        seconds = _fastest(lambda w=weight: F.conv2d(images, w, padding="same"), device)
        convolutions[kernel] = operations / seconds
    best = max(convolutions, key=convolutions.get)
    return Peaks(side, matmul, best, convolutions[best])


def compiler_problem(device: str) -> str | None:
    """Reason why ``torch.compile`` does not work on ``device``; None where it does."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return None


def _fastest(work: Callable[[], object], device: str) -> float:
    return min(seconds_of(work, device) for _ in range(WARM_UP + _CALLS))
