"""Significance of differences between metrics: paired bootstrap and McNemar's test."""

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
    """Result of McNemar's test: number of flips of one metric only, and the p-value."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar(a: np.ndarray, b: np.ndarray) -> McNemar:
    """McNemar's exact test of the null hypothesis that two metrics flip equally often.

    Triplets on which both metrics flip, or neither, carry no information. Under the null
    hypothesis each of the others is a flip of one or the other metric with probability 1/2, so
    the two-sided p-value is that of the binomial distribution; it is 1 if there are no others.

    The test assumes independent triplets, which roughly holds for BAPPS. Patches of one photograph
    are dependent, and p is then too small: on the sample set use the clustered intervals of
    :func:`compare_pairs`.

    Args:
        a: (N,) bool, True where the first metric flips.
        b: (N,) bool, True where the second metric flips on the same triplet.

    Raises:
        ValueError: an argument is not bool, not (N,) or empty, or the lengths differ.

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
    """Compare pairs of metrics on the same samples, in 2AFC and in r_rf.

    The intervals equal those of :func:`~robust_lpips.evaluation.paired_difference`: a pair's rows
    do not depend on the other tables. There is no correction for multiple comparisons.

    McNemar's test counts the flips of all subsets together, while r_rf is the mean over subsets,
    and it takes triplets to be independent, see :func:`mcnemar`. On the sample set, where many
    patches share a photograph, rely on the clustered intervals, not on the p-values.

    Args:
        tables: tables of :func:`~robust_lpips.evaluation.measure` by metric, all on the same
            samples and shifts.
        pairs: (a, b) names of ``tables`` to compare; None: all pairs, in order. Tables that no
            pair names are ignored.
        n_boot: number of resamples; 0: no intervals (NaN), and no difference holds.
        seed: of the resamples.
        cluster: gives a sample's cluster, see :func:`~robust_lpips.evaluation.summarize`.

    Returns:
        One row per pair and quantity (``two_afc`` and every ``rrf_n``): ``a, b`` (names),
        ``quantity``, ``value_a, value_b`` (means over subsets, in percent), ``difference``
        (a - b), ``low, high`` (95 %, in percentage points), ``holds`` (bool: the interval excludes
        0; False if it is NaN), and ``only_a, only_b, p_value`` of McNemar's test on the flips, NaN
        for ``two_afc``.

    Raises:
        ValueError: fewer than two tables, no pairs, a pair that names an unknown table, or tables
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
    """Differences between two metrics by group of BAPPS: distortions, real algorithms, and all.

    Args and errors are those of :func:`~robust_lpips.evaluation.paired_difference`.

    Returns:
        One row per group and quantity, for the groups with subsets in the tables, ``all`` last:
        ``group, quantity, a, b, difference, low, high`` as in ``paired_difference``, with means
        over the group's subsets, and ``holds`` (bool: the interval excludes 0).
    """
    a, b = paired_outcomes({"a": a, "b": b}).values()
    groups = groups_of(list(a["subset"].unique()))
    return _with_holds(difference_rows(a, b, groups, n_boot, seed, cluster))


def compare_groups(
    tables: Mapping[str, pd.DataFrame],
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """Compare all pairs of metrics by group of BAPPS: :func:`group_differences` of each pair.

    Args and errors are those of :func:`compare_pairs`.

    Returns:
        ``a, b`` (names), ``group, quantity, value_a, value_b, difference, low, high, holds``.
    """
    given, names = (n_boot, seed, cluster), {"a": "value_a", "b": "value_b"}
    rows = {
        (a, b): group_differences(tables[a], tables[b], *given).rename(columns=names)
        for a, b in _checked_pairs(tables, None)
    }
    return pd.concat(rows, names=["a", "b"]).reset_index(["a", "b"]).reset_index(drop=True)


def signs(differences: pd.DataFrame) -> pd.DataFrame:
    """Differences that hold as a square table: one row and one column per metric, by name.

    Args:
        differences: rows of one quantity of :func:`compare_pairs` on all pairs.

    Returns:
        1 where the row's score is higher than the column's and the difference holds, -1 where it
        is lower and holds, else 0.
    """
    names = list(dict.fromkeys([*differences["a"], *differences["b"]]))
    held = np.sign(differences["difference"]).where(differences["holds"], 0)
    wide = differences.assign(sign=held).pivot(index="a", columns="b", values="sign")
    wide = wide.reindex(index=names, columns=names).fillna(0).astype(int)
    return (wide - wide.T).rename_axis(index=None, columns=None)


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
