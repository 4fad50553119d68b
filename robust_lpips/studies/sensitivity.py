"""Shift sensitivity: distances of metrics at pure shifts, and rankings that shifts reverse.

Two questions, both without people's judgments. How far apart does a metric find an image and the
same image shifted by n pixels? And how often does it rank two distorted patches differently once
they are shifted by n pixels (r_rf, Ghildyal and Liu, ECCV 2022)?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data.shifted import References
from robust_lpips.evaluation import FULL, ShiftViews, parse_view, summarize, view_name
from robust_lpips.studies.base import (
    Part,
    Record,
    Results,
    Study,
    Tables,
    TripletSettings,
    conditions,
    interval_cells,
    option,
    pivot_in_order,
    source_of,
)
from robust_lpips.tables import to_markdown

METRICS = ("alexnet-shift-tolerant", "vgg16-shift-tolerant", "alexnet-untrained", "l2", "ssim")
_RRF = ("rrf", "rrf_low", "rrf_high")


@dataclass(frozen=True)
class SensitivitySettings(TripletSettings):
    """Settings of the study of shift sensitivity: of either split, and larger shifts."""

    split: str = option("val", "part of the data", choices=("train", "val"))
    max_shift: int = option(9, "largest shift in pixels; it decides the crop", least=1)

    # The default metrics take three minutes of two CPU cores.
    sample_n: ClassVar[int] = 100


def parts(settings: SensitivitySettings) -> dict[str, Part]:
    """The triplets, and their references alone."""
    dataset, views = source_of(settings).dataset, ShiftViews(settings.max_shift)
    return {"triplets": Part(dataset, views), "references": Part(References(dataset), views)}


def curves(distances: pd.DataFrame, references: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Distance at pure shifts and rank flips of one metric, by shift.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure` on triplets.
        references: the same with the reference as p0 and p1.
        seed: seed of the intervals.

    Returns:
        One row per shift, 0 .. S pixels: ``n`` (triplets), ``shift``; ``distance``, the mean
        between an image and itself shifted, in the metric's own unit; ``relative_distance``, the
        same divided by the mean distance to the distorted patches, unshifted and in the same
        window; ``rrf, rrf_low, rrf_high`` in percent, NaN at shift 0. All are means over subsets.
    """
    # p0 and p1 are both the reference, so d0 is d1.
    distance = _by_shift(references.assign(distance=references["d0"]))
    distorted = distances.assign(distance=(distances["d0"] + distances["d1"]) / 2)
    scale = _by_shift(distorted[distorted["view"] == view_name(0)]).loc[0]
    scores = summarize(distances, seed=seed).iloc[-1]
    table = distance.reset_index().assign(relative_distance=distance.to_numpy() / scale)
    table.insert(0, "n", int(scores["n"]))
    for end in ("", "_low", "_high"):
        table[f"rrf{end}"] = [scores.get(f"rrf_{n}{end}") for n in table["shift"]]
    return table.astype(dict.fromkeys(_RRF, float))


def tables(results: Results[SensitivitySettings]) -> dict[str, pd.DataFrame]:
    """``shift_sensitivity``: ``metric, dataset, image_size, max_shift``, and :func:`curves`."""
    settings, names = results.settings, ["metric", "dataset", "image_size", "max_shift"]
    given = (results.source.name, settings.image_size, settings.max_shift)
    found = results.distances_on("triplets", "references").items()
    rows = {(metric, *given): curves(*pair, seed=settings.seed) for metric, pair in found}
    table = pd.concat(rows, names=names).reset_index(names).reset_index(drop=True)
    return {"shift_sensitivity": table}


def page(results: Results[SensitivitySettings], tables: Tables) -> list[str]:
    """Both quantities, one column per metric."""
    table = tables["shift_sensitivity"].query("shift > 0").rename(columns={"shift": "shift (px)"})
    cells = table.assign(rrf=interval_cells(table, "rrf"))
    relative, rrf = (
        pivot_in_order(cells, "shift (px)", "metric", name) for name in ("relative_distance", "rrf")
    )
    given, window = _conditions(results, tables)
    return [
        "# Shift sensitivity",
        f"{given}.",
        f"The largest shift, {results.settings.max_shift} px, decides the crop: at every shift "
        f"windows of {window} pixels are compared, and numbers for another largest shift differ. "
        "Nothing here needs people's judgments.",
        "## Distance between an image and itself, shifted",
        "In units of the metric's own mean distance between the reference and the distorted "
        "patches, unshifted: at 1 the shift alone costs as much as a distortion does.",
        to_markdown(relative, dict.fromkeys(relative.columns[1:], ".3f")),
        "## Rank flips r_rf (%)",
        "Share of triplets that the metric ranks differently when the distorted patches are "
        f"shifted, with 95 % bootstrap intervals{results.source.clustered}.",
        to_markdown(rrf),
    ]


def figures(results: Results[SensitivitySettings], tables: Tables) -> Mapping[str, Figure]:
    """``shift_sensitivity``: both quantities against the shift, one line per metric."""
    table = tables["shift_sensitivity"]
    given, window = _conditions(results, tables)
    # Inches: the names of metrics stand to the right of each panel.
    names = 0.25 + 0.064 * table["metric"].str.len().max()
    title = f"What shifts do to metrics\n{given}; windows of {window} px"
    with plotting.figure((8.8 + 2 * names, 5.2), title) as fig:
        left, right = plotting.panels(
            fig, 2, left=0.7, right=names, top=1.05, height=3.55, gap=names + 0.7
        )
        left.axhline(1.0, color=plotting.GREY, lw=1.0, linestyle="--", zorder=1.5)
        above = {"transform": left.get_yaxis_transform(), "ha": "right", "va": "bottom"}
        left.text(0.99, 1.0, "as far as the distorted patches", fontsize=8, **above)
        plotting.draw_curves(left, table, "relative_distance")
        left.set_title("Distance of an image to itself, shifted")
        left.set_ylabel("distance / mean distance to distorted patches")
        plotting.draw_curves(right, table, "rrf")
        right.set_title("Rank flips (bands: 95 % intervals)")
        right.set_ylabel(plotting.RRF)
    return {"shift_sensitivity": fig}


def records(results: Results[SensitivitySettings], tables: Tables) -> Iterator[Record]:
    """r_rf of each metric at each shift."""
    flips = tables["shift_sensitivity"].query("shift > 0").set_index("shift")
    for metric, rows in flips.groupby("metric", sort=False):
        scores = {f"rrf_{shift}": tuple(row) for shift, row in rows[list(_RRF)].iterrows()}
        yield Record(metric, rows["n"].iloc[0], scores, results.weights[metric])


STUDY = Study(
    name="shift-sensitivity",
    settings=SensitivitySettings,
    metrics=METRICS,
    parts=parts,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    page_name="shift_sensitivity",
)


def _by_shift(table: pd.DataFrame) -> pd.Series:
    """Mean over subsets of the mean ``distance`` of each, by shift in pixels, ascending."""
    shifted = table[table["view"] != FULL]
    shifts = shifted["view"].map(parse_view).astype(int).rename("shift")
    return shifted.groupby([shifts, "subset"])["distance"].mean().groupby("shift").mean()


def _conditions(results: Results[SensitivitySettings], tables: Tables) -> tuple[str, str]:
    """The triplets in one line, and the compared windows in pixels: height x width."""
    n, settings = tables["shift_sensitivity"]["n"].iloc[0], results.settings
    given = conditions(results.source, n, max_shift=settings.max_shift, seed=settings.seed)
    return given, f"{settings.image_size}x{settings.image_size - settings.max_shift}"
