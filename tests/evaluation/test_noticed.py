"""Agreement of distances with the shares of people who notice a shift."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robust_lpips.evaluation.noticed import (
    OTHER_HALF,
    agreement,
    best_factor,
    halves,
    monotone,
    noticed_shares,
    scaled,
    scaled_error,
    spearman,
    split_half,
)
from robust_lpips.registered import ANSWERS, SAME, noticed


def responses_of(said: dict[int, list[list[int]]]) -> pd.DataFrame:
    """Answers by shift, a list for each stimulus, as a table of responses."""
    rows = [
        (f"{i:03d}_n-{shift}.png", shift, answer)
        for shift, stimuli in said.items()
        for i, given in enumerate(stimuli)
        for answer in given
    ]
    return pd.DataFrame(rows, columns=["image", "shift", "answer"])


def test_without_answers_the_released_counts():
    table = noticed_shares()
    assert table["noticed"].to_numpy() == pytest.approx(noticed().numpy(), abs=1e-6)
    assert table.loc[0, ["noticed_low", "noticed_high"]].isna().all()
    wilson = stats.binomtest(SAME[4], ANSWERS[4]).proportion_ci(method="wilson")
    base = SAME[0] / ANSWERS[0]
    assert table["noticed_low"][4] == pytest.approx(1 - wilson.high / base)
    assert table["noticed_high"][4] == pytest.approx(1 - wilson.low / base)


def test_answers_by_hand():
    said = {shift: [[1, 0], [1, 0, 0]] for shift in range(1, 10)} | {0: [[1, 1], [1, 0]]}
    table = noticed_shares(responses_of(said))
    assert table["noticed"].tolist() == pytest.approx([0] + 9 * [1 - 0.4 / 0.75])


def test_a_variant_is_scaled_like_another():
    variants = ["alone", "registered", "penalized"]
    curves = pd.DataFrame({"metric": "a", "variant": variants, "distance": [4.0, 0.1, 0.5]})
    factors = pd.DataFrame({"metric": "a", "variant": variants, "factor": [2.0, 99.0, 6.0]})
    assert scaled(curves, factors)["scaled"].tolist() == [8.0, 9.9, 3.0]
    found = scaled(curves, factors, like={"registered": "alone"})
    assert found["scaled"].tolist() == [8.0, 0.2, 3.0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({0: [[1]], 1: [[0]]}, "every shift from 0 to 9; got 0, 1"),
        ({shift: [[0]] for shift in range(10)}, "without a shift; got none"),
    ],
)
def test_answers_that_cannot_be_used(said, message):
    responses = responses_of(said)
    with pytest.raises(ValueError, match=message):
        noticed_shares(responses)


def test_best_factor_by_hand():
    values, target = np.array([1.0, 2.0]), np.array([2.0, 2.0])
    assert best_factor(values, target) == pytest.approx(6 / 5)
    assert scaled_error(values, target) == pytest.approx((0.8**2 + 0.4**2) / 2)
    assert best_factor(values, -target) == 0
    assert scaled_error(np.zeros(2), target) == 4


def test_monotone_by_hand():
    values, target = np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.0, 1.0, 3.0, 5.0])
    # The equal ones are 4; with the 0 that follows, (3 + 5 + 0) / 3.
    assert monotone(values, target) == pytest.approx([8 / 3, 1, 8 / 3, 8 / 3])


def test_monotone_is_the_closest():
    rng = np.random.default_rng(0)
    values, target = rng.integers(0, 20, 50).astype(float), rng.normal(size=50)
    order = np.argsort(values)
    # The conditions of optimality: no step up improves it, nor does another scale.
    fitted = monotone(values, target)
    assert (np.diff(fitted[order]) >= 0).all()
    assert (fitted - target).sum() == pytest.approx(0)
    for level in np.unique(values):
        step = (values >= level).astype(float)
        assert step @ (fitted - target) >= -1e-9
    assert fitted @ (fitted - target) == pytest.approx(0, abs=1e-9)


def test_spearman_of_a_constant():
    assert np.isnan(spearman(np.zeros(3), np.arange(3)))
    assert spearman(np.array([0, 1, 5]), np.array([0, 2, 1])) == pytest.approx(0.5)


def test_scores():
    curves = pd.DataFrame(
        {"metric": "a", "variant": "v", "shift": [2, 0, 1], "distance": [4.0, 0.0, 2.0]}
    )
    (row,) = agreement(curves, np.array([0, 0.25, 0.5])).to_dict("records")
    assert row["factor"] == pytest.approx(0.125)
    assert row["spearman"] == pytest.approx(1)
    assert row["mse"] == pytest.approx(0)
    assert row["mse_monotone"] == pytest.approx(0)


def test_halves_share_no_stimulus():
    # Whichever stimulus is in one half, the other is in the other.
    said = {0: [[1], [1]], 1: [[1, 0], [0, 0, 0]]}
    responses = responses_of(said)
    found = {tuple(map(tuple, pair)): None for pair in halves(responses, splits=20, seed=0)}
    assert set(found) == {((0, 0.5), (0, 1)), ((0, 1), (0, 0.5))}


def test_split_half_by_hand():
    # Halves do not differ: they tell each other, and a metric of that shape does, too.
    said = {shift: [[1] * (9 - shift) + [0] * (shift + 1)] * 2 for shift in range(3)}
    responses = responses_of(said)
    other = [1 - 8 / 9, 1 - 7 / 9]
    curves = pd.DataFrame(
        [
            ("a", variant, shift, factor * ([0, *other])[shift])
            for variant, factor in (("alike", 3), ("free", 0))
            for shift in range(3)
        ],
        columns=["metric", "variant", "shift", "distance"],
    )
    table = split_half(responses, curves, splits=2).set_index(["metric", "variant"])
    assert table["mse"].to_dict() == pytest.approx(
        {
            (OTHER_HALF, ""): 0,
            ("a", "alike"): 0,
            ("a", "free"): np.square(other).sum() / 3,
        }
    )
    assert table.loc[("a", "alike"), "spearman"] == pytest.approx(1)


def test_a_single_stimulus_has_no_halves():
    responses = responses_of({0: [[1]], 1: [[0]]})
    with pytest.raises(ValueError, match="2 stimuli or more at each shift; got 1"):
        next(halves(responses, 1))
