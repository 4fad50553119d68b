"""Examples of what one pixel does: distances that jump, and verdicts that a shift reverses.

As in the examples of Ghildyal and Liu, ECCV 2022: a mildly distorted image is compared with its
reference as it is and shifted by one pixel; and of two distorted patches a metric finds the other
one closer once both are shifted by one pixel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import Dataset

from robust_lpips import plotting
from robust_lpips.data.bapps import read_image
from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.sample import random_crop
from robust_lpips.distortions import Composition
from robust_lpips.evaluation import ShiftViews, rank_flips, summarize, view_name
from robust_lpips.evaluation.distances import TripletTable
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
from robust_lpips.studies.base.published import published
from robust_lpips.tables import MISSING, to_markdown

METRICS = ("alexnet-untrained", "alexnet-shift-tolerant", "vgg16-shift-tolerant", "l2", "ssim")
# Each is hardly visible; examples take turns.
MILD = (("gaussian_white_noise", 0.1), ("jpeg", 0.3), ("contrast", 0.15), ("color_shift", 0.2))
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


class Example(NamedTuple):
    """A reference and itself, mildly distorted: both uint8 (3, H, W)."""

    name: str
    distortion: str
    reference: Tensor
    distorted: Tensor


class ShiftedPairs(Dataset):
    """Windows of every example without a shift (subset ``shift-0``) and at one pixel."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(_VIEWS.shifts) * len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, shift = divmod(index, len(_VIEWS.shifts))
        example = self.examples[number]
        return {
            "p0": _VIEWS.reference(example.reference),
            "p1": _VIEWS.distorted(example.distorted, shift),
            "score": float(shift),
            "subset": view_name(shift),
            "sample": f"{number + 1:03d}",
        }


@functools.lru_cache(maxsize=1)
def make_examples(settings: ShiftExampleSettings) -> tuple[Example, ...]:
    """References, each with a distortion of :data:`MILD`, in turns.

    Raises:
        ValueError: if an image cannot be read or is smaller than 16 pixels.
    """
    examples = []
    for i, (name, image) in enumerate(_references(settings)):
        distort = Composition((MILD[i % len(MILD)],), seed=settings.seed)
        try:
            pair = image, distort(image)
        except ValueError as error:
            raise ValueError(f"image: {name}: {error}") from error
        examples.append(Example(name, str(distort), *map(_to_tensor, pair)))
    return tuple(examples)


def parts(settings: ShiftExampleSettings) -> dict[str, Part]:
    """The examples, and the triplets that are looked through."""
    pairs = Part(ShiftedPairs(make_examples(settings)), batch_size=1)
    return {"pairs": pairs, "triplets": Part(source_of(settings).dataset, _VIEWS)}


