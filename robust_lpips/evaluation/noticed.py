"""Agreement of distances with the shares of people who notice a shift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.stats import binomtest, spearmanr

from robust_lpips.evaluation.people import people
from robust_lpips.registered import ANSWERS, SAME

OTHER_HALF = "penalty from the other half"
_SHIFTS = range(len(ANSWERS))


def noticed_shares(responses: pd.DataFrame | None = None, seed: int = 0) -> pd.DataFrame:
    """Share of people who notice a shift, of those who say "the same" without one.

    Args:
        responses: table of :func:`robust_lpips.data.user_study.read_responses`, with answers about
            every shift from 0 to 9; None: the counts :data:`robust_lpips.registered.SAME`.
        seed: seed of the intervals.

    Returns:
        One row per shift: ``shift`` (pixels), ``answers, said_same``; ``noticed``, at most 1, and
        negative where more say "the same" than without a shift; ``noticed_low, noticed_high``, a
        95 % interval: bootstrapped over stimuli where there are responses, else Wilson's, as if
        answers were independent. The share without a shift has no interval: it is taken as exact.

    Raises:
        ValueError: if answers are about other shifts, or nobody says "the same" without one.
    """
    if responses is None:
        counts = pd.DataFrame({"shift": _SHIFTS, "answers": ANSWERS, "said_same": SAME})
        tests = map(binomtest, SAME, ANSWERS)
        bounds = np.array([test.proportion_ci(method="wilson") for test in tests])
    else:
        counts = people(responses, seed=seed)
        bounds = counts[["percent_same_low", "percent_same_high"]].to_numpy() / 100
    if list(counts["shift"]) != list(_SHIFTS):
        given = ", ".join(map(str, counts["shift"]))
        raise ValueError(f"answers must be about every shift from 0 to {_SHIFTS[-1]}; got {given}")
    same = counts["said_same"] / counts["answers"]
    if same[0] == 0:
        raise ValueError('answers must hold one "the same" without a shift; got none')
    high, low = 1 - bounds.T / same[0]
    table = counts[["shift", "answers", "said_same"]].assign(
        noticed=1 - same / same[0], noticed_low=low, noticed_high=high
    )
    table.loc[0, ["noticed_low", "noticed_high"]] = math.nan
    return table


def agreement(curves: pd.DataFrame, noticed: np.ndarray) -> pd.DataFrame:
    """Agreement of distances with the share of people who notice each shift.

    Args:
        curves: ``metric, variant, shift`` and ``distance``, with S shifts each.
        noticed: (S,) shares, in the order of shifts.

    Returns:
        One row per metric and variant: ``metric, variant``; ``spearman``, in [-1, 1], NaN for a
        constant; ``factor``, which scales distances best, and ``mse``, the mean squared error
        then; ``mse_monotone``, that of the best monotone function of the distance.
    """
    rows = [
        {
            "metric": metric,
            "variant": variant,
            "spearman": spearman(distance, noticed),
            "factor": best_factor(distance, noticed),
            "mse": scaled_error(distance, noticed),
            "mse_monotone": float(np.mean((monotone(distance, noticed) - noticed) ** 2)),
        }
        for (metric, variant), distance in _by_variant(curves).items()
    ]
    return pd.DataFrame(rows)


def scaled(
    curves: pd.DataFrame, scores: pd.DataFrame, like: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The curves with ``scaled`` distances, in units of shares.

    Args:
        curves: distances as :func:`agreement` takes them.
        scores: ``factor`` by ``metric`` and ``variant``, as :func:`agreement` returns it.
        like: variants that are scaled by the factor of another one.
    """
    factors = scores.set_index(["metric", "variant"])["factor"]
    keys = list(zip(curves["metric"], curves["variant"].replace(like or {}), strict=True))
    return curves.assign(scaled=curves["distance"] * factors.loc[keys].to_numpy())


def split_half(
    responses: pd.DataFrame, curves: pd.DataFrame, splits: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Agreement of half of the stimuli, and of metrics, with people on the other half.

    Args:
        responses: answers, with two stimuli or more at each shift.
        curves: distances as :func:`agreement` takes them.
        splits: number of random splits of the stimuli of each shift.
        seed: seed of the splits.

    Returns:
        One row for the share noticed in the first half, whose ``metric`` is :data:`OTHER_HALF`,
        and one for each metric and variant: ``metric, variant``; ``mse``, after the best factor,
        and ``spearman``, means over the splits.

    Raises:
        ValueError: if there are fewer than two stimuli at a shift.
    """
    measured = _by_variant(curves)
    rows = [
        (*key, scaled_error(curve, other), spearman(curve, other))
        for one, other in halves(responses, splits, seed)
        for key, curve in {(OTHER_HALF, ""): one, **measured}.items()
    ]
    table = pd.DataFrame(rows, columns=["metric", "variant", "mse", "spearman"])
    return table.groupby(["metric", "variant"], sort=False).mean().reset_index()


def halves(
    responses: pd.DataFrame, splits: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shares noticed (S,) in two random halves of the stimuli of each shift, for each split."""
    stimuli = responses.groupby(["shift", "image"])["answer"].agg(["sum", "size"])
    by_shift = [part.to_numpy() for _, part in stimuli.groupby(level="shift")]
    if (fewest := min(map(len, by_shift))) < 2:
        raise ValueError(f"answers must be about 2 stimuli or more at each shift; got {fewest}")
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        shuffled = [rng.permutation(part) for part in by_shift]
        one = np.array([part[: len(part) // 2].sum(axis=0) for part in shuffled])
        other = np.array([part[len(part) // 2 :].sum(axis=0) for part in shuffled])
        yield _noticed(one), _noticed(other)


def best_factor(values: np.ndarray, target: np.ndarray) -> float:
    """The factor from 0 by which ``values`` come closest to ``target``; 0 where all are 0."""
    power = float(values @ values)
    return max(0.0, float(values @ target) / power) if power else 0.0


def scaled_error(values: np.ndarray, target: np.ndarray) -> float:
    """Mean squared error of ``values`` (S,) times :func:`best_factor`."""
    return float(np.mean((best_factor(values, target) * values - target) ** 2))


def monotone(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The function of ``values`` (S,) that never falls and comes closest to ``target``: (S,)."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    # Equal values have one function value: their targets are pooled first.
    return isotonic_regression(np.bincount(place, target) / counts, weights=counts).x[place]


def spearman(values: np.ndarray, target: np.ndarray) -> float:
    """Spearman's rank correlation of (S,) and (S,), NaN where either is constant."""
    if np.ptp(values) == 0 or np.ptp(target) == 0:
        return math.nan
    return float(spearmanr(values, target).statistic)


def _by_variant(curves: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Distances (S,) in the order of shifts, by metric and variant."""
    groups = curves.groupby(["metric", "variant"], sort=False)
    return {key: curve.sort_values("shift")["distance"].to_numpy() for key, curve in groups}


def _noticed(counts: np.ndarray) -> np.ndarray:
    """Shares noticed (S,) of counts (S, 2) of "the same" and of answers."""
    same = counts[:, 0] / counts[:, 1]
    return 1 - same / same[0]
