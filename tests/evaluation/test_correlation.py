import doctest
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats

from robust_lpips.evaluation import correlation, correlation_table, fit_logistic, logistic
from robust_lpips.evaluation.correlation import krcc, plcc, srcc

COLUMNS = [
    *("subset", "n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_low", "plcc_high"),
    *("krcc", "krcc_low", "krcc_high"),
]


def noisy(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Distances and falling scores, both with ties."""
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 25, count) / 25
    return distance, np.round(5 - 3 * distance + rng.normal(0, 0.7, count), 1)


def table(references: int = 6, seed: int = 0) -> pd.DataFrame:
    """Two subsets of unequal size over the same references, of which one is noisier."""
    rng = np.random.default_rng(seed)
    rows = []
    for subset, levels, noise in (("blur", 5, 0.3), ("noise", 3, 0.6)):
        for reference in range(references):
            for level in range(levels):
                distance = level + reference / 10 + rng.normal(0, 0.2)
                score = 5 - level + rng.normal(0, noise)
                rows.append((subset, f"r{reference}-{level}", distance, score))
    return pd.DataFrame(rows, columns=["subset", "sample", "distance", "score"])


class TestNumbers:
    def test_ranks_are_scipys(self):
        distance, score = noisy()
        assert srcc(distance, score) == stats.spearmanr(distance, score).statistic
        assert krcc(distance, score) == pytest.approx(stats.kendalltau(distance, score).statistic)
        assert srcc(distance, score) < -0.5 < 0.5 < srcc(-distance, score)
        assert srcc(torch.tensor(distance), list(score)) == srcc(distance, score)

    @pytest.mark.parametrize("way", [1, -1])
    def test_plcc_is_pearsons_after_the_curve(self, way):
        distance, score = noisy()
        score = way * score
        curve, _ = optimize.curve_fit(
            lambda x, a, b, c, d: (a - b) / (1 + np.exp(-(x - c) / abs(d))) + b,
            distance,
            score,
            [score[distance.argmax()], score[distance.argmin()], 0.5, 0.3],
            maxfev=20_000,
        )
        fitted = (curve[0] - curve[1]) / (1 + np.exp(-(distance - curve[2]) / abs(curve[3])))
        expected = abs(stats.pearsonr(fitted, score).statistic)
        assert plcc(distance, score) == pytest.approx(-way * expected, abs=1e-4)
        assert expected > 0.5

    def test_plcc_of_a_curve_is_one_where_pearsons_is_not(self):
        x = np.linspace(0, 10, 50)
        y = logistic(x, 1, 9, 2, 0.4)
        assert plcc(x, y) == pytest.approx(-1, abs=1e-6)
        assert stats.pearsonr(x, y).statistic > -0.8

    @pytest.mark.parametrize("function", [srcc, krcc, plcc])
    @pytest.mark.parametrize(
        ("distance", "score", "message"),
        [
            ([1.0] * 6, range(6), "distance must not be constant; every value is 1"),
            (range(6), [2.0] * 6, "score must not be constant"),
            ([1, 2, 3, 4, 5, np.nan], range(6), "distance must be finite; got nan"),
            (range(6), range(7), "must have one length; got 6 and 7"),
            ([[1, 2]], [1, 2], "distance must be \\(N,\\)"),
            ([1], [1], "distance must be \\(N,\\)"),
        ],
    )
    def test_bad_arguments(self, function, distance, score, message):
        with pytest.raises(ValueError, match=message):
            function(distance, score)

    def test_examples_in_docstrings_hold(self):
        assert doctest.testmod(correlation).failed == 0


class TestCurve:
    # A metric's distances may be of any size.
    @pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
    @pytest.mark.parametrize(("high", "low"), [(9, 1), (1, 9), (-30, 80)])
    def test_a_planted_curve_is_found(self, high, low, scale):
        x = np.linspace(0, 1, 80) * scale
        planted = np.array([high, low, 0.4 * scale, 0.09 * scale])
        assert fit_logistic(x, logistic(x, *planted)) == pytest.approx(planted, rel=1e-4)

    def test_noise_moves_it_little(self):
        rng = np.random.default_rng(1)
        x = rng.uniform(0, 1, 2000)
        planted = (1, 9, 0.45, 0.1)
        fitted = fit_logistic(x, logistic(x, *planted) + rng.normal(0, 0.5, len(x)))
        assert fitted == pytest.approx(planted, rel=0.15)
        x = np.linspace(0, 1, 20)
        assert np.abs(logistic(x, *fitted) - logistic(x, *planted)).max() < 0.15

    def test_large_exponents_do_not_overflow(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert logistic([-1e30, 1e30], 2, 3, 0, 1e-9).tolist() == [3, 2]

    def test_a_failed_fit_is_a_line_and_says_so(self, monkeypatch):
        def fail(*args, **options):
            raise RuntimeError("no convergence")

        monkeypatch.setattr(optimize, "curve_fit", fail)
        distance, score = noisy()
        with pytest.warns(UserWarning, match="straight line"):
            curve = fit_logistic(distance, score)
        slope, offset = np.polyfit(distance, score, 1)
        assert logistic(distance, *curve) == pytest.approx(slope * distance + offset, abs=1e-5)
        with pytest.warns(UserWarning, match="straight line"):
            assert plcc(distance, score) == pytest.approx(stats.pearsonr(distance, score).statistic)


class TestTable:
    def test_points_and_signs(self):
        distances = table()
        result = correlation_table(distances, higher_is_better=True, n_boot=0)
        assert list(result) == COLUMNS
        assert list(result["subset"]) == ["blur", "noise", "mean", "all"]
        assert list(result["n"]) == [30, 18, 48, 48]
        result = result.set_index("subset")
        for subset in ("blur", "noise", "all"):
            rows = distances if subset == "all" else distances[distances["subset"] == subset]
            for name, function in (("srcc", srcc), ("plcc", plcc), ("krcc", krcc)):
                expected = -function(rows["distance"], rows["score"])
                assert result.loc[subset, name] == pytest.approx(expected)
                assert expected > 0.3
        means = result.loc[["blur", "noise"], ["srcc", "plcc", "krcc"]].mean()
        assert result.loc["mean", means.index].tolist() == pytest.approx(means.tolist())
        assert result.filter(regex="_(low|high)$").isna().all(axis=None)

    def test_worse_scores_turn_the_sign(self):
        distances = table()
        agree = correlation_table(distances, True, n_boot=50)
        turned = distances.assign(score=-distances["score"])
        same = correlation_table(turned, False, n_boot=50)
        pd.testing.assert_frame_equal(agree, same, rtol=1e-4)
        against = correlation_table(distances, False, n_boot=50)
        assert against["srcc"].tolist() == (-agree["srcc"]).tolist()
        assert against["plcc_low"].tolist() == pytest.approx((-agree["plcc_high"]).tolist())

    def test_resamples_are_scipys_of_the_repeated_pairs(self):
        """Against a loop that writes every resample out; ties in both included."""
        rng = np.random.default_rng(3)
        x, y = rng.integers(0, 9, 40).astype(float), rng.integers(0, 9, 40).astype(float)
        x += y
        codes = rng.permutation(np.repeat(np.arange(8), 5))
        weights = rng.multinomial(8, np.full(8, 1 / 8), size=20)
        _, found = correlation._correlations(x, y, codes, weights)
        mapped = correlation._mapped(x, y)
        for drawn, values in zip(weights, found, strict=True):
            take = np.repeat(np.arange(40), drawn[codes])
            expected = (
                stats.spearmanr(x[take], y[take]).statistic,
                stats.pearsonr(mapped[take], y[take]).statistic,
                stats.kendalltau(x[take], y[take]).statistic,
            )
            assert values == pytest.approx(expected)

    def test_chunks_change_nothing(self, monkeypatch):
        expected = correlation_table(table(), True, n_boot=30)
        monkeypatch.setattr(correlation, "_CHUNK", 64)
        pd.testing.assert_frame_equal(correlation_table(table(), True, n_boot=30), expected)

    def test_intervals_hold_the_point_and_widen_with_clusters(self):
        # Five copies of each pair: as pairs they look like more than they are, as clusters not.
        distances = pd.concat(
            [table().assign(sample=lambda t, i=i: t["sample"] + f".{i}") for i in range(5)]
        )
        clustered = correlation_table(distances, True, n_boot=200)
        alone = correlation_table(distances, True, n_boot=200, cluster=None)
        for result in (clustered, alone):
            assert (result["srcc_low"] <= result["srcc"]).all()
            assert (result["srcc"] <= result["srcc_high"]).all()
        width = [r["srcc_high"].iloc[1] - r["srcc_low"].iloc[1] for r in (clustered, alone)]
        assert width[0] > 1.3 * width[1]
        pd.testing.assert_frame_equal(clustered, correlation_table(distances, True, n_boot=200))
        other = correlation_table(distances, True, n_boot=200, seed=1)
        assert (other["srcc_low"] != clustered["srcc_low"]).any()

    def test_a_single_reference_has_no_interval(self):
        result = correlation_table(table(references=1).query("subset == 'blur'"), True, n_boot=20)
        assert result["srcc"].notna().all()
        assert result["srcc_low"].isna().all()

    def test_errors_name_the_subset(self):
        distances = table()
        distances.loc[distances["subset"] == "noise", "distance"] = 1.0
        with pytest.raises(ValueError, match="noise: distance must not be constant"):
            correlation_table(distances, True)
        with pytest.raises(ValueError, match="missing: score"):
            correlation_table(distances.drop(columns="score"), True)
