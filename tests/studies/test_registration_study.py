"""The study of registration: pairs, estimates, people's answers, descent, failures, and runs."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from robust_lpips import distortions
from robust_lpips.cli import main
from robust_lpips.comparison import metric_names
from robust_lpips.data.user_study import read_responses
from robust_lpips.records import read
from robust_lpips.registered import ANSWERS, SAME, noticed
from robust_lpips.registration import align, estimate_translation, least_side
from robust_lpips.studies.base import Plan
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.base.tasks import next_stage, staleness
from robust_lpips.studies.registration import STUDY, estimates, failures, scores
from robust_lpips.studies.registration.descent import OFFSET, descend, make_pairs, score
from robust_lpips.studies.registration.human import FREE, HUMAN, UNREGISTERED
from robust_lpips.studies.registration.parts import PartTask, tasks
from robust_lpips.studies.registration.settings import WIDE_RADIUS, RegistrationSettings
from robust_lpips.studies.registration.windows import (
    as_input,
    as_pixels,
    cut_pairs,
    shrunk,
    windows,
)

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


class TestWindows:
    def test_pairs_show_the_same_a_shift_apart(self):
        around = windows("val", 3, 46, seed=0)
        shifts = np.array([[3, -2], [-3, 1], [0, 2]])
        first, second, _ = cut_pairs(around, shifts, 40)
        for one, other, (y, x) in zip(first, second, shifts, strict=True):
            assert np.array_equal(one[8:20, 8:20], other[8 + y : 20 + y, 8 + x : 20 + x])
        # As the estimate and the alignment have it.
        pair = as_pixels(first), as_pixels(second)
        assert np.array_equal(estimate_translation(*pair).numpy(), shifts)
        assert torch.equal(*align(*pair, torch.from_numpy(shifts).float()))

    def test_shrunk_is_the_mean_of_areas(self):
        images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
        small = shrunk(images, 4)
        assert small.shape == (2, 2, 3, 3)
        assert small[1, 1, 2, 0] == round(float(images[1, 4:8, 8:12, 0].mean()))

    def test_texture_is_a_matter_of_luminance(self):
        stripes = np.zeros((2, 8, 8, 3), dtype=np.uint8)
        stripes[0, :, ::2, 2] = 120  # blue counts 0.114: 6.8 grey levels
        stripes[1, :, ::2] = 21
        assert estimates.textured(stripes).tolist() == [False, True]

    def test_range(self):
        images = np.array([0, 255], dtype=np.uint8).repeat(3).reshape(1, 1, 2, 3)
        assert as_input(images).flatten().unique().tolist() == [-1, 1]


class TestEstimates:
    def test_every_distortion_but_the_spatial_ones_counts(self):
        spatial = set(distortions.CATEGORIES["spatial"])
        assert set(estimates.STILL) == set(distortions.TRADITIONAL) - spatial
        assert set(estimates.MOVING) <= spatial

    def test_shares_by_hand(self):
        table = pd.DataFrame(
            [(0, 0, 0, 0), (1, 2, 1, 2), (1, 2, 0, 0), (0, 3, 0, 1)],
            columns=["true_rows", "true_columns", "rows", "columns"],
        ).assign(distortion="jpeg", severity=0.5)
        (row,) = scores.shares(table).to_dict("records")
        assert row == {
            "distortion": "jpeg",
            "severity": 0.5,
            "n": 4,
            "exact": 50.0,
            "stayed": 25.0,
            "wrong": 25.0,
            "farthest": 2,
        }

    def test_errors_between_pixels_by_hand(self):
        table = pd.DataFrame(
            {
                "distortion": "none",
                "true_rows": [0.25, 0.5, 1.0],
                "rows": [0.25, 0.75, 2.0],
                "true_columns": [2.75, -2.5, 2.0],
                "columns": [3.0, -2.5, 2.0],
            }
        )
        found = scores.errors_between(table).set_index(["axis", "shift"])
        assert found.loc[("rows", "to 2 px"), "median"] == 0.25
        assert found.loc[("rows", "to 2 px"), "p95"] == pytest.approx(0.925)
        assert found.loc[("columns", "beyond"), ["n", "median"]].tolist() == [2, 0.125]

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
        assert list(scores.counted(table, "in place").index) == [0]
        assert list(scores.counted(table, "shifted").index) == [2]

    def test_refined_estimates_are_near(self):
        settings = RegistrationSettings(n=8, image_size=48)
        (first, second, shifts), cells = estimates.pairs_of_tests(settings)[estimates.BETWEEN]
        assert cells[0] == (estimates.NONE, 0.0)
        found = estimate_translation(as_pixels(first), as_pixels(second), 8, subpixel=True).numpy()
        inside = (np.abs(shifts) <= 2).all(axis=1)
        assert (np.median(np.abs(found - shifts)[inside], axis=0) < 0.15).all()
        assert (shifts * 4 % 1 == 0).all()
        assert (shifts % 1 != 0).any()


class TestPeople:
    def test_without_answers_the_released_counts(self):
        table = scores.people_table(None)
        assert table["noticed"].to_numpy() == pytest.approx(noticed().numpy(), abs=1e-6)
        assert table.loc[0, ["noticed_low", "noticed_high"]].isna().all()
        wilson = stats.binomtest(SAME[4], ANSWERS[4]).proportion_ci(method="wilson")
        base = SAME[0] / ANSWERS[0]
        assert table["noticed_low"][4] == pytest.approx(1 - wilson.high / base)
        assert table["noticed_high"][4] == pytest.approx(1 - wilson.low / base)

    def test_answers_by_hand(self, answers):
        said = {shift: [[1, 0], [1, 0, 0]] for shift in range(1, 10)} | {0: [[1, 1], [1, 0]]}
        path = answers(said)
        table = scores.people_table(read_responses(path))
        assert table["noticed"].tolist() == pytest.approx([0] + 9 * [1 - 0.4 / 0.75])

    def test_what_registration_leaves_is_not_enlarged_in_the_plot(self):
        variants = [UNREGISTERED, FREE, HUMAN]
        curves = pd.DataFrame({"metric": "a", "variant": variants, "distance": [4.0, 0.1, 0.5]})
        factors = pd.DataFrame({"metric": "a", "variant": variants, "factor": [2.0, 99.0, 6.0]})
        assert scores.scaled(curves, factors)["scaled"].tolist() == [8.0, 0.2, 3.0]

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({0: [[1]], 1: [[0]]}, "every shift from 0 to 9; got 0, 1"),
            ({shift: [[0]] for shift in range(10)}, "without a shift; got none"),
        ],
    )
    def test_answers_that_cannot_be_used(self, said, message, answers):
        responses = read_responses(answers(said))
        with pytest.raises(ValueError, match=message):
            scores.people_table(responses)


class TestFits:
    def test_best_factor_by_hand(self):
        values, target = np.array([1.0, 2.0]), np.array([2.0, 2.0])
        assert scores.best_factor(values, target) == pytest.approx(6 / 5)
        assert scores.scaled_error(values, target) == pytest.approx((0.8**2 + 0.4**2) / 2)
        assert scores.best_factor(values, -target) == 0
        assert scores.scaled_error(np.zeros(2), target) == 4

    def test_monotone_by_hand(self):
        values, target = np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.0, 1.0, 3.0, 5.0])
        # The equal ones are 4; with the 0 that follows, (3 + 5 + 0) / 3.
        assert scores.monotone(values, target) == pytest.approx([8 / 3, 1, 8 / 3, 8 / 3])

    def test_monotone_is_the_closest(self):
        rng = np.random.default_rng(0)
        values, target = rng.integers(0, 20, 50).astype(float), rng.normal(size=50)
        order = np.argsort(values)
        # The conditions of optimality: no step up improves it, nor does another scale.
        fitted = scores.monotone(values, target)
        assert (np.diff(fitted[order]) >= 0).all()
        assert (fitted - target).sum() == pytest.approx(0)
        for level in np.unique(values):
            step = (values >= level).astype(float)
            assert step @ (fitted - target) >= -1e-9
        assert fitted @ (fitted - target) == pytest.approx(0, abs=1e-9)

    def test_spearman_of_a_constant(self):
        assert np.isnan(scores.spearman(np.zeros(3), np.arange(3)))
        assert scores.spearman(np.array([0, 1, 5]), np.array([0, 2, 1])) == pytest.approx(0.5)

    def test_scores(self):
        curves = pd.DataFrame(
            {"metric": "a", "variant": "v", "shift": [2, 0, 1], "distance": [4.0, 0.0, 2.0]}
        )
        (row,) = scores.human_scores(curves, np.array([0, 0.25, 0.5])).to_dict("records")
        assert row["factor"] == pytest.approx(0.125)
        assert row["spearman"] == pytest.approx(1)
        assert row["mse"] == pytest.approx(0)
        assert row["mse_monotone"] == pytest.approx(0)


class TestHalves:
    def test_halves_share_no_stimulus(self, answers):
        # Whichever stimulus is in one half, the other is in the other.
        said = {0: [[1], [1]], 1: [[1, 0], [0, 0, 0]]}
        responses = read_responses(answers(said))
        found = {
            tuple(map(tuple, pair)): None for pair in scores.halves(responses, splits=20, seed=0)
        }
        assert set(found) == {((0, 0.5), (0, 1)), ((0, 1), (0, 0.5))}

    def test_split_half_by_hand(self, answers):
        # Halves do not differ: they tell each other, and a metric of that shape does, too.
        said = {shift: [[1] * (9 - shift) + [0] * (shift + 1)] * 2 for shift in range(3)}
        responses = read_responses(answers(said))
        other = [1 - 8 / 9, 1 - 7 / 9]
        curves = pd.DataFrame(
            [
                ("a", variant, shift, 3 * ([0, *other])[shift])
                for variant in (UNREGISTERED, HUMAN)
                for shift in range(3)
            ]
            + [("a", FREE, shift, 0.0) for shift in range(3)],
            columns=["metric", "variant", "shift", "distance"],
        )
        table = scores.split_half(responses, curves, splits=2).set_index(["metric", "variant"])
        assert table["mse"].to_dict() == pytest.approx(
            {
                (scores.OTHER_HALF, ""): 0,
                ("a", UNREGISTERED): 0,
                ("a", FREE): np.square(other).sum() / 3,
            }
        )
        assert table.loc[("a", UNREGISTERED), "spearman"] == pytest.approx(1)

    def test_a_single_stimulus_has_no_halves(self, answers):
        responses = read_responses(answers({0: [[1]], 1: [[0]]}))
        with pytest.raises(ValueError, match="2 stimuli or more at each shift; got 1"):
            next(scores.halves(responses, 1))


class TestDescent:
    def test_offset_of_the_target(self):
        pairs = make_pairs(RegistrationSettings(examples=2, image_size=40))
        assert np.array_equal(pairs.first[:, :, OFFSET:], pairs.second[:, :, :-OFFSET])
        sought, target = as_input(pairs.first), as_input(pairs.second)
        table = score(lambda a, b: (a - b).square().mean((1, 2, 3)), sought, target)
        assert (table["distance_aligned"] == 0).all()
        assert (table["distance_in_place"] > 0).all()
        assert table["psnr_in_place"].to_numpy() == pytest.approx(
            -10 * np.log10(table["distance_in_place"] / 4)
        )

    def test_descends_and_tells_gradients_that_are_not_finite(self):
        start, target = torch.zeros(2, 3, 24, 24), torch.full((2, 3, 24, 24), 0.5)
        weight = torch.tensor([1.0, torch.nan])
        done = []
        images, table = descend(
            lambda a, b: weight * (a - b).square().mean((1, 2, 3)),
            start,
            target,
            steps=3,
            done=lambda: done.append(1),
        )
        assert len(done) == 3
        assert table.groupby("window")["finite"].all().tolist() == [True, False]
        values = table.loc[table["window"] == 0, "value"]
        assert all(a > b for a, b in pairwise(values))
        assert not images.requires_grad
        assert (start == 0).all()


class TestFailures:
    def test_true_shifts_are_true(self):
        settings = RegistrationSettings(examples=2)
        for case in failures.make_cases(settings):
            assert case.first.shape == case.second.shape
            assert case.first.dtype == case.second.dtype == np.uint8
            content = case.name not in ("flat, two greys", "two noises")
            if not content or any(step % 1 for step in case.shift) or np.isnan(case.shift).any():
                continue
            moved = np.roll(case.second.astype(int), [-int(s) for s in case.shift], axis=(1, 2))
            inside = (slice(None), slice(10, -10), slice(10, -10))
            # The ramp is rounded to whole grey levels.
            assert np.abs(moved - case.first)[inside].max() <= 1, case.name

    def test_cases_have_names_of_their_own(self):
        names = [case.name for case in failures.make_cases(RegistrationSettings(examples=1))]
        assert len(set(names)) == len(names)

    def test_means_by_hand(self):
        table = pd.DataFrame(
            {
                "case": ["a", "a", "b"],
                "radius": 3,
                "pair": [0, 1, 0],
                "true_rows": [0, 0, np.nan],
                "true_columns": [2, 2, np.nan],
                "rows": [0.0, 0, 1],
                "columns": [2.0, 0, 0],
                "unregistered": [1.0, 3, 5],
                "registered": [0.0, 3, 4],
                "human": [0.5, 3, 4],
            }
        )
        a, b = scores.failure_means(table).to_dict("records")
        assert (a["true"], a["first estimate"], a["n"]) == ("(0, 2)", "(0, 2)", 2)
        assert (a["stayed"], a["right"], a["unregistered"], a["human"]) == (50, 50, 2, 1.75)
        assert pd.isna(b["true"])
        assert b["stayed"] == 0
        assert np.isnan(b["right"])


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
        around = windows("val", 2, 58, seed=0) / 127.5 - 1
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
        case = next(failures.make_cases(settings))
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
        monkeypatch.setattr("robust_lpips.studies.registration.parts._photographs", dict)
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
        assert (tmp_path / "out" / "human_halves.csv").is_file()

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
