"""Examples of what one pixel does: distances that jump, and verdicts that a shift reverses.

As in the examples of Ghildyal and Liu, ECCV 2022: a mildly distorted image is compared with its
reference as it is and shifted by one pixel; and of two distorted patches a metric finds the other
one closer once both are shifted by one pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data.mild import mildly_distorted
from robust_lpips.evaluation import ShiftViews, rank_flips, summarize
from robust_lpips.evaluation.distances import TripletTable
from robust_lpips.published import published
from robust_lpips.studies.base import (
    Part,
    Record,
    Results,
    Settings,
    Source,
    Study,
    Tables,
    option,
    source_of,
    triplets,
    with_bounds,
)
from robust_lpips.tables import MISSING, to_markdown

METRICS = ("alexnet-untrained", "alexnet-shift-tolerant", "vgg16-shift-tolerant", "l2", "ssim")
_VIEWS = ShiftViews(max_shift=1)


@dataclass(frozen=True)
class ShiftExampleSettings(Settings):
    """Settings of the examples."""

    image: tuple[Path, ...] = option(
        (), "images of your own as references, whole, in place of crops of photographs"
    )
    k: int = option(4, "examples of photographs, and triplets shown at most", least=1)
    # Some two minutes of two CPU cores for the default metrics.
    n: int = option(100, "triplets of the sample set to look through for flips", least=1)
    image_size: int = option(64, "side of crops and patches in pixels", least=1)
    seed: int = option(0, "seed of crops, distortions and random weights", least=0)

    def source(self) -> Source:
        """The triplets of the sample set."""
        return triplets(None, "val", self.n, self.image_size)


@functools.lru_cache(maxsize=1)
def make_examples(settings: ShiftExampleSettings) -> tuple[dict[str, Any], ...]:
    """Items of :func:`~robust_lpips.data.mild.mildly_distorted`, made once."""
    return tuple(mildly_distorted(settings.image, settings.k, settings.image_size, settings.seed))


def parts(settings: ShiftExampleSettings) -> dict[str, Part]:
    """The examples, which may differ in size, and the triplets that are looked through."""
    examples = Part(make_examples(settings), _VIEWS, batch_size=1)
    return {"examples": examples, "triplets": Part(source_of(settings).dataset, _VIEWS)}


def example_table(
    distances: Mapping[str, pd.DataFrame], examples: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Distances of the examples, with the distorted image as it is and shifted by one pixel.

    Args:
        distances: by metric, of the examples at shifts 0 and 1.
        examples: items of :func:`make_examples`.

    Returns:
        One row per example and metric: ``example`` (from 1), ``image, distortion, metric``; and
        ``no_shift, shift_1px``, in the metric's own unit.
    """
    about = pd.DataFrame(examples)[["sample", "image", "distortion"]]
    table = triplet_table(distances).merge(about, on="sample", how="left")
    # p0 and p1 are the same, so d0 is d1.
    table = table.rename(columns={"d0": "no_shift", "d0_shifted": "shift_1px"})
    columns = ["example", "image", "distortion", "metric", "no_shift", "shift_1px"]
    return table.assign(example=table["sample"].astype(int))[columns]


