import doctest
import importlib
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from robust_lpips.evaluation import (
    bootstrap,
    ceilings,
    ceilings_table,
    flip_details,
    group_scores,
    jnd_bounds,
    jnd_map,
    jnd_table,
    max_shift_of,
    paired_difference,
    photograph,
    rank_flip_rate,
    rank_flips,
    read_distances,
    summarize,
    triplet_outcomes,
    two_afc_score,
)
from robust_lpips.evaluation.scores import group_ceilings

OFFICIAL = Path(__file__).parents[2].parent / "shared" / "official"
# Of one trained AlexNet each, on the whole of BAPPS val: 2AFC and r_rf at 1, 2 and 3 pixels.
RELEASED = {
    "vanilla": (70.04, 9.26, 9.34, 11.58),
    "shift_tolerant": (69.83, 3.50, 4.74, 6.83),
}


def official(name: str) -> pd.DataFrame:
    path = OFFICIAL / f"bapps_val_alex_{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"the authors' measurements are not here: {path}")
    return read_distances(path)


def table(rows: list[tuple], shifts: tuple[str, ...] = ("full", "shift-0", "shift-1")):
    """Rows (subset, sample, judge, (d0, d1) at each view) as a tidy table."""
    return pd.DataFrame(
        [
            (subset, sample, view, d0, d1, judge)
            for subset, sample, judge, *distances in rows
            for view, (d0, d1) in zip(shifts, distances, strict=True)
        ],
        columns=["subset", "sample", "view", "d0", "d1", "judge"],
    )


P0, P1, TIE = (1.0, 2.0), (2.0, 1.0), (1.0, 1.0)  # which of the patches is nearer

SMALL = [
    ("traditional", "a-000000", 0.2, P0, P0, P1),  # agreed on p0; the flip makes it worse
    ("traditional", "a-000001", 1.0, P1, P0, P1),  # agreed on p1; the flip makes it better
    ("traditional", "b-000002", 0.6, TIE, P1, P1),  # split; no flip
    ("traditional", "b-000003", 0.5, P1, P1, P0),  # evenly split; neither better nor worse
    ("color", "000000", 0.4, P0, TIE, P0),  # split; from a tie to the majority's side: better
    ("color", "000001", 0.0, P1, P1, TIE),  # ties count as "p1 not farther": no flip
]


@pytest.fixture
def small() -> pd.DataFrame:
    return table(SMALL)


def random_table(rng, samples: list[str], subset: str = "traditional", scale: float = 1.0):
    n = len(samples)
    full = rng.normal(size=(2, n))
    judge = rng.integers(0, 6, n) / 5
    views = {"full": full} | {
        f"shift-{s}": full + scale * 0.3 * s * rng.normal(size=(2, n)) for s in range(3)
    }
    return pd.concat(
        pd.DataFrame(
            {"subset": subset, "sample": samples, "view": v, "d0": d[0], "d1": d[1]}
        ).assign(judge=judge)
        for v, d in views.items()
    )


# --- Numbers from arrays -----------------------------------------------------------------------


@pytest.mark.parametrize("module", ["scores", "bootstrap", "distances"])
def test_docstrings_hold(module):
    module = importlib.import_module(f"robust_lpips.evaluation.{module}")
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_two_afc_by_hand(kind):
    d0, d1 = kind([1.0, 2.0, 1.0, 3.0]), kind([2.0, 1.0, 1.0, 1.0])
    judge = kind([0.2, 0.2, 0.9, 1.0])
    assert two_afc_score(d0, d1, judge) == pytest.approx((0.8 + 0.2 + 0.5 + 1.0) / 4)
    assert type(two_afc_score(d0, d1, judge)) is float


