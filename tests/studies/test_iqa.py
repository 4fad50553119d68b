from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from robust_lpips import cli
from robust_lpips.studies.base import Plan, Results, records, runner
from robust_lpips.studies.iqa import SEVERITY_NOTE, STUDY, IQASettings
from tests.studies.kept import replace_distances

pytest.importorskip("skimage", reason="scikit-image has the photographs")

METRICS = ("l2", "ssim")
DISTANCES = "distances/{}/distances.csv.gz"


def run(output: Path, metrics: Sequence[str] = METRICS, **settings) -> str:
    return runner.run(STUDY, Plan(IQASettings(**settings), tuple(metrics)), output)


def results(output: Path, metrics: Sequence[str] = METRICS, **settings) -> Results:
    """Results of a run, as its tables and figures are made of."""
    plan = Plan(IQASettings(**settings), tuple(metrics))
    return Results(plan, plan.settings.source(), output, STUDY.planned(plan))


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("graded")
    return output, run(output, image_size=32)


@pytest.fixture
def tid(tmp_path) -> Path:
    """Six references, each with two types of noise at three levels."""
    root = tmp_path / "tid2013"
    rng = np.random.default_rng(0)
    for folder in ("reference_images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    lines = []
    for i in range(1, 7):
        size = (24, 20) if i % 2 else (20, 24)
        pixels = rng.integers(60, 190, (*size, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(root / "reference_images" / f"I{i:02d}.BMP")
        for kind, noise in ((1, 6), (8, 9)):
            for level in (1, 2, 3):
                distorted = np.clip(pixels + rng.normal(0, noise * level, pixels.shape), 0, 255)
                name = f"i{i:02d}_{kind:02d}_{level}.bmp"
                Image.fromarray(distorted.astype(np.uint8)).save(root / "distorted_images" / name)
                lines.append(f"{7 - 1.5 * level + rng.normal(0, 0.7):.5f} {name}\n")
    (root / "mos_with_names.txt").write_text("".join(lines))
    return root


def test_graded_severities(graded):
    output, _ = graded
    table = pd.read_csv(output / "iqa.csv")
    assert list(table["metric"].unique()) == list(METRICS)
    l2 = table[table["metric"] == "l2"].set_index("subset")
    assert "all" not in l2.index
    assert l2.index[-1] == "mean"
    distances = pd.read_csv(output / DISTANCES.format("l2"))
    noise = distances[distances["subset"] == "gaussian_white_noise"]
    expected = stats.spearmanr(noise["distance"], -noise["score"]).statistic
    assert l2.loc["gaussian_white_noise", "srcc"] == pytest.approx(expected)
    # More noise is a larger l2, and contrast is not the same on every photograph.
    assert expected > 0.9
    assert l2.loc["mean", "srcc"] == pytest.approx(l2["srcc"].iloc[:-1].mean())
    assert l2.loc["mean", "srcc_low"] < l2.loc["mean", "srcc_high"]
    assert l2["srcc_low"].nunique() > 5


def test_every_output_says_that_no_one_was_asked(graded):
    output, page = graded
    assert SEVERITY_NOTE in page
    assert set(pd.read_csv(output / "iqa.csv")["judged_by"]) == {SEVERITY_NOTE}
    found = records.read(output)
    assert [record["metric"] for record in found] == list(METRICS)
    for record in found:
        assert record["judged_by"] == SEVERITY_NOTE
        assert record["settings"]["image_size"] == 32
    figure = STUDY.figures(made := results(output, image_size=32), STUDY.tables(made))["iqa"]
    assert SEVERITY_NOTE in figure.texts[1].get_text()
    assert "## Published" not in page


def test_a_published_set(tid, tmp_path):
    output = tmp_path / "out"
    page = run(output, dataset="tid2013", data_root=tid)
    table = pd.read_csv(output / "iqa.csv")
    rows = table[table["metric"] == "l2"].set_index("subset")
    assert list(rows.index) == ["additive-gaussian-noise", "gaussian-blur", "mean", "all"]
    distances = pd.read_csv(output / DISTANCES.format("l2"))
    expected = -stats.spearmanr(distances["distance"], distances["score"]).statistic
    assert rows.loc["all", "srcc"] == pytest.approx(expected)
    assert expected > 0.3
    assert SEVERITY_NOTE not in page
    record = records.read(output)[0]
    assert record["scores"]["srcc"][0] == pytest.approx(expected)
    # Options of graded severities have no part in it.
    assert {"image_size", "crops"}.isdisjoint(
        name for name, value in record["settings"].items() if value is not None
    )


def test_what_a_leaderboard_reports_of_the_set_keeps_its_names(tid, tmp_path):
    page = run(tmp_path / "out", ["l2"], dataset="tid2013", data_root=tid)
    published = page.partition("## Published")[2]
    rows = [line for line in published.splitlines() if line.startswith("| TID2013")]
    values = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert values == [
        ["TID2013 (test)", "SRCC", "0.936"],
        ["TID2013", "SRCC", "0.776"],
        ["TID2013 (full)", "SRCC", "0.713"],
    ]
    # All names of Spearman's correlation on the leaderboard, which the table has as one.
    for name in ("SRC", "SROCC", "Mean SRCC"):
        assert f'"{name}"' in published
    assert "CSIQ" not in published


def test_metrics_without_correlation_are_named_with_the_reason(tid, tmp_path):
    settings = {"dataset": "tid2013", "data_root": tid}
    output = tmp_path / "out"
    run(output, **settings)
    name = DISTANCES.format("ssim")
    # As of a metric that is blind to one type of distortion.
    table = pd.read_csv(output / name, dtype={"subset": str, "sample": str})
    table.loc[table["subset"] == "gaussian-blur", "distance"] = 0.5
    replace_distances(table, output, name)
    page = run(output, **settings)
    (line,) = (line for line in page.splitlines() if line.startswith("- ssim: "))
    assert "gaussian-blur" in line
    assert line.count("ssim") == 1
    assert set(pd.read_csv(output / "iqa.csv")["metric"]) == {"l2"}
    with pytest.raises(ValueError, match=r"no metric has a correlation: ssim: .*gaussian-blur"):
        STUDY.tables(results(output, ["ssim"], **settings))


def test_reason_of_an_unavailable_metric_does_not_repeat_its_name(tid, tmp_path):
    page = run(tmp_path / "out", ["gti-cnn", "l2"], dataset="tid2013", data_root=tid)
    (line,) = (line for line in page.splitlines() if line.startswith("- gti-cnn: "))
    assert line.count("gti-cnn") == 1


def test_default_metrics_are_available():
    assert "gti-cnn" not in STUDY.metrics


def test_a_csv(tid, tmp_path):
    names = [f"i{i:02d}_01_{level}" for i in range(1, 7) for level in (1, 2, 3)]
    lines = [
        f"reference_images/{name[:3].upper()}.BMP,distorted_images/{name}.bmp,{name[-1]}\n"
        for name in names
    ]
    path = tid / "mine.csv"
    path.write_text("reference,distorted,score\n" + "".join(lines))
    for scores, sign in (("higher-is-worse", 1), ("higher-is-better", -1)):
        output = tmp_path / scores
        run(output, ["l2"], dataset="csv", data_root=path, scores=scores)
        table = pd.read_csv(output / "iqa.csv").set_index("subset")
        assert sign * table.loc["all", "srcc"] > 0.9
        assert records.read(output)[0]["dataset"] == "mine"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "tid2008"}, "dataset must be one of graded, csiq, tid2013"),
        ({"dataset": "csiq"}, "data_root must be given where dataset is csiq"),
        ({"data_root": Path("/data")}, "data_root must not be given where dataset is graded"),
        ({"dataset": "csv", "data_root": Path("a.csv")}, "scores must be given"),
        ({"scores": "higher-is-better"}, "scores must not be given"),
        ({"scores": "higher"}, "scores must be one of higher-is-better, higher-is-worse"),
        ({"crops": 0}, "crops must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together(given, message):
    with pytest.raises(ValueError, match=message):
        IQASettings(**given)


def test_command_line(tid, tmp_path, capsys):
    arguments = ["--dataset", "tid2013", "--data-root", str(tid), "--metrics", "l2"]
    arguments += ["--device", "cpu", "--output", str(tmp_path / "out")]
    cli.main(STUDY, "", arguments)
    assert (tmp_path / "out" / "iqa.md").read_text(encoding="utf-8") in capsys.readouterr().out
    (tid / "mos_with_names.txt").unlink()
    arguments[-1] = str(tmp_path / "other")
    with pytest.raises(SystemExit):
        cli.main(STUDY, "", [*arguments, "--seed", "1"])
    assert "mos_with_names.txt" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_figure_shows_each_metric(tid, tmp_path):
    settings = {"dataset": "tid2013", "data_root": tid}
    run(tmp_path / "out", **settings)
    made = results(tmp_path / "out", **settings)
    tables = STUDY.tables(made)
    (axes,) = STUDY.figures(made, tables)["iqa"].axes
    table = tables["iqa"].query("subset == 'all'").sort_values("srcc", ascending=False)
    assert [label.get_text() for label in axes.get_yticklabels()] == table["metric"].tolist()
    lines = {line.get_label(): line.get_xdata().tolist() for line in axes.get_lines()}
    for name in ("srcc", "plcc", "krcc"):
        assert lines[name.upper()] == table[name].tolist()
    types = [values for label, values in lines.items() if "type" in label]
    assert sorted(types[0]) == sorted(tables["iqa"].query("n == 18")["srcc"])