def triplet_table(distances: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdicts of metrics before and after a shift of one pixel.

    Args:
        distances: by metric, of the same triplets, with shifts 0 and 1.

    Returns:
        One row per triplet and metric: ``sample, metric``; ``d0, d1``, the distances of p0 and p1;
        ``closer``, the closer one; ``d0_shifted, d1_shifted, closer_shifted``, the same with both
        shifted by one pixel, in the same window; ``flips``. p1 is closer where they are equal.
    """
    parts = []
    for metric, table in distances.items():
        arranged = TripletTable.from_tidy(table)
        columns = {"sample": arranged.triplets["sample"], "metric": metric}
        for end, (d0, d1) in zip(("", "_shifted"), arranged.shifted.values(), strict=True):
            columns |= {f"d0{end}": d0, f"d1{end}": d1}
            columns[f"closer{end}"] = np.where(d0 < d1, "p0", "p1")
        flips = rank_flips(*(arranged.shifted[s][i] for s in _VIEWS.shifts for i in (0, 1)))
        parts.append(pd.DataFrame(columns | {"flips": flips}))
    # Row i of each metric is the same triplet.
    return pd.concat(parts).sort_index(kind="stable", ignore_index=True)


def first_flips(verdicts: pd.DataFrame, metric: str, k: int) -> list[str]:
    """The first ``k`` samples on which the metric's verdict flips, fewer where there are fewer."""
    flips = verdicts[(verdicts["metric"] == metric) & verdicts["flips"]]
    return flips["sample"].head(k).tolist()


def tables(results: Results[ShiftExampleSettings]) -> dict[str, pd.DataFrame]:
    """``examples``: :func:`example_table`; ``triplets``: :func:`triplet_table` of those shown.

    Shown are the first triplets on which the verdict of the first metric flips.
    """
    verdicts = triplet_table(_distances(results, 1))
    shown = first_flips(verdicts, verdicts["metric"].iloc[0], results.settings.k)
    return {
        "examples": example_table(_distances(results, 0), make_examples(results.settings)),
        "triplets": verdicts[verdicts["sample"].isin(shown)],
    }


def page(results: Results[ShiftExampleSettings], tables: Tables) -> list[str]:
    """Examples, triplets, and what is published."""
    settings, source = results.settings, results.source
    whose = f"photographs, crops of {source.size}"
    return [
        "# What one pixel does",
        f"References: {'the images given, whole' if settings.image else whose}; triplets: "
        f"{source.name}, {source.size}. The distorted image is compared in a window one pixel "
        "narrower than the image, at the reference's place (no shift) and one pixel to its right; "
        f"nothing is padded. Distances are in each metric's own unit. Seed {settings.seed}.",
        "## A mild distortion, and the same shifted by one pixel: measured",
        "ratio: the distance with the shift divided by that without.",
        to_markdown(_example_cells(tables["examples"])),
        "## Verdicts that one pixel reverses: measured",
        *_triplet_section(results, tables["triplets"]),
        "## Published",
        "The examples of Ghildyal and Liu, ECCV 2022, on their images; not measured here.",
        to_markdown(published("shift_examples"), {"no_shift": ".3f", "shift_1px": ".3f"}),
    ]


def figures(results: Results[ShiftExampleSettings], tables: Tables) -> Mapping[str, Figure]:
    """``shift_examples``: images with what metrics say of them before and after the shift."""
    settings, size = results.settings, results.source.size
    triplets = (results.source.dataset[i] for i in range(settings.n))
    items = {item["sample"]: item for item in triplets}
    items |= {int(item["sample"]): item for item in make_examples(settings)}
    left = "images given" if settings.image else f"crops of {size} of validation photographs"
    shown, first = tables["triplets"]["sample"].nunique(), tables["examples"]["metric"].iloc[0]
    title = (
        f"What one pixel does\nleft: {left}; right: the first {shown} triplets of the sample set "
        f"({size}) on which {first} flips: chosen for that; distances in each metric's own unit, "
        f"seed {settings.seed}"
    )
    return {"shift_examples": example_figure(tables["examples"], tables["triplets"], items, title)}


def example_figure(
    examples: pd.DataFrame,
    triplets: pd.DataFrame,
    items: Mapping[int | str, Mapping[str, Any]],
    title: str,
) -> Figure:
    """Images with what metrics say of them before and after a shift of one pixel.

    On the left examples, a reference and itself distorted, with the distance of each metric; on the
    right triplets, with the patch that each metric finds closer. Reversed verdicts are in colour.

    Args:
        examples: rows of :func:`example_table`.
        triplets: rows of :func:`triplet_table`; may be empty.
        items: examples by number and triplets by sample, with uint8 (3, H, W) images.
        title: its first line is the heading; further lines give the conditions.
    """
    names, side = 0.25 + 0.068 * examples["metric"].str.len().max(), plotting.THUMBNAIL
    row = max(1.35, 0.2 * (1 + examples["metric"].nunique())) + 0.45
    right = 2.65 + 2 * side + names
    width = right if triplets.empty else right + 4.1 + 3 * side + names
    count = max(examples["example"].nunique(), triplets["sample"].nunique())
    with plotting.figure((max(7.5, width), 1.25 + row * count), title) as fig:
        plotting.draw_heading(fig, 0.2, 0.95, "A mild distortion, and the same shifted by 1 px")
        for i, (example, rows) in enumerate(examples.groupby("example", sort=False)):
            labels = ("reference", rows["distortion"].iloc[0].replace("_", " "))
            plotting.draw_thumbnails(fig, 0.2, 1.3 + i * row, _pixels(items[example])[:2], labels)
            place, widths = (0.3 + 2 * side, 1.3 + i * row, 0.2), (names, 0.65, 0.65, 0.55)
            plotting.draw_cells(fig, *place, widths, _jumps(rows))
        if not triplets.empty:
            plotting.draw_heading(fig, right, 0.95, "Which patch is closer, and after the shift")
        for i, (sample, rows) in enumerate(triplets.groupby("sample", sort=False)):
            labels = ("reference", "p0", "p1")
            plotting.draw_thumbnails(fig, right, 1.3 + i * row, _pixels(items[sample]), labels)
            place, widths = (right + 0.1 + 3 * side, 1.3 + i * row, 0.2), (names, 1.5, 1.5, 0.75)
            plotting.draw_cells(fig, *place, widths, _reversals(rows))
    return fig


def records(results: Results[ShiftExampleSettings], tables: Tables) -> Iterator[Record]:
    """r_rf at 1 px of each metric on all triplets that were looked through."""
    given = {"max_shift": _VIEWS.max_shift}
    for metric, distances in _distances(results, 1).items():
        row = summarize(distances, seed=results.settings.seed).iloc[-1]
        yield Record(metric, row["n"], with_bounds(row, ["rrf_1"]), results.weights[metric], given)


STUDY = Study(
    name="shift-examples",
    settings=ShiftExampleSettings,
    metrics=METRICS,
    parts=parts,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    page_name="shift_examples",
    photographs=("shift_examples",),
)


def _distances(results: Results, part: int) -> dict[str, pd.DataFrame]:
    """Distances of the examples (0) or of the triplets (1), by metric."""
    found = results.distances_on("examples", "triplets")
    return {metric: tables[part] for metric, tables in found.items()}


def _example_cells(examples: pd.DataFrame) -> pd.DataFrame:
    """Distances of the examples and their ratios as text."""
    before, after = examples["no_shift"], examples["shift_1px"]
    ratio = after / before.where(before > 0)
    numbers = pd.DataFrame({"no shift": before, "1 px": after, "ratio": ratio})
    texts = numbers.map("{:.3g}".format).replace("nan", MISSING)
    return examples.drop(columns=["no_shift", "shift_1px"]).join(texts)


def _triplet_section(results: Results[ShiftExampleSettings], shown: pd.DataFrame) -> list[str]:
    verdicts, n = triplet_table(_distances(results, 1)), results.settings.n
    first, count = verdicts["metric"].iloc[0], shown["sample"].nunique()
    if shown.empty:
        return [f"The verdict of {first} flips on none of {n} triplets: none is shown."]
    flips = verdicts.groupby("metric", sort=False)["flips"].sum()
    counts = ", ".join(f"{name} {flipped}" for name, flipped in flips.items())
    cells = shown[["sample", "metric"]].copy()
    for end, at in (("", ""), ("_shifted", " at 1 px")):
        cells[f"d0, d1{at}"] = _pair_cells(shown, end, ", ")
        cells[f"closer{at}"] = shown[f"closer{end}"]
    cells["verdict"] = shown["flips"].map({True: "**flips**", False: "stays"})
    return [
        f"The first {count} of {n} triplets on which the verdict of {first} flips at 1 px. They "
        "are chosen because that metric flips there: they show flips and do not measure how often "
        f"one metric flips compared with another. Of all {n} triplets flip: {counts}. closer: "
        "which of p0 and p1 the metric finds closer to the reference.",
        to_markdown(cells),
    ]


def _pair_cells(rows: pd.DataFrame, end: str, between: str) -> list[str]:
    """Both distances as one cell per row; ``end`` is that of their columns."""
    pairs = rows[[f"d0{end}", f"d1{end}"]].to_numpy()
    return [f"{d0:.3g}{between}{d1:.3g}" for d0, d1 in pairs]


def _pixels(item: Mapping[str, Any]) -> list[np.ndarray]:
    """Reference, p0 and p1, (H, W, 3)."""
    return [item[name].permute(1, 2, 0).numpy() for name in ("ref", "p0", "p1")]


def _jumps(rows: pd.DataFrame) -> plotting.Cells:
    """Distances of one example, one line per metric."""
    columns = ["metric", "no shift", "1 px", "ratio"]
    cells = _example_cells(rows)[columns].to_numpy().tolist()
    heading = (("distance", *columns[1:]), plotting.GREY, False)
    return [heading, *((line, plotting.INK, False) for line in cells)]


def _reversals(rows: pd.DataFrame) -> plotting.Cells:
    """Verdicts of metrics on one triplet, one line each, reversed ones in colour."""
    lines = [(("d(p0) : d(p1)", "no shift", "1 px", "closer"), plotting.GREY, False)]
    pairs = [_pair_cells(rows, end, " : ") for end in ("", "_shifted")]
    for row, before, after in zip(rows.itertuples(), *pairs, strict=True):
        verdict = f"{row.closer} → {row.closer_shifted}" if row.flips else row.closer
        color = plotting.VERMILION if row.flips else plotting.INK
        lines.append(((row.metric, before, after, verdict), color, row.flips))
    return lines
