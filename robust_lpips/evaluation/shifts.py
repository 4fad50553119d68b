"""Views of a triplet: the whole patches, and windows of them at a known shift."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

FULL = "full"

_MIN_STEP = 0.001
# Multiples of a step are rounded to this many digits, so that ten steps of 0.1 are one pixel.
_DIGITS = 6


def view_name(shift: float) -> str:
    """Name of the view at a shift in pixels: 2.0 is ``"shift-2"``, 0.5 ``"shift-0.5"``.

    >>> view_name(2.0), view_name(0.5)
    ('shift-2', 'shift-0.5')
    """
    return f"shift-{shift:g}"


def parse_view(name: str) -> float | None:
    """Shift in pixels of the view with that name; None for ``"full"``.

    Raises:
        ValueError: the name is neither ``"full"`` nor one of :func:`view_name`.
    """
    if name == FULL:
        return None
    match = re.fullmatch(r"shift-(\d+(?:\.\d+)?)", str(name))
    # One name per shift: "shift-1.0" would be a second name of "shift-1".
    if not match or view_name(float(match[1])) != name:
        raise ValueError(f"view must be {FULL!r} or 'shift-<pixels>', as 'shift-2'; got {name!r}")
    return float(match[1])


@dataclass(frozen=True)
class ShiftViews:
    """Windows of a shifted comparison (Ghildyal and Liu, ECCV 2022).

    For a largest shift S and patches of width W, the reference is a window of W-S columns at the
    patch's edge; the distorted patches are windows of that size, moved by n pixels, for n from 0
    to S. Nothing is padded, and at whole pixels nothing is interpolated: every value is a pixel
    of the image. Vertical shifts are the same with rows.

    Args:
        max_shift: S, in pixels; 0: no shifted views.
        direction: (dx, dy), each -1, 0 or 1: direction in which the distorted window moves, with
            right and down positive. Along a diagonal it moves n pixels on both axes.
        step: difference between successive shifts in pixels, a divisor of ``max_shift``. Windows
            between pixels are resampled bicubically, which blurs (most at half a pixel), so that
            distances there show the effect of shift and blur together. The last tap of the
            kernel may lie a pixel outside the patch; it takes the edge's value.

    Raises:
        ValueError: ``max_shift`` is negative or not a whole number, the direction is not one of
            the above, or the step does not divide ``max_shift``.

    Example:
        >>> ShiftViews(max_shift=2, step=0.5).shifts
        (0.0, 0.5, 1.0, 1.5, 2.0)
    """

    max_shift: int = 3
    direction: tuple[int, int] = (1, 0)
    step: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.max_shift, Integral) or self.max_shift < 0:
            raise ValueError(f"max_shift must be a whole number >= 0; got {self.max_shift!r}")
        directions = {(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)} - {(0, 0)}
        if tuple(self.direction) not in directions:
            raise ValueError(
                f"direction must be (dx, dy) of -1, 0 and 1, not both 0; got {self.direction!r}"
            )
        steps = self.max_shift / self.step if self.step >= _MIN_STEP else 0.5
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"step must be at least {_MIN_STEP:g} and divide max_shift={self.max_shift}; "
                f"got {self.step!r}"
            )

    @property
    def shifts(self) -> tuple[float, ...]:
        """0, step, 2 step, ... max_shift, in pixels; empty if ``max_shift`` is 0."""
        if self.max_shift == 0:
            return ()
        count = round(self.max_shift / self.step)
        return tuple(round(i * self.step, _DIGITS) for i in range(count + 1))

    def reference(self, images: Tensor) -> Tensor:
        """Window of the reference, (..., H - |dy| S, W - |dx| S) of (..., H, W).

        Raises:
            ValueError: the images are not larger than ``max_shift`` along the direction.
        """
        return self._window(images, 0.0)

    def distorted(self, images: Tensor, shift: float) -> Tensor:
        """Window of the distorted patches at ``shift`` pixels, of the reference window's size.

        Images are (..., H, W); between pixels they must be (N, C, H, W), floating in [-1, 1], and
        the result is clamped to that range, because bicubic resampling overshoots.

        Raises:
            ValueError: the images are not larger than ``max_shift`` along the direction, or
                ``shift`` is not in 0 .. ``max_shift``.
        """
        if not 0 <= shift <= self.max_shift:
            raise ValueError(f"shift must be in [0, {self.max_shift}]; got {shift!r}")
        return self._window(images, shift)

    def _window(self, images: Tensor, shift: float) -> Tensor:
        height, width = images.shape[-2:]
        dx, dy = self.direction
        left, columns = self._span("width", width, dx, shift)
        top, rows = self._span("height", height, dy, shift)
        if float(left).is_integer() and float(top).is_integer():
            left, top = int(left), int(top)
            return images[..., top : top + rows, left : left + columns].contiguous()
        return _resample(images, left, top, columns, rows)

    def _span(self, axis: str, length: int, way: int, shift: float) -> tuple[float, int]:
        """Start and length of the window along one axis."""
        if way == 0:
            return 0, length
        if self.max_shift >= length:
            raise ValueError(
                f"max_shift must be below the images' {axis}, {length}; got {self.max_shift}"
            )
        # For moves left or up the reference lies at the far edge, which leaves room for the move.
        start = shift if way > 0 else self.max_shift - shift
        return start, length - self.max_shift


def _resample(images: Tensor, left: float, top: float, columns: int, rows: int) -> Tensor:
    """Interpolate the (columns x rows) window with a corner between pixels, bicubically."""
    height, width = images.shape[-2:]
    x = torch.arange(columns, device=images.device, dtype=images.dtype) + left
    y = torch.arange(rows, device=images.device, dtype=images.dtype) + top
    # grid_sample's coordinates: -1 and 1 are the centres of the first and last pixel.
    y, x = torch.meshgrid(
        2 * y / max(height - 1, 1) - 1, 2 * x / max(width - 1, 1) - 1, indexing="ij"
    )
    grid = torch.stack((x, y), dim=-1).expand(len(images), -1, -1, -1)
    sampled = F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=True)
    return sampled.clamp(-1.0, 1.0)
