"""Registered: a metric that aligns two images first, and may charge for the shift."""

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

# Pixels are squares: one whose centre is a little beyond the radius still counts as within it, such
# as (2, 3) at radius 3.
_SLACK = 2 / 3

# Of so many answers about an image shifted by 0, 1, ... 9 pixels, so many were "the same": counted
# from those released with Ghildyal and Liu, ECCV 2022 (github.com/abhijay9/ShiftTolerant-LPIPS).
ANSWERS = (120, 114, 119, 117, 115, 114, 117, 115, 115, 112)
SAME = (111, 93, 66, 43, 39, 30, 25, 24, 22, 9)

# Noise at this ratio to the full scale is taken as visible to half of those who look: the usual
# figure for what is just visually lossless, not a measured one.
_THRESHOLD_PSNR = 40.0
_NOISE_PATCHES, _NOISE_SIDE = 4, 192


class Registered(nn.Module):
    """A metric at the estimated alignment of two images, plus what the shift itself costs.

    Which penalty depends on the question. ``None``: *how much do they differ, wherever they lie?*
    Shifts within the radius are free, for frames that drift, for super-resolution and rendering,
    where the grid of pixels is a convention. ``"human"``: *how much would people see?* A shift
    costs by how many people notice it, see :class:`HumanPenalty`.

    Args:
        metric: any callable of two batches of images, the reference first, that gives (N,)
            distances: a :class:`~robust_lpips.RobustLPIPS`, one of
            :func:`robust_lpips.comparison.load_metric`, or a user's.
        radius: the length, in pixels, up to which a shift is undone, from 1. A longer one is a
            change rather than misalignment: it is undone but for twice what it exceeds the radius
            by, at most ``radius`` pixels, which the metric sees, if it is found, see
            :func:`search_radius`. So distances do not jump where the radius ends, and a change
            costs the same wherever the images lie.
        penalty: ``None``; ``"human"``, for metrics of images in [-1, 1]; or a function of (N,)
            lengths in pixels, of the shifts that were found, that gives (N,) distances.
        mode: ``"global"``, one shift a pair, or ``"tiles"``, a field of shifts, for large images
            whose misalignment varies.
        border: what becomes of pixels that only one of the images shows. ``"reflect"``: all that
            both show is compared, continued by reflection to the size of the images; images that
            need not move are measured as they are. ``"crop"``: the inside of the first image is
            compared, ``radius`` pixels from its border, whatever the shift: then whole-pixel shifts
            within the radius change nothing, to the last bit, but nor does a change of that border.
            Tiles are always continued.
        tile: side of the tiles in pixels, in that mode.
        subpixel: estimate fractions of pixels, and resample both images by half of them.

    Gradients go back through the images where they are compared, and not through the estimate.

    Raises:
        TypeError: ``metric`` is not callable.
        ValueError: another mode, penalty, border or radius than above, or tiles too small for it.

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
        """Distance of each pair: (N,), or what else the metric gives with its ``options``.

        Args:
            img0: (N, 3, H, W) or (3, H, W), the reference, in what range the metric takes. What
                counts as flat in the estimate is a contrast of less than 1/255 in [-1, 1].
            img1: the same shape.
            options: for the metric, such as ``normalize=True``. With ``spatial=True`` its map is of
                the aligned images, and the penalty is added to all of it.

        Raises:
            ValueError: images that are too small for the radius, or a metric that gives more than
                one tensor where a penalty is to be added.
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
        """The shifts that are found, in pixels: (N, 2), or (N, rows, columns, 2) of tiles."""
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
    """How far :class:`Registered` looks in images of that side, in pixels: twice the radius and two
    more, or as far as they allow, but at least the radius.
    """
    return max(radius, min(2 * radius + 2, largest_radius(side)))


def excess(shifts: Tensor, radius: int) -> Tensor:
    """What of shifts (..., 2) in pixels is not undone: (..., 2), none up to the radius.

    It is vertical, whatever the shift: what is at its most stays what it is where the images are
    moved further, and what such a change costs with it.
    """
    lengths = torch.linalg.vector_norm(shifts, dim=-1)
    kept = (2 * (lengths - radius - _SLACK)).clamp(0.0, float(radius))
    return torch.stack((torch.where(shifts[..., 0] < 0, -kept, kept), torch.zeros_like(kept)), -1)


class HumanPenalty(nn.Module):
    """What a shift costs a metric, by the share of people who notice it.

    A shift that a share v of people notice costs 2 v times the distance that the metric gives to
    white noise at 40 dB, which is taken as noticed by half: so much is a convention. How shares
    grow with the shift is measured: of the people who say "the same" without a shift, those who no
    longer do, see :data:`SAME`. Between whole pixels they are interpolated, and beyond the last
    they stay.

    Args:
        metric: takes images in [-1, 1]. It is called once, here, on textures with and without
            that noise: weights that it gets later change nothing.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.register_buffer("cost", 2 * noise_distance(metric), persistent=False)
        self.register_buffer("noticed", noticed(), persistent=False)

    def forward(self, shifts: Tensor) -> Tensor:
        """Distances (N,) that shifts (N,) in pixels cost."""
        last = len(self.noticed) - 1
        at = shifts.detach().to(self.noticed).clamp(max=last)
        low = at.floor().long()
        high = (low + 1).clamp(max=last)
        shares = torch.lerp(self.noticed[low], self.noticed[high], at - low)
        return self.cost * shares


def noticed() -> Tensor:
    """The share of people (10,) who notice a shift of 0, 1, ... 9 pixels; 0 for none."""
    same = torch.tensor(SAME) / torch.tensor(ANSWERS)
    return 1 - same / same[0]


@torch.no_grad()
def noise_distance(metric: Metric) -> Tensor:
    """The median distance that ``metric`` gives to just visible noise on textures of 1/f."""
    generator = torch.Generator().manual_seed(0)
    textures = _textures(generator)
    # In [-1, 1] the full scale is 2.
    noise = torch.randn(textures.shape, generator=generator) * (2 * 10 ** (-_THRESHOLD_PSNR / 20))
    pair = (
        images.to(_device_of(metric)) for images in (textures, (textures + noise).clamp(-1.0, 1.0))
    )
    return metric(*pair).median().cpu()


def _device_of(metric: Metric) -> torch.device:
    """Of its weights; the CPU for a function."""
    if isinstance(metric, nn.Module):
        for tensor in itertools.chain(metric.parameters(), metric.buffers()):
            return tensor.device
    return torch.device("cpu")


def _textures(generator: torch.Generator) -> Tensor:
    """Random images whose amplitudes fall as those of photographs do, as 1/f."""
    side = _NOISE_SIDE
    noise = torch.randn(_NOISE_PATCHES, 3, side, side, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side))
    frequency[0, 0] = torch.inf
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    return 0.9 * images / images.abs().amax(dim=(1, 2, 3), keepdim=True)
