import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robust_lpips.plots import (
    _cost,
    _pareto_front,
    _places,
    _spread,
    plot_ablation,
    plot_comparison,
    plot_pareto,
    plot_shift_curves,
    plot_training,
    plot_training_curves,
)

NAN = float("nan")
TITLE = "Heading\nsample set val, 600 triplets"
BLURPOOL = (0, 114, 178)
VALIDATION = (213, 94, 0)


def ablation() -> pd.DataFrame:
    rows = []
    for i, (family, stride) in enumerate([("none", 4), ("blurpool", 2), ("blurpool", 1)]):
        for state, rrf, score in (("untrained", 15.0, 65.0), ("trained", 6.0, 77.0)):
            rows.append(point(f"row-{i}", state, family, stride, rrf - i, score + i / 10))
    rows.append(point("L2", "reference", None, NAN, 13.0, 64.0) | unpublished())
    return pd.DataFrame(rows)


def point(row, state, family, stride, rrf, score) -> dict:
    return {
        "row": row,
        "state": state,
        "anti_alias": family,
        "conv1_stride": stride,
        "two_afc": score,
        "two_afc_low": score - 3,
        "two_afc_high": score + 2,
        "rrf_1": rrf,
        "rrf_1_low": rrf - 1.5,
        "rrf_1_high": rrf + 1,
        "published_two_afc": 70.5 + rrf / 100,
        "published_rrf_1": rrf / 4,
        "two_afc_label": "2AFC (%)",
    }


def unpublished() -> dict:
    return {"published_two_afc": NAN, "published_rrf_1": NAN}


def curves() -> pd.DataFrame:
    shift = np.arange(4)
    tables = [
        pd.DataFrame(
            {
                "metric": metric,
                "shift": shift,
                "relative_distance": height * shift,
                "rrf": np.where(shift > 0, 10 * height * shift, NAN),
                "rrf_low": np.where(shift > 0, 8 * height * shift, NAN),
                "rrf_high": np.where(shift > 0, 12 * height * shift, NAN),
            }
        )
        for metric, height in (("l2", 0.5), ("ssim", 0.1))
    ]
    return pd.concat(tables, ignore_index=True)


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has_color(image: np.ndarray, color) -> bool:
    return bool((image == color).all(axis=-1).sum() > 20)


@pytest.mark.parametrize(
    ("draw", "data"), [(plot_ablation, ablation()), (plot_shift_curves, curves())]
)
class TestEveryPlot:
    def test_writes_a_picture(self, draw, data, tmp_path):
        path = tmp_path / "new" / "plot.png"
        assert draw(data, path, TITLE) == path
        image = pixels(path)
        assert image.shape[0] > 500
        assert image.shape[1] > 800
        assert has_color(image, BLURPOOL)
        assert 0.5 < (image == 255).all(axis=-1).mean() < 0.97
        assert [entry.name for entry in path.parent.iterdir()] == ["plot.png"]

    def test_leaves_settings_alone_and_does_not_follow_them(self, draw, data, tmp_path):
        draw(data, tmp_path / "a.png", TITLE)
        with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.marker": "x"}):
            before = dict(matplotlib.rcParams)
            draw(data, tmp_path / "b.png", TITLE)
            assert dict(matplotlib.rcParams) == before
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_refuses_other_files_and_nothing(self, draw, data, tmp_path):
        with pytest.raises(ValueError, match=r"\.png"):
            draw(data, tmp_path / "plot.pdf", TITLE)
        with pytest.raises(ValueError, match="no rows"):
            draw(data[:0], tmp_path / "plot.png", TITLE)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("states", "published", "panels"),
    [
        (("untrained", "trained", "reference"), True, 3),
        (("untrained", "trained", "reference"), False, 2),
        (("trained",), False, 1),
        (("untrained",), False, 1),
        (("trained",), True, 2),
    ],
)
def test_ablation_has_the_panels_that_it_has_data_for(states, published, panels, tmp_path):
    table = ablation().query("state in @states")
    table = table if published else table.assign(**unpublished())
    image = pixels(plot_ablation(table, tmp_path / "plot.png", TITLE))
    # Every panel has a left spine, the one long dark vertical line in it.
    spines = (image < 200).all(axis=-1).sum(axis=0) > image.shape[0] / 2
    assert np.count_nonzero(np.diff(spines.astype(int)) == 1) == panels
    # Nothing is cut off: the margins stay white.
    assert (image[:, [0, 1, -2, -1]] == 255).all()
    assert (image[[0, 1, -2, -1]] == 255).all()


