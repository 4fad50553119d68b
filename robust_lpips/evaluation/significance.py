"""Which differences between metrics hold: paired bootstrap intervals and McNemar's test."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from robust_lpips.evaluation.bootstrap import Cluster, photograph
from robust_lpips.evaluation.distances import few
from robust_lpips.evaluation.scores import difference_rows, groups_of, paired_outcomes


class McNemar(NamedTuple):
    """Of two metrics on the same triplets: flips of one alone, and how likely that is by chance."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(a: np.ndarray, b: np.ndarray) -> McNemar:
    """McNemar's exact test of whether two metrics flip equally often on the same triplets.

    Triplets on which both flip, or neither, say nothing. Were the metrics alike, each of the
    others would be a flip of one or the other with probability 1/2: the two-sided p-value is that
    of the binomial distribution, 1 where there are no others.

    The test takes triplets to be independent. Those of BAPPS may pass for that; patches of one
    photograph do not, and p comes out too small. On the sample set the clustered intervals of
    :func:`compare_pairs` are what counts.

    Args:
        a: (N,) bool, on which triplets one metric flips.
        b: (N,) bool, on which the other does.

    Raises:
        ValueError: not bool, not (N,), empty, or of different lengths.

    Source: McNemar, Psychometrika 12, 1947; the exact form.

    >>> mcnemar(np.arange(12) < 3, np.arange(12) >= 3)
    McNemar(only_a=3, only_b=9, p_value=0.14599609375)
    """
    from scipy.stats import binomtest

    a, b = np.asarray(a), np.asarray(b)
    for name, flips in (("a", a), ("b", b)):
        if flips.dtype != bool or flips.ndim != 1 or flips.size == 0:
            raise ValueError(
                f"{name} must be bool of shape (N,) with N >= 1; got {flips.dtype} {flips.shape}"
            )
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape; got {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return McNemar(0, 0, 1.0)
    return McNemar(only_a, only_b, float(binomtest(only_a, only_a + only_b).pvalue))


def compare_pairs(
    tables: Mapping[str, pd.DataFrame],
    pairs: Iterable[tuple[str, str]] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """Of many metrics on the same samples, which two differ, in 2AFC and in r_rf.

    The intervals are those of :func:`~robust_lpips.evaluation.paired_difference`, to the number:
    a pair's rows do not depend on the other tables. Nothing is corrected for the number of pairs.

    McNemar's test counts the flips of all subsets together, while r_rf is the mean over subsets,
    and it takes triplets to be independent, see :func:`mcnemar`. On the sample set, where many
    patches share a photograph, rely on the clustered intervals, not on the p-values.

    Args:
        tables: the table of :func:`~robust_lpips.evaluation.measure` by metric, all on the same
            samples and shifts.
        pairs: (a, b) names of ``tables`` to compare; None: every two, in their order. Tables that
            no pair names are not looked at.
        n_boot: how many resamples; 0: no intervals (NaN), and nothing holds.
        seed: of the resamples.
        cluster: names a sample's cluster, see :func:`~robust_lpips.evaluation.summarize`.

    Returns:
        A row a pair and quantity, ``two_afc`` and every ``rrf_n``: ``a, b`` (names), ``quantity``,
        ``value_a, value_b`` (means over subsets, in percent), ``difference`` (a - b), ``low,
        high`` (95 %, in percentage points), ``holds`` (bool, the interval excludes 0; False where
        it is NaN), and ``only_a, only_b, p_value`` of McNemar's test on the flips, NaN for
        ``two_afc``.

    Raises:
        ValueError: fewer than two tables, pairs that are none or name an unknown table, or tables
            that cannot be scored or paired; the message names them.
    """
    pairs = _checked_pairs(tables, pairs)
    used = dict.fromkeys(itertools.chain(*pairs))
    outcomes = paired_outcomes({name: tables[name] for name in used})
    rows = [_pair_rows(outcomes, a, b, n_boot, seed, cluster) for a, b in pairs]
    return pd.concat(rows, ignore_index=True)


def group_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """How two metrics differ by group of BAPPS: distortions, real algorithms and all.

    Args and errors are those of :func:`~robust_lpips.evaluation.paired_difference`.

    Returns:
        Rows of each group that the tables have subsets of, ``all`` last, and in it of each
        quantity: ``group, quantity, a, b, difference, low, high`` as there, means over the group's
        subsets, and ``holds``, whether the interval excludes 0.
    """
    a, b = paired_outcomes({"a": a, "b": b}).values()
    groups = groups_of(list(a["subset"].unique()))
    return _with_holds(difference_rows(a, b, groups, n_boot, seed, cluster))


def _checked_pairs(
    tables: Mapping[str, pd.DataFrame], pairs: Iterable[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    if len(tables) < 2:
        raise ValueError(
            f"tables must be of two metrics or more; got {', '.join(tables) or 'none'}"
        )
    pairs = list(itertools.combinations(tables, 2) if pairs is None else pairs)
    if not pairs:
        raise ValueError("pairs must name at least one pair; got none")
    unknown = {name: None for pair in pairs for name in pair if name not in tables}
    if unknown:
        raise ValueError(f"pairs must name tables ({', '.join(tables)}); got {few(unknown)}")
    return pairs


def _pair_rows(
    outcomes: dict[str, pd.DataFrame], a: str, b: str, n_boot: int, seed: int, cluster: Cluster
) -> pd.DataFrame:
    groups = [("all", list(outcomes[a]["subset"].unique()))]
    rows = difference_rows(outcomes[a], outcomes[b], groups, n_boot, seed, cluster)
    rows = rows.drop(columns="group").rename(columns={"a": "value_a", "b": "value_b"})
    rows.insert(0, "a", a)
    rows.insert(1, "b", b)
    tests = [
        mcnemar(*(outcomes[name][quantity].to_numpy() > 0 for name in (a, b)))
        if quantity.startswith("rrf_")
        else (np.nan,) * len(McNemar._fields)
        for quantity in rows["quantity"]
    ]
    rows = _with_holds(rows)
    rows[list(McNemar._fields)] = np.array(tests, dtype=np.float64)
    return rows


def _with_holds(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(holds=(rows["low"] > 0) | (rows["high"] < 0))
