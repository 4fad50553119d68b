"""Tolerance in feature space: comparison with the best match in a small window."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_lpips.metric import RobustLPIPS, weigh


class TolerantLPIPS(nn.Module):
    """LPIPS that tolerates small local displacements of features.

    An alternative to :class:`~robust_lpips.Registered` that neither estimates a shift nor moves an
    image. At each tap, the cost of a feature is its weighted squared difference to the most
    similar feature of the other image within a window; the distance is the mean over both
    directions. The window covers ``radius`` pixels of the image: ceil(radius / stride) features to
    each side, with the stride of the tap. Each position finds its own displacement, so
    rearrangements within the window cost nothing.

    Args:
        metric: provides features and weights.
        radius: in pixels of the image, from 1.

    Raises:
        ValueError: ``radius`` is not an integer from 1.
    """

    def __init__(self, metric: RobustLPIPS, radius: int = 3) -> None:
        super().__init__()
        if not isinstance(radius, int) or isinstance(radius, bool) or radius < 1:
            raise ValueError(f"radius must be a whole number from 1; got {radius!r}")
        self.metric = metric
        self.radius = radius

    def forward(self, img0: Tensor, img1: Tensor, *, normalize: bool = False) -> Tensor:
        """Distances (N,), for images as :class:`~robust_lpips.RobustLPIPS` takes them."""
        images = self.metric.checked_pair(img0, img1, normalize=normalize)
        return self.distance(*(self.features(image, normalize=normalize) for image in images))

    def features(self, images: Tensor, *, normalize: bool = False) -> tuple[Tensor, ...]:
        """Unit-normalised features of each tap, which are the metric's."""
        return self.metric.features(images, normalize=normalize)

    def distance(self, features0: Sequence[Tensor], features1: Sequence[Tensor]) -> Tensor:
        """Distance (N,) between two results of :meth:`features`."""
        weights = list(self.metric.lin) or [None] * len(features0)
        windows = map(self._window, self._strides(features0))
        taps = zip(features0, features1, weights, windows, strict=True)
        with torch.autocast(features0[0].device.type, enabled=False):
            return torch.stack([_forgiving(*tap) for tap in taps]).sum(dim=0)

    def _strides(self, features: Sequence[Tensor]) -> Iterator[int]:
        """Stride of each tap, in pixels of the image."""
        stride, sides = self.metric.config.first_stride, [tap.shape[-2] for tap in features]
        yield stride
        for side, next_side in itertools.pairwise(sides):
            # Strides are powers of 2; borders make the ratio of the sides inexact.
            stride *= 2 ** round(math.log2(side / next_side))
            yield stride

    def _window(self, stride: int) -> int:
        return math.ceil(self.radius / stride)

    def extra_repr(self) -> str:
        return f"radius={self.radius}"


def _forgiving(f0: Tensor, f1: Tensor, weight: Tensor | None, window: int) -> Tensor:
    """Smallest weighted squared difference, mean over positions and both directions: (N,)."""
    height, width = f0.shape[-2:]
    side = range(2 * window + 1)
    ways = []
    for one, other in ((f0, f1), (f1, f0)):
        padded = F.pad(other, (window,) * 4, mode="replicate")
        least = None
        for y, x in itertools.product(side, side):
            moved = padded[:, :, y : y + height, x : x + width]
            cost = weigh(F.mse_loss(one, moved, reduction="none"), weight)
            least = cost if least is None else torch.minimum(least, cost)
        ways.append(least.mean(dim=(1, 2, 3)))
    return sum(ways) / len(ways)