def test_two_afc_of_constants_and_oracles():
    judge = np.array([0.0, 0.2, 0.5, 1.0])
    assert two_afc_score(np.ones(4), np.ones(4), judge) == 0.5
    assert two_afc_score(judge, 1 - judge, judge) == pytest.approx(ceilings(judge).oracle)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_rank_flips_by_hand(kind):
    # From p0 to p1, none, from a tie to p0 (a flip), from a tie to p1 (none).
    before = kind([1.0, 1.0, 1.0, 1.0]), kind([2.0, 2.0, 1.0, 1.0])
    after = kind([2.0, 1.0, 1.0, 2.0]), kind([1.0, 3.0, 2.0, 1.0])
    flips = rank_flips(*before, *after)
    assert flips.dtype == bool
    assert flips.tolist() == [True, False, True, False]
    assert rank_flip_rate(*before, *after) == 0.5
    assert rank_flip_rate(*before, *before) == 0.0


def test_tensors_of_any_kind():
    d0 = torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    d1 = torch.tensor([2, 1])
    assert two_afc_score(d0, d1, torch.tensor([0.0, 1.0])) == 1.0


def test_ceilings_by_hand():
    found = ceilings([0.0, 0.2, 0.5])
    assert found.oracle == pytest.approx((1 + 0.8 + 0.5) / 3)
    assert found.one_more_person == pytest.approx((1 + 0.68 + 0.5) / 3)


BAD = {
    "empty": ([], r"shape \(N,\)"),
    "matrix": ([[0.1, 0.2]], r"shape \(N,\)"),
    "nan": ([0.1, math.nan], "finite"),
    "infinite": ([0.1, math.inf], "finite"),
    "other length": ([0.1, 0.2, 0.3], "equal"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("function", "names"),
    [
        (two_afc_score, ("d0", "d1", "judge")),
        (rank_flips, ("d0", "d1", "d0_shifted", "d1_shifted")),
        (rank_flip_rate, ("d0", "d1", "d0_shifted", "d1_shifted")),
        (jnd_map, ("distance", "same")),
    ],
)
def test_bad_arrays_are_named(function, names, bad):
    values, message = BAD[bad]
    for name in names:
        arguments = {other: [0.5, 0.5] for other in names} | {name: values}
        with pytest.raises(ValueError, match=message) as error:
            function(**arguments)
        assert name in str(error.value)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares_out_of_range(share):
    for call in (
        lambda: two_afc_score([1], [2], [share]),
        lambda: ceilings([share]),
        lambda: jnd_map([1], [share]),
    ):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            call()


def slow_average_precision(distance, same) -> float:
    """The definition, point by point: each recall reached, at the best precision from there on."""
    points = []
    for threshold in sorted(set(distance)):
        within = [s for d, s in zip(distance, same, strict=True) if d <= threshold]
        points.append((sum(within) / sum(same), sum(within) / len(within)))
    area, reached = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[i:])
        reached = recall
    return area


def test_jnd_by_hand():
    assert jnd_map([1, 2, 3, 4], [1, 1, 0, 0]) == 1.0
    # Precisions 0, 0, 1/3, 1/2 at recalls 0, 0, 1/2, 1: the envelope is 1/2 throughout.
    assert jnd_map([1, 2, 3, 4], [0, 0, 1, 1]) == 0.5
    # Precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
    assert jnd_map([1, 2, 3], [1, 0, 1]) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # Shares count in part: precisions 0.8, 0.5 at recalls 0.8, 1.
    assert jnd_map([1, 2], [0.8, 0.2]) == pytest.approx(0.8 * 0.8 + 0.2 * 0.5)
    # All equal: one point, whose precision is the share of positives.
    assert jnd_map([7, 7, 7, 7], [1, 0, 0, 0]) == 0.25


def test_jnd_bounds_by_hand():
    same = {"a": [1.0, 0.0, 0.5], "b": [0.0, 1.0]}
    rows = [(s, f"{i}", 0.0, v) for s, values in same.items() for i, v in enumerate(values)]
    table = pd.DataFrame(rows, columns=["subset", "sample", "distance", "same"])
    floor, best = jnd_bounds(table)
    assert floor == pytest.approx(0.5)
    # By hand: precision 1 up to recall 2/3, then 3/4; and 1.
    assert best == pytest.approx(((2 / 3 + 0.75 / 3) + 1) / 2)


