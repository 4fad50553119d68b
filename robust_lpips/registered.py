"""Registered: a metric that aligns two images first, and can penalize the shift."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robust_lpips import inputs
from robust_lpips.registration import (
    align,
    align_inside,
    align_tiles,
    estimate_tile_translations,
    estimate_translation,
    largest_radius,
    least_side,
)

Metric = Callable[..., Tensor]
Penalty = Callable[[Tensor], Tensor]

MODES = ("global", "tiles")
BORDERS = ("reflect", "crop")

# Pixels are squares: a shift slightly longer than the radius counts as within it, for instance
# (2, 3) at radius 3.
_SLACK = 2 / 3

# Answers about an image shifted by 0, 1, ... 9 pixels, and how many of them were "the same": counts
# of the data released with Ghildyal and Liu, ECCV 2022 (github.com/abhijay9/ShiftTolerant-LPIPS).
ANSWERS = (120, 114, 119, 117, 115, 114, 117, 115, 115, 112)
SAME = (111, 93, 66, 43, 39, 30, 25, 24, 22, 9)

# Noise at this peak signal-to-noise ratio, in dB, is assumed to be visible to half of the people:
# the customary figure for "visually lossless", not a measured one.
_THRESHOLD_PSNR = 40.0
_NOISE_PATCHES, _NOISE_SIDE = 4, 192


class Registered(nn.Module):
    """A metric computed on aligned images, plus an optional penalty for the shift itself.

    Choose the penalty by the question. ``None``: *how much do the images differ, wherever they
    lie?* Shifts within the radius are free: for drifting frames, and for super-resolution and
    rendering, where the position of the pixel grid is arbitrary. ``"human"``: *how much would
    people see?* A shift is penalized by the share of people who notice it, see
    :class:`HumanPenalty`.

    Args:
        metric: a callable of two batches of images, the reference first, that returns (N,)
            distances: a :class:`~robust_lpips.RobustLPIPS`, a metric of
            :func:`robust_lpips.comparison.load_metric`, or your own.
        radius: the length, in pixels, up to which a shift is fully compensated, at least 1. A
            longer shift that is found (see :func:`search_radius`) is treated as a change rather
            than misalignment: a residual of twice the excess over the radius, at most ``radius``
            pixels, is left for the metric to see. So distances do not jump where the radius ends,
            and a change costs the same wherever the images lie.
        penalty: ``None``; ``"human"``, for metrics of images in [-1, 1]; or a function from the
            (N,) lengths of the estimated shifts, in pixels, to (N,) distances.
        mode: ``"global"``, one shift per pair, or ``"tiles"``, a field of shifts, for large images
            whose misalignment varies.
        border: treatment of pixels visible in one image only. ``"reflect"``: the common part is
            compared, extended by reflection to the size of the images; images that are aligned
            already are measured unchanged. ``"crop"``: the inside of the first image, ``radius``
            pixels from its border, is compared whatever the shift. Whole-pixel shifts within the
            radius then change nothing, to the last bit, but changes in that border are not seen.
            Tiles always use reflection.
        tile: side of the tiles in pixels, with ``mode="tiles"``.
        subpixel: estimate fractions of pixels, and resample each image by half of the fraction.

    Gradients pass through the compared images, not through the estimate of the shift.

    Raises:
        TypeError: ``metric`` is not callable.
        ValueError: ``mode``, ``penalty``, ``border`` or ``radius`` other than above, or a ``tile``
            too small for the radius.

    Example:
        >>> from robust_lpips import RobustLPIPS
        >>> metric = Registered(RobustLPIPS())
        >>> images = torch.rand(1, 3, 66, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
        >>> metric(images[:, :, 2:], images[:, :, :-2]).round(decimals=6)
        tensor([0.])
    """

    def __init__(
        self,
        metric: Metric,
        radius: int = 3,
        penalty: Literal["human"] | Penalty | None = None,
        mode: Literal["global", "tiles"] = "global",
        *,
        border: Literal["reflect", "crop"] = "reflect",
        tile: int = 64,
        subpixel: bool = False,
    ) -> None:
        super().__init__()
        if not callable(metric):
            raise TypeError(f"metric must be callable; got {type(metric).__name__}")
        if not isinstance(radius, int) or isinstance(radius, bool) or radius < 1:
            raise ValueError(f"radius must be a whole number from 1; got {radius!r}")
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}; got {mode!r}")
        if mode == "tiles" and tile < least_side(radius):
            raise ValueError(
                f"tile must be at least {least_side(radius)} pixels for radius {radius}; got {tile}"
            )
        if border not in BORDERS:
            raise ValueError(
                f"border must be one of {', '.join(map(repr, BORDERS))}; got {border!r}"
            )
        if penalty == "human":
            penalty = HumanPenalty(metric)
        if penalty is not None and not callable(penalty):
            raise ValueError(f"penalty must be None, 'human' or a function; got {penalty!r}")
        self.metric = metric
        self.radius = radius
        self.penalty = penalty
        self.mode = mode
        self.border = border
        self.tile = tile
        self.subpixel = subpixel

    def forward(self, img0: Tensor, img1: Tensor, **options: Any) -> Tensor:
        """Distance of each pair: (N,), or the metric's result with other ``options``.

        Args:
            img0: (N, 3, H, W) or (3, H, W), the reference, in the range that the metric takes. The
                estimate treats contrasts below 1/255 (for a range of [-1, 1]) as flat.
            img1: the same shape.
            options: passed to the metric, for instance ``normalize=True``. With ``spatial=True``
                the map is that of the aligned images, with the penalty added everywhere.

        Raises:
            ValueError: images too small for the radius, or a penalty with a metric that does not
                return one tensor.
        """
        img0, img1 = (
            inputs.as_batch(name, image, 1) for name, image in (("img0", img0), ("img1", img1))
        )
        shifts = self.translation(img0, img1)
        distance = self.metric(*self._aligned(img0, img1, shifts), **options)
        if self.penalty is None:
            return distance
        if not isinstance(distance, Tensor):
            raise ValueError(
                "penalty is added to one tensor of distances; "
                f"the metric gave {type(distance).__name__}"
            )
        lengths = torch.linalg.vector_norm(shifts, dim=-1)
        cost = self.penalty(lengths.flatten()).view(lengths.shape)
        cost = cost.flatten(1).mean(dim=1) if cost.ndim > 1 else cost
        return distance + cost.to(distance).view(-1, *[1] * (distance.ndim - 1))

    def translation(self, img0: Tensor, img1: Tensor) -> Tensor:
        """Estimated shifts in pixels: (N, 2), or (N, rows, columns, 2) for tiles."""
        side = min(img0.shape[-2:])
        if self.mode == "global":
            searched = search_radius(self.radius, side)
            return estimate_translation(img0, img1, searched, subpixel=self.subpixel)
        searched = search_radius(self.radius, min(side, self.tile))
        return estimate_tile_translations(
            img0, img1, searched, tile=self.tile, subpixel=self.subpixel
        )

    def _aligned(self, img0: Tensor, img1: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        left = excess(shifts, self.radius)
        shifts = shifts - (left if self.subpixel else left.round())
        if self.mode == "tiles":
            return align_tiles(img0, img1, shifts, tile=self.tile)
        if self.border == "crop":
            inside = shifts.clamp(-self.radius, self.radius)
            return align_inside(img0, img1, inside, self.radius)
        return align(img0, img1, shifts)

    def extra_repr(self) -> str:
        names = ("radius", "mode", "border", "tile", "subpixel")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def search_radius(radius: int, side: int) -> int:
    """Radius, in pixels, of the search of :class:`Registered` in images of that side.

    It is ``2 * radius + 2``, or the largest that the images allow, but at least ``radius``.
    """
    return max(radius, min(2 * radius + 2, largest_radius(side)))


def excess(shifts: Tensor, radius: int) -> Tensor:
    """Part of shifts (..., 2) in pixels that is not compensated: (..., 2), 0 up to the radius.

    It is vertical whatever the direction of the shift. Beyond its maximum it therefore stays the
    same when the images move further, and so does the distance that it causes.
    """
    lengths = torch.linalg.vector_norm(shifts, dim=-1)
    kept = (2 * (lengths - radius - _SLACK)).clamp(0.0, float(radius))
    return torch.stack((torch.where(shifts[..., 0] < 0, -kept, kept), torch.zeros_like(kept)), -1)


class HumanPenalty(nn.Module):
    """Penalty of a shift, by the share of people who notice it.

    A shift noticed by a share v of people costs 2 v times the metric's distance for white noise at
    40 dB, which is assumed to be noticed by half: this scale is a convention. The shares are
    measured: the decrease, with the shift, of answers "the same" (:data:`SAME`) relative to no
    shift. They are interpolated between whole pixels and constant beyond the last.

    Args:
        metric: takes images in [-1, 1]. It is called once, in the constructor, on textures with
            and without that noise; later changes of its weights have no effect.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.register_buffer("cost", 2 * noise_distance(metric), persistent=False)
        self.register_buffer("noticed", noticed(), persistent=False)

    def forward(self, shifts: Tensor) -> Tensor:
        """Penalties (N,) of shifts of lengths (N,) in pixels."""
        last = len(self.noticed) - 1
        at = shifts.detach().to(self.noticed).clamp(max=last)
        low = at.floor().long()
        high = (low + 1).clamp(max=last)
        shares = torch.lerp(self.noticed[low], self.noticed[high], at - low)
        return self.cost * shares


def noticed() -> Tensor:
    """Shares (10,) of people who notice a shift of 0, 1, ... 9 pixels; 0 for 0 pixels."""
    same = torch.tensor(SAME) / torch.tensor(ANSWERS)
    return 1 - same / same[0]


@torch.no_grad()
def noise_distance(metric: Metric) -> Tensor:
    """Median distance that ``metric`` gives to just visible noise on 1/f textures."""
    generator = torch.Generator().manual_seed(0)
    textures = _textures(generator)
    # In [-1, 1] the full scale is 2.
    noise = torch.randn(textures.shape, generator=generator) * (2 * 10 ** (-_THRESHOLD_PSNR / 20))
    pair = (
        images.to(_device_of(metric)) for images in (textures, (textures + noise).clamp(-1.0, 1.0))
    )
    return metric(*pair).median().cpu()


def _device_of(metric: Metric) -> torch.device:
    """Device of its weights; the CPU for a function."""
    if isinstance(metric, nn.Module):
        for tensor in itertools.chain(metric.parameters(), metric.buffers()):
            return tensor.device
    return torch.device("cpu")


def _textures(generator: torch.Generator) -> Tensor:
    """Random images with the 1/f amplitude spectrum of photographs."""
    side = _NOISE_SIDE
    noise = torch.randn(_NOISE_PATCHES, 3, side, side, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side))
    frequency[0, 0] = torch.inf
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    return 0.9 * images / images.abs().amax(dim=(1, 2, 3), keepdim=True)