def test_ablation_without_intervals(tmp_path):
    table = ablation()
    bounds = [name for name in table if name.endswith(("_low", "_high"))]
    plot_ablation(table.assign(**dict.fromkeys(bounds, NAN)), tmp_path / "plot.png", TITLE)
    assert has_color(pixels(tmp_path / "plot.png"), BLURPOOL)


def test_long_names_and_many_metrics_fit(tmp_path):
    table = pd.concat(
        [
            curves().query("metric == 'l2'").assign(metric=f"{i}-vgg16-shift-tolerant-kadid")
            for i in range(9)
        ]
    )
    image = pixels(plot_shift_curves(table, tmp_path / "plot.png", TITLE))
    # Nothing is cut off: the margins stay white.
    assert (image[:, [0, 1, -2, -1]] == 255).all()


def test_spread_keeps_order_and_distance_and_moves_little():
    positions = np.array([10.0, 11.0, 50.0, 9.0])
    spread = _spread(positions, gap=4.0)
    assert np.array_equal(np.argsort(spread), np.argsort(positions))
    assert (np.diff(np.sort(spread)) >= 4.0 - 1e-9).all()
    assert spread[2] == 50.0
    # The three that touch stay around their own middle.
    assert spread[[0, 1, 3]] == pytest.approx([10.0, 14.0, 6.0])


def test_a_label_prefers_the_free_side():
    point, half = np.array([100.0, 100.0]), np.array([6.0, 5.0])
    frame = np.array([0.0, 0.0, 200.0, 200.0])
    above = np.array([0.0, 102.0, 200.0, 200.0])
    marker = np.array([95.0, 95.0, 105.0, 105.0])
    centre, *_ = min(
        _places(point, half, 1.0), key=lambda place: _cost(place, point, [marker, above], frame)
    )
    assert centre[1] < 97.0


def history(epochs: int = 4) -> pd.DataFrame:
    after = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": np.arange(epochs + 1),
            "loss": [NAN, *(0.7 / after)],
            "accuracy": [NAN, *(0.7 + after / 100)],
            "validation": 0.7 + np.arange(epochs + 1) / 90,
        }
    )


def steps(epochs: int = 4) -> pd.DataFrame:
    table = pd.DataFrame(
        [(e, s) for e in range(epochs) for s in range(9)], columns=["epoch", "step"]
    )
    return table.assign(loss=0.7 / (1 + table["epoch"] + table["step"] / 9))


def runs(count: int) -> pd.DataFrame:
    return pd.concat([history().assign(run=f"a-long-name-of-run-{i}") for i in range(count)])


class TestTraining:
    def test_has_both_panels(self, tmp_path):
        path = tmp_path / "new" / "training.png"
        assert plot_training(history(), steps(), path, TITLE, "2AFC") == path
        image = pixels(path)
        assert has_color(image, BLURPOOL)
        spines = (image < 200).all(axis=-1).sum(axis=0) > image.shape[0] / 2
        assert np.count_nonzero(np.diff(spines.astype(int)) == 1) == 2
        assert (image[:, [0, 1, -2, -1]] == 255).all()
        assert [entry.name for entry in path.parent.iterdir()] == ["training.png"]

    def test_without_validation(self, tmp_path):
        table = history().assign(validation=None)
        plot_training(table, steps(), tmp_path / "training.png", TITLE, "2AFC")
        assert not has_color(pixels(tmp_path / "training.png"), VALIDATION)
        plot_training(history(), steps(), tmp_path / "training.png", TITLE, "2AFC")
        assert has_color(pixels(tmp_path / "training.png"), VALIDATION)

    @pytest.mark.parametrize("count", [1, 12])
    def test_several_runs_fit(self, count, tmp_path):
        image = pixels(plot_training_curves(runs(count), tmp_path / "a.png", TITLE, "2AFC"))
        # Nothing is cut off, though all lines end in one place: the margins stay white.
        assert (image[:, [0, 1, -2, -1]] == 255).all()
        assert (image[[0, 1, -2, -1]] == 255).all()

    def test_refuses_other_files_and_nothing(self, tmp_path):
        path = tmp_path / "plot.png"
        for name, tables in (
            ("history", (history()[:0], steps())),
            ("steps", (history(), steps()[:0])),
        ):
            with pytest.raises(ValueError, match=f"{name} has no rows"):
                plot_training(*tables, path, TITLE, "2AFC")
        with pytest.raises(ValueError, match="histories has no rows"):
            plot_training_curves(runs(1)[:0], path, TITLE, "2AFC")
        with pytest.raises(ValueError, match=r"\.png"):
            plot_training_curves(runs(1), tmp_path / "plot.pdf", TITLE, "2AFC")
        assert list(tmp_path.iterdir()) == []


