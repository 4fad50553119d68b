"""Correlation of distances with people's scores of image quality: SRCC, KRCC and PLCC."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from robust_lpips.evaluation.bootstrap import (
    Cluster,
    bootstrap_weights,
    cluster_codes,
    generator,
    interval,
    photograph,
)
from robust_lpips.evaluation.distances import SCORED, check_table

Vector = Sequence[float] | np.ndarray | torch.Tensor

STATISTICS = ("srcc", "plcc", "krcc")

# A logistic that is this many times wider than the distances equals a line to six digits.
_WIDE = 1e3
# Chunk size in numbers: 2 ** 22 of 8 bytes are 32 MiB.
_CHUNK = 2**22


# --- Numbers from arrays -----------------------------------------------------------------------


def srcc(distance: Vector, score: Vector) -> float:
    """Spearman's rank correlation, in [-1, 1]; negative if scores decrease with distance.

    Args:
        distance: (N,) distances, N at least 2.
        score: (N,) scores.

    Raises:
        ValueError: an argument has another shape, is not finite, or is constant.

    >>> round(srcc([0.1, 0.2, 0.3, 0.4], [9, 5, 6, 1]), 3)
    -0.8
    """
    from scipy.stats import spearmanr

    return float(spearmanr(*_vectors(distance, score)).statistic)


def krcc(distance: Vector, score: Vector) -> float:
    """Kendall's rank correlation tau-b, in [-1, 1]; arguments, sign and errors as :func:`srcc`.

    >>> round(krcc([0.1, 0.2, 0.3, 0.4], [9, 5, 6, 1]), 3)
    -0.667
    """
    from scipy.stats import kendalltau

    # The p-value is not used, and the exact one is slow.
    return float(kendalltau(*_vectors(distance, score), method="asymptotic").statistic)


def plcc(distance: Vector, score: Vector) -> float:
    """Pearson's correlation of scores with distances mapped to scores by a logistic.

    The curve of :func:`fit_logistic` may rise or fall, so the correlation after the mapping has
    lost its direction. It is given the sign of the curve: negative if scores decrease with
    distance.

    Args:
        distance: (N,) distances, N at least 5.
        score: (N,) scores.

    Raises:
        ValueError: an argument has another shape, is not finite, or is constant.

    Source: Sheikh, Sabir and Bovik, IEEE Trans. Image Processing 2006, section III; VQEG, 2000.
    """
    distance, score = _vectors(distance, score, least=5)
    return float(_pearson(_mapped(distance, score), score, np.ones((1, len(score))))[0])


def logistic(x: Vector, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """(b1 - b2) / (1 + exp(-(x - b3) / abs(b4))) + b2, which runs from b2 to b1 as x grows.

    Source: VQEG, Final report on the validation of objective models of video quality, 2000.

    >>> logistic([-1e9, 2, 1e9], 5, 1, 2, 0.1).tolist()
    [1.0, 3.0, 5.0]
    """
    from scipy.special import expit

    return (b1 - b2) * expit((np.asarray(x, dtype=np.float64) - b3) / abs(b4)) + b2


def fit_logistic(x: Vector, y: Vector) -> np.ndarray:
    """Least squares fit of :func:`logistic` to y over x.

    Args:
        x: (N,) distances, N at least 5.
        y: (N,) scores.

    Returns:
        (4,) b1, b2, b3, b4, with b4 above 0. If the fit fails, a warning, and the parameters of
        a logistic so wide that it is the least squares line.

    Raises:
        ValueError: an argument has another shape, is not finite, or is constant.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    x, y = _vectors(x, y, least=5, names=("x", "y"))
    # Standardized, so that starting values and steps suit any metric.
    (u, middle, width), (v, mean, height) = _standardized(x), _standardized(y)
    slope = float(np.mean(u * v))
    way = 1.0 if srcc(x, y) >= 0 else -1.0
    start = [way * 2, -way * 2, float(np.median(u)), 1.0]
    line = np.array([2 * _WIDE * slope, -2 * _WIDE * slope, 0.0, _WIDE])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # the covariance is not used
            best, _ = curve_fit(_safe_logistic, u, v, start, maxfev=10_000)
        best[3] = max(abs(best[3]), _NARROW)
        failed = not np.isfinite(best).all() or _residual(best, u, v) > 1.001 * _residual(
            line, u, v
        )
    except RuntimeError:
        failed = True
    if failed:
        warnings.warn(
            "the logistic could not be fitted: a straight line is used instead", stacklevel=2
        )
        best = line
    b1, b2, b3, b4 = best
    return np.array([b1 * height + mean, b2 * height + mean, b3 * width + middle, b4 * width])


