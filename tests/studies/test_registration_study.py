"""The study of registration: what counts, its runs and its command line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robust_lpips import distortions
from robust_lpips.cli import main
from robust_lpips.comparison import metric_names
from robust_lpips.data.alignment import WIDE_RADIUS, hard_pairs
from robust_lpips.data.windows import random_windows
from robust_lpips.records import read
from robust_lpips.registration import least_side
from robust_lpips.studies.base import Plan
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.registration import STUDY, estimates
from robust_lpips.studies.registration.human import FREE, HUMAN, UNREGISTERED
from robust_lpips.studies.registration.parts import PartTask, tasks
from robust_lpips.studies.registration.settings import RegistrationSettings
from robust_lpips.tasks.task import next_stage, staleness

TINY = {"n": 2, "examples": 1, "steps": 2, "splits": 3, "image_size": 40}
TABLES = {
    "estimates": {"estimates.csv", "subpixel.csv"},
    "human": {"human_people.csv", "human_curves.csv", "human_scores.csv"},
    "descent": {"descent.csv", "descent_results.csv"},
    "failures": {"failures.csv"},
}
FIGURES = {"human.png", "descent.png", "failures.png"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The output folder of a run of all parts, and its page."""
    output = tmp_path_factory.mktemp("registration")
    plan = Plan(RegistrationSettings(**TINY), ("l2",))
    return output, run(STUDY, plan, output, command="python x.py")


@pytest.fixture
def answers(tmp_path):
    """``write(said)``: a file of answers by shift, a list for each stimulus."""

    def write(said: dict[int, list[list[int]]]) -> Path:
        content = {
            f"./{i:03d}_n-{shift}.png": given
            for shift, stimuli in said.items()
            for i, given in enumerate(stimuli)
        }
        path = tmp_path / "answers.json"
        path.write_text(json.dumps(content))
        return path

    return write


class TestEstimates:
    def test_every_distortion_but_the_spatial_ones_counts(self):
        spatial = set(distortions.CATEGORIES["spatial"])
        assert set(estimates.STILL) == set(distortions.TRADITIONAL) - spatial
        assert set(estimates.MOVING) <= spatial

    def test_what_counts(self):
        table = pd.DataFrame(
            [
                ("in place", "jpeg", False),
                ("in place", "ghosting", True),
                ("shifted", "jpeg", True),
                ("shifted", "jpeg", False),
            ],
            columns=["test", "distortion", "textured"],
        )
        assert list(estimates.counted(table, "in place").index) == [0]
        assert list(estimates.counted(table, "shifted").index) == [2]


