"""Bootstrap intervals: clusters of samples drawn anew, with replacement, within each subset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

# Counts drawn at a time: 2 ** 22 of 8 bytes are 32 MiB.
_CHUNK = 2**22
_LEVEL = 0.95

Cluster = Callable[[str], str] | None


def photograph(sample: str) -> str:
    """The photograph that a sample comes from: what stands before the last ``-`` of its stem.

    The sample set names its files ``<photograph>-000123``, and patches of one photograph are not
    independent. A stem without ``-``, as BAPPS has them, is a photograph of its own.

    >>> photograph("brick-wall-000123"), photograph("000123")
    ('brick-wall', '000123')
    """
    return sample.rpartition("-")[0] or sample


def cluster_codes(samples: Sequence[str], cluster: Cluster) -> np.ndarray:
    """Number of each sample's cluster, (N,) in 0 .. C-1; each its own where ``cluster`` is None."""
    if cluster is None:
        return np.arange(len(samples))
    return pd.factorize(np.asarray([cluster(sample) for sample in samples], dtype=object))[0]


def generator(seed: int, subset: str) -> np.random.Generator:
    """Random numbers of one subset, which depend on no other subset and no order of rows."""
    return np.random.default_rng([seed, *subset.encode()])


def bootstrap_means(
    values: np.ndarray, clusters: np.ndarray, n_boot: int, rng: np.random.Generator
) -> np.ndarray:
    """Means of ``n_boot`` resamples of whole clusters.

    Args:
        values: (N, Q), Q numbers a sample.
        clusters: (N,) number of each sample's cluster, from 0.
        n_boot: B, how many resamples.
        rng: where the draws come from.

    Returns:
        (B, Q). NaN where there is a single cluster: resampling it tells nothing.
    """
    count = int(clusters.max()) + 1
    if count < 2:
        return np.full((n_boot, values.shape[1]), np.nan)
    totals = np.zeros((count, values.shape[1] + 1))
    np.add.at(totals, clusters, np.column_stack([values, np.ones(len(values))]))
    # Judgments and flips take few values, so that many clusters are alike. Drawing how often each
    # kind comes up is the same bootstrap, and thousands of clusters become some dozens of kinds.
    kinds, many = np.unique(totals, axis=0, return_counts=True)
    sums = [draws @ kinds for draws in _draws(many, n_boot, rng)]
    sums = np.concatenate(sums) if sums else np.empty((0, kinds.shape[1]))
    return sums[:, :-1] / sums[:, -1:]


def bootstrap_weights(
    clusters: np.ndarray, n_boot: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each sample is in each resample, (b, N) at a time, ``n_boot`` rows in all."""
    many = np.ones(int(clusters.max()) + 1, dtype=np.int64)
    # A chunk has a column a sample, of which there are more than clusters.
    for draws in _draws(many, n_boot, rng, width=len(clusters)):
        yield draws[:, clusters]


def interval(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the 95 % percentile interval over axis 0; NaN where there are no replicates."""
    if len(replicates) == 0:
        nothing = np.full(replicates.shape[1:], np.nan)
        return nothing, nothing
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return low, high


def _draws(
    many: np.ndarray, n_boot: int, rng: np.random.Generator, width: int = 0
) -> Iterator[np.ndarray]:
    """How often each kind comes up in as many draws as there are clusters, (b, K) at a time."""
    rows = max(1, _CHUNK // max(width, len(many)))
    for start in range(0, n_boot, rows):
        size = min(rows, n_boot - start)
        yield rng.multinomial(many.sum(), many / many.sum(), size=size)
