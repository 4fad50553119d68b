"""How much there is to compute, and how fast the machine can compute at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips.backbones import BackboneConfig, build_backbone
from robust_lpips.studies.benchmark.timing import WARM_UP, seconds_of

_CALLS = 16
# Of the matrices, and of the batches that are convolved: large enough to be as fast as can be.
_SIDE = {"cpu": 2048, "cuda": 8192}
_BATCH = {"cpu": 16, "cuda": 256}
_CHANNELS, _MAP, _KERNELS = 256, 32, (1, 3, 5)


@dataclass(frozen=True)
class Peaks:
    """The fastest that the machine was seen to compute in float32, in operations a second.

    A multiply-add is two operations. Convolutions are counted as if computed directly.

    Attributes:
        side: of the square matrices.
        matmul: rate of multiplying two of them.
        kernel: side of the kernel whose convolution was the fastest.
        convolution: its rate.
    """

    side: int
    matmul: float
    kernel: int
    convolution: float

    def share(self, operations: float) -> float:
        """What a rate of so many operations a second is of the matrix multiply's, in percent."""
        return 100.0 * operations / self.matmul

    def __str__(self) -> str:
        return (
            f"Float32 multiplication of {self.side}x{self.side} matrices by torch reached "
            f"{self.matmul / 1e9:.0f} GFLOP/s here, just before; its fastest convolution "
            f"({self.kernel}x{self.kernel}, {_CHANNELS} to {_CHANNELS} channels, counted as if "
            f"computed directly) {self.convolution / 1e9:.0f} GFLOP/s."
        )


@torch.inference_mode()
def peaks(device: str) -> Peaks:
    """Measure what ``device`` can do; takes seconds."""
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


def network_operations(
    config: BackboneConfig, height: int, width: int, *, backward: bool = False
) -> int:
    """Operations of one image through the plain network, two a multiply-add; blurs included.

    With ``backward`` those of the gradients of its weights, too.
    """
    with torch.device("meta"), torch.enable_grad():
        backbone = build_backbone(config)
        with FlopCounterMode(display=False) as counter:
            features = backbone(torch.zeros(1, 3, height, width))
            if backward:
                sum(feature.sum() for feature in features).backward()
    return counter.get_total_flops()


def _fastest(work: Callable[[], object], device: str) -> float:
    return min([seconds_of(work, device) for _ in range(WARM_UP + _CALLS)])
