import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from robust_lpips import cli
from robust_lpips.data import ShiftedPhotographs
from robust_lpips.published import published, published_answers
from robust_lpips.studies.base import Plan, Results, records, runner
from robust_lpips.studies.user_study import STUDY, UserStudySettings
from tests.studies.kept import replace_distances

RELEASED = Path(__file__).resolve().parents[3] / "shared/official/user_study_responses.json"
ANSWERS = {
    "a_n-0.png": [1, 1, 1],
    "b_n-0.png": [1, 0],
    "a_n-1.png": [0, 0, 0, 1],
    "c_n-1.png": [0, 0],
    "a_n-3.png": [0],
    "b_n-3.png": [0, 0, 0],
}
CROPS = {"n": 9, "image_size": 24, "seed": 0}
DISTANCES = "distances/l2/distances.csv.gz"


def run(output: Path, metrics: Sequence[str] = ("l2",), **settings) -> str:
    plan = Plan(UserStudySettings(**CROPS | settings), tuple(metrics))
    return runner.run(STUDY, plan, output)


def results(output: Path, metrics: Sequence[str] = ("l2",), **settings) -> Results:
    """Results of a run, as its tables and figures are made of."""
    plan = Plan(UserStudySettings(**CROPS | settings), tuple(metrics))
    return Results(plan, plan.settings.source(), output, STUDY.planned(plan))


def written(folder: Path, answers: dict[str, list[int]]) -> Path:
    path = folder / f"answers-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(answers), encoding="utf-8")
    return path


@pytest.fixture
def responses(tmp_path) -> Path:
    return written(tmp_path, ANSWERS)


class TestAnswers:
    def test_released_answers(self, tmp_path):
        if not RELEASED.is_file():
            pytest.skip("the released answers are not here")
        table = STUDY.tables(results(tmp_path, [], responses=RELEASED))["user_study"]
        curve = table[table["source"] == "measured"].set_index("shift")
        assert list(curve.index) == list(range(10))
        assert curve["stimuli"].sum() == 301
        assert curve.loc[0, ["said_same", "answers"]].tolist() == [111, 120]
        assert curve.loc[9, ["said_same", "answers"]].tolist() == [9, 112]
        assert curve.loc[0, "percent_same"] == pytest.approx(92.5)
        assert curve.loc[9, "percent_same"] == pytest.approx(8.0, abs=0.05)
        # The authors' whole study lies within the intervals of its released part.
        whole = published("user_study").set_index("shift")["percent_same"]
        assert whole.between(curve["percent_same_low"], curve["percent_same_high"]).all()

    def test_published_answers_are_those_of_the_paper(self):
        table = published_answers()
        assert table["shift"].tolist() == list(range(10))
        assert table["answers"].tolist() == [150] * 10
        assert table["percent_same"].iloc[[0, 9]].tolist() == [93.3, 10.0]

    def test_without_answers_the_published_ones_are_compared(self, tmp_path):
        page = run(tmp_path)
        table = pd.read_csv(tmp_path / "user_study.csv")
        assert set(table["source"]) == {"published"}
        assert table["percent_same"].tolist() == published("user_study")["percent_same"].tolist()
        assert table[["stimuli", "percent_same_low"]].isna().all(axis=None)
        assert "People, measured" not in page
        assert pd.read_csv(tmp_path / "curves.csv")["shift"].tolist() == list(range(10))

    @pytest.mark.parametrize("shifts", [[0], [1, 2]])
    def test_a_curve_needs_shift_0_and_another(self, shifts, tmp_path):
        path = written(tmp_path, {f"a_n-{shift}.png": [1, 0] for shift in shifts})
        with pytest.raises(ValueError, match="responses must be about shift 0 and larger ones"):
            run(tmp_path / "out", responses=path)
        assert not (tmp_path / "out").exists()


def test_l2_by_hand(responses, tmp_path):
    run(tmp_path / "out", responses=responses)
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


