"""Scores and verdicts of tables of distances, compared between two ways to measure them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robust_lpips.evaluation import summarize

MAX_SHIFT = 3
SCORES = ("two_afc", *(f"rrf_{shift}" for shift in range(1, MAX_SHIFT + 1)))


def mean_scores(table: pd.DataFrame) -> dict[str, float]:
    """Accuracy and rank-flip rates of a table of distances, in percent, means over subsets."""
    mean = summarize(table, n_boot=0).iloc[-1]
    return {name: float(mean[name]) for name in SCORES}


def differing_verdicts(ours: pd.DataFrame, released: pd.DataFrame) -> int:
    """Number of views of all samples at which d0 < d1 holds in one of two tables only.

    Raises:
        ValueError: if the tables have different samples or views.
    """
    keys = ["subset", "sample", "view"]
    both = ours.merge(released, on=keys, suffixes=("_ours", "_released"), validate="one_to_one")
    if not len(ours) == len(released) == len(both):
        raise ValueError(
            f"tables must have the same samples and views; got {len(ours)} and {len(released)} "
            f"rows, of which {len(both)} are in both"
        )
    verdicts = (both["d0_ours"] < both["d1_ours"], both["d0_released"] < both["d1_released"])
    return int(np.not_equal(*verdicts).sum())
