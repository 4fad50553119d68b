"""How people and metrics perceive small shifts: who still says "the same", and at what distance.

People saw an image beside itself, shifted by 0 to 9 pixels, and said whether the two are the same
(Ghildyal and Liu, ECCV 2022, section 3). Metrics are asked about photographs and themselves at the
same shifts. Their images are not the people's, so the two curves are compared by shape alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from robust_lpips.data import ShiftedPhotographs, read_responses
from robust_lpips.evaluation import photograph, view_name
from robust_lpips.evaluation.bootstrap import (
    bootstrap_means,
    cluster_codes,
    generator,
    interval,
)
from robust_lpips.plots import plot_user_study
from robust_lpips.studies import records
from robust_lpips.studies.folder import claim
from robust_lpips.studies.measured import Measured, measure_all
from robust_lpips.studies.published import published
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

DEFAULT_METRICS = (
    "l2",
    "ssim",
    "gmsd",
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
    "alexnet-untrained",
)
# Crops: the default metrics take some minutes of two CPU cores.
DEFAULT_N = 64
SOURCES = ("measured", "published")

_COLUMNS = (
    "shift",
    "stimuli",
    "answers",
    "said_same",
    "percent_same",
    "percent_same_low",
    "percent_same_high",
    "std_mean",
    "std_std",
)

_JUDGED_BY = {
    "measured": (
        'People: the answers given, of whom each said "the same" or "one appears shifted".'
    ),
    "published": (
        'People: the published shares of "the same" (Ghildyal and Liu, ECCV 2022, section 3).'
    ),
}


@dataclass(frozen=True)
class Settings:
    """What is measured on.

    Attributes:
        responses: file of people's answers, see
            :func:`robust_lpips.data.user_study.read_responses`; None: the published table.
        n: crops of the validation photographs.
        image_size: side of what is compared, in pixels.
        seed: of the crops, of random weights and of the intervals.
    """

    responses: str | None = None
    n: int = DEFAULT_N
    image_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure what is not yet measured, write tables and plot, and return the page.

    Into ``output`` go ``user_study.csv`` (people), ``curves.csv`` (metrics), ``user_study.md``,
    ``user_study.png``, a record a metric, and the distances, which are read and not measured again
    where they are there already.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run on the same crops and shifts.
        metrics: as :func:`robust_lpips.comparison.load_metric` takes them.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Raises:
        FileNotFoundError: no such file of answers.
        ValueError: answers that cannot be read or are not about shift 0 and another one; no metric
            can be measured; or ``output`` holds results of other settings.
    """
    output = Path(output)
    table = people_table(settings)
    curve = human_curve(table)
    crops = {"n": settings.n, "image_size": settings.image_size, "seed": settings.seed}
    shifts = curve["shift"].tolist()
    dataset = ShiftedPhotographs({shift: float(shift) for shift in shifts}, label="score", **crops)
    claim(output, crops | {"shifts": shifts})
    measured = measure_all(metrics, dataset, output, device=device, seed=settings.seed)
    curves = metric_curves(measured.tables, settings.seed)
    scores = agreement(curves, curve)
    write_csv(table, output / "user_study.csv")
    write_csv(curves, output / "curves.csv")
    plot_user_study(
        table,
        curves,
        output / "user_study.png",
        "Small shifts: people and metrics\n" + _plot_note(settings, table),
    )
    _record(settings, output, curve, scores, measured, command)
    page = _page(settings, table, curves, scores, measured.left_out, command)
    write_text(output / "user_study.md", page)
    return page


