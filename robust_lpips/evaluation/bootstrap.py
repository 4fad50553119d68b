"""Bootstrap intervals: clusters of samples are resampled within each subset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

# Counts drawn at a time: 2 ** 22 of 8 bytes are 32 MiB.
_CHUNK = 2**22
_LEVEL = 0.95

Cluster = Callable[[str], str] | None


def photograph(sample: str) -> str:
    """Name of a sample's photograph: the part of the stem before the last ``-``.

    The sample set names its files ``<photograph>-000123``, and patches of one photograph are not
    independent. A stem without ``-``, as in BAPPS, counts as a separate photograph.

    >>> photograph("brick-wall-000123"), photograph("000123")
    ('brick-wall', '000123')
    """
    return sample.rpartition("-")[0] or sample


def cluster_codes(samples: Sequence[str], cluster: Cluster) -> np.ndarray:
    """Cluster index of each sample, (N,) in 0 .. C-1; without ``cluster`` all are different."""
    if cluster is None:
        return np.arange(len(samples))
    return pd.factorize(np.asarray([cluster(sample) for sample in samples], dtype=object))[0]


def generator(seed: int, subset: str) -> np.random.Generator:
    """Random generator of one subset, independent of other subsets and of the order of rows."""
    return np.random.default_rng([seed, *subset.encode()])


def bootstrap_means(
    values: np.ndarray, clusters: np.ndarray, n_boot: int, rng: np.random.Generator
) -> np.ndarray:
    """Means of ``n_boot`` resamples of whole clusters.

    Args:
        values: (N, Q), Q numbers per sample.
        clusters: (N,) cluster index of each sample, from 0.
        n_boot: B, the number of resamples.
        rng: source of the random draws.

    Returns:
        (B, Q). NaN if there is a single cluster, of which all resamples are equal.
    """
    count = int(clusters.max()) + 1
    if count < 2:
        return np.full((n_boot, values.shape[1]), np.nan)
    totals = np.zeros((count, values.shape[1] + 1))
    np.add.at(totals, clusters, np.column_stack([values, np.ones(len(values))]))
    # Judgments and flips take few values, so many clusters have equal sums. Drawing how often each
    # distinct sum occurs is the same bootstrap, with dozens of sums instead of thousands.
    kinds, many = np.unique(totals, axis=0, return_counts=True)
    sums = [draws @ kinds for draws in _draws(many, n_boot, rng)]
    sums = np.concatenate(sums) if sums else np.empty((0, kinds.shape[1]))
    return sums[:, :-1] / sums[:, -1:]


def bootstrap_weights(
    clusters: np.ndarray, n_boot: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Counts of each sample in each resample, in chunks (b, N) of ``n_boot`` rows in total."""
    many = np.ones(int(clusters.max()) + 1, dtype=np.int64)
    # A chunk has one column per sample; there are more samples than clusters.
    for draws in _draws(many, n_boot, rng, width=len(clusters)):
        yield draws[:, clusters]


def interval(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the 95 % percentile interval over axis 0; NaN without replicates."""
    if len(replicates) == 0:
        nothing = np.full(replicates.shape[1:], np.nan)
        return nothing, nothing
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return low, high


def _draws(
    many: np.ndarray, n_boot: int, rng: np.random.Generator, width: int = 0
) -> Iterator[np.ndarray]:
    """Counts of each kind of cluster in each resample, in chunks (b, K)."""
    rows = max(1, _CHUNK // max(width, len(many)))
    for start in range(0, n_boot, rows):
        size = min(rows, n_boot - start)
        yield rng.multinomial(many.sum(), many / many.sum(), size=size)
