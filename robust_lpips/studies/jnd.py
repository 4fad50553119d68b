"""Just noticeable differences: do metrics charge little for what people do not see?

Pairs are sorted by a metric's distance, and the score is the average precision with which that
finds the pairs that people took for the same image (Zhang et al., CVPR 2018, section 2.2). The
pairs are those of BAPPS, those of the study of small shifts (Ghildyal and Liu, ECCV 2022), or,
with nothing downloaded, photographs shifted here under the answers that this study reports.
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

from robust_lpips.data import JNDDataset, ShiftedPhotographs, UserStudyPairs
from robust_lpips.data.user_study import SIDE
from robust_lpips.evaluation import jnd_map, jnd_table
from robust_lpips.plots import plot_scores
from robust_lpips.studies import records
from robust_lpips.studies.folder import claim
from robust_lpips.studies.measured import Measured, measure_all
from robust_lpips.studies.published import published, published_of
from robust_lpips.studies.triplets import decoded_once
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

DEFAULT_METRICS = (
    "l2",
    "psnr",
    "ssim",
    "ms-ssim",
    "fsim",
    "gmsd",
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
    "alexnet-untrained",
)
# Of each of the eight validation photographs; 640 pairs with ten shifts each.
DEFAULT_CROPS = 8

DATASET_NAMES = {
    "bapps": "BAPPS JND val",
    "user-study": "study of small shifts",
    "shifts": "shifted photographs",
}
JUDGE_NOTES = {
    "bapps": "People judged these pairs: same is the share of them who took a pair for one image.",
    "user-study": (
        "People judged these pairs: same is the share of answers that took a pair for one image."
    ),
    "shifts": (
        "same is the share that the paper's user study reports for a shift of that size "
        "(published), not judgments of these patches: the score says how well a metric orders "
        "shifts as people did."
    ),
}
_CLUSTERS = {"bapps": "", "user-study": " clustered by image", "shifts": " clustered by photograph"}
_BIAS = (
    " Distances of one shift differ between photographs, of which a resample holds fewer: the "
    "intervals lie somewhat high."
)
_COLUMN = "mAP, published (BAPPS JND)"

# A batch of 64x64 patches; of larger ones fewer, so that memory stays the same.
_BATCH = 50


@dataclass(frozen=True)
class Settings:
    """What is measured on, whatever the metric.

    Attributes:
        data_root: folder of BAPPS, which holds ``jnd/val``; None: another data set.
        user_study: folder with the stimuli of the study of small shifts; None: another data set.
        responses: the file with the answers to them.
        image_size: side of the patches in pixels, but for the study's, which stay as they are.
        crops: how many of each photograph, where photographs are shifted here.
        seed: of these crops, of random weights and of the intervals.

    Raises:
        ValueError: both data sets, stimuli without answers or the other way round, or a number
            below 1.
    """

    data_root: str | None = None
    user_study: str | None = None
    responses: str | None = None
    image_size: int = 64
    crops: int = DEFAULT_CROPS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.data_root is not None and self.user_study is not None:
            raise ValueError("data_root and user_study are two data sets: give one of them")
        if (self.user_study is None) != (self.responses is None):
            raise ValueError("user_study and responses go together: give both or neither")
        for name in ("image_size", "crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")

    @property
    def data(self) -> str:
        """Which pairs: ``"bapps"``, ``"user-study"`` or ``"shifts"``."""
        if self.data_root is not None:
            return "bapps"
        return "shifts" if self.user_study is None else "user-study"

    @property
    def side(self) -> int:
        """Of the images that are compared, in pixels."""
        return SIDE if self.data == "user-study" else self.image_size

    def dataset(self) -> Dataset:
        """The pairs."""
        if self.data == "bapps":
            return decoded_once(JNDDataset(self.data_root, image_size=self.image_size))
        if self.data == "user-study":
            return UserStudyPairs(self.user_study, self.responses)
        return ShiftedPhotographs(published_shares(), self.image_size, self.crops, self.seed)


def published_shares() -> dict[int, float]:
    """Shift in pixels -> share of answers, in [0, 1], that took the images for the same.

    Source: Ghildyal and Liu, ECCV 2022, the user study.
    """
    table = published("user_study")
    shares = table["percent_same"].to_numpy() / 100
    return dict(zip(table["shift"].tolist(), shares.tolist(), strict=True))


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure what is not yet measured, and write table, page, plot and records.

    Into ``output`` go the files of :func:`~robust_lpips.studies.measured.measure_all`,
    ``settings.json``, ``jnd`` as ``.csv`` (:func:`scores`), ``.md`` (:func:`report`) and ``.png``,
    and a line a metric in ``records.jsonl``.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run under the same settings.
        metrics: as :func:`~robust_lpips.studies.measured.measure_all` takes them.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Returns:
        The page.

    Raises:
        ValueError: unknown or repeated metrics, or none that can be measured; ``output`` is of
            other settings; or a subset of which nobody took any pair for the same.
        FileNotFoundError: the data are not there.
    """
    output = Path(output)
    dataset = settings.dataset()
    claim(output, asdict(settings))
    batch_size = max(1, _BATCH * 64**2 // settings.side**2)
    measured = measure_all(
        metrics, dataset, output, device=device, seed=settings.seed, batch_size=batch_size
    )
    table = scores(measured, settings)
    page = report(measured, table, settings, command)
    write_csv(table, output / "jnd.csv")
    write_text(output / "jnd.md", page)
    means = _means(table)
    plot_scores(
        means.rename(columns={"jnd_map": "value", "published_jnd_map": "published"}),
        output / "jnd.png",
        "\n".join(
            [
                "Just noticeable differences",
                f"{_subtitle(means, settings)}; published: BAPPS JND",
                *textwrap.wrap(JUDGE_NOTES[settings.data], 105),
            ]
        ),
        "mAP, higher is better",
    )
    for row in means.to_dict("records"):
        records.append(
            output,
            benchmark="jnd",
            metric=row["metric"],
            dataset=row["dataset"],
            judged_by=row["judged_by"],
            n=row["n"],
            scores={"jnd_map": (row["jnd_map"], row["low"], row["high"])},
            weights=measured.weights[row["metric"]],
            command=command,
            image_size=settings.side,
            crops=settings.crops if settings.data == "shifts" else None,
            seed=settings.seed,
        )
    return page


def scores(measured: Measured, settings: Settings) -> pd.DataFrame:
    """Average precision of each metric on each subset, and the mean over subsets.

    Returns:
        ``metric, dataset, subset, n, image_size, seed``; ``jnd_map, low, high`` in [0, 1], bounds
        of 95 % intervals; ``published_jnd_map``, on the rows ``mean`` and of BAPPS whatever the
        data here; and ``judged_by``, whose answers ``same`` is.

    Raises:
        ValueError: a subset of which nobody took any pair for the same.
    """
    rows = []
    for metric, distances in measured.tables.items():
        for row in jnd_table(distances, seed=settings.seed).to_dict("records"):
            known = published_of("jnd", metric) if row["subset"] == "mean" else {}
            rows.append(
                {
                    "metric": metric,
                    "dataset": DATASET_NAMES[settings.data],
                    "subset": row["subset"],
                    "n": row["n"],
                    "image_size": settings.side,
                    "seed": settings.seed,
                    "jnd_map": row["jnd"] / 100,
                    "low": row["jnd_low"] / 100,
                    "high": row["jnd_high"] / 100,
                    "published_jnd_map": known.get("jnd_map", np.nan),
                    "judged_by": JUDGE_NOTES[settings.data],
                }
            )
    return pd.DataFrame(rows)


def bounds(distances: pd.DataFrame) -> tuple[float, float]:
    """Average precision, in [0, 1], of pairs that no metric tells apart, and of the best order.

    Means over subsets, from the shares ``same`` of the table alone. In the best order nobody took
    a pair for the same more often than an earlier one.
    """
    shares = [rows["same"].to_numpy() for _, rows in distances.groupby("subset")]
    floor = np.mean([jnd_map(np.zeros(len(same)), same) for same in shares])
    return float(floor), float(np.mean([jnd_map(-same, same) for same in shares]))


def report(
    measured: Measured, table: pd.DataFrame, settings: Settings, command: str | None = None
) -> str:
    """The Markdown page of :func:`scores`: means, subsets, what is left out, what is published."""
    cells = table.assign(
        cell=[with_interval(*row, 3) for row in table[["jnd_map", "low", "high"]].to_numpy()]
    )
    means = _means(cells)
    floor, best = bounds(next(iter(measured.tables.values())))
    shown = {"metric": "metric", "cell": "mAP, measured", "published_jnd_map": _COLUMN}
    parts = [
        "# Just noticeable differences",
        f"{_subtitle(means, settings)}. {JUDGE_NOTES[settings.data]}",
        "mAP is the average precision, in [0, 1], with which small distances find the pairs that "
        f"people took for the same, with 95 % bootstrap intervals{_CLUSTERS[settings.data]}. A "
        f"metric that tells no pair from another gets {floor:.3f}, the best order of these pairs "
        f"{best:.3f}.{_BIAS if settings.data == 'shifts' else ''}",
        "## Measured",
        to_markdown(means[list(shown)].rename(columns=shown), {_COLUMN: ".3f"}),
    ]
    subsets = cells[cells["subset"] != "mean"]
    if subsets["subset"].nunique() > 1:
        by_subset = subsets.pivot(index="metric", columns="subset", values="cell")
        order = [list(subsets[name].unique()) for name in ("metric", "subset")]
        by_subset = by_subset.loc[order[0], order[1]].rename_axis(columns=None).reset_index()
        parts += ["## Measured, by subset", to_markdown(by_subset)]
    if measured.left_out:
        reasons = "\n".join(f"- {reason}" for reason in measured.left_out.values())
        parts += ["## Left out", reasons]
    parts += [
        "## Published",
        "Ghildyal and Liu, ECCV 2022, on the JND pairs of BAPPS.",
        to_markdown(published("jnd").rename(columns={"jnd_map": "mAP"}), {"mAP": ".3f"}),
    ]
    if command is not None:
        parts += ["## Made by", f"```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def _means(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["subset"] == "mean"].reset_index(drop=True)


def _subtitle(means: pd.DataFrame, settings: Settings) -> str:
    """What the numbers are of, in one line."""
    return (
        f"{DATASET_NAMES[settings.data]}, {means['n'].iloc[0]} pairs of "
        f"{settings.side}x{settings.side} px, seed {settings.seed}"
    )
