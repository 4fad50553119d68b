"""Self-ensembling: a metric averaged over joint sub-pixel translations of both images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robust_lpips.registration import translate

Metric = Callable[[Tensor, Tensor], Tensor]


class Jittered(nn.Module):
    """Mean distance of a pair over small translations that are applied to both images.

    E-LPIPS makes a metric robust by random transformations of both images (Kettunen, Harkonen and
    Lehtinen, arXiv 2019). Here these are translations by fractions of a pixel, which change the
    position of the images on the sampling grids of a network. Images are moved by bicubic
    interpolation and padded by reflection.

    Args:
        metric: a callable of two floating (N, 3, H, W) batches that returns (N,) distances.
        samples: number of translations, from 1; each costs one call of the metric.
        amplitude: largest translation along each axis, in pixels.
        seed: of the translations, which are the same in all calls and for all pairs.

    Raises:
        ValueError: ``samples`` is below 1, or ``amplitude`` is not positive.
    """

    def __init__(
        self, metric: Metric, samples: int = 4, amplitude: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples must be 1 or more; got {samples!r}")
        if not amplitude > 0:
            raise ValueError(f"amplitude must be positive; got {amplitude!r}")
        self.metric = metric
        self.settings = f"samples={samples}, amplitude={amplitude:g}, seed={seed}"
        generator = torch.Generator().manual_seed(seed)
        offsets = torch.rand(samples, 2, generator=generator) * 2 - 1
        self.register_buffer("offsets", offsets * amplitude, persistent=False)

    def forward(self, img0: Tensor, img1: Tensor) -> Tensor:
        """Distances (N,)."""
        distances = [
            self.metric(*(translate(image, offset.expand(len(image), 2)) for image in (img0, img1)))
            for offset in self.offsets
        ]
        return torch.stack(distances).mean(dim=0)

    def extra_repr(self) -> str:
        return self.settings
