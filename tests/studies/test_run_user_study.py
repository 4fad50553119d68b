import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from robust_lpips.studies.published import published
from scipy.stats import spearmanr

from robust_lpips.comparison import metric_names
from robust_lpips.data import ShiftedPhotographs
from robust_lpips.plots import plot_user_study
from robust_lpips.studies import measured, records
from robust_lpips.studies.user_study import (
    DEFAULT_METRICS,
    Settings,
    agreement,
    human_curve,
    metric_curves,
    people,
    people_table,
    run,
)

RELEASED = Path(__file__).resolve().parents[2] / ".." / "shared" / "official"
ANSWERS = {
    "a_n-0.png": [1, 1, 1],
    "b_n-0.png": [1, 0],
    "a_n-1.png": [0, 0, 0, 1],
    "c_n-1.png": [0, 0],
    "a_n-3.png": [0],
    "b_n-3.png": [0, 0, 0],
}
CROPS = {"n": 9, "image_size": 24, "seed": 0}


@pytest.fixture
def responses(tmp_path) -> Path:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(ANSWERS), encoding="utf-8")
    return path


@pytest.fixture
def settings(responses) -> Settings:
    return Settings(responses=str(responses), **CROPS)


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "run_user_study.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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

    def test_the_released_answers(self):
        path = RELEASED / "user_study_responses.json"
        if not path.is_file():
            pytest.skip("the released answers are not here")
        table = people_table(Settings(responses=str(path)))
        curve = human_curve(table).set_index("shift")
        assert list(curve.index) == list(range(10))
        assert curve["stimuli"].sum() == 301
        assert curve.loc[0, ["said_same", "answers"]].tolist() == [111, 120]
        assert curve.loc[9, ["said_same", "answers"]].tolist() == [9, 112]
        assert curve.loc[0, "percent_same"] == pytest.approx(92.5)
        assert curve.loc[9, "percent_same"] == pytest.approx(8.0, abs=0.05)
        # The authors' whole study lies within the intervals of its released part.
        whole = published("user_study").set_index("shift")["percent_same"]
        assert whole.between(curve["percent_same_low"], curve["percent_same_high"]).all()

    def test_without_answers_the_published_table_is_the_curve(self):
        curve = human_curve(people_table(Settings()))
        assert set(curve["source"]) == {"published"}
        assert curve["answers"].tolist() == [150] * 10
        assert curve["percent_same"].tolist() == published("user_study")["percent_same"].tolist()
        assert curve[["stimuli", "percent_same_low"]].isna().all(axis=None)

    @pytest.mark.parametrize("shifts", [[0], [1, 2]])
    def test_a_curve_begins_at_0_and_goes_on(self, shifts):
        table = people(answers(**{f"a_{shift}": [1, 0] for shift in shifts}))
        with pytest.raises(ValueError, match="shift 0 and larger ones; got"):
            human_curve(table.assign(source="measured"))


class TestCurves:
    def test_l2_by_hand(self, settings, tmp_path):
        run(settings, tmp_path / "out", ["l2"])
        table = pd.read_csv(tmp_path / "out" / "curves.csv").set_index("shift")
        own = {shift: [] for shift in (0, 1, 3)}
        for item in ShiftedPhotographs({0: 0, 1: 1, 3: 3}, label="score", **CROPS):
            a, b = (item[name].double() / 127.5 - 1 for name in ("p0", "p1"))
            own[int(item["score"])].append(float((a - b).square().mean()))
        means = {shift: np.mean(values) for shift, values in own.items()}
        for shift, mean in means.items():
            assert table.loc[shift, "distance"] == pytest.approx(mean, rel=1e-5, abs=1e-12)
            relative = table.loc[shift, "relative_distance"]
            assert relative == pytest.approx(mean / means[3], rel=1e-5, abs=1e-12)
            bounds = table.loc[shift, ["distance_low", "distance_high"]]
            assert bounds.iloc[0] <= table.loc[shift, "distance"] <= bounds.iloc[1]
        assert means[0] == 0 < means[1] < means[3]

    def test_spearman_is_scipys(self):
        curve = people(
            answers(a_0=[1, 1, 1, 1], a_1=[1, 1, 1, 0], a_2=[1, 1, 0, 0], a_3=[1, 0, 0, 0])
        )
        tables = {
            name: pd.DataFrame({"score": [0.0, 1, 2, 3], "sample": "x-0", "distance": distances})
            for name, distances in {
                "up": [0.0, 1, 2, 9],
                "down": [3.0, 2, 1, 0],
                "mixed": [0.0, 3, 1, 2],
                "flat": [0.0, 0, 0, 0],
            }.items()
        }
        curves = metric_curves(tables)
        rho = agreement(curves, curve).set_index("metric")["spearman"]
        assert rho["up"] == 1
        assert rho["down"] == -1
        expected = spearmanr([0, 3, 1, 2], [0, 25, 50, 75]).statistic
        assert rho["mixed"] == pytest.approx(expected)
        assert np.isnan(rho["flat"])
        assert curves[curves["metric"] == "flat"]["relative_distance"].isna().all()


