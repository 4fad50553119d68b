"""Estimates of known shifts: distorted in place, shifted and distorted, between pixels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from robust_lpips import distortions
from robust_lpips.comparison import Metric
from robust_lpips.data import windows
from robust_lpips.data.alignment import RADIUS
from robust_lpips.evaluation.translations import axis_errors, exact, shares
from robust_lpips.registered import search_radius
from robust_lpips.registration import estimate_translation
from robust_lpips.studies.base import Tables, Tick, pivot_in_order
from robust_lpips.studies.registration.settings import Measured, RegistrationSettings
from robust_lpips.tables import to_markdown

SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
MILD_SEVERITIES = (0.1, 0.25, 0.5)
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
_UNDISTORTED, _NOISE = ("none", 0.0), ("gaussian_white_noise", 0.1)
_PLACE, _SHIFTED, _BETWEEN = "in place", "shifted", "between"

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
    tests = _pairs_of_tests(settings)
    share = 1 / sum(len(cells) for _, cells in tests.values())
    found = {}
    for test, (pairs, cells) in tests.items():
        parts = []
        for cell in cells:
            parts.append(_estimated(settings, pairs, cell, subpixel=test == _BETWEEN))
            tick(share)
        found[test] = pd.concat(parts, ignore_index=True)
    between = found.pop(_BETWEEN)
    whole = [table.assign(test=test) for test, table in found.items()]
    return {"estimates": pd.concat(whole, ignore_index=True), "subpixel": between}, {}


def counted(table: pd.DataFrame, test: str) -> pd.DataFrame:
    """Estimates of a test that count: distortions that move nothing, textured if shifted."""
    rows = table[(table["test"] == test) & ~table["distortion"].isin(MOVING)]
    return rows[rows["textured"]] if test == _SHIFTED else rows


def page_values(settings: RegistrationSettings, tables: Tables) -> dict[str, Any]:
    """Values of the page's section."""
    whole, between = tables["estimates"], tables["subpixel"]
    place = whole[whole["test"] == _PLACE]
    moved = whole[(whole["test"] == _SHIFTED) & whole["textured"]]
    between = between[between["textured"]]
    return {
        "search_radius": search_radius(RADIUS, settings.image_size),
        "moving": ", ".join(MOVING),
        **_shown("place", place, counted(whole, _PLACE), 100.0),
        "textured": moved["window"].nunique(),
        "textured_std": windows.TEXTURED_STD,
        **_shown("shifted", moved, counted(whole, _SHIFTED), 95.0),
        "shrinking": SHRINKING,
        "farthest": LARGEST_FRACTION / SHRINKING,
        "textured_between": between["window"].nunique(),
        "noise": _NOISE,
        "between": to_markdown(axis_errors(between, RADIUS - 1), {"median": ".3f", "p95": ".3f"}),
    }


def _pairs_of_tests(settings: RegistrationSettings) -> dict[str, tuple[windows.Pairs, Cells]]:
    """Pairs of each test, and the distortions that their second images get."""
    split, n, size, seed = settings.split, settings.n, settings.image_size, settings.seed
    names = (*STILL, *MOVING)
    place = windows.cut_pairs(windows.random_windows(split, n, size, seed), (0, 0), size)
    apart = windows.pairs_apart(split, n, size, RADIUS, seed)
    between = windows.pairs_between(split, n, size, LARGEST_FRACTION, SHRINKING, seed)
    return {
        _PLACE: (place, list(product(names, SEVERITIES))),
        _SHIFTED: (apart, [_UNDISTORTED, *product(names, MILD_SEVERITIES)]),
        _BETWEEN: (between, [_UNDISTORTED, _NOISE]),
    }


def _estimated(
    settings: RegistrationSettings, pairs: windows.Pairs, cell: tuple[str, float], *, subpixel: bool
) -> pd.DataFrame:
    """Estimates for pairs whose second images are distorted."""
    name, severity = cell
    distorted = pairs.second
    if cell != _UNDISTORTED:
        distorted = [
            distortions.apply(name, window, severity, np.random.default_rng([settings.seed, i]))
            for i, window in enumerate(pairs.second)
        ]
    radius = search_radius(RADIUS, settings.image_size)
    images = windows.as_pixels(pairs.first), windows.as_pixels(distorted)
    found = estimate_translation(*images, radius, subpixel=subpixel).numpy()
    columns = {
        "distortion": name,
        "severity": severity,
        "window": np.arange(len(found)),
        "textured": windows.textured(pairs.first),
        "true_rows": pairs.shifts[:, 0],
        "true_columns": pairs.shifts[:, 1],
        "rows": found[:, 0],
        "columns": found[:, 1],
    }
    return pd.DataFrame(columns)


def _shown(
    test: str, table: pd.DataFrame, counted: pd.DataFrame, least: float
) -> dict[str, str | None]:
    """Shares by distortion and severity, and the cells below ``least`` percent, the worst first."""
    cells, right = shares(table), exact(counted)
    severities = cells["severity"].sort_values().map("{:g}".format).unique()
    shown = cells.assign(severity=cells["severity"].map("{:g}".format))
    wide = pivot_in_order(shown, "distortion", "severity", "exact")[["distortion", *severities]]
    short = cells[(cells["exact"] < least) & ~cells["distortion"].isin(MOVING)]
    short = short.sort_values("exact", kind="stable")
    formats = dict.fromkeys(("exact", "stayed", "wrong"), ".1f")
    formats |= {"severity": "g", "farthest": "g"}
    return {
        f"{test}_overall": f"{right.sum()} of {len(right)} ({100 * right.mean():.2f} %)",
        f"{test}_shares": to_markdown(wide, dict.fromkeys(severities, ".1f")),
        f"{test}_all_above": f"{least:g}" if short.empty else None,
        f"{test}_some_below": None if short.empty else f"{least:g}",
        f"{test}_short": None if short.empty else to_markdown(short, formats),
    }