def example_table(
    distances: Mapping[str, pd.DataFrame], examples: Sequence[Example]
) -> pd.DataFrame:
    """Distances of the examples, with the distorted image as it is and shifted by one pixel.

    Args:
        distances: by metric, those of :class:`ShiftedPairs`.
        examples: the pairs.

    Returns:
        One row per example and metric: ``example`` (from 1), ``image, distortion, metric``; and
        ``no_shift, shift_1px``, in the metric's own unit.
    """
    rows = []
    for number, example in enumerate(examples, start=1):
        for metric, table in distances.items():
            own = table[table["sample"] == f"{number:03d}"].set_index("subset")["distance"]
            at_shifts = [own[view_name(shift)] for shift in _VIEWS.shifts]
            rows.append((number, example.name, example.distortion, metric, *at_shifts))
    columns = ["example", "image", "distortion", "metric", "no_shift", "shift_1px"]
    return pd.DataFrame(rows, columns=columns)


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
    pairs = {name: pair for name, (pair, _) in _distances(results).items()}
    verdicts = _verdicts(results)
    shown = first_flips(verdicts, next(iter(pairs)), results.settings.k)
    return {
        "examples": example_table(pairs, make_examples(results.settings)),
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
    items = (results.source.dataset[i] for i in range(settings.n))
    images = {item["sample"]: [item[part] for part in ("ref", "p0", "p1")] for item in items}
    for number, example in enumerate(make_examples(settings), start=1):
        images[number] = [example.reference, example.distorted]
    left = "images given" if settings.image else f"crops of {size} of validation photographs"
    shown, first = tables["triplets"]["sample"].nunique(), next(iter(_distances(results)))
    title = (
        f"What one pixel does\nleft: {left}; right: the first {shown} triplets of the sample set "
        f"({size}) on which {first} flips: chosen for that; distances in each metric's own unit, "
        f"seed {settings.seed}"
    )
    return {"shift_examples": example_figure(tables["examples"], tables["triplets"], images, title)}


def example_figure(
    examples: pd.DataFrame,
    triplets: pd.DataFrame,
    images: Mapping[int | str, Sequence[Tensor]],
    title: str,
) -> Figure:
    """Images with what metrics say of them before and after a shift of one pixel.

    On the left examples, a reference and itself distorted, with the distance of each metric; on the
    right triplets, with the patch that each metric finds closer. Reversed verdicts are in colour.

    Args:
        examples: rows of :func:`example_table`.
        triplets: rows of :func:`triplet_table`; may be empty.
        images: uint8 (3, H, W); by example its pair, by sample the reference, p0 and p1.
        title: its first line is the heading; further lines give the conditions.
    """
    count = max(examples["example"].nunique(), triplets["sample"].nunique())
    names, line = 0.25 + 0.068 * examples["metric"].str.len().max(), 0.2
    row = max(1.35, line * (1 + examples["metric"].nunique())) + 0.45
    left = 0.3 + 2 * plotting.THUMBNAIL + names + 1.85 + 0.5
    width = max(7.5, left + (0 if triplets.empty else 3.85 + 3 * plotting.THUMBNAIL + names + 0.25))
    with plotting.figure((width, 1.25 + row * count), title) as fig:

        def draw(x: float, table: pd.DataFrame, key: str, texts: Any, widths: Any) -> None:
            for i, (name, rows) in enumerate(table.groupby(key, sort=False)):
                pixels, (labels, cells) = (
                    [image.permute(1, 2, 0).numpy() for image in images[name]],
                    texts(rows),
                )
                top, end = 1.3 + i * row, x + 0.1 + len(pixels) * plotting.THUMBNAIL
                plotting.draw_thumbnails(fig, x, top, pixels, labels)
                plotting.draw_cells(fig, end, top, line, widths, cells)

        plotting.draw_heading(fig, 0.2, 0.95, "A mild distortion, and the same shifted by 1 px")
        draw(0.2, examples, "example", _jumps, (names, 0.65, 0.65, 0.55))
        if not triplets.empty:
            heading = "Which patch is closer, and which once both are shifted"
            plotting.draw_heading(fig, left, 0.95, heading)
            draw(left, triplets, "sample", _reversals, (names, 1.5, 1.5, 0.75))
    return fig


def records(results: Results[ShiftExampleSettings], tables: Tables) -> Iterator[Record]:
    """r_rf at 1 px of each metric on all triplets that were looked through."""
    for metric, (_, distances) in _distances(results).items():
        scores = summarize(distances, seed=results.settings.seed).iloc[-1]
        settings = {"max_shift": _VIEWS.max_shift}
        rates = with_bounds(scores, ["rrf_1"])
        yield Record(metric, scores["n"], rates, results.weights[metric], settings)


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


def _references(settings: ShiftExampleSettings) -> Iterable[tuple[str, np.ndarray]]:
    """Names and uint8 (H, W, 3) images."""
    if settings.image:
        for path in settings.image:
            yield path.name, read_image(path).permute(1, 2, 0).numpy()
        return
    photographs = list(load_photographs("val", settings.image_size).items())
    for i in range(settings.k):
        name, photograph = photographs[i % len(photographs)]
        rng = np.random.default_rng([settings.seed, i])
        yield name, random_crop(rng, photograph, settings.image_size)[0]


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.tensor(image).permute(2, 0, 1).contiguous()


def _distances(results: Results) -> dict[str, tuple[pd.DataFrame, ...]]:
    """By metric the distances of the pairs and of the triplets."""
    return results.distances_on("pairs", "triplets")


def _verdicts(results: Results) -> pd.DataFrame:
    """:func:`triplet_table` of all triplets that were looked through."""
    return triplet_table({name: table for name, (_, table) in _distances(results).items()})


def _example_cells(examples: pd.DataFrame) -> pd.DataFrame:
    """Distances of the examples and their ratios as text."""
    ratio = examples["shift_1px"] / examples["no_shift"].where(examples["no_shift"] > 0)
    numbers = pd.DataFrame(
        {"no shift": examples["no_shift"], "1 px": examples["shift_1px"], "ratio": ratio}
    )
    texts = numbers.map("{:.3g}".format).replace("nan", MISSING)
    return examples[["example", "image", "distortion", "metric"]].join(texts)


def _triplet_section(results: Results[ShiftExampleSettings], shown: pd.DataFrame) -> list[str]:
    verdicts, n = _verdicts(results), results.settings.n
    first, count = verdicts["metric"].iloc[0], shown["sample"].nunique()
    if shown.empty:
        return [f"The verdict of {first} flips on none of {n} triplets: none is shown."]
    flips = verdicts.groupby("metric", sort=False)["flips"].sum()
    counts = ", ".join(f"{name} {flipped}" for name, flipped in flips.items())
    cells = {"sample": shown["sample"], "metric": shown["metric"]}
    for end, at in (("", ""), ("_shifted", " at 1 px")):
        pairs = shown[[f"d0{end}", f"d1{end}"]].to_numpy()
        cells[f"d0, d1{at}"] = [f"{d0:.3g}, {d1:.3g}" for d0, d1 in pairs]
        cells[f"closer{at}"] = shown[f"closer{end}"]
    verdict = np.where(shown["flips"], "**flips**", "stays")
    return [
        f"The first {count} of {n} triplets on which the verdict of {first} flips at 1 px. They "
        "are chosen because that metric flips there: they show flips and do not measure how often "
        f"one metric flips compared with another. Of all {n} triplets flip: {counts}. closer: "
        "which of p0 and p1 the metric finds closer to the reference.",
        to_markdown(pd.DataFrame(cells | {"verdict": verdict})),
    ]


def _jumps(rows: pd.DataFrame) -> tuple[Sequence[str], plotting.Cells]:
    """Labels of one example's images, and its distances, one line per metric."""
    lines: plotting.Cells = [(("distance", "no shift", "1 px", "ratio"), plotting.GREY, False)]
    for row in _example_cells(rows).to_dict("records"):
        cells = [row[name] for name in ("metric", "no shift", "1 px", "ratio")]
        lines.append((cells, plotting.INK, False))
    return ("reference", rows["distortion"].iloc[0].replace("_", " ")), lines


def _reversals(rows: pd.DataFrame) -> tuple[Sequence[str], plotting.Cells]:
    """Labels of one triplet's images, and verdicts on it, reversed ones in colour."""
    lines: plotting.Cells = [
        (("d(p0) : d(p1)", "no shift", "1 px", "closer"), plotting.GREY, False)
    ]
    for row in rows.to_dict("records"):
        cells = [
            row["metric"],
            *(f"{row['d0' + e]:.3g} : {row['d1' + e]:.3g}" for e in ("", "_shifted")),
        ]
        verdict = f"{row['closer']} → {row['closer_shifted']}" if row["flips"] else row["closer"]
        color = plotting.VERMILION if row["flips"] else plotting.INK
        lines.append(((*cells, verdict), color, row["flips"]))
    return ("reference", "p0", "p1"), lines