class TestRun:
    def test_files_page_and_records(self, settings, tmp_path):
        output = tmp_path / "out"
        page = run(settings, output, ["l2", "ssim"], command="python experiments/x.py")
        names = {path.name for path in output.iterdir()}
        assert names >= {"user_study.csv", "curves.csv", "user_study.md", "user_study.png"}
        assert (output / "user_study.md").read_text(encoding="utf-8") == page
        assert "6 stimuli, 15 answers" in page
        assert "## People, measured" in page
        assert "## People, published" in page
        assert "python experiments/x.py" in page
        assert "9 crops" in page
        written = pd.read_csv(output / "user_study.csv")
        assert written["source"].value_counts().to_dict() == {"measured": 3, "published": 10}
        found = records.read(output)
        assert [record["metric"] for record in found] == ["l2", "ssim"]
        assert all(set(record["scores"]) == {"spearman"} for record in found)
        assert "answers given" in found[0]["judged_by"]
        assert found[0]["n"] == 9

    def test_other_answers_of_the_same_shifts_need_no_new_distances(
        self, settings, responses, tmp_path, monkeypatch
    ):
        output = tmp_path / "out"
        run(settings, output, ["l2"])
        changed = ANSWERS | {"b_n-0.png": [1, 1]}
        responses.write_text(json.dumps(changed), encoding="utf-8")

        def load(names, *_):
            assert not names
            return {}, {}

        monkeypatch.setattr(measured, "load_metrics", load)
        assert "100.0 [100.0, 100.0]" in run(settings, output, ["l2"])

    def test_other_crops_need_another_folder(self, settings, tmp_path):
        run(settings, tmp_path / "out", ["l2"])
        with pytest.raises(ValueError, match="n 9 there, 4 here"):
            run(Settings(settings.responses, n=4, image_size=24), tmp_path / "out", ["l2"])

    def test_what_cannot_be_measured_is_named(self, settings, tmp_path, monkeypatch):
        original = measured.load_metrics

        def load(names, *rest):
            return original(["l2"], *rest)[0], {"ssim": "ssim needs luck"}

        monkeypatch.setattr(measured, "load_metrics", load)
        page = run(settings, tmp_path / "out", ["l2", "ssim"])
        assert "- ssim: ssim needs luck" in page

    @pytest.mark.parametrize("name", ["n", "image_size"])
    def test_settings_are_checked(self, name):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            Settings(**{name: 0})

    def test_default_metrics_exist(self):
        assert set(DEFAULT_METRICS) <= set(metric_names())


def test_plot(tmp_path):
    table = people_table(Settings())
    curves = pd.DataFrame({"metric": "l2", "shift": range(10), "relative_distance": 0.5})
    path = plot_user_study(table, curves, tmp_path / "plot.png", "Heading\nnote")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert ((np.asarray(image.convert("RGB")) == (0, 114, 178)).all(-1)).sum() > 20
    with pytest.raises(ValueError, match="curves has no rows"):
        plot_user_study(table, curves.head(0), path, "")


def test_script(responses, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = ["--responses", str(responses), "--n", "2", "--image-size", "24"]
    arguments += ["--metrics", "l2", "--device", "cpu", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["/somewhere/run_user_study.py", *arguments])
    load_script().main()
    page = (output / "user_study.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.rstrip("\n") == page.rstrip("\n")
    assert shlex.join(["python", "experiments/run_user_study.py", *arguments]) in page


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--responses", "/no/such.json"]])
def test_script_refuses_what_cannot_be(arguments, tmp_path, monkeypatch, capsys):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["run_user_study.py", *arguments])
    with pytest.raises(SystemExit):
        load_script().main()
    assert arguments[1] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
