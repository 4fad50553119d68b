"""Shift sensitivity: by hand, on two small subsets in BAPPS's layout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robust_lpips import cli
from robust_lpips.comparison import load_metric, metric_names
from robust_lpips.data import TwoAFCDataset
from robust_lpips.evaluation import measure, rank_flip_rate
from robust_lpips.studies.base import Plan, records
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.sensitivity import METRICS, STUDY, SensitivitySettings

SIZE, SHIFT = 20, 3


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two subsets of unequal size: smooth references, noisy p0 and p1."""
    root = tmp_path_factory.mktemp("bapps")
    rng = np.random.default_rng(0)
    for subset, count in (("traditional", 6), ("cnn", 3)):
        folder = root / "2afc" / "val" / subset
        for part in ("ref", "p0", "p1", "judge"):
            (folder / part).mkdir(parents=True)
        for i in range(count):
            ref = np.kron(rng.integers(30, 220, (5, 5, 3)), np.ones((4, 4, 1)))
            for part, noise in (("ref", 0), ("p0", 30), ("p1", 25)):
                image = np.clip(ref + rng.normal(0, noise, ref.shape), 0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / part / f"{i:06d}.png")
            np.save(folder / "judge" / f"{i:06d}.npy", np.array([0.4]))
    return root


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory) -> Path:
    """The output folder of a run of L2 and SSIM, and of one metric that is unavailable."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(output / "cache"))
        settings = SensitivitySettings(root, image_size=SIZE, max_shift=SHIFT)
        run(STUDY, Plan(settings, ("gti-cnn", "l2", "ssim")), output / "out")
    return output / "out"


@pytest.fixture
def table(finished) -> pd.DataFrame:
    return pd.read_csv(finished / "shift_sensitivity.csv").set_index(["metric", "shift"])


def test_distance_of_l2_by_hand(table, root):
    width = SIZE - SHIFT

    def l2(a, b):
        return float((a - b).square().mean())

    for shift in range(SHIFT + 1):
        own, others = {}, {}
        for item in TwoAFCDataset(root, image_size=SIZE):
            ref, p0, p1 = (item[part].double() / 127.5 - 1 for part in ("ref", "p0", "p1"))
            window = ref[..., :width]
            itself = l2(window, ref[..., shift : shift + width])
            own.setdefault(item["subset"], []).append(itself)
            distorted = np.mean([l2(window, p[..., :width]) for p in (p0, p1)])
            others.setdefault(item["subset"], []).append(distorted)
        # Subsets weigh the same, however many samples they have.
        distance, scale = (np.mean([np.mean(v) for v in x.values()]) for x in (own, others))
        row = table.loc[("l2", shift)]
        assert row["distance"] == pytest.approx(distance, rel=1e-5, abs=1e-12)
        assert row["relative_distance"] == pytest.approx(distance / scale, rel=1e-5)
    assert table.loc[("l2", 0), "distance"] == 0
    assert table.loc[("l2", 1), "relative_distance"] > 0.1


def test_rrf_is_that_of_the_distances(table, root):
    dataset = TwoAFCDataset(root, image_size=SIZE)
    distances = measure(load_metric("ssim"), dataset, SHIFT, progress=False)
    for shift in range(1, SHIFT + 1):
        rates = []
        for _, rows in distances.groupby("subset"):
            at = {n: rows[rows["view"] == f"shift-{n}"] for n in (0, shift)}
            rates.append(rank_flip_rate(at[0].d0, at[0].d1, at[shift].d0, at[shift].d1))
        row = table.loc[("ssim", shift)]
        assert row["rrf"] == pytest.approx(100 * np.mean(rates))
        assert row["rrf_low"] <= row["rrf"] <= row["rrf_high"]
    assert table.loc[("ssim", 0), ["rrf", "rrf_low", "rrf_high"]].isna().all()
    assert table.loc["ssim", "rrf"].max() > 0


def test_columns_records_and_what_is_left_out(finished, table):
    assert list(table.reset_index()) == [
        *("metric", "shift", "dataset", "image_size", "max_shift", "n"),
        *("distance", "relative_distance", "rrf", "rrf_low", "rrf_high"),
    ]
    assert (set(table["dataset"]), set(table["n"])) == ({"BAPPS val"}, {9})
    page = (finished / "shift_sensitivity.md").read_text(encoding="utf-8")
    assert f"windows of {SIZE}x{SIZE - SHIFT} pixels" in page
    assert "photograph" not in page
    assert "- gti-cnn: " in page.split("## Left out")[1]
    found = records.read(finished)
    assert [record["metric"] for record in found] == ["l2", "ssim"]
    assert list(found[1]["scores"]) == [f"rrf_{n}" for n in range(1, SHIFT + 1)]
    assert found[1]["scores"]["rrf_2"][0] == table.loc[("ssim", 2), "rrf"]


def test_n_is_of_bapps_too(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    settings = SensitivitySettings(root, n=4, image_size=SIZE, max_shift=SHIFT)
    run(STUDY, Plan(settings, ("l2",)), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "shift_sensitivity.csv")
    assert set(table["n"]) == {4}


def test_what_has_changed_is_measured_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "own_sensitivity_metric.py"
    module.write_text("def make():\n    return lambda a, b: (a - b).abs().mean((1, 2, 3))\n")
    settings = SensitivitySettings(n=4, image_size=32, max_shift=2)
    plan = Plan(settings, ("own_sensitivity_metric:make", "l1"))
    run(STUDY, plan, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "shift_sensitivity.csv")
    assert set(table["dataset"]) == {"sample set val"}
    own, l1 = (rows for _, rows in table.groupby("metric", sort=False))
    columns = ["shift", "distance", "rrf"]
    assert own[columns].to_numpy() == pytest.approx(l1[columns].to_numpy(), nan_ok=True)
    record = tmp_path / "out" / "distances" / "references" / "l1" / "record.json"
    text = record.read_text("utf-8")
    record.write_text(text.replace('"weights": null', '"weights": "other"'), "utf-8")
    capsys.readouterr()
    run(STUDY, plan, tmp_path / "out")
    assert "l1, references: measured again" in capsys.readouterr().out


def test_default_metrics_exist():
    assert set(METRICS) <= set(metric_names())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-shift", "99"],
        ["--max-shift", "0"],
        ["--n", "0"],
        ["--seed", "-1"],
        ["--split", "test"],
        ["--data-root", "/no/such"],
    ],
)
def test_bad_input_is_a_usage_error(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(STUDY, "", [*arguments, "--output", str(tmp_path / "out")])
    assert arguments[0].strip("-").replace("-", "_") in capsys.readouterr().err.replace("-", "_")
    assert not (tmp_path / "out").exists()
