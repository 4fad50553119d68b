"""Pairs that alignment may get wrong or hide: periods, nothing to find, and what is no shift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from robust_lpips import distortions
from robust_lpips.comparison import Metric
from robust_lpips.registered import Registered
from robust_lpips.studies.base import Tick
from robust_lpips.studies.registration.settings import (
    RADIUS,
    WIDE_RADIUS,
    Measured,
    RegistrationSettings,
)
from robust_lpips.studies.registration.windows import as_input, cut_pairs, shrunk, windows

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


@torch.no_grad()
def measure(settings: RegistrationSettings, metric: Metric, device: str, tick: Tick) -> Measured:
    """Table ``failures``, and the first pair of each case, uint8 ``pairs`` (C, 2, H, W, 3).

    One row per case and pair: ``case, radius, pair``; the true shift ``true_rows, true_columns``
    (NaN: none) and the estimate ``rows, columns`` in pixels; and in the metric's own unit
    ``unregistered, registered`` and ``human``, registered with that penalty.
    """
    cases, parts = list(make_cases(settings)), []
    variants = {
        radius: (Registered(metric, radius), Registered(metric, radius, "human").to(device))
        for radius in (RADIUS, WIDE_RADIUS)
    }
    for case in cases:
        pair = as_input(case.first, device), as_input(case.second, device)
        registered, human = variants[case.radius]
        estimates = registered.translation(*pair).cpu()
        columns = {
            "case": case.name,
            "radius": case.radius,
            "pair": range(len(case.first)),
            "true_rows": case.shift[0],
            "true_columns": case.shift[1],
            "rows": estimates[:, 0],
            "columns": estimates[:, 1],
            "unregistered": metric(*pair).cpu(),
            "registered": registered(*pair).cpu(),
            "human": human(*pair).cpu(),
        }
        parts.append(pd.DataFrame(columns))
        tick(1 / len(cases))
    pairs = np.stack([(case.first[0], case.second[0]) for case in cases])
    return {"failures": pd.concat(parts, ignore_index=True)}, {"pairs": pairs}


def make_cases(settings: RegistrationSettings) -> Iterator[Case]:
    """All cases: a single pair of each deterministic pattern, ``examples`` pairs of others."""
    for kind in (_periodic, _textures, _without_structure, _warps, _shifts):
        yield from kind(settings)


def _periodic(settings: RegistrationSettings) -> Iterator[Case]:
    size = settings.image_size
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


def _textures(settings: RegistrationSettings) -> Iterator[Case]:
    size, count, seed = settings.image_size, settings.examples, settings.seed
    for name, split in TEXTURES.items():
        around = windows(split, count, size + 2 * RADIUS, seed, name)
        yield _shifted(name, around, TEXTURE_SHIFT, size, RADIUS)
    wide = size + 2 * WIDE_RADIUS
    brick = windows(TEXTURES["brick"], count, _SHRINKING * wide, seed, "brick")
    around = shrunk(brick, _SHRINKING)
    yield _shifted(f"brick, 1/{_SHRINKING} of the size", around, TEXTURE_SHIFT, size, WIDE_RADIUS)
    repeats = -(-wide // TILE)
    tiled = np.tile(windows(settings.split, count, TILE, seed), (1, repeats, repeats, 1))
    yield _shifted(f"repeated every {TILE} px", tiled, (0, 5), size, WIDE_RADIUS)


def _without_structure(settings: RegistrationSettings) -> Iterator[Case]:
    size, count = settings.image_size, settings.examples
    flat = np.full((size, size), -50.0)
    ramp = np.tile(np.linspace(-80, 80, size), (size, 1))
    rng = np.random.default_rng(settings.seed)
    noise = rng.normal(0, _NOISE_STD, (3, count, size + 2 * RADIUS, size + 2 * RADIUS))
    yield Case("flat, two greys", _grey(flat), _grey(flat + 10), shift=(0, 0))
    yield Case("ramp, moved by 2 px", _grey(ramp), _grey(ramp - 320 / (size - 1)), shift=(0, 2))
    one, other, same = (_greys(each) for each in noise)
    inside = slice(RADIUS, -RADIUS)
    yield Case("two noises", one[:, inside, inside], other[:, inside, inside], shift=(0, 0))
    yield _shifted("one noise, shifted", same, (0, 2), size, RADIUS)


def _warps(settings: RegistrationSettings) -> Iterator[Case]:
    first = windows(settings.split, settings.examples, settings.image_size, settings.seed)
    for name in WARPS:
        for severity in WARP_SEVERITIES:
            second = [
                distortions.apply(name, window, severity, np.random.default_rng([settings.seed, i]))
                for i, window in enumerate(first)
            ]
            yield Case(f"{name.replace('_', ' ')}, severity {severity:g}", first, np.stack(second))


def _shifts(settings: RegistrationSettings) -> Iterator[Case]:
    size = settings.image_size
    around = windows(settings.split, settings.examples, size + 2 * WIDE_RADIUS, settings.seed)
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
