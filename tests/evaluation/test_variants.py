"""A variant of a metric against the original, by hand."""

import numpy as np
import pandas as pd
import pytest

from robust_lpips.evaluation.variants import (
    median_ratio,
    pareto_front,
    scores_and_differences,
    verdicts_kept,
)


def table(d0, d1) -> pd.DataFrame:
    """(V, N) distances of the views full, shift-0 and shift-1, in one subset."""
    parts = [
        pd.DataFrame({"d0": a, "d1": b, "view": view, "judge": 1.0, "subset": "cnn"}).assign(
            sample=[f"{i:06d}" for i in range(len(a))]
        )
        for a, b, view in zip(d0, d1, ("full", "shift-0", "shift-1"), strict=True)
    ]
    return pd.concat(parts)


@pytest.fixture
def distances() -> np.ndarray:
    """(2 metrics, 2 images, 3 views, 40 triplets)."""
    return np.random.default_rng(0).random((2, 2, 3, 40))


def test_scores_and_differences(distances):
    own, base = (table(*each) for each in distances)
    names = {"two_afc": "accuracy", "rrf_1": "flips"}
    found = scores_and_differences(own, base, names, n_boot=50).set_index("quantity")
    assert list(found.index) == ["accuracy", "flips", "accuracy_difference", "flips_difference"]
    right = distances[:, 1, 0] < distances[:, 0, 0]
    assert found.loc["accuracy", "value"] == pytest.approx(100 * right[0].mean())
    difference = right[0].mean() - right[1].mean()
    assert found.loc["accuracy_difference", "value"] == pytest.approx(100 * difference)
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    assert (found["n"] == 40).all()
    assert list(scores_and_differences(own, None, names, 0)["quantity"]) == ["accuracy", "flips"]


def test_verdicts_kept(distances):
    own, base = (table(*each) for each in distances)
    value, low, high, n = verdicts_kept(own, base, n_boot=50)
    first = distances[:, 0, 0] < distances[:, 1, 0]
    assert value == pytest.approx(100 * (first[0] == first[1]).mean())
    assert low <= value <= high
    assert n == 40
    assert verdicts_kept(own, own, n_boot=50)[:3] == (100, 100, 100)


def test_median_ratio():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"sample": ["a-1", "b-1", "c-1"], "d0": [1.0, 4, 9], "d1": [2.0, 2, 3]})
    value, low, high, n = median_ratio(rows, 50, rng)
    assert (value, n) == (2, 3)
    assert 0.5 <= low <= value <= high <= 3
    # Patches of a single photograph have no interval.
    assert np.isnan(median_ratio(rows.assign(sample=["a-1", "a-2", "a-3"]), 50, rng)[1])


def test_front():
    points = pd.DataFrame({"rrf_1": [3.0, 1, 1, 2, 4], "two_afc": [80.0, 70, 60, 65, 90]})
    assert pareto_front(points).index.tolist() == [1, 0, 4]
