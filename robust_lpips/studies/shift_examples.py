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

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data.mild import mildly_distorted
from robust_lpips.evaluation import ShiftViews, summarize
from robust_lpips.evaluation.sensitivity import first_flips, verdict_table
from robust_lpips.published import published
from robust_lpips.studies import base
from robust_lpips.tables import MISSING, to_markdown

METRICS = ("alexnet-untrained", "alexnet-shift-tolerant", "vgg16-shift-tolerant", "l2", "ssim")
_VIEWS = ShiftViews(max_shift=1)


@dataclass(frozen=True)
class ShiftExampleSettings(base.Settings):
    """Settings of the examples."""

    image: tuple[Path, ...] = base.option(
        (), "images of your own as references, whole, in place of crops of photographs"
    )
    k: int = base.option(4, "examples of photographs, and triplets shown at most", least=1)
    # Some two minutes of two CPU cores for the default metrics.
    n: int = base.option(100, "triplets of the sample set to look through for flips", least=1)
    image_size: int = base.option(64, "side of crops and patches in pixels", least=1)
    seed: int = base.option(0, "seed of crops, distortions and random weights", least=0)

    def source(self) -> base.Source:
        """The triplets of the sample set."""
        return base.triplets(None, "val", self.n, self.image_size)


Results = base.Results[ShiftExampleSettings]


@functools.lru_cache(maxsize=1)
def make_examples(settings: ShiftExampleSettings) -> tuple[dict[str, Any], ...]:
    """Items of :func:`~robust_lpips.data.mild.mildly_distorted`, made once."""
    return tuple(mildly_distorted(settings.image, settings.k, settings.image_size, settings.seed))


def parts(settings: ShiftExampleSettings) -> dict[str, base.Part]:
    """The examples, which may differ in size, and the triplets that are looked through."""
    examples = base.Part(make_examples(settings), _VIEWS, batch_size=1)
    return {"examples": examples, "triplets": base.Part(base.source_of(settings).dataset, _VIEWS)}


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
    table = verdict_table(distances).merge(about, on="sample", how="left")
    # p0 and p1 are the same, so d0 is d1.
    table = table.rename(columns={"d0": "no_shift", "d0_shifted": "shift_1px"})
    columns = ["example", "image", "distortion", "metric", "no_shift", "shift_1px"]
    return table.assign(example=table["sample"].astype(int))[columns]


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """``examples``: :func:`example_table`; ``triplets``: :func:`verdict_table` of those shown.

    Shown are the first triplets on which the verdict of the first metric flips.
    """
    verdicts = verdict_table(_distances(results, "triplets"))
    shown = first_flips(verdicts, verdicts["metric"].iloc[0], results.settings.k)
    examples = _distances(results, "examples")
    return {
        "examples": example_table(examples, make_examples(results.settings)),
        "triplets": verdicts[verdicts["sample"].isin(shown)],
    }


def page(results: Results, tables: base.Tables) -> list[str]:
    """Examples, triplets, and what is published."""
    settings, source, shown = results.settings, results.source, tables["triplets"]
    verdicts = verdict_table(_distances(results, "triplets"))
    flips = verdicts.groupby("metric", sort=False)["flips"].sum()
    first, none = flips.index[0], shown.empty
    numbers, whole = {"no_shift": ".3f", "shift_1px": ".3f"}, "the images given, whole"
    return base.filled(
        "shift_examples",
        settings=settings,
        source=source,
        references=whole if settings.image else f"photographs, crops of {source.size}",
        examples=to_markdown(_example_cells(tables["examples"])),
        first=first,
        never=first if none else None,
        count=shown["sample"].nunique(),
        flips=None if none else ", ".join(f"{name} {count}" for name, count in flips.items()),
        triplets=None if none else to_markdown(_verdict_cells(shown)),
        published=to_markdown(published("shift_examples"), numbers),
    )