def test_order_among_equal_distances_does_not_count():
    assert jnd_map([1, 1, 2], [0, 1, 1]) == jnd_map([1, 1, 2], [1, 0, 1])
    assert jnd_map([1, 1, 2], [1, 0, 1]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(20))
def test_jnd_against_the_definition(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    same = rng.integers(0, 4, n) / 3
    same[0] = 1
    for distance in (rng.normal(size=n), rng.integers(0, 8, n).astype(float)):
        assert jnd_map(distance, same) == pytest.approx(slow_average_precision(distance, same))


def test_jnd_without_positives():
    with pytest.raises(ValueError, match="no positives"):
        jnd_map([1, 2], [0, 0])


# --- Tables ------------------------------------------------------------------------------------


def test_outcomes_by_hand(small):
    found = triplet_outcomes(small)
    assert list(found.columns) == ["subset", "sample", "judge", "two_afc", "rrf_1"]
    np.testing.assert_allclose(found["two_afc"], [0.8, 1.0, 0.5, 0.5, 0.6, 0.0])
    assert list(found["rrf_1"]) == [1, 1, 0, 1, 1, 0]


def test_summary_by_hand(small):
    found = summarize(small).set_index("subset")
    assert list(found.index) == ["traditional", "color", "mean"]
    assert list(found["n"]) == [4, 2, 6]
    np.testing.assert_allclose(found["two_afc"], [70, 30, 50])
    np.testing.assert_allclose(found["rrf_1"], [75, 50, 62.5])
    bounds = [f"{name}{end}" for name in ("two_afc", "rrf_1") for end in ("", "_low", "_high")]
    assert list(found.columns) == ["n", *bounds]
    for name in ("two_afc", "rrf_1"):
        assert (found[f"{name}_low"] <= found[name]).all()
        assert (found[name] <= found[f"{name}_high"]).all()
    # Two clusters, of means 90 and 50: a replicate is one of 50, 70, 90.
    assert found.loc["traditional", ["two_afc_low", "two_afc_high"]].tolist() == [50, 90]


def test_summary_agrees_with_the_functions():
    rng = np.random.default_rng(0)
    tables = [random_table(rng, [f"{i:06d}" for i in range(n)], s) for s, n in (("x", 9), ("y", 7))]
    found = summarize(pd.concat(tables), n_boot=0)
    for part, row in zip(tables, found.itertuples(), strict=False):
        views = dict(iter(part.groupby("view")))
        d0, d1, judge = (views["full"][name] for name in ("d0", "d1", "judge"))
        assert row.two_afc == pytest.approx(100 * two_afc_score(d0, d1, judge))
        start, end = (views[v][["d0", "d1"]].to_numpy().T for v in ("shift-0", "shift-2"))
        assert row.rrf_2 == pytest.approx(100 * rank_flip_rate(*start, *end))
    assert found.iloc[-1]["two_afc"] == pytest.approx(found["two_afc"][:2].mean())
    assert found.filter(regex="low|high").isna().all(axis=None)


def test_order_of_rows_does_not_count():
    rng = np.random.default_rng(1)
    tidy = random_table(rng, [f"{p}-{i:06d}" for p in "abc" for i in range(20)])
    shuffled = tidy.sample(frac=1, random_state=0)
    assert_frame_equal(summarize(tidy), summarize(shuffled), rtol=1e-12)
    assert_frame_equal(summarize(tidy), summarize(tidy))
    first, second = (summarize(tidy, seed=seed, cluster=None) for seed in (0, 1))
    assert not first.equals(second)


def test_a_subset_s_interval_does_not_depend_on_the_others():
    rng = np.random.default_rng(2)
    x, y = (random_table(rng, [f"{i:06d}" for i in range(30)], s) for s in "xy")
    both = summarize(pd.concat([y, x])).set_index("subset")
    assert_frame_equal(both.loc[["x"]], summarize(x).set_index("subset").loc[["x"]])
    # Seeds differ between subsets: were they shared, the mean's interval would be too wide.
    same = pd.concat([x, x.assign(subset="z")])
    found = summarize(same).set_index("subset")
    width = found["two_afc_high"] - found["two_afc_low"]
    assert width["mean"] < 0.85 * width["x"]


def test_fractional_shifts_have_columns():
    rows = [("s", str(i), 1.0, P0, P0, P1, P0) for i in range(3)]
    found = summarize(table(rows, ("full", "shift-0", "shift-0.5", "shift-1")))
    assert list(found.filter(regex=r"^rrf_[\d.]+$")) == ["rrf_0.5", "rrf_1"]
    assert found.loc[0, "rrf_0.5"] == 100
    assert found.loc[0, "rrf_1"] == 0


def test_groups_by_hand(small):
    found = group_scores(small).set_index("group")
    assert list(found.index) == ["distortions", "real", "all"]
    assert list(found["subsets"]) == ["traditional", "color", "traditional, color"]
    np.testing.assert_allclose(found["two_afc"], [70, 30, 50])
    own = small.assign(subset="mine")
    assert list(group_scores(own, n_boot=0)["group"]) == ["all"]
    summary = summarize(small).iloc[-1]
    for column in ("n", "two_afc_low", "rrf_1_high"):
        assert found.loc["all", column] == summary[column]


def test_ceilings_table_by_hand(small):
    found = ceilings_table(small)
    assert list(found["subset"]) == ["traditional", "color", "mean"]
    assert list(found["n"]) == [4, 2, 6]
    np.testing.assert_allclose(found["oracle"], [72.5, 80, 76.25])
    np.testing.assert_allclose(found["one_more_person"], [67.5, 76, 71.75])


def test_ceilings_by_group(small):
    found = group_ceilings(small)
    assert found["group"].tolist() == ["distortions", "real", "all"]
    assert found["subsets"].tolist() == ["traditional", "color", "traditional, color"]
    np.testing.assert_allclose(found["oracle"], [72.5, 80, 76.25])
    np.testing.assert_allclose(found["one_more_person"], [67.5, 76, 71.75])


def test_flip_details_by_hand(small):
    found = flip_details(small).set_index(["subset", "shift"])
    assert list(found.index) == [(s, n) for s in ("traditional", "color", "mean") for n in (0, 1)]
    at = found.xs(1.0, level="shift")
    assert list(at["flips"]) == [3, 1, 4]
    assert list(at["n"]) == [4, 2, 6]
    np.testing.assert_allclose(at["rrf"], [75, 50, 62.5])
    np.testing.assert_allclose(at["two_afc"], [100 * (0.2 + 1 + 0.6 + 0.5) / 4, 55, 56.25])
    np.testing.assert_allclose(at["better"], [100 / 3, 100, 200 / 3])
    np.testing.assert_allclose(at["worse"], [100 / 3, 0, 50 / 3])
    np.testing.assert_allclose(at["rrf_agreed"], [100, 0, 50])
    np.testing.assert_allclose(at["rrf_split"], [50, 100, 75])
    still = found.xs(0.0, level="shift")
    assert (still["flips"] == 0).all()
    assert still[["better", "worse"]].isna().all(axis=None)
    np.testing.assert_allclose(still["two_afc"], [100 * (0.8 + 0 + 0.6 + 0.5) / 4, 25, 36.25])


def test_agreement_of_float32_shares():
    judges = np.array([0.2, 0.8], dtype=np.float32).astype(float)
    rows = [("s", str(i), j, P0, P0, P1) for i, j in enumerate(judges)]
    found = flip_details(table(rows))
    assert (found.loc[found["shift"] == 1, "rrf_agreed"] == 100).all()
    assert found["rrf_split"].isna().all()


def test_difference_by_hand(small):
    other = small.assign(d0=small["d1"], d1=small["d0"]).sample(frac=1, random_state=0)
    found = paired_difference(small, other).set_index("quantity")
    assert list(found.index) == ["two_afc", "rrf_1"]
    # The other way round, credits are 1 - credit where there is no tie: 50 by subset halves.
    np.testing.assert_allclose(found.loc["two_afc", ["a", "b", "difference"]], [50, 50, 0])
    same = paired_difference(small, small)
    assert (same[["difference", "low", "high"]] == 0).all(axis=None)
    swapped = paired_difference(other, small).set_index("quantity")
    np.testing.assert_allclose(found["difference"], -swapped["difference"])


def test_difference_of_like_metrics_is_known_better_than_either():
    rng = np.random.default_rng(3)
    a = random_table(rng, [f"{i:06d}" for i in range(400)])
    b = a.assign(d0=a["d0"] + 0.1 * rng.normal(size=len(a)))
    both = paired_difference(a, b).set_index("quantity").loc["two_afc"]
    alone = summarize(a).iloc[0]
    assert both["low"] <= both["difference"] <= both["high"]
    assert both["high"] - both["low"] < 0.7 * (alone["two_afc_high"] - alone["two_afc_low"])
    assert both["a"] == pytest.approx(alone["two_afc"])


def test_difference_needs_the_same_samples(small):
    fewer = small[small["sample"] != "b-000002"]
    with pytest.raises(ValueError, match="b lacks samples: traditional/b-000002"):
        paired_difference(small, fewer)
    with pytest.raises(ValueError, match="a lacks samples: traditional/b-000002"):
        paired_difference(fewer, small)
    with pytest.raises(ValueError, match="shifts; a has 0, 1, b none"):
        paired_difference(small, small[small["view"] == "full"])
    other = small.assign(judge=small["judge"].replace(0.2, 0.4))
    with pytest.raises(ValueError, match="judge: traditional/a-000000"):
        paired_difference(small, other.sample(frac=1, random_state=0))
    with pytest.raises(ValueError, match="b must have the columns"):
        paired_difference(small, small.drop(columns="d0"))
    # Judgments that went through float32 are the same judgments.
    single = small.assign(judge=small["judge"].astype(np.float32))
    assert (paired_difference(small, single)["difference"].abs() < 1e-4).all()


def test_max_shift(small):
    assert max_shift_of(small) == 1
    assert max_shift_of(small[small["view"] == "full"]) == 0
    with pytest.raises(ValueError, match="whole"):
        max_shift_of(small.assign(view="shift-0.5"))
    with pytest.raises(ValueError, match="column view"):
        max_shift_of(small.drop(columns="view"))


SCORES = [
    *(triplet_outcomes, summarize, group_scores, ceilings_table, group_ceilings, flip_details),
]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["d1", "judge"]), "missing: d1, judge"),
        (lambda t: t[:0], "no rows"),
        (lambda t: t[t["view"] != "full"], "view 'full'"),
        (lambda t: t[t["view"] != "shift-0"], "view 'shift-0'"),
        (lambda t: pd.concat([t, t[2:3]]), "repeats rows: traditional/a-000000/shift-1"),
        (lambda t: t.drop(index=5), "view 'shift-1' is missing for traditional/a-000001$"),
        (lambda t: t.assign(view=t["view"].replace("shift-1", "shift-x")), "view must be"),
        (lambda t: t.assign(judge=t["judge"] + 0.5), "judge must be in"),
        (lambda t: t.assign(d0=t["d0"].replace(2.0, np.nan)), "d0 must be finite"),
        (lambda t: t.assign(sample=None), "sample must be text"),
        (lambda t: t.assign(judge=np.arange(len(t)) / 100), "judge differs between views"),
    ],
)
def test_bad_tables(small, score, change, message):
    with pytest.raises(ValueError, match=message):
        score(change(small))


