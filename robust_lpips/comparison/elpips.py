"""E-LPIPS: the mean distance of two images under random transformations of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_lpips import inputs
from robust_lpips.metric import RobustLPIPS

MAX_OFFSET = 7
# Smallest side of images that are scaled down.
SMALLEST_SIDE = 64
MAX_SCALE = 8
# Smallest factor of a colour channel; the largest is 1, so that values stay in their range.
LEAST_FACTOR = 0.2
KEEP = 0.99


@dataclass(frozen=True)
class Transformation:
    """One random transformation of images, the same for both images of a pair.

    Attributes:
        offset: (rows, columns) by which the images move down and right, 0 to 7 pixels each.
        scale: integer factor by which the images are scaled down.
        flips: True to flip the images (upside down, left to right).
        transposed: True to swap rows and columns; with flips, a rotation by 90 degrees.
        channels: order of the colour channels, a permutation of 0, 1, 2.
        factors: factor of the intensity of each channel, after reordering.
    """

    offset: tuple[int, int]
    scale: int
    flips: tuple[bool, bool]
    transposed: bool
    channels: tuple[int, ...]
    factors: tuple[float, ...]

    @classmethod
    def draw(cls, generator: torch.Generator, height: int, width: int) -> Transformation:
        """Draw a transformation for images of that size, from a generator on the CPU.

        All parts are uniform except the scale: s has a probability proportional to 1/s^2 among
        1 .. min(height, width) // 64, and at most 8. Only the scale depends on the size.
        """
        down, right = torch.randint(MAX_OFFSET + 1, (2,), generator=generator).tolist()
        flip_rows, flip_columns, transposed = torch.rand(3, generator=generator).lt(0.5).tolist()
        channels = torch.randperm(3, generator=generator).tolist()
        factors = torch.rand(3, generator=generator) * (1.0 - LEAST_FACTOR) + LEAST_FACTOR
        levels = torch.arange(1, _scales(height, width) + 1, dtype=torch.float64)
        below = levels.square().reciprocal().cumsum(dim=0)
        point = torch.rand((), dtype=torch.float64, generator=generator) * below[-1]
        return cls(
            offset=(down, right),
            scale=1 + int((point >= below).sum()),
            flips=(flip_rows, flip_columns),
            transposed=transposed,
            channels=tuple(channels),
            factors=tuple(factors.tolist()),
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Transform images: (N, 3, H, W) in [0, 1] to (N, 3, H', W') in [0, 1].

        For a scale s, H' is H + 7 divided by s and rounded up, and W' likewise; a transposition
        swaps them. No pixel is lost: images are padded by reflection, which adds fewer pixels than
        a side has, and scaled down by averages over boxes.
        """
        top, bottom = self._padding(0, images.shape[-2])
        left, right = self._padding(1, images.shape[-1])
        images = F.pad(images, (left, right, top, bottom), mode="reflect")
        if self.scale > 1:
            images = F.avg_pool2d(images, self.scale)
        images = images.flip([axis for axis, flip in zip((2, 3), self.flips, strict=True) if flip])
        if self.transposed:
            images = images.transpose(2, 3)
        factors = images.new_tensor(self.factors).view(3, 1, 1)
        return images[:, list(self.channels)] * factors

    def _padding(self, axis: int, length: int) -> tuple[int, int]:
        """Padding before and after; their sum fills whole boxes and is the same for all offsets."""
        total = MAX_OFFSET + -(length + MAX_OFFSET) % self.scale
        return self.offset[axis], total - self.offset[axis]


