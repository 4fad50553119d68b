"""What alignment may get wrong or hide: periods, nothing to find, and what is no shift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from robust_lpips import distortions
from robust_lpips.comparison import load_metric
from robust_lpips.data.photographs import PHOTOGRAPHS, load_photographs
from robust_lpips.plots import plot_failures
from robust_lpips.registered import Registered
from robust_lpips.studies.registration.settings import RADIUS, WIDE_RADIUS, Settings
from robust_lpips.studies.registration.windows import (
    as_input,
    cut_pairs,
    shrunk,
    windows,
    windows_of,
)
from robust_lpips.tables import to_markdown, write_csv

GRATING_PERIODS = (3, 4, 6)
CHECKER_CELL = 2
TEXTURES = ("brick", "gravel", "grass")
TEXTURE_SHIFT = (2, -3)
WARPS = ("affine_warp", "homography", "cubic_warp")
WARP_SEVERITIES = (0.25, 0.5, 1.0)
# Of these most people say that they see them.
SEEN_SHIFTS = (5, 7, 9)
TILE = 8

_SHRINKING = 4
_NOISE_STD = 40.0

_READING = """\
- A whole period cannot be seen: both images are the same, and that no shift is found is right,
  whatever the true one is. Half a period turns a pattern into its negative; aligned, the two are
  alike again, if that is a whole number of pixels. Who cares about the phase of a pattern should
  not register.
- In what repeats, several shifts are equally true, and along the stripes of a grating all of them.
  Any gives the same registered distance. The shortest is taken, which need not be the true one.
- Where nothing has structure, no shift should be believed: two noises are to stay, and on a ramp a
  shift is a change of brightness.
- A warp is no shift. One shift may take away part of it, by which the registered distance falls,
  and what is left has to remain: a registered distance near 0 would be a failure. Where it is above
  the unregistered one, alignment does harm.
- Where one half of an image moved, one shift is wrong for the other half, whichever is found;
  `mode="tiles"` is for that.
- Shifts that people do see are free without a penalty. That is what `penalty=None` means, and a
  reason not to take it for a measure of what people see.
- Of a shift beyond the radius something is left, which the metric sees, and the penalty charges all
  of it. What lies beyond about twice the radius cannot be found.
- How much the penalty weighs beside other distortions is a convention of its own: compare what
  registered and human differ by with the unregistered distances of the same column."""


@dataclass(frozen=True)
class Case:
    """Pairs that show one thing.

    Attributes:
        name: what it is.
        first: uint8 (N, H, W, 3).
        second: the same shape.
        radius: of the search.
        shift: the true one in pixels (rows, columns); None where there is no such thing.
    """

    name: str
    first: np.ndarray
    second: np.ndarray
    radius: int = RADIUS
    shift: tuple[float, float] | None = None


def run(settings: Settings, output: Path, metric: str, device: torch.device | str) -> str:
    """Measure, write ``failures.csv`` and ``failures.png``, and return the section."""
    cases = list(make_cases(settings))
    table = measure(cases, metric, settings.seed, device)
    write_csv(table, output / "failures.csv")
    plot_failures(
        table[table["pair"] == 0],
        {case.name: (case.first[0], case.second[0]) for case in cases},
        output / "failures.png",
        "What alignment does to pairs that are hard for it\n"
        f"the first pair of each case; {metric}: distance as it is → registered, and registered "
        f"with penalty human\n{settings.note}",
    )
    return _section(settings, metric, table)


def make_cases(settings: Settings) -> Iterator[Case]:
    """All cases; of patterns that leave nothing to chance one pair, of others ``examples``."""
    yield from _periodic(settings.image_size)
    yield from _textures(settings)
    yield from _without_structure(settings)
    yield from _warps(settings)
    yield from _shifts(settings)


def measure(
    cases: Sequence[Case], metric: str, seed: int, device: torch.device | str
) -> pd.DataFrame:
    """Estimates and distances of all pairs.

    Returns:
        A row a case and pair: ``case, radius, pair``; the true shift ``true_rows, true_columns``
        (NaN: none) and the estimate ``rows, columns`` in pixels; and in the metric's own unit
        ``unregistered, registered`` and ``human``, registered with that penalty.
    """
    distance = load_metric(metric, device, seed)
    variants = {
        radius: (
            Registered(distance, radius),
            Registered(distance, radius, "human").to(device),
        )
        for radius in {case.radius for case in cases}
    }
    parts = []
    for case in tqdm(cases, desc="failures", unit="case"):
        pair = as_input(case.first, device), as_input(case.second, device)
        registered, human = variants[case.radius]
        true = case.shift or (math.nan, math.nan)
        with torch.no_grad():
            estimates = registered.translation(*pair).cpu()
            distances = {
                "unregistered": distance(*pair),
                "registered": registered(*pair),
                "human": human(*pair),
            }
        part = {
            "case": case.name,
            "radius": case.radius,
            "pair": range(len(case.first)),
            "true_rows": true[0],
            "true_columns": true[1],
            "rows": estimates[:, 0],
            "columns": estimates[:, 1],
        }
        parts.append(pd.DataFrame(part | {name: d.cpu() for name, d in distances.items()}))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The means of each case.

    Args:
        table: of :func:`measure`.

    Returns:
        A row a case: ``case, radius, n, true``, the shift as text; ``stayed`` and ``right``, the
        percentage of estimates that are no shift, and the true one (NaN: there is none); and mean
        ``unregistered, registered, human``.
    """
    rows = []
    for name, pairs in table.groupby("case", sort=False):
        first = pairs.iloc[0]
        true = first[["true_rows", "true_columns"]].to_numpy(dtype=float)
        found = pairs[["rows", "columns"]].to_numpy()
        known = not np.isnan(true).any()
        rows.append(
            {
                "case": name,
                "radius": first["radius"],
                "n": len(pairs),
                "true": f"({true[0]:g}, {true[1]:g})" if known else None,
                "first estimate": f"({found[0, 0]:g}, {found[0, 1]:g})",
                "stayed": 100 * (found == 0).all(axis=1).mean(),
                "right": 100 * (found == true).all(axis=1).mean() if known else math.nan,
                **pairs[["unregistered", "registered", "human"]].mean(),
            }
        )
    return pd.DataFrame(rows)


