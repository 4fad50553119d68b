"""CLIC: do metrics choose between two reconstructions as people did, and does a shift matter?

Accuracy is the share of people's choices, in the Challenge on Learned Image Compression, that a
metric makes too; flips are the triplets that it ranks differently once the reconstructions are
shifted by n pixels (Ghildyal and Liu, ECCV 2022). With nothing downloaded, the sample set stands
in for CLIC.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data.clic import CLICDataset
from robust_lpips.evaluation import compare_pairs, flip_details, summarize
from robust_lpips.published import published, published_scores
from robust_lpips.studies import base
from robust_lpips.studies.base.settings import check_max_shift
from robust_lpips.tables import to_markdown

SAMPLE_N, SAMPLE_SIZE = 100, 64
_DIFFERENCES = "a b quantity value_a value_b difference low high holds only_a only_b p_value"
_JUDGED_BY = "People judged these images: accuracy is the share of their choices that are met."


@dataclass(frozen=True)
class CLICSettings(base.Settings):
    """Settings of the study on CLIC.

    Raises:
        ValueError: if a value is out of range, ``max_shift`` also for patches of the sample set.
    """

    data_root: Path | None = base.option(None, "folder of CLIC's images and its CSV")
    n: int | None = base.option(
        None,
        f"triplets, evenly spaced ones of CLIC (default: all of CLIC, or {SAMPLE_N} of the sample)",
        least=1,
        most=10**6,  # samples are numbered with six digits
    )
    max_shift: int = base.option(3, "largest shift in pixels; it decides the crop", least=1)
    seed: int = base.option(0, "seed of random weights and of the intervals", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_root is None:
            check_max_shift(self.max_shift, SAMPLE_SIZE)

    def source(self) -> base.Source:
        """The triplets of CLIC, or of the sample set, which is built where it is missing."""
        if self.data_root is None:
            return base.triplets(None, "val", self.n or SAMPLE_N, SAMPLE_SIZE)
        dataset = CLICDataset(self.data_root)
        if self.n is not None and self.n > len(dataset):
            raise ValueError(f"n must be at most {len(dataset)}, all of CLIC; got {self.n}")
        words = "CLIC", _JUDGED_BY, "accuracy", "original", "images as on disk"
        # One at a time, because the sizes of images may differ.
        return base.Source(*words, base.evenly_spaced(dataset, self.n), batch_size=1)


def tables(results: base.Results[CLICSettings]) -> dict[str, pd.DataFrame]:
    """``clic``: scores of each metric; ``clic_differences``: each metric against the first.

    Columns of ``clic``: ``metric, dataset, n, max_shift, seed``; ``accuracy`` and, for every shift
    n, ``rrf_n``, the share of triplets that flip, in percent, each with ``_low`` and ``_high``, the
    bounds of its 95 % interval; ``flips_n``, the number of these triplets; and ``judged_by``.

    Columns of ``clic_differences``: those of :func:`~robust_lpips.evaluation.compare_pairs`, where
    ``a`` is the first metric; no rows where there is a single metric.
    """
    settings, source, rows = results.settings, results.source, []
    for metric, distances in results.distances().items():
        mean = summarize(distances, seed=settings.seed).iloc[-1].drop("subset")
        flips = flip_details(distances).query("subset == 'mean'").set_index("shift")["flips"]
        row = {"metric": metric, "dataset": source.name, "n": mean.pop("n")}
        row |= {"max_shift": settings.max_shift, "seed": settings.seed}
        row |= {name.replace("two_afc", "accuracy"): value for name, value in mean.items()}
        row |= {f"flips_{n}": int(flips[n]) for n in range(1, settings.max_shift + 1)}
        rows.append(row | {"judged_by": source.judged_by})
    first, *others = results.distances()
    differences = pd.DataFrame(columns=_DIFFERENCES.split())
    if pairs := [(first, other) for other in others]:
        differences = compare_pairs(results.distances(), pairs, seed=settings.seed)
    return {"clic": pd.DataFrame(rows), "clic_differences": differences}


def page(results: base.Results[CLICSettings], tables: base.Tables) -> list[str]:
    """Scores, differences from the first metric, and what is published."""
    source, table, differences = results.source, tables["clic"], tables["clic_differences"]
    measured = pd.DataFrame({"metric": table["metric"]})
    measured[source.accuracy_label] = base.interval_cells(table, "accuracy")
    for n in range(1, results.settings.max_shift + 1):
        shares = pd.Series(base.interval_cells(table, f"rrf_{n}"))
        measured[f"flips, {n} px"] = table[f"flips_{n}"].astype(str) + " (" + shares + ")"
    best, compared = table["accuracy"].max(), not differences.empty
    names = {"accuracy": "accuracy (%)"} | {f"flips_{n}": f"flips, {n} px" for n in (1, 2, 3)}
    reported = published("comparison_clic").rename(columns=names)
    return base.filled(
        "clic",
        source=source,
        conditions=base.run_conditions(results),
        measured=to_markdown(measured),
        best=best if results.settings.data_root is not None and best < 50 else None,
        first=differences["a"].iloc[0] if compared else None,
        differences=_difference_table(differences, source.accuracy) if compared else None,
        published=to_markdown(reported, {names["accuracy"]: ".2f"}),
    )


def figures(results: base.Results[CLICSettings], tables: base.Tables) -> dict[str, Figure]:
    """``clic``: accuracy of each metric, and its rank-flip rate against the shift.

    Hollow markers show published accuracies, next to those measured on CLIC alone.
    """
    source, table = results.source, tables["clic"]
    columns = {"accuracy": "value", "accuracy_low": "low", "accuracy_high": "high"}
    scores = table[["metric", *columns]].rename(columns=columns).assign(published=np.nan)
    if results.settings.data_root is not None:
        scores["published"] = published_scores("comparison_clic", scores["metric"], "accuracy")
    ends = ("", "_low", "_high")
    flips = pd.concat(
        table[["metric"]].assign(shift=n, **{f"rrf{end}": table[f"rrf_{n}{end}"] for end in ends})
        for n in range(1, results.settings.max_shift + 1)
    )
    heading = f"Choices and flips: {source.name}"
    title = base.figure_title(heading, base.run_conditions(results), source.judged_by)
    names, top = plotting.names_width(scores), plotting.title_height(title) + 0.3
    height = max(3.2, plotting.rows_height(scores))
    with plotting.figure((8.4 + 2 * names, top + height + 1.0), title) as fig:
        margins = {"left": names, "right": names + 0.15, "top": top}
        left, right = plotting.panels(fig, 2, **margins, height=height, gap=0.9)
        plotting.draw_scores(left, scores, source.accuracy_label)
        left.set_title("Accuracy")
        plotting.draw_curves(right, flips, "rrf")
        right.set_title("Rank flips (bands: 95 % intervals)")
        right.set_ylabel(plotting.RRF)
        plotting.draw_score_key(fig, scores)
    return {"clic": fig}


def records(results: base.Results[CLICSettings], tables: base.Tables) -> list[base.Record]:
    """Accuracy and rank-flip rates of each metric."""
    names = ["accuracy", *base.rank_flip_columns(tables["clic"])]
    return results.records(tables["clic"], names, image_size=results.source.size)


STUDY = base.Study(
    "clic",
    *(CLICSettings, tables, page, figures, records),
    metrics=base.QUICK_METRICS,
    folder=lambda settings: "clic-sample" if settings.data_root is None else "clic-clic",
)


def _difference_table(differences: pd.DataFrame, accuracy: str) -> str:
    quantities = differences["quantity"].map(base.quantity_label)
    cells = {
        "metric": differences["b"],
        "quantity": quantities.replace("accuracy", accuracy),
        "difference": differences.apply(base.difference_cell, axis=1),
        "excludes 0": differences["holds"].map({True: "yes", False: "no"}),
        "flips of the first alone": differences["only_a"].astype("Int64"),
        "of the other alone": differences["only_b"].astype("Int64"),
        "p": differences["p_value"],
    }
    return to_markdown(pd.DataFrame(cells), {"p": ".2g"})
