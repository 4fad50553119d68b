"""CLIC: do metrics choose between two reconstructions as people did, and does a shift matter?

On the choices of the Challenge on Learned Image Compression, accuracy is the share of them that a
metric makes too, and flips are the triplets that it ranks otherwise once the reconstructions are
shifted by n pixels (Ghildyal and Liu, ECCV 2022). With nothing downloaded the sample set stands in
for CLIC.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.data.clic import CLICDataset
from robust_lpips.evaluation import compare_pairs, flip_details, summarize
from robust_lpips.plots import plot_scores_and_flips
from robust_lpips.studies import records
from robust_lpips.studies.folder import claim
from robust_lpips.studies.jnd import DEFAULT_METRICS
from robust_lpips.studies.measured import Measured, measure_all
from robust_lpips.studies.published import published, published_of
from robust_lpips.studies.report import ACCURACY_LABELS
from robust_lpips.studies.report import JUDGE_NOTES as _JUDGE_NOTES
from robust_lpips.studies.triplets import evenly_spaced, triplets
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

DATASET_NAMES = {"clic": "CLIC", "sample": "sample set val"}
JUDGE_NOTES = {
    "clic": "People judged these images: accuracy is the share of their choices that are met.",
    "sample": _JUDGE_NOTES["sample"],
}
LABELS = {"clic": "accuracy", "sample": ACCURACY_LABELS["sample"]}
_CLUSTERS = {"clic": "original", "sample": "photograph"}

# Triplets of the sample set, and the side of its patches in pixels.
DEFAULT_N = 100
SAMPLE_SIZE = 64


@dataclass(frozen=True)
class Settings:
    """What is measured on, whatever the metric.

    Attributes:
        data_root: folder of CLIC's images and choices, see
            :class:`~robust_lpips.data.clic.CLICDataset`; None: the sample set.
        n: triplets; of CLIC evenly spaced ones. None: all of CLIC, and 100 of the sample set.
        max_shift: the largest shift S in pixels; it decides the crop.
        seed: of random weights and of the intervals.

    Raises:
        ValueError: ``max_shift`` below 1.
    """

    data_root: str | None = None
    n: int | None = None
    max_shift: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_shift < 1:
            raise ValueError(f"max_shift must be at least 1; got {self.max_shift}")

    @property
    def data(self) -> str:
        """Which triplets: ``"clic"`` or ``"sample"``."""
        return "sample" if self.data_root is None else "clic"

    @property
    def size(self) -> str:
        """Of the images, in words."""
        return "as on disk" if self.data == "clic" else f"{SAMPLE_SIZE}x{SAMPLE_SIZE} px"

    def dataset(self) -> Dataset:
        """The triplets; the sample set is built where it is not there yet."""
        if self.data == "clic":
            return evenly_spaced(CLICDataset(self.data_root), self.n)
        return triplets(None, "val", DEFAULT_N if self.n is None else self.n, SAMPLE_SIZE)


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure what is not yet measured, and write tables, page, plot and records.

    Into ``output`` go the files of :func:`~robust_lpips.studies.measured.measure_all`,
    ``settings.json``, ``clic`` as ``.csv`` (:func:`scores`), ``.md`` (:func:`report`) and
    ``.png``, ``clic_differences.csv`` (:func:`differences`) and a line a metric in
    ``records.jsonl``.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run under the same settings.
        metrics: as :func:`~robust_lpips.studies.measured.measure_all` takes them; the others are
            compared with the first of those that can be measured.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Returns:
        The page.

    Raises:
        ValueError: unknown or repeated metrics, none that can be measured, or ``output`` is of
            other settings.
        FileNotFoundError: the data are not there.
    """
    output = Path(output)
    dataset = settings.dataset()
    claim(output, asdict(settings))
    measured = measure_all(
        metrics,
        dataset,
        output,
        device=device,
        seed=settings.seed,
        max_shift=settings.max_shift,
        # Images of CLIC may be of several sizes.
        batch_size=1 if settings.data == "clic" else 50,
    )
    table = scores(measured, settings)
    paired = differences(measured, settings)
    page = report(measured, table, paired, settings, command)
    write_csv(table, output / "clic.csv")
    write_csv(paired, output / "clic_differences.csv")
    write_text(output / "clic.md", page)
    plot_scores_and_flips(
        _points(table, settings),
        _curves(table, settings),
        output / "clic.png",
        "\n".join(
            [
                f"Choices and flips: {DATASET_NAMES[settings.data]}",
                _subtitle(table, settings),
                *textwrap.wrap(JUDGE_NOTES[settings.data], 105),
            ]
        ),
        f"{LABELS[settings.data]} (%)",
    )
    for row in table.to_dict("records"):
        names = ["accuracy", *(f"rrf_{n}" for n in _shifts(settings))]
        records.append(
            output,
            benchmark="clic",
            metric=row["metric"],
            dataset=row["dataset"],
            judged_by=JUDGE_NOTES[settings.data],
            n=row["n"],
            scores={name: (row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in names},
            weights=measured.weights[row["metric"]],
            command=command,
            image_size=settings.size,
            max_shift=settings.max_shift,
            seed=settings.seed,
        )
    return page


def scores(measured: Measured, settings: Settings) -> pd.DataFrame:
    """Accuracy of each metric and its flips at every shift.

    Returns:
        A row a metric: ``metric, dataset, n, max_shift, seed``; ``accuracy`` with ``_low`` and
        ``_high`` (95 %), in percent; for every shift n ``flips_n``, their number, and ``rrf_n``,
        their share in percent, with ``_low`` and ``_high``; and ``judged_by``.
    """
    rows = []
    for metric, distances in measured.tables.items():
        mean = summarize(distances, seed=settings.seed).iloc[-1].drop("subset").to_dict()
        details = flip_details(distances)
        flips = details[details["subset"] == "mean"].set_index("shift")["flips"]
        row = {
            "metric": metric,
            "dataset": DATASET_NAMES[settings.data],
            "n": mean.pop("n"),
            "max_shift": settings.max_shift,
            "seed": settings.seed,
        }
        row |= {name.replace("two_afc", "accuracy"): value for name, value in mean.items()}
        row |= {f"flips_{n}": int(flips[n]) for n in _shifts(settings)}
        rows.append(row | {"judged_by": JUDGE_NOTES[settings.data]})
    return pd.DataFrame(rows)


def differences(measured: Measured, settings: Settings) -> pd.DataFrame:
    """Every metric against the first, see :func:`~robust_lpips.evaluation.compare_pairs`.

    Returns:
        Its table, ``a`` being the first metric; no rows where there is a single one.
    """
    first, *others = measured.tables
    if not others:
        return pd.DataFrame(columns=list(_DIFFERENCE_COLUMNS))
    pairs = [(first, other) for other in others]
    return compare_pairs(measured.tables, pairs, seed=settings.seed)


def report(
    measured: Measured,
    table: pd.DataFrame,
    paired: pd.DataFrame,
    settings: Settings,
    command: str | None = None,
) -> str:
    """The Markdown page of :func:`scores` and :func:`differences`, and what is published."""
    accuracy, shifts = LABELS[settings.data], _shifts(settings)
    clusters = f"95 % bootstrap intervals clustered by {_CLUSTERS[settings.data]}"
    parts = [
        f"# Choices and flips: {DATASET_NAMES[settings.data]}",
        f"{_subtitle(table, settings)}. {JUDGE_NOTES[settings.data]}",
        "Flips are the triplets that a metric ranks otherwise when the distorted images are "
        f"shifted by so many pixels; in brackets their share in percent. With {clusters}.",
        "## Measured",
        to_markdown(
            pd.DataFrame(
                {"metric": table["metric"], f"{accuracy} (%)": _intervals(table, "accuracy")}
                | {
                    f"flips, {n} px": [
                        f"{flips} ({share})"
                        for flips, share in zip(
                            table[f"flips_{n}"], _intervals(table, f"rrf_{n}"), strict=True
                        )
                    ]
                    for n in shifts
                }
            )
        ),
    ]
    if settings.data == "clic" and (table["accuracy"] < 50).all():
        parts.append(
            "**Every metric disagrees with most choices.** An older copy of CLIC's file has its "
            "column T inverted, and this may be it."
        )
    if not paired.empty:
        parts += [
            f"## Against {paired['a'].iloc[0]}, measured",
            f"That metric minus the other, in percentage points, with {clusters}; and the triplets "
            "that only one of the two flips, with the p-value of McNemar's exact test, which takes "
            "triplets to be independent: where several share an image, rely on the intervals.",
            to_markdown(_difference_rows(paired, accuracy), {"p": ".2g"}),
        ]
    if measured.left_out:
        reasons = "\n".join(f"- {reason}" for reason in measured.left_out.values())
        parts += ["## Left out", reasons]
    names = {"accuracy": "accuracy (%)"} | {f"flips_{n}": f"flips, {n} px" for n in (1, 2, 3)}
    parts += [
        "## Published",
        "Ghildyal and Liu, ECCV 2022, on CLIC's validation set; not comparable with numbers of "
        "another data set.",
        to_markdown(published("comparison_clic").rename(columns=names), {"accuracy (%)": ".2f"}),
    ]
    if command is not None:
        parts += ["## Made by", f"```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


_DIFFERENCE_COLUMNS = (
    *("a", "b", "quantity", "value_a", "value_b", "difference", "low", "high", "holds"),
    *("only_a", "only_b", "p_value"),
)


def _shifts(settings: Settings) -> range:
    return range(1, settings.max_shift + 1)


def _intervals(table: pd.DataFrame, name: str) -> list[str]:
    columns = [name, f"{name}_low", f"{name}_high"]
    return [with_interval(*row) for row in table[columns].to_numpy(float)]


def _difference_rows(paired: pd.DataFrame, accuracy: str) -> pd.DataFrame:
    cells = paired[["difference", "low", "high"]].to_numpy(float)
    quantities = paired["quantity"].str.replace(r"rrf_(\d+)", r"r_rf \1 px", regex=True)
    return pd.DataFrame(
        {
            "metric": paired["b"],
            "quantity": quantities.replace("two_afc", accuracy),
            "difference": [with_interval(*row) for row in cells],
            "excludes 0": paired["holds"].map({True: "yes", False: "no"}),
            "flips of the first alone": paired["only_a"].astype("Int64"),
            "of the other alone": paired["only_b"].astype("Int64"),
            "p": paired["p_value"],
        }
    )


def _points(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The table that is plotted as dots; what is published belongs beside CLIC alone."""
    known = [
        published_of("comparison_clic", metric).get("accuracy", np.nan)
        if settings.data == "clic"
        else np.nan
        for metric in table["metric"]
    ]
    names = {"accuracy": "value", "accuracy_low": "low", "accuracy_high": "high"}
    return table[["metric", *names]].rename(columns=names).assign(published=known)


def _curves(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The table that is plotted as lines."""
    return pd.DataFrame(
        {"metric": row["metric"], "shift": n}
        | {f"rrf{end}": row[f"rrf_{n}{end}"] for end in ("", "_low", "_high")}
        for row in table.to_dict("records")
        for n in _shifts(settings)
    )


def _subtitle(table: pd.DataFrame, settings: Settings) -> str:
    """What the numbers are of, in one line."""
    return (
        f"{DATASET_NAMES[settings.data]}, {table['n'].iloc[0]} triplets, images {settings.size}, "
        f"seed {settings.seed}, largest shift {settings.max_shift} px"
    )