# --- Tables from tables ------------------------------------------------------------------------


def correlation_table(
    distances: pd.DataFrame,
    higher_is_better: bool,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """SRCC, PLCC and KRCC of each subset and of all pairs, with 95 % intervals.

    Positive values are agreement with people: larger distances for worse images.

    Intervals are bootstrap percentiles over references. Each resample of references is used for
    all subsets, because the subsets distort the same references. For PLCC the curve is fitted to
    all pairs of the row and not to each resample, so the interval lacks the uncertainty of the
    curve. With few references the intervals are biased upwards and may miss the point estimate:
    pairs of a reference that is drawn twice agree with each other. Resamples with constant
    distances or scores are left out.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure` with the columns ``subset,
            sample, distance, score``.
        higher_is_better: True if a higher score is a better image (MOS), False for DMOS.
        n_boot: number of resamples; 0: no intervals (NaN).
        seed: of the resamples.
        cluster: gives a sample's reference; None: all samples are independent.

    Returns:
        One row per subset, in order of appearance; a row ``mean`` over subsets; and a last row
        ``all`` over all pairs together, which is the number usually reported. Columns ``subset, n,
        srcc, srcc_low, srcc_high`` and the same of ``plcc`` and ``krcc``, in [-1, 1]. Bounds are
        NaN if a subset has a single reference.

    Raises:
        ValueError: columns or rows are missing, repeated or out of range, or a subset has fewer
            than five pairs, constant distances or constant scores.
    """
    check_table(distances, SCORED)
    references = cluster_codes(list(distances["sample"]), cluster)
    weights = _draws(int(references.max()) + 1, n_boot, seed)
    groups = distances.groupby("subset", sort=False).indices
    points, replicates = {}, {}
    for subset, rows in (groups | {"all": np.arange(len(distances))}).items():
        x, y = (distances[name].to_numpy(dtype=np.float64)[rows] for name in ("distance", "score"))
        try:
            found = _correlations(x, y, references[rows], weights)
        except ValueError as error:
            raise ValueError(f"distances of {subset}: {error}") from None
        points[subset], replicates[subset] = ((-1) ** higher_is_better * part for part in found)
    subsets = list(groups)
    points["mean"] = np.mean([points[subset] for subset in subsets], axis=0)
    replicates["mean"] = np.mean([replicates[subset] for subset in subsets], axis=0)
    counts = {subset: len(rows) for subset, rows in groups.items()}
    rows = []
    for subset in (*subsets, "mean", "all"):
        row = {"subset": subset, "n": counts.get(subset, len(distances))}
        for name, point, values in zip(
            STATISTICS, points[subset], replicates[subset].T, strict=True
        ):
            low, high = interval(values[np.isfinite(values)])
            row |= {name: point, f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)


def _correlations(
    x: np.ndarray, y: np.ndarray, references: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics (3,) of one subset, and of each resample (B, 3)."""
    ranks = srcc(x, y), krcc(x, y)
    mapped = _mapped(x, y)
    points = np.array([ranks[0], _pearson(mapped, y, np.ones((1, len(y))))[0], ranks[1]])
    present, codes = np.unique(references, return_inverse=True)
    if len(present) < 2:
        return points, np.full((len(weights), 3), np.nan)
    weights = weights[:, present]
    of_each = np.empty((len(weights), 3))
    size = max(1, _CHUNK // len(x))
    for start in range(0, len(weights), size):
        part = slice(start, start + size)
        drawn = weights[part][:, codes]
        of_each[part, 0] = _pearson(_ranks(x, drawn), _ranks(y, drawn), drawn)
        of_each[part, 1] = _pearson(mapped, y, drawn)
    of_each[:, 2] = _kendall(x, y, codes, weights)
    return points, of_each


def _draws(references: int, n_boot: int, seed: int) -> np.ndarray:
    """Counts of each reference in each resample, (B, C)."""
    parts = list(bootstrap_weights(np.arange(references), n_boot, generator(seed, "references")))
    return np.concatenate(parts) if parts else np.empty((0, references))


# --- Statistics of resamples, from the counts of each pair --------------------------------------


def _pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlations (B,) under weights (B, N); x and y are (N,) or (B, N). NaN if constant."""
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        dx, dy = (v - (weights * v).sum(axis=-1, keepdims=True) / total for v in (x, y))
        xy, xx, yy = ((weights * a * b).sum(axis=-1) for a, b in ((dx, dy), (dx, dx), (dy, dy)))
        return xy / np.sqrt(xx * yy)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Midranks (B, N) of values (N,) that occur as often as the weights (B, N) state."""
    _, tied = np.unique(values, return_inverse=True)
    order = np.argsort(tied, kind="stable")
    starts = np.flatnonzero(np.diff(tied[order], prepend=-1))
    many = np.add.reduceat(weights[:, order], starts, axis=1)
    return (many.cumsum(axis=1) - (many - 1) / 2)[:, tied]


def _kendall(x: np.ndarray, y: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (B,) under weights (B, C) of clusters; ``codes`` (N,) is each pair's cluster.

    The numbers of concordant, discordant and untied pairs of pairs are counted once for every two
    clusters, (C, C); a resample weighs these counts.
    """
    count = weights.shape[1]
    order = np.argsort(codes, kind="stable")
    x, y, codes = x[order], y[order], codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    sums = np.zeros((3, count, count))
    size = max(1, _CHUNK // len(x))
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        sx, sy = (np.sign(v[part, None] - v[None, :]) for v in (x, y))
        for total, signs in zip(sums, (sx * sy, np.abs(sx), np.abs(sy)), strict=True):
            np.add.at(total, codes[part], np.add.reduceat(signs, starts, axis=1))
    agree, in_x, in_y = (((weights @ total) * weights).sum(axis=1) for total in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return agree / np.sqrt(in_x * in_y)


# --- The curve ---------------------------------------------------------------------------------

# Below this width, in standard deviations of the distances, a logistic is a step.
_NARROW = 1e-6


def _mapped(distance: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Distances mapped to scores by the fitted curve, with the sign that keeps them increasing."""
    curve = fit_logistic(distance, score)
    return logistic(distance, *curve) * (1.0 if curve[0] >= curve[1] else -1.0)


def _safe_logistic(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    return logistic(x, b1, b2, b3, max(abs(b4), _NARROW))


def _residual(curve: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(logistic(x, *curve) - y).sum())


def _standardized(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    mean, deviation = float(values.mean()), float(values.std())
    return (values - mean) / deviation, mean, deviation


def _vectors(
    distance: Vector,
    score: Vector,
    least: int = 2,
    names: tuple[str, str] = ("distance", "score"),
) -> tuple[np.ndarray, np.ndarray]:
    """Both vectors as float64 (N,), or ValueError that names the problem."""
    arrays = []
    for name, values in zip(names, (distance, score), strict=True):
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().numpy()
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or len(array) < least:
            raise ValueError(f"{name} must be (N,) with N from {least}; got shape {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite; got {array[~np.isfinite(array)][0]}")
        if (array == array[0]).all():
            raise ValueError(f"{name} must not be constant; every value is {array[0]:g}")
        arrays.append(array)
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(
            f"{names[0]} and {names[1]} must have one length; "
            f"got {len(arrays[0])} and {len(arrays[1])}"
        )
    return arrays[0], arrays[1]