def test_details_need_shifts(small):
    with pytest.raises(ValueError, match="shifted views"):
        flip_details(small[small["view"] == "full"])


def test_jnd_table():
    rng = np.random.default_rng(4)
    n = 300
    pairs = pd.DataFrame(
        {
            "subset": ["traditional"] * n + ["cnn"] * n,
            "sample": [f"{i:06d}" for i in range(n)] * 2,
            "distance": rng.integers(0, 40, 2 * n) / 10,
        }
    )
    pairs["same"] = np.clip(np.round((4 - pairs["distance"]) * rng.random(2 * n)) / 3, 0, 1)
    found = jnd_table(pairs).set_index("subset")
    assert list(found.index) == ["traditional", "cnn", "mean"]
    for subset, rows in pairs.groupby("subset"):
        expected = 100 * slow_average_precision(list(rows["distance"]), list(rows["same"]))
        assert found.loc[subset, "jnd"] == pytest.approx(expected)
    assert found.loc["mean", "jnd"] == pytest.approx(found["jnd"][:2].mean())
    assert (found["jnd_low"] < found["jnd"]).all()
    assert (found["jnd"] < found["jnd_high"]).all()
    shuffled = jnd_table(pairs.sample(frac=1, random_state=0)).set_index("subset")
    assert_frame_equal(shuffled.loc[found.index], found)
    assert jnd_table(pairs, n_boot=0)["jnd_low"].isna().all()
    with pytest.raises(ValueError, match="'cnn' has no positives"):
        jnd_table(pairs.assign(same=pairs["same"].where(pairs["subset"] != "cnn", 0)))
    with pytest.raises(ValueError, match="missing: same"):
        jnd_table(pairs.drop(columns="same"))


