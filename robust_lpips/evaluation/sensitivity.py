"""Shift sensitivity of metrics, from distances alone: nothing here needs people's judgments.

Rank flips are those of Ghildyal and Liu, ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from robust_lpips.evaluation.distances import TripletTable
from robust_lpips.evaluation.scores import rank_flip_rate, rank_flips, summarize
from robust_lpips.evaluation.shifts import FULL, parse_view, view_name


def shift_curves(distances: pd.DataFrame, references: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Distance at pure shifts and rank flips of one metric, by shift.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure` on triplets.
        references: the same with the reference as p0 and p1.
        seed: seed of the intervals.

    Returns:
        One row per shift, 0 .. S pixels: ``n`` (triplets), ``shift``; ``distance``, the mean
        between an image and itself shifted, in the metric's own unit; ``relative_distance``, the
        same divided by the mean distance to the distorted patches, unshifted and in the same
        window; ``rrf, rrf_low, rrf_high`` in percent, NaN at shift 0. All are means over subsets.
    """
    # p0 and p1 are both the reference, so d0 is d1.
    distance = _by_shift(references.assign(distance=references["d0"]))
    distorted = distances.assign(distance=(distances["d0"] + distances["d1"]) / 2)
    scale = _by_shift(distorted[distorted["view"] == view_name(0)]).loc[0]
    scores = summarize(distances, seed=seed).iloc[-1]
    table = distance.reset_index().assign(relative_distance=distance.to_numpy() / scale)
    table.insert(0, "n", int(scores["n"]))
    for end in ("", "_low", "_high"):
        table[f"rrf{end}"] = [scores.get(f"rrf_{n}{end}") for n in table["shift"]]
    return table.astype(dict.fromkeys(("rrf", "rrf_low", "rrf_high"), float))


def verdict_table(distances: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdicts of metrics before and after the smallest shift, triplet by triplet.

    Args:
        distances: by metric, of the same triplets, with shift 0 and one above it.

    Returns:
        One row per triplet and metric: ``sample, metric``; ``d0, d1``, the distances of p0 and p1;
        ``closer``, the closer one; ``d0_shifted, d1_shifted, closer_shifted``, the same with both
        shifted, in the same window; ``flips``. p1 is closer where they are equal.

    Raises:
        ValueError: a table cannot be scored, or has no shift above 0.
    """
    parts = []
    for metric, table in distances.items():
        arranged = TripletTable.from_tidy(table)
        columns = {"sample": arranged.triplets["sample"], "metric": metric}
        pairs = list(arranged.shifted.values())[:2]
        if len(pairs) < 2:
            raise ValueError(f"distances of {metric} must have a shift above 0; got none")
        for end, (d0, d1) in zip(("", "_shifted"), pairs, strict=True):
            columns |= {f"d0{end}": d0, f"d1{end}": d1}
            columns[f"closer{end}"] = np.where(d0 < d1, "p0", "p1")
        parts.append(pd.DataFrame(columns | {"flips": rank_flips(*pairs[0], *pairs[1])}))
    # Row i of each metric is the same triplet.
    return pd.concat(parts).sort_index(kind="stable", ignore_index=True)


def first_flips(verdicts: pd.DataFrame, metric: str, k: int) -> list[str]:
    """The first ``k`` samples on which the metric's verdict flips, fewer where there are fewer.

    Args:
        verdicts: table of :func:`verdict_table`.
        metric: a metric of the table.
        k: number of samples.
    """
    flips = verdicts[(verdicts["metric"] == metric) & verdicts["flips"]]
    return flips["sample"].head(k).tolist()


def layer_table(taps: Sequence[str], distances: np.ndarray) -> pd.DataFrame:
    """Rank flips by layer: one row per tap, one for all but the first, one for all together.

    Args:
        taps: L names.
        distances: (S + 1, 2, N, L), see :func:`~robust_lpips.evaluation.per_layer.measure_layers`.

    Returns:
        ``tap``, the last two ``"all but the first"`` and ``"all"``; ``share``, the tap's part of
        the mean unshifted distance, in percent; and ``rrf_1`` .. ``rrf_S``, percent of triplets
        that the tap's own distance ranks differently at that shift. Means over all triplets, not
        over subsets.
    """
    sums = [distances[..., first:].sum(axis=-1, keepdims=True) for first in (1, 0)]
    distances = np.concatenate([distances, *sums], axis=-1)
    unshifted = distances[0].mean(axis=(0, 1))  # over p0 and p1, and over triplets
    rows = {"tap": [*taps, "all but the first", "all"], "share": 100 * unshifted / unshifted[-1]}
    table = pd.DataFrame(rows)
    for shift in range(1, len(distances)):
        pairs = [(*distances[0, ..., i], *distances[shift, ..., i]) for i in table.index]
        table[f"rrf_{shift}"] = [100 * rank_flip_rate(*pair) for pair in pairs]
    return table


def _by_shift(table: pd.DataFrame) -> pd.Series:
    """Mean over subsets of the mean ``distance`` of each, by shift in pixels, ascending."""
    shifted = table[table["view"] != FULL]
    shifts = shifted["view"].map(parse_view).astype(int).rename("shift")
    return shifted.groupby([shifts, "subset"])["distance"].mean().groupby("shift").mean()
