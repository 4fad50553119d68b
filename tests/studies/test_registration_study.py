import importlib.util
import json
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats

from robust_lpips import distortions, plots
from robust_lpips.comparison import metric_names
from robust_lpips.registered import ANSWERS, SAME, noticed
from robust_lpips.registration import align, estimate_translation, least_side
from robust_lpips.studies import registration
from robust_lpips.studies.registration import DEFAULT_METRICS, PARTS, estimates, failures, human
from robust_lpips.studies.registration.descent import OFFSET, descend, make_pairs, score
from robust_lpips.studies.registration.settings import WIDE_RADIUS, Settings
from robust_lpips.studies.registration.windows import (
    as_input,
    as_pixels,
    cut_pairs,
    shrunk,
    textured,
    windows,
)

TINY = {"n": 2, "examples": 1, "steps": 2, "splits": 3, "image_size": 40}
FILES = {
    "estimates": {"estimates.csv", "subpixel.csv"},
    "human": {"human_people.csv", "human_curves.csv", "human_scores.csv", "human.png"},
    "descent": {"descent.csv", "descent_results.csv", "descent.png"},
    "failures": {"failures.csv", "failures.png"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The output folder of a run of all parts, and its page."""
    output = tmp_path_factory.mktemp("registration")
    return output, registration.run(Settings(**TINY), output, ["l2"], command="python x.py")


def write_answers(path: Path, said: dict[int, list[list[int]]]) -> str:
    """A file of answers by shift, a list for each stimulus."""
    content = {
        f"./{i:03d}_n-{shift}.png": answers
        for shift, stimuli in said.items()
        for i, answers in enumerate(stimuli)
    }
    path.write_text(json.dumps(content))
    return str(path)


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "run_registration.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestWindows:
    def test_pairs_show_the_same_a_shift_apart(self):
        around = windows("val", 3, 46, 46, seed=0)
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
        assert textured(stripes).tolist() == [False, True]

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
        (row,) = estimates.shares(table).to_dict("records")
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
        found = estimates.errors_between(table).set_index(["axis", "shift"])
        assert found.loc[("rows", "to 2 px"), "median"] == 0.25
        assert found.loc[("rows", "to 2 px"), "p95"] == pytest.approx(0.925)
        assert found.loc[("columns", "beyond"), ["n", "median"]].tolist() == [2, 0.125]

    def test_refined_estimates_are_near(self):
        table = estimates.subpixel(Settings(n=8, image_size=48))
        inside = table[["true_rows", "true_columns"]].abs().max(axis=1) <= 2
        for axis in ("rows", "columns"):
            errors = (table[axis] - table[f"true_{axis}"])[inside].abs()
            assert errors.median() < 0.15
        assert (table["true_rows"] * 4 % 1 == 0).all()
        assert (table["true_rows"] % 1 != 0).any()


class TestPeople:
    def test_without_answers_the_released_counts(self):
        table = human.people_table(None)
        assert table["noticed"].to_numpy() == pytest.approx(noticed().numpy(), abs=1e-6)
        assert table.loc[0, ["noticed_low", "noticed_high"]].isna().all()
        wilson = stats.binomtest(SAME[4], ANSWERS[4]).proportion_ci(method="wilson")
        base = SAME[0] / ANSWERS[0]
        assert table["noticed_low"][4] == pytest.approx(1 - wilson.high / base)
        assert table["noticed_high"][4] == pytest.approx(1 - wilson.low / base)

    def test_answers_by_hand(self, tmp_path):
        said = {shift: [[1, 0], [1, 0, 0]] for shift in range(1, 10)} | {0: [[1, 1], [1, 0]]}
        path = write_answers(tmp_path / "answers.json", said)
        table = human.people_table(human.read_responses(path))
        assert table["noticed"].tolist() == pytest.approx([0] + 9 * [1 - 0.4 / 0.75])

    def test_what_registration_leaves_is_not_enlarged_in_the_plot(self):
        variants = [human.UNREGISTERED, human.FREE, human.HUMAN]
        curves = pd.DataFrame({"metric": "a", "variant": variants, "distance": [4.0, 0.1, 0.5]})
        scored = pd.DataFrame({"metric": "a", "variant": variants, "factor": [2.0, 99.0, 6.0]})
        assert human._scaled(curves, scored)["scaled"].tolist() == [8.0, 0.2, 3.0]

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({0: [[1]], 1: [[0]]}, "every shift from 0 to 9; got 0, 1"),
            ({shift: [[0]] for shift in range(10)}, "without a shift; got none"),
        ],
    )
    def test_answers_that_cannot_be_used(self, said, message, tmp_path):
        responses = human.read_responses(write_answers(tmp_path / "answers.json", said))
        with pytest.raises(ValueError, match=message):
            human.people_table(responses)


class TestFits:
    def test_best_factor_by_hand(self):
        values, target = np.array([1.0, 2.0]), np.array([2.0, 2.0])
        assert human.best_factor(values, target) == pytest.approx(6 / 5)
        assert human.scaled_error(values, target) == pytest.approx((0.8**2 + 0.4**2) / 2)
        assert human.best_factor(values, -target) == 0
        assert human.scaled_error(np.zeros(2), target) == 4

    def test_monotone_by_hand(self):
        values, target = np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.0, 1.0, 3.0, 5.0])
        # The equal ones are 4; with the 0 that follows, (3 + 5 + 0) / 3.
        assert human.monotone(values, target) == pytest.approx([8 / 3, 1, 8 / 3, 8 / 3])

    def test_monotone_as_scipy(self):
        isotonic = pytest.importorskip("scipy", "1.12") and optimize.isotonic_regression
        target = np.random.default_rng(0).normal(size=50)
        assert human.monotone(np.arange(50), target) == pytest.approx(isotonic(target).x)

    def test_spearman_of_a_constant(self):
        assert np.isnan(human.spearman(np.zeros(3), np.arange(3)))
        assert human.spearman(np.array([0, 1, 5]), np.array([0, 2, 1])) == pytest.approx(0.5)

    def test_scores(self):
        curves = pd.DataFrame(
            {"metric": "a", "variant": "v", "shift": [2, 0, 1], "distance": [4.0, 0.0, 2.0]}
        )
        (row,) = human.scores(curves, np.array([0, 0.25, 0.5])).to_dict("records")
        assert row["factor"] == pytest.approx(0.125)
        assert row["spearman"] == pytest.approx(1)
        assert row["mse"] == pytest.approx(0)
        assert row["mse_monotone"] == pytest.approx(0)


class TestHalves:
    def test_halves_share_no_stimulus(self, tmp_path):
        # Whichever stimulus is in one half, the other is in the other.
        said = {0: [[1], [1]], 1: [[1, 0], [0, 0, 0]]}
        responses = human.read_responses(write_answers(tmp_path / "a.json", said))
        found = {
            tuple(map(tuple, pair)): None for pair in human.halves(responses, splits=20, seed=0)
        }
        assert set(found) == {((0, 0.5), (0, 1)), ((0, 1), (0, 0.5))}

    def test_split_half_by_hand(self, tmp_path):
        # Halves do not differ: they tell each other, and a metric of that shape does, too.
        said = {shift: [[1] * (9 - shift) + [0] * (shift + 1)] * 2 for shift in range(3)}
        responses = human.read_responses(write_answers(tmp_path / "a.json", said))
        other = [1 - 8 / 9, 1 - 7 / 9]
        curves = pd.DataFrame(
            [
                ("a", variant, shift, 3 * ([0, *other])[shift])
                for variant in (human.UNREGISTERED, human.HUMAN)
                for shift in range(3)
            ]
            + [("a", human.FREE, shift, 0.0) for shift in range(3)],
            columns=["metric", "variant", "shift", "distance"],
        )
        table = human.split_half(responses, curves, splits=2).set_index(["metric", "variant"])
        assert table["mse"].to_dict() == pytest.approx(
            {
                (human.OTHER_HALF, ""): 0,
                ("a", human.UNREGISTERED): 0,
                ("a", human.FREE): np.square(other).sum() / 3,
            }
        )
        assert table.loc[("a", human.UNREGISTERED), "spearman"] == pytest.approx(1)

    def test_a_single_stimulus_has_no_halves(self, tmp_path):
        responses = human.read_responses(write_answers(tmp_path / "a.json", {0: [[1]], 1: [[0]]}))
        with pytest.raises(ValueError, match="2 stimuli or more at each shift; got 1"):
            next(human.halves(responses, 1))


class TestDescent:
    def test_offset_of_the_target(self):
        pairs = make_pairs(Settings(examples=2, image_size=40))
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
        images, table = descend(
            lambda a, b: weight * (a - b).square().mean((1, 2, 3)), start, target, steps=3
        )
        assert table.groupby("window")["finite"].all().tolist() == [True, False]
        values = table.loc[table["window"] == 0, "value"]
        assert all(a > b for a, b in pairwise(values))
        assert not images.requires_grad
        assert (start == 0).all()


class TestFailures:
    def test_true_shifts_are_true(self):
        settings = Settings(examples=2)
        for case in failures.make_cases(settings):
            assert case.first.shape == case.second.shape
            assert case.first.dtype == case.second.dtype == np.uint8
            content = case.name not in ("flat, two greys", "two noises")
            if not content or case.shift is None or any(step % 1 for step in case.shift):
                continue
            moved = np.roll(case.second.astype(int), [-int(s) for s in case.shift], axis=(1, 2))
            inside = (slice(None), slice(10, -10), slice(10, -10))
            # The ramp is rounded to whole grey levels.
            assert np.abs(moved - case.first)[inside].max() <= 1, case.name

    def test_cases_have_names_of_their_own(self):
        names = [case.name for case in failures.make_cases(Settings(examples=1))]
        assert len(set(names)) == len(names)

    def test_summary_by_hand(self):
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
        a, b = failures.summary(table).to_dict("records")
        assert (a["true"], a["first estimate"], a["n"]) == ("(0, 2)", "(0, 2)", 2)
        assert (a["stayed"], a["right"], a["unregistered"], a["human"]) == (50, 50, 2, 1.75)
        assert pd.isna(b["true"])
        assert b["stayed"] == 0
        assert np.isnan(b["right"])


class TestPlots:
    @pytest.mark.parametrize(
        ("plot", "tables"),
        [
            (plots.plot_registration_human, (pd.DataFrame(), pd.DataFrame({"shift": [0]}))),
            (plots.plot_registration_human, (pd.DataFrame({"shift": [0]}), pd.DataFrame())),
            (plots.plot_descent, (pd.DataFrame(), {})),
            (plots.plot_failures, (pd.DataFrame(), {})),
        ],
    )
    def test_tables_need_rows(self, plot, tables, tmp_path):
        with pytest.raises(ValueError, match="has no rows"):
            plot(*tables, tmp_path / "a.png", "Heading")


class TestRun:
    def test_files(self, finished):
        output, page = finished
        found = {path.name for path in output.iterdir()}
        assert found >= set().union(*FILES.values()) | {f"{part}.md" for part in PARTS}
        assert (output / "summary.md").read_text(encoding="utf-8") == page

    def test_page(self, finished):
        output, page = finished
        for heading in ("Estimates", "People", "Descent", "Failures"):
            assert f"\n## {heading}\n" in page
        assert page.count("Made by `python x.py`") == len(PARTS)
        assert page.count("windows of 40x40 px of photographs of split val, seed 0") == len(PARTS)
        assert "it predicts nothing" in page
        assert "Half of the stimuli" not in page
        place = pd.read_csv(output / "estimates.csv").query("test == 'in place'")
        counted = place[~place["distortion"].isin(estimates.MOVING)]
        still = (counted[["rows", "columns"]] == 0).all(axis=1)
        assert f"Overall {still.sum()} of {len(still)}" in page

    def test_curves(self, finished):
        table = pd.read_csv(finished[0] / "human_curves.csv").set_index(["variant", "shift"])
        around = windows("val", 2, 58, 58, seed=0) / 127.5 - 1
        expected = (around[:, 9:49, 9:49] - around[:, 9:49, 14:54]) ** 2
        found = table.loc[(human.UNREGISTERED, 5), "distance"]
        assert found == pytest.approx(expected.mean(), rel=1e-4)
        assert table.loc[(human.HUMAN, 5), "distance"] > table.loc[(human.FREE, 5), "distance"]

    def test_finished_parts_stay_and_others_are_added(self, tmp_path, monkeypatch):
        calls = []

        def part(name):
            return lambda settings, output, metrics, device: calls.append(name) or f"## {name}"

        monkeypatch.setattr(registration, "PARTS", {name: part(name) for name in "abc"})
        settings = Settings(**TINY)
        registration.run(settings, tmp_path, ["l2"], parts=["c"])
        page = registration.run(settings, tmp_path, ["l2"], parts=["c", "a"], command="again")
        assert calls == ["c", "a"]
        assert page.index("## a\n\nMade by `again`.") < page.index("## c\n")

    def test_other_settings_need_another_folder(self, finished, tmp_path):
        with pytest.raises(ValueError, match="another folder"):
            registration.run(Settings(**TINY | {"seed": 1}), finished[0], ["l2"])
        with pytest.raises(ValueError, match="another folder"):
            registration.run(Settings(**TINY), finished[0], ["l1"])
        answers = write_answers(tmp_path / "answers.json", {0: [[1]]})
        with pytest.raises(ValueError, match="another folder"):
            registration.run(Settings(**TINY, answers=answers), finished[0], ["l2"])

    def test_answers_are_scored_in_halves(self, tmp_path):
        said = {shift: [[1] * (10 - shift) + [0] * shift] * 2 for shift in range(10)}
        answers = write_answers(tmp_path / "answers.json", said)
        page = registration.run(
            Settings(**TINY, answers=answers), tmp_path / "out", ["l2"], parts=["human"]
        )
        assert "Half of the stimuli against the other half" in page
        assert "over 3 splits" in page
        assert (tmp_path / "out" / "human_halves.csv").is_file()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"parts": ["nothing"]}, "parts must be some of estimates"),
            ({"metrics": ["nothing"]}, "metrics must be"),
        ],
    )
    def test_arguments_are_checked(self, wrong, message, tmp_path):
        with pytest.raises(ValueError, match=message):
            registration.run(Settings(**TINY), tmp_path / "new", **wrong)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("name", "value"), [("n", 0), ("steps", 0), ("image_size", least_side(WIDE_RADIUS) - 1)]
    )
    def test_settings_are_checked(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be at least {value + 1}; got {value}"):
            Settings(**{name: value})

    def test_splits_that_are_not(self):
        with pytest.raises(ValueError, match="split must be one of 'train', 'val'; got 'test'"):
            Settings(split="test")

    def test_default_metrics_exist(self):
        assert set(DEFAULT_METRICS) <= set(metric_names())


def test_script(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = ["--parts", "descent", "--examples", "1", "--steps", "1", "--image-size", "40"]
    arguments += ["--metrics", "l2", "--device", "cpu", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["/somewhere/run_registration.py", *arguments])
    load_script().main()
    page = (output / "summary.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.rstrip("\n") == page.rstrip("\n")
    assert shlex.join(["python", "experiments/run_registration.py", *arguments]) in page


@pytest.mark.parametrize(
    "arguments",
    [["--parts", "all"], ["--split", "test"], ["--answers", "/no/such.json"], ["--n", "0"]],
)
def test_script_refuses_what_cannot_be(arguments, tmp_path, monkeypatch, capsys):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["run_registration.py", *arguments])
    with pytest.raises(SystemExit):
        load_script().main()
    assert arguments[1] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