def test_jnd_interval_against_drawing_pairs():
    rng = np.random.default_rng(5)
    distance, same = rng.normal(size=80), rng.integers(0, 4, 80) / 3
    pairs = pd.DataFrame({"subset": "s", "sample": [str(i) for i in range(80)]})
    found = jnd_table(pairs.assign(distance=distance, same=same), n_boot=2000).iloc[0]
    drawn = (rng.integers(0, 80, 80) for _ in range(2000))
    low, high = np.percentile([100 * jnd_map(distance[i], same[i]) for i in drawn], [2.5, 97.5])
    assert found["jnd_low"] == pytest.approx(low, abs=1.5)
    assert found["jnd_high"] == pytest.approx(high, abs=1.5)


# --- Intervals ---------------------------------------------------------------------------------


def test_photographs():
    assert photograph("coffee-000123") == "coffee"
    assert photograph("brick-wall-000123") == "brick-wall"
    assert photograph("000123") == "000123"
    assert photograph("-000123") == "-000123"


@pytest.mark.parametrize("clusters", [np.arange(50), np.sqrt(np.arange(50)).astype(int)])
def test_bootstrap_against_drawing_clusters(clusters):
    rng = np.random.default_rng(6)
    values = np.column_stack([rng.integers(0, 2, 50), rng.normal(size=50)]) + clusters[:, None] / 5
    found = bootstrap.bootstrap_means(values, clusters, 4000, rng)
    assert found.shape == (4000, 2)
    members = [values[clusters == c] for c in range(clusters.max() + 1)]
    slow = [
        np.concatenate([members[c] for c in rng.integers(0, len(members), len(members))]).mean(0)
        for _ in range(4000)
    ]
    np.testing.assert_allclose(found.mean(0), np.mean(slow, 0), atol=0.05)
    np.testing.assert_allclose(found.std(0), np.std(slow, 0), rtol=0.08)
    np.testing.assert_allclose(bootstrap.interval(found), bootstrap.interval(slow), atol=0.15)


