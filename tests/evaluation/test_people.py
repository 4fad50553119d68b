import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from robust_lpips.evaluation.people import agreement, metric_curves, people


def answers(**by_stimulus) -> pd.DataFrame:
    rows = [(*name.split("_"), a) for name, given in by_stimulus.items() for a in given]
    table = pd.DataFrame(rows, columns=["image", "shift", "answer"])
    return table.astype({"shift": int})


class TestPeople:
    def test_by_hand(self):
        table = people(answers(a_0=[1, 1, 1], b_0=[1, 0], a_2=[0, 0, 0, 1], c_2=[0, 1]))
        first, second = table.to_dict("records")
        assert (first["shift"], first["stimuli"], first["answers"]) == (0, 2, 5)
        assert first["said_same"] == 4
        assert first["percent_same"] == pytest.approx(80.0)
        # Standard deviations 0 and 1/2.
        assert first["std_mean"] == pytest.approx(0.25)
        assert first["std_std"] == pytest.approx(0.25)
        # Of 1/4: sqrt(3)/4.
        spreads = [np.sqrt(3) / 4, 0.5]
        assert second["std_mean"] == pytest.approx(np.mean(spreads))
        assert second["std_std"] == pytest.approx(np.std(spreads))
        # Pooled: not the mean of the stimuli's shares, 37.5.
        assert second["percent_same"] == pytest.approx(100 * 2 / 6)

    def test_intervals_are_over_stimuli(self):
        rng = np.random.default_rng(0)
        alike = {f"i{i}_0": [int(v)] * 10 for i, v in enumerate(rng.integers(0, 2, 40))}
        mixed = {f"i{i}_0": [0, 1] * 5 for i in range(40)}
        (clustered,), (same,) = (
            people(answers(**each))[["percent_same", "percent_same_low", "percent_same_high"]]
            .to_numpy()
            .tolist()
            for each in (alike, mixed)
        )
        # 40 independent values, not 400: a deviation of 100 * sqrt(p (1 - p) / 40).
        share = clustered[0] / 100
        expected = 2 * 1.96 * 100 * np.sqrt(share * (1 - share) / 40)
        assert clustered[2] - clustered[1] == pytest.approx(expected, rel=0.15)
        assert same == [50.0, 50.0, 50.0]


def shifted(*distances: float) -> pd.DataFrame:
    """Distances of one crop at shifts 0, 1, ..."""
    shifts = np.arange(len(distances), dtype=float)
    return pd.DataFrame({"score": shifts, "sample": "x-0", "distance": distances})


class TestMetricCurves:
    def test_by_hand(self):
        names = [f"{photograph}-{i}" for photograph in "ab" for i in range(2)]
        tables = {
            "mine": pd.concat(
                pd.DataFrame({"score": s, "sample": names, "distance": distances})
                for s, distances in ((4.0, [3.0, 5.0, 7.0, 9.0]), (0.0, [1.0] * 4), (2.0, range(4)))
            )
        }
        curves = metric_curves(tables)
        assert curves["shift"].tolist() == [0, 2, 4]
        assert curves["n"].tolist() == [4, 4, 4]
        assert curves["distance"].tolist() == [1.0, 1.5, 6.0]
        assert curves["relative_distance"].tolist() == [0.0, 0.1, 1.0]
        # Resamples of two photographs: both twice, or each once.
        assert curves["distance_low"].tolist() == [1.0, 0.5, 4.0]
        assert curves["distance_high"].tolist() == [1.0, 2.5, 8.0]

    def test_same_distance_at_both_ends_has_no_scale(self):
        curves = metric_curves({"flat": shifted(0.0, 3.0, 0.0), "up": shifted(2.0, 3.0, 4.0)})
        relative = curves.set_index("metric")["relative_distance"]
        assert relative["flat"].isna().all()
        assert relative["up"].tolist() == [0.0, 0.5, 1.0]


class TestAgreement:
    SAME = people(answers(a_0=[1, 1, 1, 1], a_1=[1, 1, 1, 0], a_2=[1, 1, 0, 0], a_3=[1, 0, 0, 0]))

    def test_is_scipys_spearman(self):
        distances = {"up": [0, 1, 2, 9], "down": [3, 2, 1, 0], "mixed": [0, 3, 1, 2]}
        curves = metric_curves({name: shifted(*values) for name, values in distances.items()})
        rho = agreement(curves, self.SAME).set_index("metric")["spearman"]
        assert rho["up"] == 1
        assert rho["down"] == -1
        expected = spearmanr([0, 3, 1, 2], [0, 25, 50, 75]).statistic
        assert rho["mixed"] == pytest.approx(expected)

    @pytest.mark.filterwarnings("error")
    def test_is_undefined_without_an_order(self):
        flat = metric_curves({"flat": shifted(0.5, 0.5, 0.5, 0.5)})
        assert np.isnan(agreement(flat, self.SAME)["spearman"].item())
        up = metric_curves({"up": shifted(0.0, 1.0, 2.0, 3.0)})
        undecided = people(answers(a_0=[1, 0], a_1=[1, 0], a_2=[0, 1], a_3=[0, 1]))
        assert np.isnan(agreement(up, undecided)["spearman"].item())