def _periodic(size: int) -> Iterator[Case]:
    rows, columns = np.indices((size, size))
    for period in GRATING_PERIODS:
        for part, shift in (("whole", period), ("half", period / 2)):
            pair = (
                100 * np.sin(2 * np.pi * (columns + 0.25 - moved) / period) for moved in (0, shift)
            )
            name = f"grating of {period} px, {part} period"
            yield Case(name, *map(_grey, pair), shift=(0, shift))
    for part, shift in (("whole", 2 * CHECKER_CELL), ("half", CHECKER_CELL)):
        pair = (
            100.0 - 200 * ((rows // CHECKER_CELL + (columns - moved) // CHECKER_CELL) % 2)
            for moved in (0, shift)
        )
        name = f"checkerboard of {2 * CHECKER_CELL} px, {part} period"
        yield Case(name, *map(_grey, pair), shift=(0, shift))


def _textures(settings: Settings) -> Iterator[Case]:
    size, count, seed = settings.image_size, settings.examples, settings.seed
    photographs = {}
    for split in PHOTOGRAPHS:
        photographs |= load_photographs(split)
    for name in TEXTURES:
        side = size + 2 * RADIUS
        around = windows_of([photographs[name]], count, side, side, seed)
        yield _shifted(name, around, TEXTURE_SHIFT, size, RADIUS)
    side = _SHRINKING * (size + 2 * WIDE_RADIUS)
    around = windows_of([photographs["brick"]], count, side, side, seed)
    small = f"brick, 1/{_SHRINKING} of the size"
    yield _shifted(small, shrunk(around, _SHRINKING), TEXTURE_SHIFT, size, WIDE_RADIUS)
    tile = windows(settings.split, count, TILE, TILE, seed)
    repeats = -(-(size + 2 * WIDE_RADIUS) // TILE)
    tiled = np.tile(tile, (1, repeats, repeats, 1))
    yield _shifted(f"repeated every {TILE} px", tiled, (0, 5), size, WIDE_RADIUS)


def _without_structure(settings: Settings) -> Iterator[Case]:
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


def _warps(settings: Settings) -> Iterator[Case]:
    size = settings.image_size
    first = windows(settings.split, settings.examples, size, size, settings.seed)
    for name in WARPS:
        for severity in WARP_SEVERITIES:
            second = [
                distortions.apply(name, window, severity, np.random.default_rng([settings.seed, i]))
                for i, window in enumerate(first)
            ]
            yield Case(f"{name.replace('_', ' ')}, severity {severity:g}", first, np.stack(second))


def _shifts(settings: Settings) -> Iterator[Case]:
    size = settings.image_size
    side = size + 2 * WIDE_RADIUS
    around = windows(settings.split, settings.examples, side, side, settings.seed)
    for shift in SEEN_SHIFTS:
        yield _shifted(f"shifted by {shift} px", around, (0, shift), size, WIDE_RADIUS)
    beyond = RADIUS + 2
    yield _shifted(f"{beyond} px, beyond the radius", around, (0, beyond), size, RADIUS)
    first, moved, _ = cut_pairs(around, np.tile([0, RADIUS], (len(around), 1)), size)
    half = moved.copy()
    half[:, :, : size // 2] = first[:, :, : size // 2]
    yield Case(f"right half moved by {RADIUS} px", first, half)


def _shifted(name: str, around: np.ndarray, shift: tuple[int, int], size: int, radius: int) -> Case:
    """The middles of windows, beside what lies ``shift`` off."""
    first, second, _ = cut_pairs(around, np.tile(shift, (len(around), 1)), size)
    return Case(name, first, second, radius, shift)


def _grey(values: np.ndarray) -> np.ndarray:
    """One image, (H, W) grey levels about the middle one, as uint8 (1, H, W, 3)."""
    return _greys(values[None])


def _greys(values: np.ndarray) -> np.ndarray:
    levels = np.rint(values + 127.5).clip(0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def _section(settings: Settings, metric: str, table: pd.DataFrame) -> str:
    numbers = dict.fromkeys(("stayed", "right"), ".0f")
    distances = dict.fromkeys(("unregistered", "registered", "human"), ".4f")
    return "\n\n".join(
        [
            "## Failures",
            f"Pairs that are hard to align, or should not be; distances of {metric}, means over n "
            f"pairs; {settings.note}. Textures are of either split. stayed: estimates that are no "
            'shift; right: that are the true one, in percent; human: registered with `penalty="'
            'human"`. Shifts and radius in pixels, (rows, columns).',
            to_markdown(summary(table), numbers | distances),
            "How to read it:",
            _READING,
            "The first pair of each case is shown in `failures.png`.",
        ]
    )