class ELPIPS(nn.Module):
    """E-LPIPS: an LPIPS distance averaged over random transformations of both images.

    Each draw applies one transformation to both images: an offset of up to 7 pixels, flips, a
    transposition, a permutation of the colour channels, a factor for each channel (0.2 to 1), and
    downscaling by an integer s, with probability proportional to 1/s^2, to no less than 64 pixels.
    Dropout with a keep probability of 0.99 then removes the same features of both images.

    Draws depend only on ``seed``, their index and the images' size: all calls and all pairs of
    images use the same ones, and the first draws do not depend on ``samples``. The global random
    state is neither used nor changed. The distance is symmetric, 0 for identical images, and
    differentiable.

    Differences from the paper:

    - the inner metric is the given one, whose channel weights were trained on untransformed
      images; the paper's networks have average pooling, and their weights were trained under the
      transformations;
    - dropout acts on the normalised features that the distance compares, not within the network.
      Kept features are divided by 0.99, so that a distance grows by 1/0.99 on average;
    - draws are few, fixed by the seed, and shared by all pairs; the paper draws new ones each time;
    - the range of the factors is our choice.

    Args:
        metric: the inner distance. Its ``validate`` decides whether values are checked here.
        samples: number of draws to average. Each costs one inner distance of images that are 7
            pixels larger; for gradients, the memory of all draws is needed.
        seed: of the draws.

    Raises:
        ValueError: ``samples`` is below 1, ``seed`` is below 0, or one is not an integer.

    Source: Kettunen, Harkonen and Lehtinen, "E-LPIPS: Robust Perceptual Image Similarity via
    Random Transformation Ensembles", arXiv 1906.03973, 2019.

    Example:
        >>> metric = ELPIPS(RobustLPIPS(), samples=2)
        >>> black, white = torch.full((1, 3, 64, 64), -1.0), torch.full((1, 3, 64, 64), 1.0)
        >>> metric(black, white).shape
        torch.Size([1])
    """

    def __init__(self, metric: RobustLPIPS, samples: int = 8, seed: int = 0) -> None:
        super().__init__()
        for name, value, least in (("samples", samples, 1), ("seed", seed, 0)):
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
        self.metric = metric
        self.samples = int(samples)
        self.seed = int(seed)

    def forward(self, img0: Tensor, img1: Tensor, *, normalize: bool = False) -> Tensor:
        """Distance of each pair of images, mean over draws; smaller is more alike.

        Args:
            img0: (N, 3, H, W) or (3, H, W). Floating in [-1, 1], in [0, 1] with
                ``normalize=True``, or ``uint8`` in 0..255.
            img1: the same shape.
            normalize: floating images are in [0, 1].

        Returns:
            (N,) distances.

        Raises:
            ValueError: images have another shape, type, range or device than above, are too small
                for the backbone, or hold NaN.
        """
        return self.draws(img0, img1, normalize=normalize).mean(dim=0)

    def draws(self, img0: Tensor, img1: Tensor, *, normalize: bool = False) -> Tensor:
        """Distances under each draw, (samples, N); arguments and errors as :meth:`forward`.

        Their spread over draws estimates the error of the mean that :meth:`forward` gives.
        """
        img0, img1 = self._checked(img0, img1, normalize)
        return torch.stack([self._draw(img0, img1, index) for index in range(self.samples)])

    def extra_repr(self) -> str:
        return f"samples={self.samples}, seed={self.seed}"

    def _draw(self, img0: Tensor, img1: Tensor, index: int) -> Tensor:
        """Distance (N,) of images in [0, 1] under the draw of that number."""
        generator = _generator(self.seed, index)
        transform = Transformation.draw(generator, *img0.shape[-2:])
        # Separately, not as one batch, so that identical images have identical features.
        features0, features1 = (
            self.metric.features(transform(image), normalize=True) for image in (img0, img1)
        )
        masks = [dropout_mask(features, generator) for features in features0]
        return self.metric.distance(_masked(features0, masks), _masked(features1, masks))

    def _checked(self, img0: Tensor, img1: Tensor, normalize: bool) -> list[Tensor]:
        """Both images as (N, 3, H, W) in [0, 1], in the metric's type."""
        # Padding by reflection needs more pixels than it adds.
        least_size = max(self.metric.backbone.min_size, MAX_OFFSET + 1)
        named = {
            name: inputs.as_batch(name, image, least_size)
            for name, image in (("img0", img0), ("img1", img1))
        }
        inputs.check_same_shape(**named)
        for name, image in named.items():
            inputs.check_device(name, image, self.metric.shift.device)
            floating = image.is_floating_point()
            if floating and self.metric.validate and not inputs.in_graph():
                inputs.value_range(name, image, 0.0 if normalize else -1.0, 1.0)
        dtype = self.metric.shift.dtype
        return [_intensities(image, normalize, dtype) for image in named.values()]


def dropout_mask(features: Tensor, generator: torch.Generator) -> Tensor:
    """Factors 0 or 1/0.99 (1, C, H, W) for features (N, C, H, W), on the same device.

    They are drawn on the CPU, so that all devices have the same ones.
    """
    _, channels, height, width = features.shape
    # Channels last, like the features, so that the product reads memory in order.
    points = torch.rand((1, height, width, channels), generator=generator).movedim(-1, 1)
    return (points < KEEP).to(features.device, features.dtype) / KEEP


def _masked(features: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    return [feature * mask for feature, mask in zip(features, masks, strict=True)]


def _scales(height: int, width: int) -> int:
    """Largest scale that leaves images of that size large enough."""
    return max(1, min(min(height, width) // SMALLEST_SIDE, MAX_SCALE))


def _generator(seed: int, index: int) -> torch.Generator:
    """Generator of one draw; seed and index are hashed, so that no two seeds share draws."""
    (state,) = np.random.SeedSequence((seed, index)).generate_state(1)
    return torch.Generator().manual_seed(int(state))


def _intensities(images: Tensor, normalize: bool, dtype: torch.dtype) -> Tensor:
    """Images in [0, 1], where multiplication by a factor darkens."""
    if images.dtype == torch.uint8:
        return images.to(dtype) / 255.0
    return images.to(dtype) if normalize else (images.to(dtype) + 1.0) / 2.0
