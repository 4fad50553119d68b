"""Windows of photographs and pairs of them that lie a known shift apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.shifted import random_window

# Standard deviation of luminance, in 255 grey levels, from which a window counts as textured.
TEXTURED_STD = 10.0

_LUMINANCE = (0.299, 0.587, 0.114)


class Pairs(NamedTuple):
    """Two uint8 (N, H, W, 3), and the shift (N, 2) by which the second shows what the first does.

    ``first[y, x]`` is ``second[y + rows, x + columns]``, as
    :func:`robust_lpips.registration.estimate_translation` has it.
    """

    first: np.ndarray
    second: np.ndarray
    shifts: np.ndarray


def windows(split: str, count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Random windows of photographs, which take turns: uint8 (count, height, width, 3).

    Nothing is padded or resampled. Windows that are almost blank are drawn again.

    Raises:
        ValueError: no photograph of that split is as large.
    """
    photographs = load_photographs(split, smallest_side=max(height, width))
    return windows_of(list(photographs.values()), count, height, width, seed)


def windows_of(
    photographs: Sequence[np.ndarray], count: int, height: int, width: int, seed: int
) -> np.ndarray:
    """As :func:`windows`, of photographs (H, W, 3) that are at least as large."""
    return np.stack(
        [
            random_window(
                np.random.default_rng([seed, i]), photographs[i % len(photographs)], height, width
            )
            for i in range(count)
        ]
    )


def cut_pairs(around: np.ndarray, shifts: np.ndarray, size: int) -> Pairs:
    """The middles of windows (N, H, W, 3), beside windows of that size moved by whole pixels."""
    top, left = ((side - size) // 2 for side in around.shape[1:3])
    first = around[:, top : top + size, left : left + size]
    second = [
        window[top - y : top - y + size, left - x : left - x + size]
        for window, (y, x) in zip(around, shifts, strict=True)
    ]
    return Pairs(first, np.stack(second), shifts)


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 (N, H, W, 3) at one in ``factor`` pixels along each axis, by means of areas."""
    count, height, width, channels = images.shape
    areas = images.reshape(count, height // factor, factor, width // factor, factor, channels)
    return np.rint(areas.mean(axis=(2, 4))).astype(np.uint8)


def textured(images: np.ndarray) -> np.ndarray:
    """Which of (N, H, W, 3) have a standard deviation of luminance from :data:`TEXTURED_STD`."""
    return (images @ np.array(_LUMINANCE)).std(axis=(1, 2)) >= TEXTURED_STD


def as_pixels(images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) as a uint8 tensor (N, 3, H, W)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def as_input(
    images: Sequence[np.ndarray] | np.ndarray, device: torch.device | str = "cpu"
) -> Tensor:
    """uint8 (N, H, W, 3) as what metrics take: (N, 3, H, W) in [-1, 1]."""
    return as_pixels(images).to(device) / 127.5 - 1.0
