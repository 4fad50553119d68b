"""Self-ensembling: a metric averaged over joint sub-pixel translations of both images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robust_lpips.registration import translate

Metric = Callable[[Tensor, Tensor], Tensor]


class Jittered(nn.Module):
    """The mean distance of a pair over small translations that both images make together.

    Random transformations shared by both images are how E-LPIPS makes a metric robust (Kettunen,
    Harkonen and Lehtinen, arXiv 2019); of them only translations of fractions of a pixel are kept
    here, which the sampling grid of a network should not see but does. Images are moved by bicubic
    interpolation and continued by reflection.

    Args:
        metric: a callable of two floating (N, 3, H, W) batches that gives (N,) distances.
        samples: how many translations, from 1; each costs a call of the metric.
        amplitude: the largest translation along each axis, in pixels.
        seed: of the translations, which are the same in every call and for every pair.

    Raises:
        ValueError: no samples, or an amplitude that is not positive.
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
