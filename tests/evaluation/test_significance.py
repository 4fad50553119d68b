import doctest
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy import stats

from robust_lpips.evaluation import (
    compare_pairs,
    group_differences,
    group_scores,
    mcnemar,
    paired_difference,
    photograph,
    rank_flips,
    read_distances,
    significance,
    triplet_outcomes,
)
from robust_lpips.evaluation.significance import compare_groups, signs

OFFICIAL = Path(__file__).parents[2].parent / "shared" / "official"


def random_table(rng, samples: list[str], subset: str, noise: float) -> pd.DataFrame:
    """One metric on the same true distances: the more noise, the worse and the more flips."""
    truth = np.random.default_rng([1, *subset.encode()])
    full = truth.normal(size=(2, len(samples)))
    share = 1 / (1 + np.exp(3 * (full[1] - full[0])))
    judge = truth.binomial(5, share) / 5
    views = {"full": full + noise * rng.normal(size=full.shape)}
    for shift in range(3):
        views[f"shift-{shift}"] = full + noise * shift * rng.normal(size=full.shape)
    return pd.concat(
        pd.DataFrame({"subset": subset, "sample": samples, "view": view, "d0": d[0], "d1": d[1]})
        .assign(judge=judge)
        .astype({"judge": float})
        for view, d in views.items()
    )