def figures(results: Results, tables: base.Tables) -> Mapping[str, Figure]:
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
        triplets: rows of :func:`verdict_table`; may be empty.
        items: examples by number and triplets by sample, with uint8 (3, H, W) images.
        title: its first line is the heading; further lines give the conditions.
    """
    names, side = 0.25 + 0.068 * examples["metric"].str.len().max(), plotting.THUMBNAIL
    row = max(1.35, 0.2 * (1 + examples["metric"].nunique())) + 0.45
    right = 2.65 + 2 * side + names
    width = right if triplets.empty else right + 4.1 + 3 * side + names
    count = max(examples["example"].nunique(), triplets["sample"].nunique())
    # Left edge in inches, heading, table, images per item, widths of the cells, and the cells.
    change = "A mild distortion, and the same shifted by 1 px"
    verdict = "Which patch is closer, and after the shift"
    sides = [
        (0.2, change, examples, ("ref", "p0"), (names, 0.65, 0.65, 0.55), _jumps),
        (right, verdict, triplets, ("ref", "p0", "p1"), (names, 1.5, 1.5, 0.75), _reversals),
    ]
    with plotting.figure((max(7.5, width), 1.25 + row * count), title) as fig:
        for left, heading, table, images, widths, cells in sides:
            if not table.empty:
                plotting.draw_heading(fig, left, 0.95, heading)
            # The first column numbers examples and names triplets.
            for i, (item, rows) in enumerate(table.groupby(table.columns[0], sort=False)):
                top, name = 1.3 + i * row, {"ref": "reference"}
                if "distortion" in rows:
                    name["p0"] = rows["distortion"].iloc[0].replace("_", " ")
                labels = [name.get(image, image) for image in images]
                pixels = [items[item][image].permute(1, 2, 0).numpy() for image in images]
                plotting.draw_thumbnails(fig, left, top, pixels, labels)
                place = (left + 0.1 + len(images) * side, top, 0.2)
                plotting.draw_cells(fig, *place, widths, cells(rows))
    return fig


def records(results: Results, tables: base.Tables) -> Iterator[base.Record]:
    """r_rf at 1 px of each metric on all triplets that were looked through."""
    for metric, distances in _distances(results, "triplets").items():
        row = summarize(distances, seed=results.settings.seed).iloc[-1]
        scores, given = base.with_bounds(row, ["rrf_1"]), {"max_shift": _VIEWS.max_shift}
        yield base.Record(metric, row["n"], scores, results.weights[metric], given)


STUDY = base.Study(
    "shift-examples",
    *(ShiftExampleSettings, tables, page, figures, records),
    metrics=METRICS,
    parts=parts,
    page_name="shift_examples",
    photographs=("shift_examples",),
)


def _distances(results: Results, part: str) -> dict[str, pd.DataFrame]:
    """Distances of one part by metric, of the metrics that were measured on both."""
    both = results.distances_on("examples", "triplets")
    return {name: table for name, table in results.distances(part).items() if name in both}


def _example_cells(examples: pd.DataFrame) -> pd.DataFrame:
    """Distances of the examples and their ratios as text."""
    before, after = examples["no_shift"], examples["shift_1px"]
    ratio = after / before.where(before > 0)
    numbers = pd.DataFrame({"no shift": before, "1 px": after, "ratio": ratio})
    texts = numbers.map("{:.3g}".format).replace("nan", MISSING)
    return examples.drop(columns=["no_shift", "shift_1px"]).join(texts)


def _verdict_cells(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Verdicts as text: both distances in one cell, and which of p0 and p1 is closer."""
    cells = verdicts[["sample", "metric"]].copy()
    for end, at in (("", ""), ("_shifted", " at 1 px")):
        pairs = verdicts[[f"d0{end}", f"d1{end}"]].to_numpy()
        cells[f"d0 : d1{at}"] = [f"{d0:.3g} : {d1:.3g}" for d0, d1 in pairs]
        cells[f"closer{at}"] = verdicts[f"closer{end}"]
    return cells.assign(verdict=verdicts["flips"].map({True: "**flips**", False: "stays"}))


def _jumps(rows: pd.DataFrame) -> plotting.Cells:
    """Distances of one example, one line per metric."""
    columns = ["metric", "no shift", "1 px", "ratio"]
    cells = _example_cells(rows)[columns].to_numpy().tolist()
    heading = (("distance", *columns[1:]), plotting.GREY, False)
    return [heading, *((line, plotting.INK, False) for line in cells)]


def _reversals(rows: pd.DataFrame) -> plotting.Cells:
    """Verdicts of metrics on one triplet, one line each, reversed ones in colour."""
    lines = [(("d(p0) : d(p1)", "no shift", "1 px", "closer"), plotting.GREY, False)]
    for cells, flips in zip(_verdict_cells(rows).to_numpy(), rows["flips"], strict=True):
        _, metric, before, closer, after, then, _ = cells
        verdict = f"{closer} → {then}" if flips else closer
        color = plotting.VERMILION if flips else plotting.INK
        lines.append(((metric, before, after, verdict), color, flips))
    return lines
