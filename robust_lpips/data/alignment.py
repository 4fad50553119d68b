"""Pairs that alignment may get wrong or hide: periods, nothing to find, and what is no shift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from robust_lpips import distortions
from robust_lpips.data.windows import cut_pairs, random_windows, shrunk

# Radii of the search in pixels: the usual one, and one that spans the shifts that people see.
RADIUS, WIDE_RADIUS = 3, 9
GRATING_PERIODS = (3, 4, 6)
CHECKER_CELL = 2
# Photographs of textures, and their splits.
TEXTURES = {"brick": "train", "gravel": "val", "grass": "train"}
TEXTURE_SHIFT = (2, -3)
WARPS = ("affine_warp", "homography", "cubic_warp")
WARP_SEVERITIES = (0.25, 0.5, 1.0)
# Most people say that they see these.
SEEN_SHIFTS = (5, 7, 9)
TILE = 8
_SHRINKING = 4
_NOISE_STD = 40.0


@dataclass(frozen=True)
class Case:
    """Pairs that show one thing.

    Attributes:
        name: short description.
        first: uint8 (N, H, W, 3).
        second: the same shape.
        radius: radius of the search in pixels.
        shift: the true one in pixels (rows, columns); NaN where there is none.
    """

    name: str
    first: np.ndarray
    second: np.ndarray
    radius: int = RADIUS
    shift: tuple[float, float] = (math.nan, math.nan)


def hard_pairs(split: str, count: int, size: int, seed: int) -> Iterator[Case]:
    """All cases: a single pair of each deterministic pattern, ``count`` pairs of others.

    Args:
        split: split of the photographs.
        count: number of pairs of cases that are random.
        size: side of the pairs in pixels.
        seed: seed of windows, noise and warps.
    """
    yield from _periodic(size)
    yield from _textures(split, count, size, seed)
    yield from _without_structure(count, size, seed)
    yield from _warps(split, count, size, seed)
    yield from _shifts(split, count, size, seed)


def _periodic(size: int) -> Iterator[Case]:
    rows, columns = np.indices((size, size))
    for period in GRATING_PERIODS:
        for part, shift in (("whole", period), ("half", period / 2)):
            pair = (
                100 * np.sin(2 * np.pi * (columns + 0.25 - moved) / period) for moved in (0, shift)
            )
            yield Case(
                f"grating of {period} px, {part} period", *map(_grey, pair), shift=(0, shift)
            )
    for part, shift in (("whole", 2 * CHECKER_CELL), ("half", CHECKER_CELL)):
        pair = (
            100.0 - 200 * ((rows // CHECKER_CELL + (columns - moved) // CHECKER_CELL) % 2)
            for moved in (0, shift)
        )
        name = f"checkerboard of {2 * CHECKER_CELL} px, {part} period"
        yield Case(name, *map(_grey, pair), shift=(0, shift))


def _textures(split: str, count: int, size: int, seed: int) -> Iterator[Case]:
    for name, own_split in TEXTURES.items():
        around = random_windows(own_split, count, size + 2 * RADIUS, seed, name)
        yield _shifted(name, around, TEXTURE_SHIFT, size, RADIUS)
    wide = size + 2 * WIDE_RADIUS
    brick = random_windows(TEXTURES["brick"], count, _SHRINKING * wide, seed, "brick")
    around = shrunk(brick, _SHRINKING)
    yield _shifted(f"brick, 1/{_SHRINKING} of the size", around, TEXTURE_SHIFT, size, WIDE_RADIUS)
    repeats = -(-wide // TILE)
    tiled = np.tile(random_windows(split, count, TILE, seed), (1, repeats, repeats, 1))
    yield _shifted(f"repeated every {TILE} px", tiled, (0, 5), size, WIDE_RADIUS)


def _without_structure(count: int, size: int, seed: int) -> Iterator[Case]:
    flat = np.full((size, size), -50.0)
    ramp = np.tile(np.linspace(-80, 80, size), (size, 1))
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, _NOISE_STD, (3, count, size + 2 * RADIUS, size + 2 * RADIUS))
    yield Case("flat, two greys", _grey(flat), _grey(flat + 10), shift=(0, 0))
    yield Case("ramp, moved by 2 px", _grey(ramp), _grey(ramp - 320 / (size - 1)), shift=(0, 2))
    one, other, same = (_greys(each) for each in noise)
    inside = slice(RADIUS, -RADIUS)
    yield Case("two noises", one[:, inside, inside], other[:, inside, inside], shift=(0, 0))
    yield _shifted("one noise, shifted", same, (0, 2), size, RADIUS)


def _warps(split: str, count: int, size: int, seed: int) -> Iterator[Case]:
    first = random_windows(split, count, size, seed)
    for name in WARPS:
        for severity in WARP_SEVERITIES:
            second = [
                distortions.apply(name, window, severity, np.random.default_rng([seed, i]))
                for i, window in enumerate(first)
            ]
            yield Case(f"{name.replace('_', ' ')}, severity {severity:g}", first, np.stack(second))


def _shifts(split: str, count: int, size: int, seed: int) -> Iterator[Case]:
    around = random_windows(split, count, size + 2 * WIDE_RADIUS, seed)
    for shift in SEEN_SHIFTS:
        yield _shifted(f"shifted by {shift} px", around, (0, shift), size, WIDE_RADIUS)
    beyond = RADIUS + 2
    yield _shifted(f"{beyond} px, beyond the radius", around, (0, beyond), size, RADIUS)
    first, half, _ = cut_pairs(around, (0, RADIUS), size)
    half[:, :, : size // 2] = first[:, :, : size // 2]
    yield Case(f"right half moved by {RADIUS} px", first, half)


def _shifted(name: str, around: np.ndarray, shift: tuple[int, int], size: int, radius: int) -> Case:
    """Centres of windows, and windows that lie ``shift`` away from them."""
    first, second, _ = cut_pairs(around, shift, size)
    return Case(name, first, second, radius, shift)


def _grey(values: np.ndarray) -> np.ndarray:
    """One image, (H, W) grey levels relative to the middle one, as uint8 (1, H, W, 3)."""
    return _greys(values[None])


def _greys(values: np.ndarray) -> np.ndarray:
    levels = np.rint(values + 127.5).clip(0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)
