"""Estimates of known shifts: distorted in place, shifted and distorted, between pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from robust_lpips import distortions
from robust_lpips.comparison import Metric
from robust_lpips.registered import search_radius
from robust_lpips.registration import estimate_translation
from robust_lpips.studies.base import Tick
from robust_lpips.studies.registration.settings import RADIUS, Measured, RegistrationSettings
from robust_lpips.studies.registration.windows import (
    Pairs,
    as_pixels,
    cut_pairs,
    shrunk,
    windows,
)

SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
MILD_SEVERITIES = (0.1, 0.25, 0.5)
NONE, BETWEEN = "none", "between"
# Both move content, though not as a shift does: reported, and not counted.
MOVING = ("ghosting", "chromatic_aberration")
STILL = tuple(
    name
    for category, names in distortions.CATEGORIES.items()
    if category != "spatial"
    for name in names
)
# Fractions of pixels: windows that lie whole pixels apart are shrunk by this factor.
SHRINKING = 4
LARGEST_FRACTION = SHRINKING * RADIUS - 1
SUBPIXEL_NOISE = ("gaussian_white_noise", 0.1)
# Standard deviation of luminance, in grey levels of 255, from which a window counts as textured.
TEXTURED_STD = 10.0
_LUMINANCE = (0.299, 0.587, 0.114)

# Distortions of the second image of each pair, with their severities.
Cells = list[tuple[str, float]]


def measure(
    settings: RegistrationSettings, metric: Metric | None, device: str, tick: Tick
) -> Measured:
    """Tables ``estimates`` and ``subpixel`` (refined estimates).

    One row per window, distortion and severity: ``distortion, severity, window, textured``, the
    true shift ``true_rows, true_columns`` and the estimate ``rows, columns``, in pixels; and
    ``test``, ``in place`` or ``shifted``.
    """
    tests = pairs_of_tests(settings)
    share = 1 / sum(len(cells) for _, cells in tests.values())
    found = {
        test: pd.concat(
            [
                _estimated(settings, pairs, cell, test == BETWEEN, partial(tick, share))
                for cell in cells
            ],
            ignore_index=True,
        )
        for test, (pairs, cells) in tests.items()
    }
    between = found.pop(BETWEEN)
    whole = [table.assign(test=test) for test, table in found.items()]
    return {"estimates": pd.concat(whole, ignore_index=True), "subpixel": between}, {}


def pairs_of_tests(settings: RegistrationSettings) -> dict[str, tuple[Pairs, Cells]]:
    """Pairs of each test, and the distortions that their second images get.

    ``in place``: windows and themselves. ``shifted``: windows that lie whole pixels apart.
    ``between``: fractions of pixels; windows that lie whole pixels apart are shrunk by means of
    areas, so that nothing is interpolated.
    """
    split, count, size, seed = settings.split, settings.n, settings.image_size, settings.seed
    names, large = (*STILL, *MOVING), SHRINKING * size
    steps = range(-RADIUS, RADIUS + 1)
    choice = [shift for shift in product(steps, steps) if any(shift)]
    shifts = np.random.default_rng(seed).choice(choice, count)
    rng = np.random.default_rng(seed)
    far = rng.integers(-LARGEST_FRACTION, LARGEST_FRACTION, (count, 2), endpoint=True)
    place = cut_pairs(windows(split, count, size, seed), (0, 0), size)
    moved = cut_pairs(windows(split, count, size + 2 * RADIUS, seed), shifts, size)
    around = windows(split, count, large + 2 * LARGEST_FRACTION, seed)
    first, second, _ = cut_pairs(around, far, large)
    between = Pairs(shrunk(first, SHRINKING), shrunk(second, SHRINKING), far / SHRINKING)
    return {
        "in place": (place, list(product(names, SEVERITIES))),
        "shifted": (moved, [(NONE, 0.0), *product(names, MILD_SEVERITIES)]),
        BETWEEN: (between, [(NONE, 0.0), SUBPIXEL_NOISE]),
    }


def textured(images: np.ndarray) -> np.ndarray:
    """(N,) bool: standard deviation of luminance of (N, H, W, 3) from :data:`TEXTURED_STD`."""
    return (images @ np.array(_LUMINANCE)).std(axis=(1, 2)) >= TEXTURED_STD


def _estimated(
    settings: RegistrationSettings,
    pairs: Pairs,
    cell: tuple[str, float],
    subpixel: bool,
    done: Callable[[], object],
) -> pd.DataFrame:
    """Estimates for pairs whose second images are distorted."""
    name, severity = cell
    distorted = [
        window
        if name == NONE
        else distortions.apply(name, window, severity, np.random.default_rng([settings.seed, i]))
        for i, window in enumerate(pairs.second)
    ]
    radius = search_radius(RADIUS, settings.image_size)
    found = estimate_translation(
        as_pixels(pairs.first), as_pixels(distorted), radius, subpixel=subpixel
    ).numpy()
    done()
    columns = {
        "distortion": name,
        "severity": severity,
        "window": np.arange(len(found)),
        "textured": textured(pairs.first),
        "true_rows": pairs.shifts[:, 0],
        "true_columns": pairs.shifts[:, 1],
        "rows": found[:, 0],
        "columns": found[:, 1],
    }
    return pd.DataFrame(columns)
