"""How well distances agree with people's scores of image quality: SRCC, KRCC and PLCC."""

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

# A line is a logistic that is this many times wider than the distances, to six digits.
_WIDE = 1e3
# Pairs of pairs that are compared at a time: 2 ** 22 of 8 bytes are 32 MiB.
_CHUNK = 2**22


# --- Numbers from arrays -----------------------------------------------------------------------


def srcc(distance: Vector, score: Vector) -> float:
    """Spearman's rank correlation, in [-1, 1]; negative where scores fall as distances grow.

    Args:
        distance: (N,) distances, N at least 2.
        score: (N,) scores.

    Raises:
        ValueError: naming the argument that is of another shape, not finite, or constant.

    >>> round(srcc([0.1, 0.2, 0.3, 0.4], [9, 5, 6, 1]), 3)
    -0.8
    """
    from scipy.stats import spearmanr

    return float(spearmanr(*_vectors(distance, score)).statistic)


def krcc(distance: Vector, score: Vector) -> float:
    """Kendall's rank correlation tau-b, in [-1, 1]; arguments, sign and errors are of :func:`srcc`.

    >>> round(krcc([0.1, 0.2, 0.3, 0.4], [9, 5, 6, 1]), 3)
    -0.667
    """
    from scipy.stats import kendalltau

    # The p-value is not used, and the exact one takes long.
    return float(kendalltau(*_vectors(distance, score), method="asymptotic").statistic)


def plcc(distance: Vector, score: Vector) -> float:
    """Pearson's correlation of scores and distances, which a logistic first maps onto scores.

    The curve, :func:`fit_logistic`, may rise or fall, so that the correlation after it says nothing
    about the direction; here it has the curve's sign: negative where scores fall as distances grow.

    Args:
        distance: (N,) distances, N at least 5.
        score: (N,) scores.

    Raises:
        ValueError: naming the argument that is of another shape, not finite, or constant.

    Source: Sheikh, Sabir and Bovik, IEEE Trans. Image Processing 2006, section III; VQEG, 2000.
    """
    distance, score = _vectors(distance, score, least=5)
    return float(_pearson(_mapped(distance, score), score, np.ones((1, len(score))))[0])


def logistic(x: Vector, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """(b1 - b2) / (1 + exp(-(x - b3) / abs(b4))) + b2, which goes from b2 to b1 as x grows.

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
        (4,) b1, b2, b3, b4, with b4 above 0. Where the fit fails, with a warning, those of a
        logistic so wide that it is the least squares line.

    Raises:
        ValueError: naming the argument that is of another shape, not finite, or constant.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    x, y = _vectors(x, y, least=5, names=("x", "y"))
    # In units of their own, so that the start and the steps fit any metric.
    (u, middle, width), (v, mean, height) = _standardized(x), _standardized(y)
    slope = float(np.mean(u * v))
    way = 1.0 if srcc(x, y) >= 0 else -1.0
    start = [way * 2, -way * 2, float(np.median(u)), 1.0]
    line = np.array([2 * _WIDE * slope, -2 * _WIDE * slope, 0.0, _WIDE])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # of the covariance, which is not used
            best, _ = curve_fit(_safe_logistic, u, v, start, maxfev=10_000)
        best[3] = max(abs(best[3]), _NARROW)
        failed = not np.isfinite(best).all() or _residual(best, u, v) > 1.001 * _residual(
            line, u, v
        )
    except RuntimeError:
        failed = True
    if failed:
        warnings.warn(
            "the logistic could not be fitted: a straight line stands in for it", stacklevel=2
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

    Positive is agreement with people: the larger the distance, the worse they find the image.

    Intervals are bootstrap percentiles over references: one draw of references, with replacement,
    resamples every subset, because the subsets distort the same references. For PLCC the curve
    that was fitted to all pairs of the row is held, not fitted anew, so that its interval lacks
    the uncertainty of the curve. With few references the intervals lie high, and may even miss the
    point: pairs of a reference that is drawn twice agree with each other. Resamples in which
    distances or scores are constant are left out.

    Args:
        distances: ``subset, sample, distance, score``, as :func:`~robust_lpips.evaluation.measure`
            makes them.
        higher_is_better: whether a higher score is a better image (MOS), not a worse one (DMOS).
        n_boot: how many resamples; 0: no intervals (NaN).
        seed: of the resamples.
        cluster: names a sample's reference; None: each sample its own.

    Returns:
        A row a subset, in order of appearance; a row ``mean`` over subsets; and a last row
        ``all``, over all pairs at once, which is what the field reports: ``subset, n, srcc,
        srcc_low, srcc_high`` and the same of ``plcc`` and ``krcc``, in [-1, 1]. Bounds are NaN
        where a subset has a single reference.

    Raises:
        ValueError: columns or rows that are missing, repeated, or out of range; a subset of fewer
            than five pairs, or whose distances or scores are constant.
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
    """The statistics (3,) of one subset, and of each resample (B, 3)."""
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
    """(B, C): how often each reference is in each resample."""
    parts = list(bootstrap_weights(np.arange(references), n_boot, generator(seed, "references")))
    return np.concatenate(parts) if parts else np.empty((0, references))


# --- Statistics of resamples, by how often each pair is in them ---------------------------------


def _pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) correlations under weights (B, N); x and y are (N,) or (B, N). NaN where constant."""
    total = weights.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        dx, dy = (v - (weights * v).sum(axis=-1, keepdims=True) / total for v in (x, y))
        xy, xx, yy = ((weights * a * b).sum(axis=-1) for a, b in ((dx, dy), (dx, dx), (dy, dy)))
        return xy / np.sqrt(xx * yy)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, N) midranks of values (N,), each of which is there as often as its weight says."""
    _, tied = np.unique(values, return_inverse=True)
    order = np.argsort(tied, kind="stable")
    starts = np.flatnonzero(np.diff(tied[order], prepend=-1))
    many = np.add.reduceat(weights[:, order], starts, axis=1)
    return (many.cumsum(axis=1) - (many - 1) / 2)[:, tied]


def _kendall(x: np.ndarray, y: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) tau-b under weights (B, C) of clusters; ``codes`` (N,) says of which each pair is.

    Concordant minus discordant, and pairs that are not tied, are sums over two clusters each; they
    are counted once, and a resample only weighs them.
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

# Below this width, in deviations of the distances, a logistic is a step.
_NARROW = 1e-6


def _mapped(distance: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Distances on the scale of scores by the fitted curve, turned so that they still grow."""
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
    """Both as float64 (N,), or ValueError naming what is wrong."""
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
