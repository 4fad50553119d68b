"""E-LPIPS: the average distance of two images under random transformations of both."""

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
# Scaled down, images stay at least this large.
SMALLEST_SIDE = 64
MAX_SCALE = 8
# Of the factors of colour channels; the largest is 1, so that no value leaves its range.
LEAST_FACTOR = 0.2
KEEP = 0.99


@dataclass(frozen=True)
class Transformation:
    """One random transformation of images, to be applied alike to both of a pair.

    Attributes:
        offset: (rows, columns) by which the images move down and right, 0 to 7 pixels each.
        scale: the whole number by which they are scaled down.
        flips: whether they are flipped (upside down, left to right).
        transposed: whether rows and columns are swapped; with flips, a turn by 90 degrees.
        channels: the order of the colour channels, a permutation of 0, 1, 2.
        factors: by which the intensity of each of them, after reordering, is multiplied.
    """

    offset: tuple[int, int]
    scale: int
    flips: tuple[bool, bool]
    transposed: bool
    channels: tuple[int, ...]
    factors: tuple[float, ...]

    @classmethod
    def draw(cls, generator: torch.Generator, height: int, width: int) -> Transformation:
        """A transformation for images of that size, from a generator on the CPU.

        All parts are uniform but the scale: s has a probability proportional to 1/s^2 among
        1 .. min(height, width) // 64, and at most 8. The size decides on the scale alone.
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
        """Transformed images: (N, 3, H, W) in [0, 1] to (N, 3, H', W') in [0, 1].

        With s the scale, H' is H + 7 divided by s and rounded up, W' likewise, or the other way
        round where they are transposed. No pixel is lost: images are padded by reflection, which
        adds fewer pixels than a side has, and scaled down by averages over boxes.
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
        """Pixels before and after: as many in all whatever the offset, and whole boxes."""
        total = MAX_OFFSET + -(length + MAX_OFFSET) % self.scale
        return self.offset[axis], total - self.offset[axis]


class ELPIPS(nn.Module):
    """E-LPIPS: an LPIPS distance averaged over random transformations of both images.

    Each draw transforms both images alike: an offset of up to 7 pixels, flips, a transposition,
    another order of the colour channels, a factor for each of them (0.2 to 1), and scaling down
    by a whole number s, of probability proportional to 1/s^2, to no less than 64 pixels. Dropout
    with a keep probability of 0.99 then takes the same features from both.

    Draws depend on ``seed``, their number and the images' size, and on nothing else: every call
    and every pair of images gets the same ones, whatever batch it is in, and the first draws are
    the same whatever ``samples`` is. The global random state is neither used nor changed. The
    distance is symmetric, 0 for identical images, and differentiable.

    It differs from the paper's in these points:

    - the inner metric is the given one, with the channel weights that it was trained with on
      untransformed images; the paper's networks have average pooling, and their weights were
      fitted under the transformations;
    - dropout acts on the normalised features that the distance compares, not within the network.
      What is kept is divided by 0.99, so that a distance grows by 1/0.99 in the mean;
    - draws are few and fixed by the seed, shared by all pairs, where the paper's are fresh;
    - the range of the factors is ours.

    Args:
        metric: the inner distance. Its ``validate`` decides whether values are checked here.
        samples: how many draws are averaged, each at the cost of one inner distance of images 7
            pixels larger. Gradients keep what all of them computed.
        seed: of the draws.

    Raises:
        ValueError: ``samples`` below 1, ``seed`` below 0, or either not a whole number.

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
        """Distance of each pair of images, the mean over draws; smaller is more alike.

        Args:
            img0: (N, 3, H, W) or (3, H, W). Floating in [-1, 1], in [0, 1] with
                ``normalize=True``, or ``uint8`` in 0..255.
            img1: the same shape.
            normalize: floating images are in [0, 1].

        Returns:
            (N,) distances.

        Raises:
            ValueError: for images of other shapes, types, ranges or devices than above, for
                images too small for the backbone, and for NaN.
        """
        return self.draws(img0, img1, normalize=normalize).mean(dim=0)

    def draws(self, img0: Tensor, img1: Tensor, *, normalize: bool = False) -> Tensor:
        """Distances under each draw, (samples, N); arguments and errors are :meth:`forward`'s.

        Their spread over draws tells how near :meth:`forward` is to a mean over many more.
        """
        img0, img1 = self._checked(img0, img1, normalize)
        return torch.stack([self._draw(img0, img1, index) for index in range(self.samples)])

    def extra_repr(self) -> str:
        return f"samples={self.samples}, seed={self.seed}"

    def _draw(self, img0: Tensor, img1: Tensor, index: int) -> Tensor:
        """Distance (N,) of images in [0, 1] under the draw of that number."""
        generator = _generator(self.seed, index)
        transform = Transformation.draw(generator, *img0.shape[-2:])
        # Apart, not as one batch: identical images are then computed identically.
        features0, features1 = (
            self.metric.features(transform(image), normalize=True) for image in (img0, img1)
        )
        masks = [dropout_mask(features, generator) for features in features0]
        return self.metric.distance(_masked(features0, masks), _masked(features1, masks))

    def _checked(self, img0: Tensor, img1: Tensor, normalize: bool) -> list[Tensor]:
        """Both images as (N, 3, H, W) in [0, 1], in the metric's type."""
        # Reflection needs more pixels than it adds.
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
    """Factors 0 or 1/0.99, of shape (1, C, H, W) for features (N, C, H, W) and on their device.

    They are drawn on the CPU, so that they are the same on every device.
    """
    _, channels, height, width = features.shape
    # Channels last, as features are: the product then runs through memory in order.
    points = torch.rand((1, height, width, channels), generator=generator).movedim(-1, 1)
    return (points < KEEP).to(features.device, features.dtype) / KEEP


def _masked(features: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    return [feature * mask for feature, mask in zip(features, masks, strict=True)]


def _scales(height: int, width: int) -> int:
    """How many scales, 1 to this, leave images of that size large enough."""
    return max(1, min(min(height, width) // SMALLEST_SIDE, MAX_SCALE))


def _generator(seed: int, index: int) -> torch.Generator:
    """That of one draw; mixed, not added, or seed 1 would repeat the draws of seed 0."""
    (state,) = np.random.SeedSequence((seed, index)).generate_state(1)
    return torch.Generator().manual_seed(int(state))


def _intensities(images: Tensor, normalize: bool, dtype: torch.dtype) -> Tensor:
    """Images in [0, 1], in which a factor darkens."""
    if images.dtype == torch.uint8:
        return images.to(dtype) / 255.0
    return images.to(dtype) if normalize else (images.to(dtype) + 1.0) / 2.0
