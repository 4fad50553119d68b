"""Windows of photographs, and pairs of them that lie a known shift apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.shifted import random_window

# Standard deviation of luminance, in grey levels of 255, from which a window counts as textured.
TEXTURED_STD = 10.0
_LUMINANCE = (0.299, 0.587, 0.114)


class Pairs(NamedTuple):
    """Two uint8 (N, H, W, 3), and the shift (N, 2) by which the second shows what the first does.

    ``first[y, x]`` is ``second[y + rows, x + columns]``, the convention of
    :func:`robust_lpips.registration.estimate_translation`.
    """

    first: np.ndarray
    second: np.ndarray
    shifts: np.ndarray


def random_windows(split: str, count: int, side: int, seed: int, only: str = "") -> np.ndarray:
    """Random windows of photographs, which take turns: uint8 (count, side, side, 3).

    Nothing is padded or resampled. Windows that are almost blank are drawn again.

    Args:
        split: split of the photographs.
        count: number of windows.
        side: side of the windows in pixels.
        seed: seed of their places.
        only: name of the only photograph to take.

    Raises:
        ValueError: if no photograph of that split is as large.
    """
    loaded = load_photographs(split, smallest_side=side)
    photographs = [loaded[only]] if only else list(loaded.values())
    return np.stack(
        [
            random_window(
                np.random.default_rng([seed, i]), photographs[i % len(photographs)], side, side
            )
            for i in range(count)
        ]
    )


def cut_pairs(around: np.ndarray, shifts: np.ndarray | tuple[int, int], size: int) -> Pairs:
    """Centres of windows (N, H, W, 3), and windows of that size moved from them by whole pixels.

    Args:
        around: the windows, larger than ``size`` by twice the largest shift.
        shifts: (N, 2) rows and columns; a single one is that of all.
        size: side of the pairs in pixels.
    """
    top, left = ((side - size) // 2 for side in around.shape[1:3])
    shifts = np.broadcast_to(shifts, (len(around), 2))
    first = around[:, top : top + size, left : left + size]
    second = [
        window[top - y : top - y + size, left - x : left - x + size]
        for window, (y, x) in zip(around, shifts, strict=True)
    ]
    return Pairs(first, np.stack(second), shifts)


def pairs_apart(split: str, count: int, size: int, radius: int, seed: int) -> Pairs:
    """Windows of photographs, and windows up to ``radius`` whole pixels from them, never 0.

    Args:
        split: split of the photographs.
        count: number of pairs.
        size: side of the pairs in pixels.
        radius: largest shift along each axis in pixels.
        seed: seed of the places and of the shifts.
    """
    steps = range(-radius, radius + 1)
    choice = [shift for shift in product(steps, steps) if any(shift)]
    shifts = np.random.default_rng(seed).choice(choice, count)
    return cut_pairs(random_windows(split, count, size + 2 * radius, seed), shifts, size)


def pairs_between(
    split: str, count: int, size: int, farthest: int, factor: int, seed: int
) -> Pairs:
    """Pairs a fraction of pixels apart, of which nothing is interpolated.

    Windows that lie whole pixels apart are shrunk by means of areas.

    Args:
        split: split of the photographs.
        count: number of pairs.
        size: side of the pairs in pixels.
        farthest: largest shift along each axis in units of ``1 / factor`` pixels.
        factor: number of pixels of the photograph that become one, along each axis.
        seed: seed of the places and of the shifts.
    """
    rng = np.random.default_rng(seed)
    shifts = rng.integers(-farthest, farthest, (count, 2), endpoint=True)
    around = random_windows(split, count, factor * size + 2 * farthest, seed)
    first, second, _ = cut_pairs(around, shifts, factor * size)
    return Pairs(shrunk(first, factor), shrunk(second, factor), shifts / factor)


def textured(images: np.ndarray) -> np.ndarray:
    """(N,) bool: standard deviation of luminance of (N, H, W, 3) from :data:`TEXTURED_STD`."""
    return (images @ np.array(_LUMINANCE)).std(axis=(1, 2)) >= TEXTURED_STD


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 (N, H, W, 3) reduced by ``factor`` along each axis, by means of areas."""
    count, height, width, channels = images.shape
    areas = images.reshape(count, height // factor, factor, width // factor, factor, channels)
    return np.rint(areas.mean(axis=(2, 4))).astype(np.uint8)


def as_pixels(images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) as a uint8 tensor (N, 3, H, W)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def as_input(images: Sequence[np.ndarray] | np.ndarray, device: str = "cpu") -> Tensor:
    """uint8 (N, H, W, 3) as metrics take it: (N, 3, H, W) in [-1, 1]."""
    return as_pixels(images).to(device) / 127.5 - 1.0


def as_images(batch: Tensor) -> np.ndarray:
    """(N, 3, H, W) in [-1, 1] as uint8 (N, H, W, 3), the reverse of :func:`as_input`."""
    return ((batch + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