def metric(seed: int, noise: float, sizes: dict[str, int] | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = sizes or {"traditional": 90, "color": 60}
    return pd.concat(
        random_table(rng, [f"photo{i // 6}-{i:06d}" for i in range(n)], subset, noise)
        for subset, n in sizes.items()
    )


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {"good": metric(0, 0.1), "fair": metric(1, 0.3), "poor": metric(2, 1.5)}


def test_docstrings_hold():
    assert doctest.testmod(significance).failed == 0


# --- McNemar -----------------------------------------------------------------------------------


def flips(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (1, 9, 22 / 1024),  # 2 (C(10, 0) + C(10, 1)) / 2^10
        (9, 1, 22 / 1024),
        (0, 5, 2 / 32),
        (4, 4, 1.0),
        (0, 1, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(only_a, only_b, p):
    for both, neither in ((0, 1), (7, 30)):
        found = mcnemar(*flips(both, only_a, only_b, neither))
        assert found[:2] == (only_a, only_b)
        assert found.p_value == pytest.approx(p, rel=1e-12)
        assert [type(value) for value in found] == [int, int, float]


def test_mcnemar_of_many_against_its_chi_squared_form():
    # With many discordant triplets, (|b - c| - 1)^2 / (b + c) is chi-squared of one degree.
    for b, c in ((700, 800), (1000, 1040), (520, 480)):
        p = stats.chi2.sf((abs(b - c) - 1) ** 2 / (b + c), 1)
        assert mcnemar(*flips(10, b, c, 99)).p_value == pytest.approx(p, rel=0.02)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([True, False], [1, 0], "b must be bool"),
        ([0.0, 1.0], [True, False], "a must be bool .* got float64"),
        ([[True]], [[True]], r"a must be bool of shape \(N,\).*\(1, 1\)"),
        (np.zeros(0, bool), np.zeros(0, bool), "N >= 1"),
        ([True, False], [True], "one shape"),
    ],
)
def test_mcnemar_of_other_things(a, b, message):
    with pytest.raises(ValueError, match=message):
        mcnemar(a, b)


# --- Pairs -------------------------------------------------------------------------------------


def test_pairs_are_paired_differences_and_tests(tables):
    found = compare_pairs(tables, n_boot=200, seed=3)
    pairs = list(itertools.combinations(tables, 2))
    quantities = ["two_afc", "rrf_1", "rrf_2"]
    assert list(zip(found["a"], found["b"], found["quantity"], strict=True)) == [
        (*pair, quantity) for pair in pairs for quantity in quantities
    ]
    for a, b in pairs:
        rows = found[(found["a"] == a) & (found["b"] == b)].drop(columns=["a", "b"])
        expected = paired_difference(tables[a], tables[b], n_boot=200, seed=3)
        rows = rows.rename(columns={"value_a": "a", "value_b": "b"})[expected.columns]
        assert_frame_equal(rows.reset_index(drop=True), expected, rtol=1e-12)
    for row in found.itertuples():
        assert row.holds == (row.low > 0 or row.high < 0)
        if row.quantity == "two_afc":
            assert np.isnan([row.only_a, row.only_b, row.p_value]).all()
            continue
        flipped = []
        for name in (row.a, row.b):
            views = {
                v: t.sort_values(["subset", "sample"]) for v, t in tables[name].groupby("view")
            }
            start, end = views["shift-0"], views[f"shift-{row.quantity[-1]}"]
            flipped.append(
                rank_flips(*(t[d].to_numpy() for t in (start, end) for d in ("d0", "d1")))
            )
        assert row[-3:] == mcnemar(*flipped)
    assert found["holds"].dtype == bool


def test_what_holds(tables):
    found = compare_pairs(tables).set_index(["a", "b", "quantity"]).sort_index()
    # Twenty times the noise is found by all; and so is the sign.
    far = found.xs(("good", "poor"))
    assert far["holds"].all()
    assert far.loc["two_afc", "difference"] > 0
    assert (far.loc[["rrf_1", "rrf_2"], "difference"] < 0).all()
    assert (far.loc[["rrf_1", "rrf_2"], "p_value"] < 1e-6).all()
    # Two draws of one metric differ by chance alone: intervals of 95 %.
    held = [
        compare_pairs({"x": metric(s, 0.3), "y": metric(s + 1000, 0.3)}, n_boot=200)["holds"]
        for s in range(25)
    ]
    assert np.mean(held) < 0.15


def test_a_metric_does_not_differ_from_itself(tables):
    found = compare_pairs({"one": tables["poor"], "same": tables["poor"].sample(frac=1)})
    assert (found[["difference", "low", "high"]] == 0).all(axis=None)
    assert not found["holds"].any()
    rrf = found[found["quantity"] != "two_afc"]
    assert (rrf["p_value"] == 1).all()
    assert (rrf[["only_a", "only_b"]] == 0).all(axis=None)


def slow_intervals(a: pd.DataFrame, b: pd.DataFrame, cluster, n_boot: int) -> np.ndarray:
    """Photographs drawn one by one, rows gathered, both metrics scored on them."""
    rng = np.random.default_rng(99)
    names = ["two_afc", "rrf_1", "rrf_2"]
    x, y = (triplet_outcomes(t).sort_values(["subset", "sample"]) for t in (a, b))
    differences = x[names].to_numpy() - y[names].to_numpy()
    members = {}
    for i, (subset, sample) in enumerate(zip(x["subset"], x["sample"], strict=True)):
        label = cluster(sample) if cluster else sample
        members.setdefault(subset, {}).setdefault(label, []).append(i)
    drawn = []
    for _ in range(n_boot):
        means = []
        for photos in members.values():
            photos = list(photos.values())
            rows = np.concatenate([photos[i] for i in rng.integers(0, len(photos), len(photos))])
            means.append(100 * differences[rows].mean(axis=0))
        drawn.append(np.mean(means, axis=0))
    return np.percentile(drawn, [2.5, 97.5], axis=0).T


@pytest.mark.parametrize("cluster", [photograph, None])
def test_intervals_against_drawing_photographs(tables, cluster):
    a, b = tables["good"], tables["fair"]
    found = compare_pairs({"a": a, "b": b}, n_boot=3000, cluster=cluster)
    slow = slow_intervals(a, b, cluster, 2000)
    np.testing.assert_allclose(found[["low", "high"]], slow, atol=0.6)


def test_patches_of_one_photograph_tell_less():
    # Every patch of a photograph comes out alike: 15 photographs of 6 patches are 15 samples.
    tables = {}
    for name, seed in (("a", 0), ("b", 1)):
        table = metric(seed, 1.0, {"color": 90}).reset_index(drop=True)
        photos = [table["sample"].str.split("-").str[0], table["view"]]
        table[["d0", "d1"]] = table.groupby(photos)[["d0", "d1"]].transform("first")
        tables[name] = table.assign(judge=1.0)
    wide, narrow = (compare_pairs(tables, cluster=c) for c in (photograph, None))
    ratio = (wide["high"] - wide["low"]) / (narrow["high"] - narrow["low"])
    np.testing.assert_allclose(ratio, np.sqrt(6), rtol=0.2)
    assert_frame_equal(wide[["only_a", "only_b"]], narrow[["only_a", "only_b"]])


def test_chosen_pairs_alone_are_looked_at(tables):
    every = compare_pairs(tables, n_boot=100)
    more = {"broken": tables["good"].drop(columns="judge"), **tables}
    found = compare_pairs(more, pairs=[("fair", "good"), ("fair", "poor")], n_boot=100)
    assert list(found["a"].unique()) == ["fair"]
    same = every[(every["a"] == "fair") & (every["b"] == "poor")]
    assert_frame_equal(found[3:].reset_index(drop=True), same.reset_index(drop=True))
    turned = every[(every["a"] == "good") & (every["b"] == "fair")]
    np.testing.assert_allclose(found["difference"][:3], -turned["difference"])
    np.testing.assert_array_equal(found["only_a"][:3], turned["only_b"])


def test_without_intervals_nothing_holds(tables):
    single = {name: t.assign(sample="p-" + t["sample"].str[-6:]) for name, t in tables.items()}
    for found in (compare_pairs(tables, n_boot=0), compare_pairs(single, n_boot=50)):
        assert found[["low", "high"]].isna().all(axis=None)
        assert not found["holds"].any()
        assert found.loc[found["quantity"] != "two_afc", "p_value"].notna().all()


def test_tables_without_shifts(tables):
    full = {name: t[t["view"] == "full"] for name, t in tables.items()}
    found = compare_pairs(full, n_boot=50)
    assert list(found["quantity"]) == ["two_afc"] * 3
    assert found["p_value"].isna().all()


def test_tables_that_do_not_go_together(tables):
    good, fair = tables["good"], tables["fair"]
    fewer = fair[fair["sample"] != "photo3-000020"]
    for pair, message in (
        (
            {"x": good, "y": fewer},
            "y lacks samples: traditional/photo3-000020, color/photo3-000020",
        ),
        ({"x": fewer, "y": good}, "x lacks samples: traditional/photo3-000020"),
        ({"x": good, "y": fair[fair["view"] == "full"]}, "x has 0, 1, 2, y none"),
        ({"x": good, "y": fair.assign(judge=0.5)}, "x and y differ in judge"),
        ({"x": good, "y": fair.drop(columns="d0")}, "y must have the columns"),
        ({"x": good}, "two metrics or more; got x"),
        ({}, "two metrics or more; got none"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_pairs(pair)
    with pytest.raises(ValueError, match=r"tables \(good, fair, poor\); got best"):
        compare_pairs(tables, pairs=[("good", "best")])
    with pytest.raises(ValueError, match="at least one pair"):
        compare_pairs(tables, pairs=[])


# --- Groups ------------------------------------------------------------------------------------


def test_groups_are_the_pairs_of_their_subsets():
    sizes = {"color": 40, "cnn": 50, "traditional": 60, "deblur": 30}
    a, b = metric(5, 0.2, sizes), metric(6, 0.6, sizes)
    found = group_differences(a, b, n_boot=300)
    assert list(found["group"].unique()) == ["distortions", "real", "all"]
    groups = {
        "distortions": ["cnn", "traditional"],
        "real": ["color", "deblur"],
        "all": list(sizes),
    }
    for group, subsets in groups.items():
        part = paired_difference(*(t[t["subset"].isin(subsets)] for t in (a, b)), n_boot=300)
        rows = found[found["group"] == group].reset_index(drop=True)
        assert_frame_equal(rows[part.columns], part, rtol=1e-12)
        assert (rows["holds"] == ((part["low"] > 0) | (part["high"] < 0))).all()
    alone = group_scores(a, n_boot=0).set_index("group")
    values = found.pivot(index="group", columns="quantity", values="a").loc[alone.index]
    np.testing.assert_allclose(values, alone[values.columns])


def test_all_pairs_by_group(tables):
    found = compare_groups(tables, n_boot=50).set_index(["a", "b"])
    assert list(dict.fromkeys(found.index)) == list(itertools.combinations(tables, 2))
    for a, b in set(found.index):
        rows = found.loc[(a, b)].rename(columns={"value_a": "a", "value_b": "b"})
        expected = group_differences(tables[a], tables[b], n_boot=50)
        assert_frame_equal(rows.reset_index(drop=True)[expected.columns], expected)


def test_signs():
    pairs = [("x", "y", 2.0, True), ("x", "z", -1.0, True), ("y", "z", -3.0, False)]
    table = signs(pd.DataFrame(pairs, columns=["a", "b", "difference", "holds"]))
    assert list(table) == list(table.index) == ["x", "y", "z"]
    assert table.to_numpy().tolist() == [[0, 1, -1], [-1, 0, 0], [1, 0, 0]]


def test_groups_of_other_subsets():
    a = metric(7, 0.2, {"mine": 20})
    assert list(group_differences(a, a, n_boot=10)["group"].unique()) == ["all"]
    with pytest.raises(ValueError, match="b lacks samples"):
        group_differences(a, a[a["sample"] != "photo0-000000"])


# --- What the authors measured -----------------------------------------------------------------


def test_released_metrics_differ():
    paths = {n: OFFICIAL / f"bapps_val_alex_{n}.csv.gz" for n in ("vanilla", "shift_tolerant")}
    for path in paths.values():
        if not path.is_file():
            pytest.skip(f"the authors' measurements are not here: {path}")
    tables = {name: read_distances(path) for name, path in paths.items()}
    found = compare_pairs(tables).set_index("quantity")
    assert list(found["holds"]) == [False, True, True, True]
    assert (found["p_value"].dropna() < 1e-100).all()
    total = found["only_a"] - found["only_b"]
    flips = [triplet_outcomes(t)[["rrf_1", "rrf_2", "rrf_3"]].sum() for t in tables.values()]
    np.testing.assert_array_equal(total[1:], flips[0] - flips[1])
    groups = group_differences(*tables.values()).set_index(["group", "quantity"])
    assert groups.loc[("distortions", "two_afc"), "holds"]
    assert not groups.loc[("real", "two_afc"), "holds"]