class TestComparison:
    @pytest.fixture
    def scores(self):
        rows = [("l2", 62.0, 7.0), ("a metric with a long name", 70.0, 2.0)]
        columns = ["metric", "two_afc", "rrf_1"]
        scores = pd.DataFrame(rows, columns=columns).assign(two_afc_label="2AFC (%)")
        for name in columns[1:]:
            scores[f"{name}_low"], scores[f"{name}_high"] = scores[name] - 2, scores[name] + 3
        return scores

    def test_a_line_a_metric(self, scores, tmp_path):
        heights = []
        for count in (1, 2):
            path = plot_comparison(scores.head(count), tmp_path / f"{count}.png", TITLE)
            with Image.open(path) as image:
                heights.append(image.height)
                assert BLURPOOL in {color for _, color in image.convert("RGB").getcolors(2**24)}
        assert heights[0] < heights[1]

    def test_without_shifts_or_intervals(self, scores, tmp_path):
        bare = scores[["metric", "two_afc", "two_afc_label"]].assign(
            two_afc_low=NAN, two_afc_high=NAN
        )
        path = plot_comparison(bare, tmp_path / "bare.png", TITLE)
        both = plot_comparison(scores, tmp_path / "both.png", TITLE)
        with Image.open(path) as one, Image.open(both) as two:
            assert one.width < two.width

    def test_errors(self, scores, tmp_path):
        with pytest.raises(ValueError, match=r"path must end in \.png"):
            plot_comparison(scores, tmp_path / "a.pdf", TITLE)
        with pytest.raises(ValueError, match="scores has no rows"):
            plot_comparison(scores.head(0), tmp_path / "a.png", TITLE)


def designs(*networks: str) -> pd.DataFrame:
    rows = [
        {"network": network, "design": design, "base": i == 0, "time": 1.0 + i}
        | {"rrf_1": 3.0 - i, "rrf_1_low": 2.5 - i, "rrf_1_high": 4.0 - i}
        | {"two_afc": 87.0 - i, "two_afc_low": 85.0 - i, "two_afc_high": 88.0 - i}
        for network in networks
        for i, design in enumerate(("unchanged", "registered", "jittered"))
    ]
    return pd.DataFrame(rows)


class TestPareto:
    @pytest.mark.parametrize(
        ("points", "panels"),
        [
            (designs("alexnet"), 1),
            (designs("alexnet").head(2), 1),
            (designs("alexnet", "vgg16"), 3),
            (designs("alexnet", "vgg16").head(5), 2),
        ],
    )
    def test_networks_of_more_than_two_have_a_panel(self, points, panels, tmp_path):
        path = plot_pareto(points, tmp_path / "new" / "pareto.png", TITLE, "2AFC (%)")
        image = pixels(path)
        assert has_color(image, BLURPOOL)
        spines = (image < 200).all(axis=-1).sum(axis=0) > image.shape[0] / 2
        assert np.count_nonzero(np.diff(spines.astype(int)) == 1) == panels
        # Nothing is cut off: the margins stay white.
        assert (image[:, [0, 1, -2, -1]] == 255).all()
        assert (image[[0, 1, -2, -1]] == 255).all()

    def test_front_is_what_nothing_beats(self):
        rng = np.random.default_rng(0)
        values = rng.integers(0, 12, (60, 2)).astype(float)
        points = pd.DataFrame(values, columns=["rrf_1", "two_afc"]).drop_duplicates()
        beaten = [
            ((points["rrf_1"] <= x) & (points["two_afc"] >= y)).sum() > 1
            for x, y in points.to_numpy()
        ]
        front = _pareto_front(points)
        assert set(front.index) == set(points.index[~np.array(beaten)])
        assert front["rrf_1"].is_monotonic_increasing

    def test_without_intervals(self, tmp_path):
        bounds = [f"{name}_{end}" for name in ("rrf_1", "two_afc") for end in ("low", "high")]
        points = designs("alexnet").assign(**dict.fromkeys(bounds, NAN))
        assert has_color(pixels(plot_pareto(points, tmp_path / "a.png", TITLE, "2AFC")), BLURPOOL)

    def test_errors(self, tmp_path):
        with pytest.raises(ValueError, match=r"path must end in \.png"):
            plot_pareto(designs("alexnet"), tmp_path / "a.pdf", TITLE, "2AFC")
        with pytest.raises(ValueError, match="points has no rows"):
            plot_pareto(designs("alexnet").head(0), tmp_path / "a.png", TITLE, "2AFC")
