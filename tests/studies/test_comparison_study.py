import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from robust_lpips.evaluation import rank_flip_rate, summarize, write_distances
from robust_lpips.studies import comparison, records
from robust_lpips.studies.comparison import Settings, run

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
def files(tmp_path):
    paths = []
    for name, seed, noise in (
        ("good", 0, 0.01),
        ("bad", 1, 0.6),
        ("worse", 2, 0.9),
        ("worst", 3, 2.0),
    ):
        path = tmp_path / f"{name}.csv"
        write_distances(table(seed, ("traditional", "superres"), noise=noise), path)
        paths.append(path)
    return paths


def test_tables_from_files(files, tmp_path):
    output = tmp_path / "out"
    page = run(Settings(), output, [], files[:2], command="python x.py")
    rows = pd.read_csv(output / "comparison.csv")
    expected = summarize(table(0, ("traditional", "superres"), noise=0.01))
    mine = rows[rows["metric"] == "good"].reset_index(drop=True)
    for name in ("subset", "n", "two_afc", "rrf_1", "rrf_1_low", "rrf_2_high"):
        assert mine[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)
    assert (output / "comparison.png").stat().st_size > 10_000
    groups = pd.read_csv(output / "groups.csv")
    assert list(groups[groups["metric"] == "bad"]["group"]) == ["distortions", "real", "all"]
    assert "distances from files, 80 triplets, largest shift 2 px" in page
    assert "clustered by photograph" in page
    assert "one more person 100.00 %" in page
    assert "`python x.py`" in page
    # Two metrics: every difference in full, with McNemar's counts.
    differences = pd.read_csv(output / "differences.csv")
    assert differences["holds"].all()
    assert "only_a" in page
    by_group = pd.read_csv(output / "group_differences.csv")
    assert list(by_group["group"].unique()) == ["distortions", "real"]
    assert "By group:" in page
    found = records.read(output)
    assert [record["metric"] for record in found] == ["good", "bad"]
    assert found[0]["scores"].keys() == {"accuracy", "rrf_1", "rrf_2"}


def test_matrix_of_many(files, tmp_path):
    page = run(Settings(), tmp_path / "out", [], files)
    row = next(line for line in page.splitlines() if line.startswith("| 2 bad"))
    better_than_good, *_ = [cell.strip() for cell in row.split("|")[2:]]
    assert better_than_good == "-"  # accuracy is the first matrix
    assert "`+` where the row's is higher" in page


def test_measured_metrics_and_those_left_out(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    items = []
    for i in range(6):
        ref, p0, p1 = generator.integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
        images = {"ref": ref, "p0": p0, "p1": p1}
        images = {name: torch.from_numpy(image) for name, image in images.items()}
        items.append(images | {"judge": 1.0, "subset": "traditional", "sample": f"a{i}-0"})
    monkeypatch.setattr(comparison, "triplets", lambda *_: items)
    page = run(Settings(image_size=16, max_shift=1), tmp_path, ["l2", "l1", "gti-cnn"])
    assert "sample set val, 6 triplets of 16x16 px, largest shift 1 px" in page
    assert "agreement with the released VGG-16 metric" in page
    assert "not with people" in page
    left_out = page.split("## Left out")[1]
    assert left_out.strip().startswith("- gti-cnn: ")
    distances = pd.read_csv(tmp_path / "distances-l2.csv.gz", dtype={"sample": str})
    views = dict(list(distances.groupby("view")))
    rate = rank_flip_rate(*(views[v][d] for v in ("shift-0", "shift-1") for d in ("d0", "d1")))
    scores = pd.read_csv(tmp_path / "groups.csv")
    scores = scores[scores["group"] == "all"].set_index("metric")
    assert scores.loc["l2", "rrf_1"] == pytest.approx(100 * rate)
    assert scores.loc["l2", "published_two_afc"] == 62.92
    assert math.isnan(scores.loc["l1", "published_two_afc"])


def test_errors(files, tmp_path):
    with pytest.raises(ValueError, match="metrics: give at least one"):
        run(Settings(), tmp_path / "out", [])
    with pytest.raises(ValueError, match="name of its own; got good, good"):
        run(Settings(), tmp_path / "out", [], [files[0], files[0]])
    absent = Settings(data_root=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError):
        run(absent, tmp_path / "out", ["l2"])
    assert not (tmp_path / "out").exists()  # a later run is not refused for it


def test_script_compares_files_alone(files, tmp_path, monkeypatch, capsys):
    path = Path(__file__).parents[2] / "experiments" / "run_comparison.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = [str(path), "--distances", str(files[0]), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    module.main()
    assert "| good " in capsys.readouterr().out
    assert records.read(tmp_path / "out")[0]["metric"] == "good"


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the authors' measurements are not here")
def test_official_measurements(tmp_path):
    names = ["bapps_val_alex_vanilla", "bapps_val_alex_shift_tolerant"]
    page = run(Settings(), tmp_path, [], [OFFICIAL / f"{name}.csv.gz" for name in names])
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
