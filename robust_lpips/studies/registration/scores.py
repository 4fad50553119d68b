"""Scores of the study of registration: pure functions of its tables and of people's answers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.stats import binomtest, spearmanr

from robust_lpips.evaluation.people import people
from robust_lpips.registered import ANSWERS, SAME
from robust_lpips.studies.registration.estimates import MOVING
from robust_lpips.studies.registration.human import FREE, HUMAN, SHIFTS, UNREGISTERED
from robust_lpips.studies.registration.settings import RADIUS

OTHER_HALF = "penalty from the other half"
# Errors along one axis are given for true shifts up to this length in pixels, and beyond.
INSIDE = RADIUS - 1


def exact(table: pd.DataFrame) -> pd.Series:
    """(N,) bool of a table ``estimates``: the estimate is the true shift."""
    return (_errors(table) == 0).all(axis=1)


def counted(table: pd.DataFrame, test: str) -> pd.DataFrame:
    """Estimates of a test that count: distortions that move nothing, textured if shifted."""
    rows = table[(table["test"] == test) & ~table["distortion"].isin(MOVING)]
    return rows[rows["textured"]] if test == "shifted" else rows


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of right estimates in each cell of a table ``estimates``.

    One row per distortion and severity: ``distortion, severity, n``; in percent ``exact``, the
    true shift, ``stayed``, wrong and no shift, and ``wrong``, all others; ``farthest``, the
    largest error along an axis in pixels.
    """
    right = exact(table)
    stayed = ~right & (table["rows"] == 0) & (table["columns"] == 0)
    cells = table.assign(
        exact=100.0 * right,
        stayed=100.0 * stayed,
        wrong=100.0 * ~(right | stayed),
        farthest=_errors(table).max(axis=1),
    ).groupby(["distortion", "severity"], sort=False)
    found = cells[["exact", "stayed", "wrong"]].mean()
    found.insert(0, "n", cells.size())
    return found.assign(farthest=cells["farthest"].max()).reset_index()


def errors_between(table: pd.DataFrame) -> pd.DataFrame:
    """Errors of refined estimates, a table ``subpixel``, along each axis.

    One row per distortion, axis and reach of the true shift along it: ``distortion, axis, shift,
    n``; ``median`` and ``p95`` of the absolute error in pixels.
    """
    parts = [
        table[["distortion"]].assign(
            axis=axis,
            shift=np.where(table[f"true_{axis}"].abs() <= INSIDE, f"to {INSIDE} px", "beyond"),
            error=errors,
        )
        for axis, errors in _errors(table).items()
    ]
    cells = pd.concat(parts).groupby(["distortion", "axis", "shift"], sort=False)["error"]
    found = cells.agg(n="size", median="median", p95=lambda errors: errors.quantile(0.95))
    return found.reset_index()


def failure_means(table: pd.DataFrame) -> pd.DataFrame:
    """Means of each case of a table ``failures``.

    One row per case: ``case, radius, n``; the ``true`` shift and the ``first estimate`` as text;
    ``stayed`` and ``right``, the percentage of estimates that are no shift, and the true one (NaN:
    there is none); and mean ``unregistered, registered, human``.
    """
    rows = []
    for name, pairs in table.groupby("case", sort=False):
        true = pairs[["true_rows", "true_columns"]].to_numpy(float)[0]
        found, known = pairs[["rows", "columns"]].to_numpy(), not np.isnan(true).any()
        rows.append(
            {
                "case": name,
                "radius": pairs["radius"].iloc[0],
                "n": len(pairs),
                "true": f"({true[0]:g}, {true[1]:g})" if known else None,
                "first estimate": f"({found[0, 0]:g}, {found[0, 1]:g})",
                "stayed": 100 * (found == 0).all(axis=1).mean(),
                "right": 100 * (found == true).all(axis=1).mean() if known else math.nan,
                **pairs[["unregistered", "registered", "human"]].mean(),
            }
        )
    return pd.DataFrame(rows)


def people_table(responses: pd.DataFrame | None, seed: int = 0) -> pd.DataFrame:
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
        counts = pd.DataFrame({"shift": SHIFTS, "answers": ANSWERS, "said_same": SAME})
        tests = map(binomtest, SAME, ANSWERS)
        bounds = np.array([test.proportion_ci(method="wilson") for test in tests])
    else:
        counts = people(responses, seed=seed)
        bounds = counts[["percent_same_low", "percent_same_high"]].to_numpy() / 100
    if list(counts["shift"]) != list(SHIFTS):
        given = ", ".join(map(str, counts["shift"]))
        raise ValueError(f"answers must be about every shift from 0 to {SHIFTS[-1]}; got {given}")
    same = counts["said_same"] / counts["answers"]
    if same[0] == 0:
        raise ValueError('answers must hold one "the same" without a shift; got none')
    high, low = 1 - bounds.T / same[0]
    table = counts[["shift", "answers", "said_same"]].assign(
        noticed=1 - same / same[0], noticed_low=low, noticed_high=high
    )
    table.loc[0, ["noticed_low", "noticed_high"]] = math.nan
    return table


def human_scores(curves: pd.DataFrame, noticed: np.ndarray) -> pd.DataFrame:
    """Agreement of a table ``human_curves`` with the shares (S,) of people who notice each shift.

    One row per metric and variant: ``metric, variant``; ``spearman``, in [-1, 1], NaN for a
    constant; ``factor``, which scales distances best, and ``mse``, the mean squared error then;
    ``mse_monotone``, that of the best monotone function of the distance.
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


def split_half(
    responses: pd.DataFrame, curves: pd.DataFrame, splits: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Agreement of half of the stimuli, and of metrics, with people on the other half.

    Args:
        responses: answers, with two stimuli or more at each shift.
        curves: the table ``human_curves``.
        splits: number of random splits of the stimuli of each shift.
        seed: seed of the splits.

    Returns:
        One row for the share noticed in the first half, whose ``metric`` is :data:`OTHER_HALF`,
        and one for each metric and variant but those that the answers calibrated: ``metric,
        variant``; ``mse``, after the best factor, and ``spearman``, means over the splits.

    Raises:
        ValueError: if there are fewer than two stimuli at a shift.
    """
    measured = {key: each for key, each in _by_variant(curves).items() if key[1] != HUMAN}
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


def scaled(curves: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The curves with ``scaled`` distances, in units of shares.

    Registration leaves next to nothing, which a factor of its own would enlarge: it is scaled as
    the unregistered metric is.
    """
    factors = scores.set_index(["metric", "variant"])["factor"]
    own = curves["variant"].where(curves["variant"] != FREE, UNREGISTERED)
    keys = list(zip(curves["metric"], own, strict=True))
    return curves.assign(scaled=curves["distance"] * factors.loc[keys].to_numpy())


def _by_variant(curves: pd.DataFrame) -> dict[tuple[str, str], np.ndarray]:
    """Distances (S,) in the order of shifts, by metric and variant."""
    groups = curves.groupby(["metric", "variant"], sort=False)
    return {key: curve.sort_values("shift")["distance"].to_numpy() for key, curve in groups}


def _noticed(counts: np.ndarray) -> np.ndarray:
    """Shares noticed (S,) of counts (S, 2) of "the same" and of answers."""
    same = counts[:, 0] / counts[:, 1]
    return 1 - same / same[0]


def _errors(table: pd.DataFrame) -> pd.DataFrame:
    """Absolute errors along both axes, in pixels."""
    return pd.DataFrame(
        {axis: (table[axis] - table[f"true_{axis}"]).abs() for axis in ("rows", "columns")}
    )