class TestRun:
    def test_files(self, finished):
        output, page = finished
        found = {path.name for path in output.iterdir()}
        assert found >= set().union(FIGURES, *TABLES.values())
        assert (output / "summary.md").read_text(encoding="utf-8") == page
        # Photographs are named, not shown.
        assert "(human.png)" in page
        assert "(descent.png)" not in page
        assert "(failures.png)" not in page

    def test_sections(self, finished):
        output, page = finished
        for heading in ("Estimates", "People", "Descent", "Failures"):
            assert f"\n## {heading}\n" in page
        assert "Half of the stimuli" not in page
        place = pd.read_csv(output / "estimates.csv").query("test == 'in place'")
        counted = place[~place["distortion"].isin(estimates.MOVING)]
        still = (counted[["rows", "columns"]] == 0).all(axis=1)
        assert f"{still.sum()} of {len(still)}" in page

    def test_curves(self, finished):
        table = pd.read_csv(finished[0] / "human_curves.csv").set_index(["variant", "shift"])
        around = random_windows("val", 2, 58, seed=0) / 127.5 - 1
        expected = (around[:, 9:49, 9:49] - around[:, 9:49, 14:54]) ** 2
        found = table.loc[(UNREGISTERED, 5), "distance"]
        assert found == pytest.approx(expected.mean(), rel=1e-4)
        assert table.loc[(HUMAN, 5), "distance"] > table.loc[(FREE, 5), "distance"]

    def test_records(self, finished):
        output, _ = finished
        records = {record["metric"]: record for record in read(output)}
        table = pd.read_csv(output / "human_scores.csv").set_index("variant")
        for variant in (UNREGISTERED, FREE, HUMAN):
            mse = records[f"l2, {variant}"]["scores"]["mse"][0]
            assert mse == pytest.approx(table.loc[variant, "mse"])
        by_test = {
            record["settings"]["estimates"]: record["scores"]["exact"][0]
            for record in read(output)
            if record["metric"] == "estimate_translation"
        }
        place = pd.read_csv(output / "estimates.csv").query("test == 'in place'")
        place = place[~place["distortion"].isin(estimates.MOVING)]
        assert by_test["in place"] == 100 * (place[["rows", "columns"]] == 0).all(axis=1).mean()
        assert set(by_test) == {"in place", "shifted"}

    def test_tables_are_read_as_they_were_measured(self, finished):
        settings = RegistrationSettings(**TINY)
        task = PartTask("cpu", settings, "failures", "l2")
        table = task.tables(finished[0])["failures"]
        assert table["registered"].dtype == np.float32
        assert table.to_csv(index=False) == (finished[0] / "failures.csv").read_text()
        images = task.images(finished[0])["pairs"]
        case = next(hard_pairs("val", 1, 40, seed=0))
        assert np.array_equal(images[0], [case.first[0], case.second[0]])

    def test_only_some_parts(self, finished, tmp_path):
        plan = Plan(RegistrationSettings(**TINY, parts=("descent",)), ("l2",))
        page = run(STUDY, plan, tmp_path)
        assert {path.name for path in tmp_path.glob("*.png")} == {"descent.png"}
        assert "human.png" not in page
        assert "## People" not in page
        # The parts that are reported do not decide whose folder it is.
        assert run(STUDY, plan, finished[0]) == page

    def test_keys(self, finished, monkeypatch):
        plan = Plan(RegistrationSettings(**TINY), ("l2",))
        found = tasks(STUDY, plan)
        assert {task.part for task in found} == set(TABLES)
        assert all(next_stage(task, finished[0]) is None for task in found)
        # Photographs are a part of every key, and so is the metric where there is one.
        monkeypatch.setattr("robust_lpips.studies.registration.parts.photograph_digests", dict)
        assert all("photographs" in staleness(task, finished[0]) for task in found)
        keys = [
            PartTask("cpu", plan.settings, "descent", name).key("results", finished[0])["metric"]
            for name in ("l2", "alexnet-untrained")
        ]
        assert keys[0]["weights"] is None
        assert len(keys[1]["weights"]) == 64

    def test_other_settings_need_another_folder(self, finished, answers):
        said = {shift: [[1, 0]] * 2 for shift in range(10)}
        for other in ({"seed": 1}, {"responses": answers(said)}):
            with pytest.raises(ValueError, match="different settings"):
                run(STUDY, Plan(RegistrationSettings(**TINY | other), ("l2",)), finished[0])

    def test_answers_are_scored_in_halves(self, answers, tmp_path):
        said = {shift: [[1] * (10 - shift) + [0] * shift] * 2 for shift in range(10)}
        settings = RegistrationSettings(**TINY, responses=answers(said), parts=("human",))
        page = run(STUDY, Plan(settings, ("l2",)), tmp_path / "out")
        assert f"over {TINY['splits']} splits" in page
        # Curves that the answers calibrated are not scored by them.
        halves = pd.read_csv(tmp_path / "out" / "human_halves.csv").query("metric == 'l2'")
        assert set(halves["variant"]) == {UNREGISTERED, FREE}

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({0: [[1]], 1: [[0]]}, "every shift"),
            ({shift: [[1]] for shift in range(10)}, "2 stimuli or more"),
        ],
    )
    def test_answers_are_checked_first(self, said, message, answers, tmp_path):
        settings = RegistrationSettings(**TINY, responses=answers(said))
        with pytest.raises(ValueError, match=message):
            run(STUDY, Plan(settings, ("l2",)), tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_metrics_that_are_unavailable_or_fail_are_left_out(self, tmp_path, monkeypatch):
        (tmp_path / "brittle.py").write_text("def factory():\n    return lambda a, b: a[9]\n")
        monkeypatch.syspath_prepend(tmp_path)
        settings = RegistrationSettings(**TINY, parts=("human",))
        plan = Plan(settings, ("l2", "gti-cnn", "brittle:factory"))
        page = run(STUDY, plan, tmp_path)
        assert "- gti-cnn: " in page
        assert "- brittle:factory: failed with IndexError" in page
        assert set(pd.read_csv(tmp_path / "human_curves.csv")["metric"]) == {"l2"}

    @pytest.mark.parametrize(
        ("name", "value"), [("n", 0), ("steps", 0), ("image_size", least_side(WIDE_RADIUS) - 1)]
    )
    def test_settings_are_checked(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be at least {value + 1}; got {value}"):
            RegistrationSettings(**{name: value})

    def test_splits_that_are_not(self):
        with pytest.raises(ValueError, match="split must be one of train, val; got 'test'"):
            RegistrationSettings(split="test")

    def test_default_metrics_exist(self):
        assert set(STUDY.metrics) <= set(metric_names())


def test_script(tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--parts", "descent", "--examples", "1", "--steps", "1", "--image-size", "40"]
    main(STUDY, "", [*arguments, "--metrics", "l2", "--device", "cpu", "--output", str(output)])
    assert (output / "summary.md").read_text(encoding="utf-8") in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--parts", "all"], ["--split", "test"], ["--responses", "/no/such.json"], ["--n", "0"]],
)
def test_script_refuses_what_cannot_be(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(STUDY, "", [*arguments, "--output", str(tmp_path / "out")])
    assert arguments[1] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
