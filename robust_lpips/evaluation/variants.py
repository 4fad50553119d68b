"""A variant of a metric against the original: scores, verdicts kept, changes still seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

import numpy as np
import pandas as pd

from robust_lpips.evaluation.bootstrap import (
    bootstrap_weights,
    cluster_codes,
    interval,
    photograph,
)
from robust_lpips.evaluation.scores import paired_difference, summarize
from robust_lpips.evaluation.shifts import FULL, view_name

# A score, the bounds of its 95 % interval (NaN where there is none), and the number of items.
Scored = tuple[float, float, float, int]


def scores_and_differences(
    own: pd.DataFrame,
    base: pd.DataFrame | None,
    names: Mapping[str, str],
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Scores of a metric, and their differences from another metric's.

    Args:
        own, base: tables of :func:`~robust_lpips.evaluation.measure` on the same triplets.
        names: names of the quantities by column of :func:`~robust_lpips.evaluation.summarize`.
        n_boot: number of resamples of the intervals, clustered by photograph.
        seed: seed of the resamples.

    Returns:
        One row per quantity, in percent, and with a base one per difference, in percentage points,
        whose name ends in ``_difference``: ``quantity, value, low, high, n``.
    """
    scores = summarize(own, n_boot, seed).iloc[-1]
    rows = [
        (name, *scores[[column, f"{column}_low", f"{column}_high", "n"]])
        for column, name in names.items()
    ]
    if base is not None:
        found = paired_difference(own, base, n_boot, seed).set_index("quantity")
        rows += [
            (f"{name}_difference", *found.loc[column, ["difference", "low", "high"]], scores["n"])
            for column, name in names.items()
        ]
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "n"])


def verdicts_kept(
    own: pd.DataFrame, base: pd.DataFrame, n_boot: int = 1000, seed: int = 0
) -> Scored:
    """Percentage of triplets that two metrics rank alike, unshifted.

    Args:
        own, base: tables of :func:`~robust_lpips.evaluation.measure` on the same triplets.
        n_boot: number of resamples of the interval, clustered by photograph.
        seed: seed of the resamples.
    """
    # The other metric takes the place of a shift in r_rf.
    own, base = (table[table["view"] == FULL] for table in (own, base))
    views = [base, base.assign(view=view_name(0)), own.assign(view=view_name(1))]
    scores = summarize(pd.concat(views), n_boot, seed).iloc[-1]
    flipped, low, high = scores[["rrf_1", "rrf_1_low", "rrf_1_high"]]
    return 100 - flipped, 100 - high, 100 - low, scores["n"]


def median_ratio(distances: pd.DataFrame, n_boot: int, rng: np.random.Generator) -> Scored:
    """Median over samples of d0 / d1.

    Args:
        distances: ``sample, d0, d1``, one row per sample.
        n_boot: number of resamples of the interval, clustered by photograph.
        rng: source of the random draws.
    """
    ratios = (distances["d0"] / distances["d1"]).to_numpy()
    codes = cluster_codes(list(distances["sample"]), photograph)
    low = high = math.nan
    if codes.max() > 0:
        weights = chain.from_iterable(bootstrap_weights(codes, n_boot, rng))
        low, high = interval(np.array([np.median(np.repeat(ratios, each)) for each in weights]))
    return float(np.median(ratios)), float(low), float(high), len(ratios)


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """Points than which no other has less ``rrf_1`` at as much ``two_afc``, from left to right."""
    order = points.sort_values(["rrf_1", "two_afc"], ascending=[True, False], kind="stable")
    best = order["two_afc"].cummax().shift(fill_value=-np.inf)
    return order[order["two_afc"] > best]