def test_tables_and_records(responses, tmp_path):
    output = tmp_path / "out"
    run(output, ["l2", "ssim"], responses=responses)
    table = pd.read_csv(output / "user_study.csv")
    assert table["source"].value_counts().to_dict() == {"measured": 3, "published": 10}
    # The share who no longer say the same grows with the shift, as both distances do.
    assert pd.read_csv(output / "agreement.csv")["spearman"].tolist() == pytest.approx([1, 1])
    found = records.read(output)
    assert [record["metric"] for record in found] == ["l2", "ssim"]
    for record in found:
        assert record["scores"] == {"spearman": [pytest.approx(1), None, None]}
        assert (record["n"], record["dataset"]) == (9, "shifted photographs")


def test_undefined_agreement_is_a_dash_and_no_record(responses, tmp_path):
    output = tmp_path / "out"
    run(output, ["l2", "ssim"], responses=responses)
    table = pd.read_csv(output / DISTANCES, dtype={"subset": str, "sample": str})
    replace_distances(table.assign(distance=0.5), output, DISTANCES)
    (output / records.RECORDS_FILE).unlink()
    page = run(output, ["l2", "ssim"], responses=responses)
    assert [record["metric"] for record in records.read(output)] == ["ssim"]
    (line,) = (line for line in page.splitlines() if line.startswith("| l2 "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert set(cells[1:]) == {"–"}  # noqa: RUF001


def test_other_answers_at_the_same_shifts_need_no_new_distances(responses, tmp_path):
    output = tmp_path / "out"
    run(output, responses=responses)
    before = (output / DISTANCES).stat().st_mtime_ns
    other = written(tmp_path, ANSWERS | {"b_n-0.png": [1, 1]})
    assert "100.0 [100.0, 100.0]" in run(output, responses=other)
    assert (output / DISTANCES).stat().st_mtime_ns == before
    # Distances at other shifts are new.
    run(output, responses=written(tmp_path, ANSWERS | {"b_n-4.png": [0]}))
    assert (output / DISTANCES).stat().st_mtime_ns != before
    assert pd.read_csv(output / "curves.csv")["shift"].tolist() == [0, 1, 3, 4]


def test_figure(responses, tmp_path):
    output = tmp_path / "out"
    run(output, responses=responses)
    made = results(output, responses=responses)
    figure: Figure = STUDY.figures(made, STUDY.tables(made))["user_study"]
    people, relative = figure.axes
    lines = {line.get_label().partition(" ")[0]: line for line in people.get_lines()}
    assert lines["measured"].get_ydata().tolist() == pytest.approx([80, 100 / 6, 0])
    expected = published("user_study")["percent_same"].tolist()
    assert lines["published"].get_ydata().tolist() == expected
    broad = next(line for line in relative.get_lines() if "people" in line.get_label())
    assert broad.get_ydata().tolist() == pytest.approx([0.2, 5 / 6, 1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"n": 10**6}, "n must be at most 100000; got 1000000"),
        ({"image_size": 0}, "image_size must be at least 1; got 0"),
    ],
)
def test_settings_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        UserStudySettings(**given)


def test_windows_larger_than_the_photographs_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="image_size"):
        run(tmp_path / "out", image_size=100_000)
    assert not (tmp_path / "out").exists()


def test_command_line(responses, tmp_path, capsys):
    arguments = ["--responses", str(responses), "--n", "2", "--image-size", "24"]
    arguments += ["--metrics", "l2", "--device", "cpu", "--output", str(tmp_path / "out")]
    cli.main(STUDY, "", arguments)
    page = (tmp_path / "out" / "user_study.md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out
    for wrong in (["--n", "0"], ["--n", "1000000"], ["--responses", "/no/such.json"]):
        with pytest.raises(SystemExit):
            cli.main(STUDY, "", wrong)
        assert wrong[0].strip("-") in capsys.readouterr().err
