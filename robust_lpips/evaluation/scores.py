"""Numbers from distances: 2AFC, rank flips, JND, ceilings and their tables. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from robust_lpips.evaluation.bootstrap import (
    Cluster,
    bootstrap_means,
    bootstrap_weights,
    cluster_codes,
    generator,
    interval,
    photograph,
)
from robust_lpips.evaluation.distances import PAIRS, TripletTable, check_table, few

Vector = Sequence[float] | np.ndarray | torch.Tensor

# The columns by group of Zhang et al., CVPR 2018; "all" is every subset of a table.
GROUPS = {
    "distortions": ("traditional", "cnn"),
    "real": ("superres", "deblur", "color", "frameinterp"),
}

# People agree if at least this share gave the same answer: four of BAPPS's five.
AGREED = 0.8

_SHARES = ("judge", "same")
# Shares such as 0.8 may have been rounded to float32.
_TOLERANCE = 1e-6


# --- Numbers from arrays -----------------------------------------------------------------------


def two_afc_score(d0: Vector, d1: Vector, judge: Vector) -> float:
    """Two-alternative forced choice score: the share of people who agree with the metric.

    Args:
        d0: (N,) distances of the reference to p0.
        d1: (N,) distances of the reference to p1.
        judge: (N,) share of people, in [0, 1], who found p1 closer.

    Returns:
        The mean, in [0, 1], of ``judge`` if d1 < d0, ``1 - judge`` if d0 < d1, and 0.5 if they are
        equal.

    Raises:
        ValueError: an argument is empty, has another shape, is not finite, or is out of range.

    Source: Zhang et al., CVPR 2018, section 2.2.

    >>> two_afc_score([0.1, 0.4, 0.2], [0.3, 0.3, 0.2], [0.0, 0.8, 1.0])
    0.7666666666666666
    """
    d0, d1, judge = _vectors(d0=d0, d1=d1, judge=judge)
    return float(credit(d0, d1, judge).mean())


def rank_flips(d0: Vector, d1: Vector, d0_shifted: Vector, d1_shifted: Vector) -> np.ndarray:
    """Triplets whose ranking, the patch that is nearer, changes with a shift.

    Args:
        d0: (N,) distances of the reference to p0.
        d1: (N,) distances of the reference to p1.
        d0_shifted: (N,) distances of the reference to the shifted p0.
        d1_shifted: (N,) distances of the reference to the shifted p1.

    Returns:
        (N,) bool: ``d0 < d1`` differs from ``d0_shifted < d1_shifted``.

    Raises:
        ValueError: an argument is empty, has another shape, or is not finite.

    Source: Ghildyal and Liu, ECCV 2022.
    """
    d0, d1, d0_shifted, d1_shifted = _vectors(
        d0=d0, d1=d1, d0_shifted=d0_shifted, d1_shifted=d1_shifted
    )
    return (d0 < d1) != (d0_shifted < d1_shifted)


def rank_flip_rate(d0: Vector, d1: Vector, d0_shifted: Vector, d1_shifted: Vector) -> float:
    """Share of triplets, in [0, 1], whose ranking changes with a shift.

    Arguments, errors and source are those of :func:`rank_flips`.

    >>> rank_flip_rate([1.0, 1.0], [2.0, 2.0], [1.1, 2.1], [1.9, 1.9])
    0.5
    """
    return float(rank_flips(d0, d1, d0_shifted, d1_shifted).mean())


def jnd_map(distance: Vector, same: Vector) -> float:
    """Average precision, in [0, 1], of small distances as detectors of pairs that look the same.

    Pairs are sorted by distance; ``same`` and ``1 - same`` are summed to true and false positives.
    The score is the area under the monotone envelope of precision over recall (all points, as in
    Pascal VOC since 2010). Equal distances are one point of the curve, so the order among them has
    no effect.

    Args:
        distance: (N,) distances of the pairs.
        same: (N,) share of people, in [0, 1], who judged the images of the pair to be the same.

    Raises:
        ValueError: an argument is empty, has another shape, is not finite, or is out of range, or
            ``same`` is 0 for all pairs.

    Source: Zhang et al., CVPR 2018, section 2.2 (just noticeable differences).

    >>> jnd_map([0.1, 0.2, 0.3], [1, 0, 1])
    0.8333333333333333
    """
    distance, same = _vectors(distance=distance, same=same)
    if same.sum() == 0:
        raise ValueError("same has no positives: average precision is not defined")
    return float(_average_precision(distance, same, np.ones((1, len(same))))[0])


class Ceilings(NamedTuple):
    """2AFC scores, in [0, 1], of an oracle and of one more person."""

    oracle: float
    one_more_person: float


def ceilings(judge: Vector) -> Ceilings:
    """Upper bounds of 2AFC, from people's judgments alone.

    An oracle always sides with the majority: mean of max(j, 1 - j). One more person, who chooses
    p1 with probability j, scores the mean of j^2 + (1 - j)^2.

    Args:
        judge: (N,) share of people, in [0, 1], who found p1 closer.

    Raises:
        ValueError: ``judge`` is empty, not (N,), not finite, or out of range.

    Source: Zhang et al., CVPR 2018; one more person is the row "human" of their tables.

    >>> ceilings([0.5, 1.0])
    Ceilings(oracle=0.75, one_more_person=0.75)
    """
    (judge,) = _vectors(judge=judge)
    people = judge**2 + (1 - judge) ** 2
    return Ceilings(float(np.maximum(judge, 1 - judge).mean()), float(people.mean()))


# --- Tables from tables ------------------------------------------------------------------------


def triplet_outcomes(distances: pd.DataFrame) -> pd.DataFrame:
    """Contribution of each triplet to each score; a score is the mean over a subset's rows.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure`.

    Returns:
        ``subset, sample, judge``; ``two_afc``, in [0, 1], on the view ``full``; and ``rrf_n``, 1
        if the ranking at shift n differs from that at shift 0, else 0, for every shift above 0.

    Raises:
        ValueError: columns, views or rows are missing, repeated, or out of range.
    """
    return _outcomes(TripletTable.from_tidy(distances))


def summarize(
    distances: pd.DataFrame,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """2AFC and r_rf of each subset, and their means over subsets, with 95 % intervals.

    2AFC is scored on the view ``full``; r_rf(n) is the share of triplets whose ranking at shift n
    differs from that at shift 0. The largest shift decides how the patches are cropped: report it
    with the numbers (:func:`~robust_lpips.evaluation.max_shift_of`).

    Intervals are bootstrap percentiles. Clusters are resampled independently within each subset,
    and the interval of the last row is that of the mean over subsets.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure`.
        n_boot: number of resamples; 0: no intervals (NaN).
        seed: of the resamples. A subset's interval does not depend on the other subsets.
        cluster: gives a sample's cluster, which is resampled as a whole; None: all samples are
            independent. By default, patches of one photograph of the sample set are a cluster,
            and each sample of BAPPS is one.

    Returns:
        One row per subset, in order of appearance, and a last row ``mean``: ``subset, n, two_afc,
        two_afc_low, two_afc_high``, and ``rrf_n, rrf_n_low, rrf_n_high`` for every shift n, all in
        percent. Bounds are NaN if a subset has a single cluster.

    Raises:
        ValueError: columns, views or rows are missing, repeated, or out of range.

    Source: Zhang et al., CVPR 2018 (2AFC); Ghildyal and Liu, ECCV 2022 (r_rf).
    """
    outcomes = triplet_outcomes(distances)
    subsets = list(outcomes["subset"].unique())
    groups = [(subset, [subset]) for subset in subsets] + [("mean", subsets)]
    return _group_rows(outcomes, "subset", groups, n_boot, seed, cluster)


def group_scores(
    distances: pd.DataFrame,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """2AFC and r_rf by group of BAPPS: distortions, real algorithms and all, with intervals.

    Args and errors are those of :func:`summarize`.

    Returns:
        Rows ``distortions`` (traditional, cnn), ``real`` (superres, deblur, color, frameinterp)
        and ``all`` (all subsets of the table), without empty groups. Columns ``group``;
        ``subsets``, the group's subsets that the table has; ``n``; and the scores of
        :func:`summarize`, means over ``subsets``.
    """
    outcomes = triplet_outcomes(distances)
    groups = groups_of(list(outcomes["subset"].unique()))
    rows = _group_rows(outcomes, "group", groups, n_boot, seed, cluster)
    rows.insert(1, "subsets", [", ".join(members) for _, members in groups])
    return rows


def paired_difference(
    a: pd.DataFrame,
    b: pd.DataFrame,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """Difference between two metrics on the same samples, with 95 % intervals.

    Both metrics are resampled together (paired bootstrap), so that the difficulty of the samples
    cancels.

    Args:
        a: table of :func:`~robust_lpips.evaluation.measure` of one metric.
        b: table of the other metric, on the same samples and shifts.
        n_boot: number of resamples; 0: no intervals (NaN).
        seed: of the resamples.
        cluster: gives a sample's cluster, see :func:`summarize`.

    Returns:
        Rows ``two_afc`` and ``rrf_n`` for every shift n: ``quantity, a, b`` (means over subsets,
        in percent), ``difference`` (a - b), ``low, high``, in percentage points.

    Raises:
        ValueError: a table cannot be scored, or samples, judgments or shifts of the two differ.
    """
    a, b = paired_outcomes({"a": a, "b": b}).values()
    groups = [("all", list(a["subset"].unique()))]
    return difference_rows(a, b, groups, n_boot, seed, cluster).drop(columns="group")


def ceilings_table(distances: pd.DataFrame) -> pd.DataFrame:
    """Upper bounds of 2AFC by subset, and their means over subsets: see :func:`ceilings`.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure`; only judgments are used.

    Returns:
        One row per subset and a last row ``mean``: ``subset, n, oracle, one_more_person``, in
        percent.

    Raises:
        ValueError: columns, views or rows are missing, repeated, or out of range.
    """
    triplets = TripletTable.from_tidy(distances).triplets
    rows = pd.DataFrame(
        {"subset": subset, "n": len(judge)}
        | {name: 100 * value for name, value in ceilings(judge)._asdict().items()}
        for subset, judge in triplets.groupby("subset", sort=False)["judge"]
    )
    return _with_mean(rows, counts=["n"])


def group_ceilings(distances: pd.DataFrame) -> pd.DataFrame:
    """Upper bounds of 2AFC by group of BAPPS: see :func:`ceilings`.

    Args and errors are those of :func:`ceilings_table`.

    Returns:
        Rows as :func:`group_scores`: ``group, subsets``, and means over the group's subsets,
        ``oracle, one_more_person``, in percent.
    """
    by_subset = ceilings_table(distances).iloc[:-1].set_index("subset").drop(columns="n")
    groups = groups_of(list(by_subset.index))
    return pd.DataFrame(
        {"group": group, "subsets": ", ".join(members), **by_subset.loc[members].mean()}
        for group, members in groups
    )


def flip_details(distances: pd.DataFrame) -> pd.DataFrame:
    """Rank flips in detail: their number, their effect on 2AFC, and people's agreement.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure`, with shifts.

    Returns:
        One row per shift (0 included) and subset, then one row ``mean`` per shift, with means over
        subsets and the sums of ``n`` and ``flips``. Columns ``subset, shift, n, flips``, and in
        percent:

        - ``rrf``: share of triplets whose ranking differs from that at shift 0;
        - ``two_afc``: 2AFC at that shift;
        - ``better``, ``worse``: share of the flips to the choice of the majority, and of the
          minority. The rest are flips on which people were evenly split;
        - ``rrf_agreed``, ``rrf_split``: r_rf of triplets on which at least 80 % of people gave the
          same answer (``max(judge, 1 - judge) >= 0.8``), and of the others.

        Shares of empty sets are NaN; means ignore them.

    Raises:
        ValueError: columns, views or rows are missing, repeated, or out of range, or there are no
            shifted views.
    """
    table = TripletTable.from_tidy(distances)
    if not table.shifted:
        raise ValueError("distances must have shifted views")
    judge = table.triplets["judge"].to_numpy(dtype=np.float64)
    agreed = np.maximum(judge, 1 - judge) >= AGREED - _TOLERANCE
    unshifted = table.shifted[0.0]
    before = credit(*unshifted, judge)
    rows = []
    for shift, shifted in table.shifted.items():
        flipped = rank_flips(*unshifted, *shifted)
        after = credit(*shifted, judge)
        for subset, index in table.triplets.groupby("subset", sort=False).indices.items():
            flips = index[flipped[index]]
            rows.append(
                {
                    "subset": subset,
                    "shift": shift,
                    "n": len(index),
                    "flips": len(flips),
                    "rrf": _percent(flipped[index]),
                    "two_afc": _percent(after[index]),
                    "better": _percent(after[flips] > before[flips]),
                    "worse": _percent(after[flips] < before[flips]),
                    "rrf_agreed": _percent(flipped[index[agreed[index]]]),
                    "rrf_split": _percent(flipped[index[~agreed[index]]]),
                }
            )
    rows = pd.DataFrame(rows)
    order = {subset: i for i, subset in enumerate(table.triplets["subset"].unique())}
    rows = rows.sort_values("subset", key=lambda subset: subset.map(order), kind="stable")
    means = [
        _with_mean(of_shift, counts=["n", "flips"]).tail(1).assign(shift=shift)
        for shift, of_shift in rows.groupby("shift")
    ]
    return pd.concat([rows, *means], ignore_index=True)


def jnd_table(
    distances: pd.DataFrame,
    n_boot: int = 1000,
    seed: int = 0,
    cluster: Cluster = photograph,
) -> pd.DataFrame:
    """Average precision of each subset of pairs, and the mean over subsets, with 95 % intervals.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure` on pairs.
        n_boot: number of resamples; 0: no intervals (NaN).
        seed: of the resamples.
        cluster: gives a sample's cluster, see :func:`summarize`.

    Returns:
        One row per subset and a last row ``mean``: ``subset, n, jnd, jnd_low, jnd_high``, in
        percent, see :func:`jnd_map`. Resamples without positives are left out.

    Raises:
        ValueError: columns or rows are missing, repeated, or out of range, or a subset has no
            positives.
    """
    check_table(distances, PAIRS)
    rows, replicates = [], []
    for subset, pairs in distances.groupby("subset", sort=False):
        # Sorted by name, so that resamples do not depend on the order of rows.
        pairs = pairs.sort_values("sample", kind="stable")
        distance, same = (pairs[name].to_numpy(dtype=np.float64) for name in ("distance", "same"))
        if same.sum() == 0:
            raise ValueError(f"distances: subset {subset!r} has no positives in same")
        codes = cluster_codes(list(pairs["sample"]), cluster)
        weights = bootstrap_weights(codes, n_boot, generator(seed, subset))
        scores = [_average_precision(distance, same, each) for each in weights]
        single = codes.max() == 0
        replicates.append(np.full(n_boot, np.nan) if single else np.concatenate([[], *scores]))
        rows.append({"subset": subset, "n": len(pairs), "jnd": 100 * jnd_map(distance, same)})
    table = _with_mean(pd.DataFrame(rows), counts=["n"])
    replicates.append(np.mean(replicates, axis=0))
    bounds = [interval(100 * _defined(values)) for values in replicates]
    low, high = np.array(bounds, dtype=np.float64).T
    return table.assign(jnd_low=low, jnd_high=high)


def jnd_bounds(distances: pd.DataFrame) -> tuple[float, float]:
    """Average precision, in [0, 1], of pairs that no metric tells apart, and of the best order.

    Means over subsets, from the column ``same`` alone. In the best order no pair was taken for the
    same more often than an earlier one.

    Args:
        distances: table of :func:`~robust_lpips.evaluation.measure` on pairs.

    Raises:
        ValueError: columns or rows are missing, repeated, or out of range, or a subset has no
            positives.
    """
    check_table(distances, PAIRS)
    shares = [rows["same"].to_numpy() for _, rows in distances.groupby("subset")]
    floor = np.mean([jnd_map(np.zeros(len(same)), same) for same in shares])
    return float(floor), float(np.mean([jnd_map(-same, same) for same in shares]))


# --- Parts shared by tables of several metrics -------------------------------------------------


def groups_of(subsets: list[str]) -> list[tuple[str, list[str]]]:
    """Groups of GROUPS that the subsets belong to, each with its subsets, and ``all`` last."""
    groups = [(group, [s for s in subsets if s in members]) for group, members in GROUPS.items()]
    return [(group, members) for group, members in groups if members] + [("all", subsets)]


def quantities(outcomes: pd.DataFrame) -> list[str]:
    """Columns of a table of outcomes that are scores: two_afc and every rrf_n."""
    return [name for name in outcomes.columns if name == "two_afc" or name.startswith("rrf_")]


def paired_outcomes(distances: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Outcomes of several metrics on the same samples by name, rows in the first one's order.

    Raises:
        ValueError: a table cannot be scored, lacks samples of another, or has other judgments or
            shifts than the first one; the message names it.
    """
    tables = {name: TripletTable.from_tidy(table, name) for name, table in distances.items()}
    keys = ["subset", "sample"]
    outcomes = {name: _outcomes(table).set_index(keys) for name, table in tables.items()}
    first, *others = tables
    for name in others:
        if list(tables[name].shifted) != list(tables[first].shifted):
            shifts = [
                ", ".join(f"{n:g}" for n in tables[each].shifted) or "none"
                for each in (first, name)
            ]
            raise ValueError(
                f"{first} and {name} must have the same shifts; "
                f"{first} has {shifts[0]}, {name} {shifts[1]}"
            )
        for lacking, full in ((name, first), (first, name)):
            missing = outcomes[full].index.difference(outcomes[lacking].index, sort=False)
            if len(missing):
                raise ValueError(
                    f"{lacking} lacks samples: {few('/'.join(key) for key in missing)}"
                )
        outcomes[name] = outcomes[name].loc[outcomes[first].index]
        unlike = (outcomes[first]["judge"] - outcomes[name]["judge"]).abs() > _TOLERANCE
        if unlike.any():
            unlike = unlike.index[unlike]
            raise ValueError(
                f"{first} and {name} differ in judge: {few('/'.join(key) for key in unlike)}"
            )
    return {name: rows.reset_index() for name, rows in outcomes.items()}


def difference_rows(
    a: pd.DataFrame,
    b: pd.DataFrame,
    groups: list[tuple[str, list[str]]],
    n_boot: int,
    seed: int,
    cluster: Cluster,
) -> pd.DataFrame:
    """Differences between two tables of :func:`paired_outcomes`, as means over groups of subsets.

    Returns:
        One row per group and quantity: ``group``, and the columns of :func:`paired_difference`.
    """
    names = quantities(a)
    replicates = _replicates(
        a[["subset", "sample"]].join(a[names] - b[names]), names, n_boot, seed, cluster
    )
    by_subset = [outcomes.groupby("subset")[names].mean() for outcomes in (a, b)]
    rows = []
    for group, members in groups:
        low, high = interval(100 * np.mean([replicates[member] for member in members], axis=0))
        scores = [100 * means.loc[members].mean().to_numpy() for means in by_subset]
        rows.append(
            pd.DataFrame(
                {
                    "group": group,
                    "quantity": names,
                    "a": scores[0],
                    "b": scores[1],
                    "difference": scores[0] - scores[1],
                    "low": low,
                    "high": high,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def credit(d0: np.ndarray, d1: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """2AFC score of each triplet, in [0, 1]."""
    return np.where(d1 < d0, judge, np.where(d0 < d1, 1 - judge, 0.5))


# --- Internal ----------------------------------------------------------------------------------


def _vectors(**arguments: Vector) -> list[np.ndarray]:
    """Arguments as float64 arrays of one shape (N,), or ValueError that names the problem."""
    arrays = {}
    for name, values in arguments.items():
        if isinstance(values, torch.Tensor):
            values = values.detach().double().cpu().numpy()
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"{name} must have shape (N,) with N >= 1; got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite; got {array[~np.isfinite(array)][0]}")
        if name in _SHARES and (array.min() < 0 or array.max() > 1):
            raise ValueError(f"{name} must be in [0, 1]; got {array.min():g} .. {array.max():g}")
        arrays[name] = array
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes must be equal; got {shapes}")
    return list(arrays.values())


def _average_precision(distance: np.ndarray, same: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (B,) of pairs with multiplicities (B, N); NaN without positives."""
    order = np.argsort(distance, kind="stable")
    distance, same, weights = distance[order], same[order], weights[:, order]
    # Equal distances are one point of the curve: the end of each run.
    last = np.append(distance[1:] != distance[:-1], True)
    positives = np.cumsum(weights * same, axis=1)[:, last]
    found = np.cumsum(weights, axis=1)[:, last]
    with np.errstate(invalid="ignore"):
        # Precision is undefined before the first pair; recall is 0 there, so it adds no area.
        precision = np.nan_to_num(positives / found)
        recall = positives / positives[:, -1:]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.sum(np.diff(recall, axis=1, prepend=0.0) * envelope, axis=1)


def _outcomes(table: TripletTable) -> pd.DataFrame:
    judge = table.triplets["judge"].to_numpy(dtype=np.float64)
    columns = {"two_afc": credit(*table.full, judge)}
    for shift, shifted in table.shifted.items():
        if shift > 0:
            columns[f"rrf_{shift:g}"] = rank_flips(*table.shifted[0.0], *shifted).astype(float)
    return table.triplets.assign(**columns)


def _replicates(
    outcomes: pd.DataFrame, names: list[str], n_boot: int, seed: int, cluster: Cluster
) -> dict[str, np.ndarray]:
    """Means (B, Q) of the resampled outcomes, by subset."""
    return {
        subset: bootstrap_means(
            rows[names].to_numpy(),
            cluster_codes(list(rows["sample"]), cluster),
            n_boot,
            generator(seed, subset),
        )
        for subset, rows in outcomes.groupby("subset", sort=False)
    }


def _group_rows(
    outcomes: pd.DataFrame,
    label: str,
    groups: list[tuple[str, list[str]]],
    n_boot: int,
    seed: int,
    cluster: Cluster,
) -> pd.DataFrame:
    """One row per group of subsets: means over its subsets and intervals, in percent."""
    names = quantities(outcomes)
    by_subset = outcomes.groupby("subset")[names]
    scores, counts = by_subset.mean(), by_subset.size()
    replicates = _replicates(outcomes, names, n_boot, seed, cluster)
    rows = []
    for group, members in groups:
        score = 100 * scores.loc[members].mean()
        low, high = interval(100 * np.mean([replicates[member] for member in members], axis=0))
        row = {label: group, "n": int(counts[members].sum())}
        for i, name in enumerate(names):
            row |= {name: score[name], f"{name}_low": low[i], f"{name}_high": high[i]}
        rows.append(row)
    return pd.DataFrame(rows)


def _with_mean(rows: pd.DataFrame, counts: Iterable[str]) -> pd.DataFrame:
    """Append a row ``mean``: sums of the counts, means over subsets of all other columns."""
    counts = list(counts)
    last = rows.drop(columns="subset").mean().to_dict()
    last |= {name: rows[name].sum() for name in counts}
    table = pd.concat([rows, pd.DataFrame([{"subset": "mean"} | last])], ignore_index=True)
    return table.astype(dict.fromkeys(counts, np.int64))


def _percent(values: np.ndarray) -> float:
    return 100 * float(np.mean(values)) if len(values) else float("nan")


def _defined(values: np.ndarray) -> np.ndarray:
    """Values without NaN; all values if all are NaN."""
    kept = values[~np.isnan(values)]
    return kept if len(kept) else values
