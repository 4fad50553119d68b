"""Estimates of known shifts: distorted in place, shifted and distorted, between pixels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from robust_lpips import distortions
from robust_lpips.comparison import Metric
from robust_lpips.registered import search_radius
from robust_lpips.registration import estimate_translation
from robust_lpips.studies.base import Tick
from robust_lpips.studies.registration.settings import RADIUS, RegistrationSettings
from robust_lpips.studies.registration.windows import (
    Pairs,
    as_pixels,
    cut_pairs,
    shrunk,
    windows,
)

SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
MILD_SEVERITIES = (0.1, 0.25, 0.5)
NONE = "none"
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
) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
    """Tables ``estimates`` and ``subpixel`` (refined estimates).

    One row per window, distortion and severity: ``distortion, severity, window, textured``, the
    true shift ``true_rows, true_columns`` and the estimate ``rows, columns``, in pixels; and
    ``test``, ``in place`` or ``shifted``.
    """
    tests = [in_place(settings), shifted(settings), between(settings)]
    share = 1 / sum(len(cells) for _, cells in tests)
    place, moved, refined = (
        estimated(settings, *test, lambda: tick(share), subpixel=test is tests[-1])
        for test in tests
    )
    whole = pd.concat([place.assign(test="in place"), moved.assign(test="shifted")])
    return {"estimates": whole.reset_index(drop=True), "subpixel": refined}, {}


def in_place(settings: RegistrationSettings) -> tuple[Pairs, Cells]:
    """Windows and themselves, distorted."""
    size = settings.image_size
    around = windows(settings.split, settings.n, size, settings.seed)
    return cut_pairs(around, (0, 0), size), list(product((*STILL, *MOVING), SEVERITIES))


def shifted(settings: RegistrationSettings) -> tuple[Pairs, Cells]:
    """Windows that lie whole pixels apart, undistorted and distorted."""
    side = settings.image_size + 2 * RADIUS
    around = windows(settings.split, settings.n, side, settings.seed)
    steps = range(-RADIUS, RADIUS + 1)
    choice = [shift for shift in product(steps, steps) if any(shift)]
    shifts = np.random.default_rng(settings.seed).choice(choice, settings.n)
    cells = [(NONE, 0.0), *product((*STILL, *MOVING), MILD_SEVERITIES)]
    return cut_pairs(around, shifts, settings.image_size), cells


def between(settings: RegistrationSettings) -> tuple[Pairs, Cells]:
    """Windows that lie fractions of pixels apart, clean and with noise.

    Larger windows that lie whole pixels apart are shrunk by means of areas, so that nothing is
    interpolated.
    """
    large, count = SHRINKING * settings.image_size, settings.n
    around = windows(settings.split, count, large + 2 * LARGEST_FRACTION, settings.seed)
    rng = np.random.default_rng(settings.seed)
    shifts = rng.integers(-LARGEST_FRACTION, LARGEST_FRACTION, (count, 2), endpoint=True)
    first, second, _ = cut_pairs(around, shifts, large)
    pairs = Pairs(shrunk(first, SHRINKING), shrunk(second, SHRINKING), shifts / SHRINKING)
    return pairs, [(NONE, 0.0), SUBPIXEL_NOISE]


def estimated(
    settings: RegistrationSettings, pairs: Pairs, cells: Cells, done, *, subpixel: bool = False
) -> pd.DataFrame:
    """Estimates for the pairs, the second image of each distorted as every cell says.

    Args:
        settings: settings of the study.
        pairs: the pairs.
        cells: distortions and severities.
        done: called after each cell.
        subpixel: refine the estimates.
    """
    parts, is_textured = [], textured(pairs.first)
    radius = search_radius(RADIUS, settings.image_size)
    for name, severity in cells:
        distorted = [
            _distorted(name, window, severity, [settings.seed, i])
            for i, window in enumerate(pairs.second)
        ]
        found = estimate_translation(
            as_pixels(pairs.first), as_pixels(distorted), radius, subpixel=subpixel
        )
        columns = {
            "distortion": name,
            "severity": severity,
            "window": np.arange(len(found)),
            "textured": is_textured,
            "true_rows": pairs.shifts[:, 0],
            "true_columns": pairs.shifts[:, 1],
            "rows": found[:, 0].numpy(),
            "columns": found[:, 1].numpy(),
        }
        parts.append(pd.DataFrame(columns))
        done()
    return pd.concat(parts, ignore_index=True)


def textured(images: np.ndarray) -> np.ndarray:
    """(N,) bool: standard deviation of luminance of (N, H, W, 3) from :data:`TEXTURED_STD`."""
    return (images @ np.array(_LUMINANCE)).std(axis=(1, 2)) >= TEXTURED_STD


def _distorted(name: str, window: np.ndarray, severity: float, seed: list[int]) -> np.ndarray:
    if name == NONE:
        return window
    return distortions.apply(name, window, severity, np.random.default_rng(seed))