def test_chunks_are_many_and_whole(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 1))
    clusters = np.arange(30)
    whole = bootstrap.bootstrap_means(values, clusters, 100, np.random.default_rng(7))
    monkeypatch.setattr(bootstrap, "_CHUNK", 200)
    parts = bootstrap.bootstrap_means(values, clusters, 100, np.random.default_rng(7))
    np.testing.assert_allclose(parts, whole)
    weights = list(bootstrap.bootstrap_weights(clusters // 2, 100, np.random.default_rng(7)))
    assert {len(each) for each in weights} == {6, 4}
    assert sum(map(len, weights)) == 100
    assert all((each.sum(axis=1) == 30).all() for each in weights)


def test_intervals_cover_a_known_share():
    rng = np.random.default_rng(8)
    n, share, covered = 150, 0.3, 0
    for _ in range(400):
        values = (rng.random((n, 1)) < share).astype(float)
        low, high = bootstrap.interval(bootstrap.bootstrap_means(values, np.arange(n), 400, rng))
        covered += bool(low[0] <= share <= high[0])
    assert 0.90 <= covered / 400 <= 0.98


def test_intervals_match_the_binomial():
    rng = np.random.default_rng(9)
    n, share = 2000, 0.1
    values = np.zeros((n, 1))
    values[: int(n * share)] = 1
    low, high = bootstrap.interval(bootstrap.bootstrap_means(values, np.arange(n), 4000, rng))
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    np.testing.assert_allclose([low[0], high[0]], [share - half, share + half], atol=0.002)


def test_patches_of_one_photograph_tell_less():
    # Every patch of a photograph comes out alike: 20 photographs of 25 patches are 20 samples.
    rng = np.random.default_rng(10)
    rows = [
        (subset, f"{photo}-{i:06d}", 1.0, side, P0, P1)
        for subset in "xy"
        for photo, side in enumerate(P0 if right else P1 for right in rng.random(20) < 0.5)
        for i in range(25)
    ]
    tidy = table(rows)
    clustered, alone = (summarize(tidy, cluster=c) for c in (photograph, None))
    assert_frame_equal(clustered[["subset", "two_afc"]], alone[["subset", "two_afc"]])
    widths = [t["two_afc_high"] - t["two_afc_low"] for t in (clustered, alone)]
    np.testing.assert_allclose(widths[0] / widths[1], 5, rtol=0.2)
    # Stems without "-" are photographs of their own.
    plain = tidy.assign(sample=tidy["sample"].str.replace("-", "_"))
    assert_frame_equal(summarize(plain), summarize(plain, cluster=None))


def test_one_cluster_has_no_interval():
    rows = [("s", f"photo-{i}", 1.0, P0 if i % 3 else P1, P0, P1) for i in range(9)]
    found = summarize(table(rows))
    assert found.filter(regex="low|high").isna().all(axis=None)
    assert summarize(table(rows), cluster=None).notna().all(axis=None)


# --- What the authors measured -----------------------------------------------------------------


@pytest.mark.parametrize("name", RELEASED)
def test_released_numbers(name):
    tidy = official(name)
    start = time.perf_counter()
    found = summarize(tidy)
    assert time.perf_counter() - start < 10
    assert list(found["subset"]) == [
        "traditional",
        "cnn",
        "superres",
        "deblur",
        "color",
        "frameinterp",
        "mean",
    ]
    mean = found.iloc[-1]
    assert mean["n"] == 36344
    scores = mean[["two_afc", "rrf_1", "rrf_2", "rrf_3"]].astype(float)
    np.testing.assert_allclose(scores, RELEASED[name], rtol=0, atol=0.005)
    # Standard errors by formula: outcomes are independent, means over six subsets.
    outcomes = triplet_outcomes(tidy).groupby("subset")["rrf_3"]
    error = 100 * math.sqrt((outcomes.var() / outcomes.size()).sum()) / 6
    assert mean["rrf_3_high"] - mean["rrf_3_low"] == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_released_ceilings_details_and_difference():
    vanilla, tolerant = official("vanilla"), official("shift_tolerant")
    top = ceilings_table(vanilla).iloc[-1]
    np.testing.assert_allclose([top.oracle, top.one_more_person], [80.13, 73.72], atol=0.005)
    details = flip_details(tolerant).set_index(["subset", "shift"])
    np.testing.assert_allclose(details.loc["mean", "rrf"], [0, 3.50, 4.74, 6.83], atol=0.005)
    # Where people agree, the patches differ more, and a shift upsets less.
    assert (details["rrf_agreed"] <= details["rrf_split"]).all()
    found = paired_difference(vanilla, tolerant).set_index("quantity")
    np.testing.assert_allclose(found["a"], RELEASED["vanilla"], atol=0.005)
    np.testing.assert_allclose(found["b"], RELEASED["shift_tolerant"], atol=0.005)
    assert (found.loc[["rrf_1", "rrf_2", "rrf_3"], "low"] > 4).all()
    assert max_shift_of(vanilla) == 3
