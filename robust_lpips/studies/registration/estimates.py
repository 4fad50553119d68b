"""How often the estimate is right: distorted in place, shifted and distorted, between pixels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from robust_lpips import distortions
from robust_lpips.registered import search_radius
from robust_lpips.registration import estimate_translation
from robust_lpips.studies.registration.settings import RADIUS, Settings
from robust_lpips.studies.registration.windows import (
    TEXTURED_STD,
    Pairs,
    as_pixels,
    cut_pairs,
    shrunk,
    textured,
    windows,
)
from robust_lpips.tables import to_markdown, write_csv

SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
MILD_SEVERITIES = (0.1, 0.25, 0.5)
NONE = "none"

# Both move content, if not as a shift does: reported, and not counted.
MOVING = ("ghosting", "chromatic_aberration")
STILL = tuple(
    name
    for category, names in distortions.CATEGORIES.items()
    if category != "spatial"
    for name in names
)

# Fractions of pixels are made by shrinking so many times what lies whole pixels apart.
SHRINKING = 4
_LARGEST_FRACTION = SHRINKING * RADIUS - 1
# Along one axis: errors are given up to here and beyond.
_INSIDE = RADIUS - 1
_SUBPIXEL_NOISE = ("gaussian_white_noise", 0.1)

# A cell is named in the page where fewer of its estimates are right, in percent.
_EXPECTED_SHARES = {"in place": 100.0, "shifted": 95.0}


def run(settings: Settings, output: Path) -> str:
    """Measure, write ``estimates.csv`` and ``subpixel.csv``, and return the section."""
    whole = pd.concat(
        [in_place(settings).assign(test="in place"), shifted(settings).assign(test="shifted")],
        ignore_index=True,
    )
    between = subpixel(settings)
    write_csv(whole, output / "estimates.csv")
    write_csv(between, output / "subpixel.csv")
    return _section(settings, whole, between)


def in_place(settings: Settings) -> pd.DataFrame:
    """Estimates for windows beside themselves, distorted where they are.

    Returns:
        A row a window, distortion and severity: ``distortion, severity, window, textured``, the
        true shift ``true_rows, true_columns`` and the estimate ``rows, columns``, in pixels.
    """
    size = settings.image_size
    around = windows(settings.split, settings.n, size, size, settings.seed)
    pairs = cut_pairs(around, np.zeros((settings.n, 2), dtype=int), size)
    return _cells(settings, pairs, product((*STILL, *MOVING), SEVERITIES))


def shifted(settings: Settings) -> pd.DataFrame:
    """As :func:`in_place`, of windows that lie whole pixels apart, also without a distortion."""
    side = settings.image_size + 2 * RADIUS
    around = windows(settings.split, settings.n, side, side, settings.seed)
    steps = range(-RADIUS, RADIUS + 1)
    choice = [shift for shift in product(steps, steps) if any(shift)]
    shifts = np.random.default_rng(settings.seed).choice(choice, settings.n)
    pairs = cut_pairs(around, shifts, settings.image_size)
    return _cells(settings, pairs, [(NONE, 0.0), *product((*STILL, *MOVING), MILD_SEVERITIES)])


def subpixel(settings: Settings) -> pd.DataFrame:
    """As :func:`in_place`, of windows fractions of pixels apart, refined, clean and with noise.

    Windows of a photograph that lie whole pixels apart are shrunk by means of areas, so that
    nothing is interpolated.
    """
    large = SHRINKING * settings.image_size
    side = large + 2 * _LARGEST_FRACTION
    around = windows(settings.split, settings.n, side, side, settings.seed)
    rng = np.random.default_rng(settings.seed)
    shifts = rng.integers(-_LARGEST_FRACTION, _LARGEST_FRACTION, (settings.n, 2), endpoint=True)
    first, second, _ = cut_pairs(around, shifts, large)
    pairs = Pairs(shrunk(first, SHRINKING), shrunk(second, SHRINKING), shifts / SHRINKING)
    return _cells(settings, pairs, [(NONE, 0.0), _SUBPIXEL_NOISE], refine=True)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """How many estimates of a cell are right.

    Args:
        table: of :func:`in_place` or :func:`shifted`.

    Returns:
        A row a distortion and severity: ``distortion, severity, n``; in percent ``exact``, those
        that are the true shift, ``stayed``, those that are wrong and no shift, and ``wrong``, the
        others; ``farthest``, the largest error along an axis in pixels.
    """
    errors = _errors(table)
    exact = (errors == 0).all(axis=1)
    stayed = ~exact & (table["rows"] == 0) & (table["columns"] == 0)
    cells = table.assign(
        exact=100.0 * exact,
        stayed=100.0 * stayed,
        wrong=100.0 * ~(exact | stayed),
        farthest=errors.max(axis=1),
    ).groupby(["distortion", "severity"], sort=False)
    found = cells[["exact", "stayed", "wrong"]].mean()
    found.insert(0, "n", cells.size())
    return found.assign(farthest=cells["farthest"].max()).reset_index()


def errors_between(table: pd.DataFrame) -> pd.DataFrame:
    """Errors of refined estimates along each axis.

    Args:
        table: of :func:`subpixel`.

    Returns:
        A row a distortion, axis and reach of the true shift along it: ``distortion, axis, shift,
        n``; ``median`` and ``p95`` of the absolute error in pixels.
    """
    parts = [
        pd.DataFrame(
            {
                "distortion": table["distortion"],
                "axis": axis,
                "shift": np.where(
                    table[f"true_{axis}"].abs() <= _INSIDE, f"to {_INSIDE} px", "beyond"
                ),
                "error": (table[axis] - table[f"true_{axis}"]).abs(),
            }
        )
        for axis in ("rows", "columns")
    ]
    cells = pd.concat(parts).groupby(["distortion", "axis", "shift"], sort=False)["error"]
    found = cells.agg(n="size", median="median", p95=lambda errors: errors.quantile(0.95))
    return found.reset_index()


def _cells(
    settings: Settings,
    pairs: Pairs,
    cells: Iterable[tuple[str, float]],
    *,
    refine: bool = False,
) -> pd.DataFrame:
    """The estimates of the pairs with their second windows under each distortion."""
    parts = []
    is_textured = textured(pairs.first)
    radius = search_radius(RADIUS, settings.image_size)
    for name, severity in tqdm(list(cells), desc="estimates", unit="cell"):
        distorted = [
            _distorted(name, window, severity, [settings.seed, i])
            for i, window in enumerate(pairs.second)
        ]
        found = estimate_translation(
            as_pixels(pairs.first), as_pixels(distorted), radius, subpixel=refine
        )
        parts.append(
            pd.DataFrame(
                {
                    "distortion": name,
                    "severity": severity,
                    "window": np.arange(len(found)),
                    "textured": is_textured,
                    "true_rows": pairs.shifts[:, 0],
                    "true_columns": pairs.shifts[:, 1],
                    "rows": found[:, 0].numpy(),
                    "columns": found[:, 1].numpy(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _distorted(name: str, window: np.ndarray, severity: float, seed: list[int]) -> np.ndarray:
    if name == NONE:
        return window
    return distortions.apply(name, window, severity, np.random.default_rng(seed))


def _errors(table: pd.DataFrame) -> pd.DataFrame:
    """Absolute errors along both axes, in pixels."""
    return pd.DataFrame(
        {axis: (table[axis] - table[f"true_{axis}"]).abs() for axis in ("rows", "columns")}
    )


def _section(settings: Settings, whole: pd.DataFrame, between: pd.DataFrame) -> str:
    place = whole[whole["test"] == "in place"]
    moved = whole[(whole["test"] == "shifted") & whole["textured"]]
    between = between[between["textured"]]
    n_textured = moved["window"].nunique()
    rule = f"standard deviation of luminance of at least {TEXTURED_STD:g} of 255"
    return "\n\n".join(
        [
            "## Estimates",
            f"`estimate_translation` at radius {search_radius(RADIUS, settings.image_size)}, which "
            f"is how far `Registered` at radius {RADIUS} looks; {settings.note}.",
            "### Distorted in place: the share of estimates that are exactly no shift, in percent",
            f"{settings.n} windows, all of them, in each cell. {_overall(place)}. The last rows "
            f"move content and do not count: {', '.join(MOVING)}.",
            to_markdown(_by_severity(place)),
            *_failing("in place", place),
            "### Shifted by whole pixels and distorted: the share that is exact, in percent",
            f"Both windows are cut from the photograph, up to {RADIUS} px apart along each axis; "
            f"the second is distorted. {n_textured} of {settings.n} windows are textured ({rule}) "
            f"and counted here; the others are in estimates.csv. {_overall(moved)}, of those that "
            "do not move content.",
            to_markdown(_by_severity(moved)),
            *_failing("shifted", moved),
            "### Between pixels: absolute error in pixels with `subpixel=True`",
            f"Windows {SHRINKING} times as large, whole pixels apart, shrunk by means of areas: "
            f"shifts are multiples of 1/{SHRINKING} px up to {_LARGEST_FRACTION / SHRINKING} px. "
            f"{between['window'].nunique()} of {settings.n} are textured and counted. Noise: "
            f"{_SUBPIXEL_NOISE[0]} at severity {_SUBPIXEL_NOISE[1]}, on the second.",
            to_markdown(errors_between(between), {"median": ".3f", "p95": ".3f"}),
        ]
    )


def _overall(table: pd.DataFrame) -> str:
    counted = table[~table["distortion"].isin(MOVING)]
    exact = (_errors(counted) == 0).all(axis=1)
    return f"Overall {exact.sum()} of {len(exact)} ({100 * exact.mean():.2f} %)"


def _by_severity(table: pd.DataFrame) -> pd.DataFrame:
    """A row a distortion, a column a severity."""
    exact = shares(table).pivot(index="distortion", columns="severity", values="exact")
    exact = exact.loc[table["distortion"].unique()].map("{:.1f}".format, na_action="ignore")
    return exact.rename(columns="{:g}".format).rename_axis(columns=None).reset_index()


def _failing(test: str, table: pd.DataFrame) -> list[str]:
    """The cells that fall short, the worst first."""
    cells = shares(table)
    least = _EXPECTED_SHARES[test]
    short = cells[(cells["exact"] < least) & ~cells["distortion"].isin(MOVING)]
    if short.empty:
        return [f"In no cell fewer than {least:g} % are right."]
    return [
        f"Cells with less than {least:g} %. stayed: wrong, and no shift; wrong: another shift than "
        "the true one; farthest: the largest error along an axis, in pixels.",
        to_markdown(
            short.sort_values("exact", kind="stable"),
            {"severity": "g", **dict.fromkeys(("exact", "stayed", "wrong"), ".1f")}
            | {"farthest": "g"},
        ),
    ]
