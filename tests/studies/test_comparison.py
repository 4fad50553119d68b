"""The comparison: tables of files and of measured metrics, and what their differences are."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robust_lpips import cli
from robust_lpips.comparison import metric_names
from robust_lpips.evaluation import rank_flip_rate, summarize, write_distances
from robust_lpips.studies.base import Plan, records
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.comparison import METRICS, STUDY, ComparisonSettings

OFFICIAL = Path(__file__).parents[2] / ".." / "shared" / "official"


def table(seed, subsets=("traditional",), n=40, photographs=8, noise=0.02):
    """Triplets whose distances depend on the seed, in every view up to 2 px."""
    triplets = np.random.default_rng(7)
    rng = np.random.default_rng(seed)
    rows = []
    for subset in subsets:
        for i in range(n):
            truth = triplets.uniform(0, 1, 2)
            judge = float(truth[1] < truth[0])
            for view in ("full", "shift-0", "shift-1", "shift-2"):
                d0, d1 = truth + rng.normal(0, noise, 2)
                rows.append((subset, f"photo{i % photographs}-{i:03d}", view, d0, d1, judge))
    return pd.DataFrame(rows, columns=["subset", "sample", "view", "d0", "d1", "judge"])


@pytest.fixture
def files(tmp_path) -> tuple[Path, ...]:
    paths = []
    noises = {"good": 0.01, "bad": 0.6, "worse": 0.9, "worst": 2.0}
    for seed, (name, noise) in enumerate(noises.items()):
        paths.append(tmp_path / f"{name}.csv")
        write_distances(table(seed, ("traditional", "superres"), noise=noise), paths[-1])
    return tuple(paths)


def compare(output: Path, metrics: tuple[str, ...] = (), **settings) -> str:
    return run(STUDY, Plan(ComparisonSettings(**settings), metrics), output)


def test_tables_from_files(files, tmp_path):
    output = tmp_path / "out"
    page = compare(output, distances=files[:2])
    rows = pd.read_csv(output / "comparison.csv")
    expected = summarize(table(0, ("traditional", "superres"), noise=0.01))
    mine = rows[rows["metric"] == "good"].reset_index(drop=True)
    for name in ("subset", "n", "two_afc", "rrf_1", "rrf_1_low", "rrf_2_high"):
        assert mine[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)
    groups = pd.read_csv(output / "groups.csv")
    assert list(groups[groups["metric"] == "bad"]["group"]) == ["distortions", "real", "all"]
    assert "distances from files, 80 triplets, largest shift 2 px" in page
    assert "clustered by photograph" in page
    assert "one more person 100.00 %" in page
    # Two metrics: every difference in full, with McNemar's counts.
    differences = pd.read_csv(output / "differences.csv")
    assert differences["holds"].all()
    assert "only_a" in page
    by_group = pd.read_csv(output / "group_differences.csv")
    assert list(by_group["group"].unique()) == ["distortions", "real"]
    # What files are of is not what settings say of data that nothing was measured on.
    found = records.read(output)
    assert [record["metric"] for record in found] == ["good", "bad"]
    assert found[0]["scores"].keys() == {"accuracy", "rrf_1", "rrf_2"}
    assert found[0]["settings"]["max_shift"] == 2
    assert found[0]["settings"]["image_size"] is None
    assert found[0]["dataset"] == "distances from files"


def test_matrix_of_many(files, tmp_path):
    page = compare(tmp_path / "out", distances=files)
    names = ("| 1 good", "| 2 bad", "| 3 worse", "| 4 worst")
    # Accuracy is the first matrix, r_rf the second.
    rows = [line for line in page.splitlines() if line.startswith(names)]
    cells = [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows]
    assert cells[0] == ["", "+", "+", "+"]
    assert [row[0] for row in cells[1:4]] == ["-", "-", "-"]
    assert cells[4] == ["", "-", "-", "-"]


def test_measured_metrics_files_and_those_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    root, rng = tmp_path / "bapps", np.random.default_rng(0)
    for part in ("ref", "p0", "p1", "judge"):
        (root / "2afc" / "val" / "traditional" / part).mkdir(parents=True)
        for i in range(6):
            path = root / "2afc" / "val" / "traditional" / part / f"{i:06d}"
            if part == "judge":
                np.save(path.with_suffix(".npy"), np.array([0.2]))
            else:
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path.with_suffix(".png"))
    given = {"data_root": root, "image_size": 16, "max_shift": 1}
    page = compare(tmp_path / "out", ("l2", "gti-cnn"), **given)
    assert "BAPPS val, 6 triplets of 16x16 px, largest shift 1 px" in page
    assert "- gti-cnn: " in page.split("## Left out")[1]
    distances = pd.read_csv(
        tmp_path / "out" / "distances" / "l2" / "distances.csv.gz", dtype={"sample": str}
    )
    views = dict(list(distances.groupby("view")))
    rate = rank_flip_rate(*(views[v][d] for v in ("shift-0", "shift-1") for d in ("d0", "d1")))
    write_distances(distances, tmp_path / "ssim.csv")
    files = (tmp_path / "ssim.csv",)
    compare(tmp_path / "out", ("l2", "l1"), distances=files, **given)
    scores = pd.read_csv(tmp_path / "out" / "groups.csv").query("group == 'all'")
    scores = scores.set_index("metric")
    assert list(scores.index) == ["l2", "l1", "ssim"]
    assert set(scores["dataset"]) == {"BAPPS val"}
    assert scores.loc["l2", "rrf_1"] == pytest.approx(100 * rate)
    assert scores.loc["ssim", "two_afc"] == scores.loc["l2", "two_afc"]
    # Published: L2 62.92; nothing of L1, nor of a file that is named as a metric.
    assert scores.loc["l2", "published_two_afc"] == 62.92
    assert math.isnan(scores.loc["l1", "published_two_afc"])
    assert math.isnan(scores.loc["ssim", "published_two_afc"])
    # The files do not make a metric's record another one.
    first, *_, last = [line for line in records.read(tmp_path / "out") if line["metric"] == "l2"]
    assert first["settings"] == last["settings"]
    with pytest.raises(ValueError, match="ssim"):
        compare(tmp_path / "out", ("ssim",), distances=files, **given)


def test_errors(files, tmp_path):
    with pytest.raises(ValueError, match="got none"):
        compare(tmp_path / "out")
    with pytest.raises(ValueError, match="name of its own; got good, good"):
        compare(tmp_path / "out", distances=(files[0], files[0]))
    with pytest.raises(FileNotFoundError):
        compare(tmp_path / "new", ("l2",), data_root=tmp_path / "nowhere")
    assert not (tmp_path / "new").exists()  # a later run is not refused for it


def test_files_alone_need_no_data(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    arguments = ["--distances", str(files[0]), "--distances", str(files[1])]
    cli.main(STUDY, "", [*arguments, "--output", str(tmp_path / "out")])
    assert "| good " in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()  # no sample set is built
    assert [record["metric"] for record in records.read(tmp_path / "out")] == ["good", "bad"]


@pytest.mark.slow
def test_the_script_does_not_load_training(files, tmp_path):
    """In a process of its own, because other tests import it."""
    script = Path(__file__).parents[2] / "experiments" / "run_comparison.py"
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(script)!r}, *sys.argv[1:]]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print([name for name in sys.modules if name.startswith('robust_lpips.training')])\n"
    )
    arguments = ["--distances", str(files[0]), "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={"ROBUST_LPIPS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_file_and_ones_own_metric(files, tmp_path, capsys):
    """Where files are given, no metric is measured that is not named."""
    with pytest.raises(SystemExit):
        cli.main(STUDY, "", ["--distances", str(tmp_path / "none.csv")])
    assert "no such file" in capsys.readouterr().err
    settings = ComparisonSettings(distances=files)
    assert STUDY.default_metrics(settings) == ()
    assert STUDY.default_metrics(replace(settings, distances=())) == METRICS


def test_default_metrics_exist():
    assert set(METRICS) <= set(metric_names())
    assert "gti-cnn" not in METRICS


@pytest.mark.slow
@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the authors' measurements are not here")
def test_official_measurements(tmp_path):
    names = ["bapps_val_alex_vanilla", "bapps_val_alex_shift_tolerant"]
    page = compare(tmp_path, distances=tuple(OFFICIAL / f"{name}.csv.gz" for name in names))
    assert "all of BAPPS val, 36344 triplets, largest shift 3 px" in page
    assert "all: an oracle 80.13 %, one more person 73.72 %" in page
    rows = pd.read_csv(tmp_path / "groups.csv")
    overall = rows[rows["group"] == "all"].set_index("metric").round(2)
    columns = ["two_afc", "rrf_1", "rrf_2", "rrf_3"]
    assert overall.loc[names[0], columns].tolist() == [70.04, 9.26, 9.34, 11.58]
    assert overall.loc[names[1], columns].tolist() == [69.83, 3.50, 4.74, 6.83]
    differences = pd.read_csv(tmp_path / "differences.csv").set_index("quantity")
    assert differences.loc[["rrf_1", "rrf_2", "rrf_3"], "holds"].all()
    by_group = pd.read_csv(tmp_path / "group_differences.csv").set_index(["group", "quantity"])
    assert by_group.loc[("distortions", "two_afc"), "holds"]
