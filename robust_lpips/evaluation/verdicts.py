"""Two ways to compute the same distances, compared: their numbers, and their verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd


def differing_verdicts(ours: pd.DataFrame, released: pd.DataFrame) -> int:
    """Number of views of all samples at which d0 < d1 holds in one of two tables only.

    Args:
        ours, released: tables of :func:`robust_lpips.evaluation.measure`, in any order.

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


def largest_difference(table: pd.DataFrame, reference: pd.DataFrame) -> float:
    """Largest difference of a distance from that of ``reference``, over the latter's median.

    Over the median, because the distance of two nearly equal patches may be a millionth of it.

    Args:
        table, reference: tables of :func:`robust_lpips.evaluation.measure`, in the same order.
    """
    distances = ["d0", "d1"]
    difference = (table[distances] - reference[distances]).abs().max(axis=None)
    return float(difference / reference[distances].stack().median())