def people(responses: pd.DataFrame, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """What people said at each shift.

    Args:
        responses: the table of :func:`robust_lpips.data.user_study.read_responses`.
        n_boot: resamples of the intervals; 0: none (NaN).
        seed: of the resamples.

    Returns:
        A row a shift, ascending: ``shift`` (pixels), ``stimuli``, ``answers``, ``said_same``;
        ``percent_same`` of all answers pooled, and ``percent_same_low, percent_same_high``, its
        95 % bootstrap interval over stimuli, whose answers are not independent; ``std_mean`` and
        ``std_std``, mean and standard deviation over stimuli of the standard deviation of a
        stimulus' answers, 0 and 1 (all of them dividing by the count).
    """
    rows = []
    for shift, answers in responses.groupby("shift"):
        pooled = answers["answer"].to_numpy(dtype=np.float64)
        codes = pd.factorize(answers["image"])[0]
        rng = generator(seed, view_name(shift))
        low, high = interval(100 * bootstrap_means(pooled[:, None], codes, n_boot, rng))
        spread = answers.groupby("image")["answer"].std(ddof=0)
        counts = int(shift), len(spread), len(pooled), int(pooled.sum())
        share = 100 * pooled.mean(), low[0], high[0]
        rows.append((*counts, *share, spread.mean(), spread.std(ddof=0)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def people_table(settings: Settings) -> pd.DataFrame:
    """The columns of :func:`people` and ``source``: measured, if answers are given, and published.

    Raises:
        FileNotFoundError: no such file of answers.
        ValueError: answers that cannot be read.
    """
    rows = published("user_study")
    parts = [
        rows.drop(columns="said_shifted").assign(
            source="published", answers=rows["said_same"] + rows["said_shifted"]
        )
    ]
    if settings.responses is not None:
        measured = people(read_responses(settings.responses), seed=settings.seed)
        parts.insert(0, measured.assign(source="measured"))
    columns = ["source", *_COLUMNS]
    table = pd.concat([part.reindex(columns=columns) for part in parts], ignore_index=True)
    return table.astype({"stimuli": "Int64"})


def human_curve(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`people_table` that metrics are held against: measured, else published.

    Raises:
        ValueError: shift 0 or any larger one is missing.
    """
    source = next(name for name in SOURCES if (table["source"] == name).any())
    curve = table[table["source"] == source].reset_index(drop=True)
    if curve["shift"].iloc[0] != 0 or len(curve) < 2:
        given = ", ".join(map(str, curve["shift"]))
        raise ValueError(f"responses must be about shift 0 and larger ones; got {given}")
    return curve


def metric_curves(tables: Mapping[str, pd.DataFrame], seed: int = 0) -> pd.DataFrame:
    """Mean distance of each metric at each shift.

    Args:
        tables: distances on :class:`ShiftedPhotographs`, labelled with their shifts, by metric.
        seed: of the intervals.

    Returns:
        A row a metric and shift, ascending: ``metric, shift`` (pixels), ``n`` (crops);
        ``distance``, the mean, in the metric's own unit, and ``distance_low, distance_high``, its
        95 % bootstrap interval clustered by photograph; ``relative_distance``, 0 at the
        smallest shift and 1 at the largest, NaN where both are alike.
    """
    rows = []
    for metric, table in tables.items():
        of_metric = []
        for shift, part in table.groupby("score"):
            part = part.sort_values("sample", kind="stable")
            values = part["distance"].to_numpy(dtype=np.float64)
            codes = cluster_codes(list(part["sample"]), photograph)
            # The same draws at every shift, because the crops are the same.
            means = bootstrap_means(values[:, None], codes, 1000, generator(seed, "crops"))
            (low,), (high,) = interval(means)
            distance = values.mean()
            of_metric.append((metric, int(shift), len(part), distance, low, high))
        # A similarity turned round need not be 0 for identical images: PSNR is far from it.
        least, span = of_metric[0][3], of_metric[-1][3] - of_metric[0][3]
        rows += [(*row, (row[3] - least) / span if span else math.nan) for row in of_metric]
    columns = ["metric", "shift", "n", "distance", "distance_low", "distance_high"]
    return pd.DataFrame(rows, columns=[*columns, "relative_distance"])


def agreement(curves: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of mean distances and the share who no longer say "the same".

    Args:
        curves: the table of :func:`metric_curves`.
        curve: the table of :func:`human_curve`, of the same shifts.

    Returns:
        A row a metric: ``metric, spearman`` (in [-1, 1], NaN for a distance that never changes).
    """
    from scipy.stats import spearmanr

    said_shifted = 100 - curve.set_index("shift")["percent_same"]
    rows = []
    for metric, part in curves.groupby("metric", sort=False):
        distance = part.set_index("shift")["distance"]
        constant = distance.nunique() == 1
        rho = math.nan if constant else spearmanr(distance, said_shifted[distance.index]).statistic
        rows.append({"metric": metric, "spearman": float(rho)})
    return pd.DataFrame(rows)


def _record(
    settings: Settings,
    output: Path,
    curve: pd.DataFrame,
    scores: pd.DataFrame,
    measured: Measured,
    command: str | None,
) -> None:
    for row in scores.to_dict("records"):
        records.append(
            output,
            benchmark="user study",
            metric=row["metric"],
            dataset="validation photographs, shifted",
            judged_by=_JUDGED_BY[curve["source"].iloc[0]],
            n=settings.n,
            scores={"spearman": (row["spearman"], math.nan, math.nan)},
            weights=measured.weights[row["metric"]],
            command=command,
            image_size=settings.image_size,
            shifts=f"0 to {curve['shift'].max()} px",
            seed=settings.seed,
        )


def _plot_note(settings: Settings, table: pd.DataFrame) -> str:
    size = settings.image_size
    curve = human_curve(table)
    who = f"people: {curve['answers'].sum()} answers, {curve['source'].iloc[0]}"
    return (
        f"{who}; metrics: {settings.n} crops of validation photographs, windows of {size}x{size} "
        f"px, seed {settings.seed}"
    )


def _page(
    settings: Settings,
    table: pd.DataFrame,
    curves: pd.DataFrame,
    scores: pd.DataFrame,
    left_out: Mapping[str, str],
    command: str | None,
) -> str:
    curve = human_curve(table)
    source = curve["source"].iloc[0]
    size, largest = settings.image_size, curve["shift"].max()
    parts = [
        "# Small shifts: people and metrics",
        "People saw an image beside itself, shifted, and said whether the two are the same "
        "(Ghildyal and Liu, ECCV 2022, section 3). Metrics measured the distance between windows "
        f"of {size}x{size} px that lie as many pixels apart in {settings.n} crops of "
        f"scikit-image's validation photographs, seed {settings.seed}; nothing is padded. The "
        "metrics' images are not the people's: shapes of curves can be compared, levels cannot."
        + (f" Made by `{command}`." if command else ""),
        *_people_section(table),
        "## Metrics, measured: distance relative to that at the largest shift",
        f"Mean distance, from 0 at the smallest shift to 1 at {largest} px; people: the share who "
        'do not say "the same" '
        f"({source}), over theirs at {largest} px. spearman: rank correlation, over the "
        f"{len(curve)} shifts, of a metric's mean distance and that share. It asks for the order "
        "of shifts alone: a metric whose distance only grows has the same as any other such "
        "metric, however it grows; what tells metrics apart is how early their curve rises.",
        to_markdown(_relative(curves, curve, scores)),
        "The distances themselves, in each metric's own unit with 95 % bootstrap intervals "
        "clustered by photograph, are in curves.csv.",
    ]
    if left_out:
        parts += ["## Left out", "\n".join(f"- {n}: {why}" for n, why in left_out.items())]
    return "\n\n".join(parts) + "\n"


def _people_section(table: pd.DataFrame) -> list[str]:
    texts = {
        "measured": (
            "From the answers given: {stimuli} stimuli, {answers} answers. % same: of all answers "
            "at a shift, with a 95 % bootstrap interval over stimuli. std: standard deviation of a "
            "stimulus' answers (1: the same, 0: not), mean and standard deviation over stimuli."
        ),
        "published": (
            "Ghildyal and Liu, ECCV 2022: the whole study; not measured here. Same columns."
        ),
    }
    parts = []
    for source in SOURCES:
        rows = table[table["source"] == source]
        if rows.empty:
            continue
        bounds = rows[["percent_same", "percent_same_low", "percent_same_high"]].to_numpy(float)
        shown = {
            "shift (px)": rows["shift"],
            "stimuli": rows["stimuli"],
            "answers": rows["answers"],
            "said same": rows["said_same"],
            "% same": [with_interval(*row) for row in bounds],
            "std, mean": rows["std_mean"],
            "std, std": rows["std_std"],
        }
        cells = pd.DataFrame(shown)
        if source == "published":
            cells = cells.drop(columns="stimuli")
        totals = {"stimuli": rows["stimuli"].sum(), "answers": rows["answers"].sum()}
        parts += [
            f"## People, {source}",
            texts[source].format(**totals),
            to_markdown(cells, {"std, mean": ".2f", "std, std": ".2f"}),
        ]
    return parts


def _relative(curves: pd.DataFrame, curve: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """A row a metric, the people's above: the curves that the plot shows, as text."""
    gone = 100 - curve.set_index("shift")["percent_same"]
    lines = [{"metric": "people"} | _cells(gone / (gone.iloc[-1] or math.nan)) | {"spearman": None}]
    rho = scores.set_index("metric")["spearman"]
    for metric, part in curves.groupby("metric", sort=False):
        relative = part.set_index("shift")["relative_distance"]
        spearman = None if math.isnan(rho[metric]) else f"{rho[metric]:.3f}"
        lines.append({"metric": metric} | _cells(relative) | {"spearman": spearman})
    return pd.DataFrame(lines)


def _cells(relative: pd.Series) -> dict[str, str | None]:
    return {
        f"{shift} px": None if math.isnan(value) else f"{value:.2f}"
        for shift, value in relative.items()
    }
