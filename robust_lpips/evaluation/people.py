"""People and metrics at small shifts: answers and distances at each shift, and their agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from robust_lpips.evaluation.bootstrap import (
    bootstrap_means,
    cluster_codes,
    generator,
    interval,
    photograph,
)
from robust_lpips.evaluation.shifts import view_name

PEOPLE_COLUMNS = (
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


def people(responses: pd.DataFrame, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Answers at each shift, counted.

    Args:
        responses: the table of :func:`robust_lpips.data.user_study.read_responses`.
        n_boot: number of resamples of the intervals; 0: none (NaN).
        seed: seed of the resamples.

    Returns:
        One row per shift, ascending: ``shift`` (pixels), ``stimuli``, ``answers``, ``said_same``;
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
    return pd.DataFrame(rows, columns=list(PEOPLE_COLUMNS))


def metric_curves(
    tables: Mapping[str, pd.DataFrame], n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Mean distance of each metric at each shift.

    Args:
        tables: distances on :class:`~robust_lpips.data.ShiftedPhotographs`, labelled with their
            shifts, by metric.
        n_boot: number of resamples of the intervals; 0: none (NaN).
        seed: seed of the resamples.

    Returns:
        One row per metric and shift, ascending: ``metric, shift`` (pixels), ``n`` (crops);
        ``distance``, the mean, in the metric's own unit, and ``distance_low, distance_high``, its
        95 % bootstrap interval clustered by photograph; ``relative_distance``, 0 at the smallest
        shift and 1 at the largest, NaN where these two are equal.
    """
    rows = []
    for metric, table in tables.items():
        for shift, part in table.sort_values("sample", kind="stable").groupby("score"):
            values = part["distance"].to_numpy(dtype=np.float64)
            codes = cluster_codes(list(part["sample"]), photograph)
            means = bootstrap_means(values[:, None], codes, n_boot, generator(seed, "crops"))
            (low,), (high,) = interval(means)
            rows.append((metric, int(shift), len(part), values.mean(), low, high))
    columns = ["metric", "shift", "n", "distance", "distance_low", "distance_high"]
    curves = pd.DataFrame(rows, columns=columns)
    distance = curves.groupby("metric")["distance"]
    # A similarity turned round need not be 0 for identical images: PSNR is far from it.
    least, most = distance.transform("first"), distance.transform("last")
    span = (most - least).replace(0, np.nan)
    return curves.assign(relative_distance=(curves["distance"] - least) / span)


def agreement(curves: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of mean distances and the share who no longer say "the same".

    Args:
        curves: table of :func:`metric_curves`.
        answers: ``shift, percent_same`` at the same shifts, as :func:`people` gives them.

    Returns:
        One row per metric: ``metric, spearman``, in [-1, 1]; NaN where the mean distance or the
        share is the same at every shift, so that there is no order.
    """
    from scipy.stats import spearmanr

    same, rows = answers.set_index("shift")["percent_same"], []
    for metric, part in curves.groupby("metric", sort=False):
        distance, share = part["distance"], 100 - same[part["shift"]]
        ordered = distance.nunique() > 1 and share.nunique() > 1
        rows.append((metric, spearmanr(distance, share).statistic if ordered else math.nan))
    return pd.DataFrame(rows, columns=["metric", "spearman"])
