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
from robust_lpips.evaluation import ShiftViews
from robust_lpips.evaluation.sensitivity import shift_curves
from robust_lpips.studies import base
from robust_lpips.tables import to_markdown

METRICS = ("alexnet-shift-tolerant", "vgg16-shift-tolerant", "alexnet-untrained", "l2", "ssim")


@dataclass(frozen=True)
class SensitivitySettings(base.TripletSettings):
    """Settings of the study of shift sensitivity: of either split, and larger shifts."""

    split: str = base.option("val", "part of the data", choices=("train", "val"))
    max_shift: int = base.option(9, "largest shift in pixels; it decides the crop", least=1)

    # The default metrics take three minutes of two CPU cores.
    sample_n: ClassVar[int] = 100

    @property
    def window(self) -> str:
        """Height x width of the compared windows in pixels."""
        return f"{self.image_size}x{self.image_size - self.max_shift}"


Results = base.Results[SensitivitySettings]


def parts(settings: SensitivitySettings) -> dict[str, base.Part]:
    """The triplets, and their references alone."""
    dataset, views = base.source_of(settings).dataset, ShiftViews(settings.max_shift)
    return {
        "triplets": base.Part(dataset, views),
        "references": base.Part(References(dataset), views),
    }


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """``shift_sensitivity``: ``metric, dataset, image_size, max_shift``, :func:`shift_curves`."""
    settings, names = results.settings, ["metric", "dataset", "image_size", "max_shift"]
    given = (results.source.name, settings.image_size, settings.max_shift)
    found = results.distances_on("triplets", "references").items()
    rows = {(metric, *given): shift_curves(*pair, seed=settings.seed) for metric, pair in found}
    return {"shift_sensitivity": base.stacked(rows, names)}


def page(results: Results, tables: base.Tables) -> list[str]:
    """Both quantities, one column per metric."""
    table = tables["shift_sensitivity"].query("shift > 0").rename(columns={"shift": "shift (px)"})
    table = table.assign(rrf=base.interval_cells(table, "rrf"))
    relative, rrf = (
        base.pivot_in_order(table, "shift (px)", "metric", name)
        for name in ("relative_distance", "rrf")
    )
    return base.filled(
        "sensitivity",
        conditions=base.run_conditions(results),
        settings=results.settings,
        source=results.source,
        relative=to_markdown(relative, dict.fromkeys(relative.columns[1:], ".3f")),
        rrf=to_markdown(rrf),
    )


def figures(results: Results, tables: base.Tables) -> Mapping[str, Figure]:
    """``shift_sensitivity``: both quantities against the shift, one line per metric."""
    table, given = tables["shift_sensitivity"], base.run_conditions(results)
    # Inches: the names of metrics stand to the right of each panel.
    names = 0.25 + 0.064 * table["metric"].str.len().max()
    title = f"What shifts do to metrics\n{given}; windows of {results.settings.window} px"
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


def records(results: Results, tables: base.Tables) -> Iterator[base.Record]:
    """r_rf of each metric at each shift."""
    flips = tables["shift_sensitivity"].query("shift > 0").set_index("shift")
    for metric, rows in flips.groupby("metric", sort=False):
        bounds = rows[["rrf", "rrf_low", "rrf_high"]]
        scores = {f"rrf_{shift}": tuple(row) for shift, row in bounds.iterrows()}
        yield base.Record(metric, rows["n"].iloc[0], scores, results.weights[metric])


STUDY = base.Study(
    "shift-sensitivity",
    *(SensitivitySettings, tables, page, figures, records),
    metrics=METRICS,
    parts=parts,
    page_name="shift_sensitivity",
)
