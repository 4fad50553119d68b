import importlib.util
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from PIL import Image

from robust_lpips import cli
from robust_lpips.comparison import metric_names
from robust_lpips.data import TwoAFCDataset
from robust_lpips.evaluation import measure, rank_flip_rate
from robust_lpips.studies import sensitivity
from robust_lpips.studies.sensitivity import DEFAULT_METRICS, Settings, run

SIZE, SHIFT = 20, 3
FILES = {"shift_sensitivity.csv", "shift_sensitivity.md", "shift_sensitivity.png", "settings.json"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two subsets of unequal size in BAPPS's layout: smooth references, noisy p0 and p1."""
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


@pytest.fixture
def settings(root) -> Settings:
    return Settings(data_root=str(root), image_size=SIZE, max_shift=SHIFT)


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Names of the metrics that were loaded to be measured."""
    names = []

    def load(name, *args):
        names.append(name)
        return original(name, *args)

    original = sensitivity.load_metric
    monkeypatch.setattr(sensitivity, "load_metric", load)
    return names


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "plot_shift_sensitivity.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_distance_of_l2_by_hand(settings, root, tmp_path):
    table = run(settings, tmp_path, ["l2"]).set_index("shift")
    dataset = TwoAFCDataset(root, image_size=SIZE)
    width = SIZE - SHIFT

    def l2(a, b):
        return float((a - b).square().mean())

    for shift in range(SHIFT + 1):
        charged, distorted = {}, {}
        for item in dataset:
            ref, p0, p1 = (item[part].double() / 127.5 - 1 for part in ("ref", "p0", "p1"))
            window = ref[..., :width]
            own = l2(window, ref[..., shift : shift + width])
            others = [l2(window, p[..., :width]) for p in (p0, p1)]
            charged.setdefault(item["subset"], []).append(own)
            distorted.setdefault(item["subset"], []).append(np.mean(others))
        # Subsets weigh the same, however many samples they have.
        distance, scale = (np.mean([np.mean(v) for v in x.values()]) for x in (charged, distorted))
        assert table.loc[shift, "distance"] == pytest.approx(distance, rel=1e-5, abs=1e-12)
        assert table.loc[shift, "relative_distance"] == pytest.approx(distance / scale, rel=1e-5)
    assert table.loc[0, "distance"] == 0
    assert table.loc[1, "relative_distance"] > 0.1


def test_rrf_is_that_of_the_distances(settings, root, tmp_path):
    table = run(settings, tmp_path, ["ssim"]).set_index("shift")
    distances = measure(
        sensitivity.load_metric("ssim"), TwoAFCDataset(root, image_size=SIZE), SHIFT, progress=False
    )
    for shift in range(1, SHIFT + 1):
        rates = []
        for _, rows in distances.groupby("subset"):
            at = {n: rows[rows["view"] == f"shift-{n}"] for n in (0, shift)}
            rates.append(rank_flip_rate(at[0].d0, at[0].d1, at[shift].d0, at[shift].d1))
        row = table.loc[shift]
        assert row["rrf"] == pytest.approx(100 * np.mean(rates))
        assert row["rrf_low"] <= row["rrf"] <= row["rrf_high"]
    assert table.loc[0, ["rrf", "rrf_low", "rrf_high"]].isna().all()
    assert table["rrf"].max() > 0


def test_files(settings, tmp_path):
    table = run(settings, tmp_path, ["l2", "ssim"], command="python experiments/x.py --n 3")
    names = {f"{kind}distances-{m}.csv.gz" for m in ("l2", "ssim") for kind in ("", "same-image-")}
    assert {path.name for path in tmp_path.iterdir()} == FILES | names
    written = pd.read_csv(tmp_path / "shift_sensitivity.csv")
    assert_frame_equal(written, table, check_dtype=False, rtol=1e-14)
    assert list(written) == [
        *("metric", "dataset", "image_size", "max_shift", "n", "shift"),
        *("distance", "relative_distance", "rrf", "rrf_low", "rrf_high"),
    ]
    assert set(written["dataset"]) == {"BAPPS val"}
    assert set(written["n"]) == {9}
    page = (tmp_path / "shift_sensitivity.md").read_text(encoding="utf-8")
    assert f"largest shift {SHIFT} px" in page
    assert f"windows of {SIZE}x{SIZE - SHIFT} pixels" in page
    assert "python experiments/x.py --n 3" in page
    assert "photograph" not in page
    relative = table.query("metric == 'ssim' and shift == 2")["relative_distance"].item()
    assert f"{relative:.3f}" in page


def test_what_is_measured_is_read_again(settings, tmp_path, measured):
    first = run(settings, tmp_path, ["l2"])
    both = run(settings, tmp_path, ["ssim", "l2"])
    assert measured == ["l2", "ssim"]
    assert list(both["metric"].unique()) == ["ssim", "l2"]
    again = both[both["metric"] == "l2"].reset_index(drop=True)
    assert_frame_equal(again, first)
    # One of a metric's two files is not enough.
    (tmp_path / "same-image-distances-l2.csv.gz").unlink()
    assert_frame_equal(run(settings, tmp_path, ["l2"]), first)
    assert measured == ["l2", "ssim", "l2"]


def test_other_settings_need_another_folder(settings, tmp_path, measured):
    run(settings, tmp_path, ["l2"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = Settings(data_root=settings.data_root, image_size=SIZE, max_shift=2)
    with pytest.raises(ValueError, match=r"max_shift 3 there, 2 here.*another folder"):
        run(other, tmp_path, ["l2"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert measured == ["l2"]


@pytest.mark.parametrize("metrics", [[], ["l2", "l2"], ["l2", "l3"]])
def test_metrics_are_checked_before_anything_is_written(settings, tmp_path, metrics):
    with pytest.raises(ValueError, match="metrics must be different names"):
        run(settings, tmp_path / "new", metrics)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("max_shift", [0, 64])
def test_shifts_have_to_fit_the_images(max_shift):
    with pytest.raises(ValueError, match="max_shift"):
        Settings(max_shift=max_shift)


def test_the_sample_set_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    settings = Settings(n=4, image_size=32, max_shift=2)
    table = run(settings, tmp_path / "out", ["l2"])
    assert set(table["dataset"]) == {"sample set val"}
    page = (tmp_path / "out" / "shift_sensitivity.md").read_text(encoding="utf-8")
    assert "sample set val, 4 triplets of 32x32 px, seed 0" in page
    assert "clustered by photograph" in page


def test_default_metrics_exist():
    assert set(DEFAULT_METRICS) <= set(metric_names())


def test_script(root, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = ["--data-root", str(root), "--image-size", str(SIZE), "--max-shift", "2"]
    arguments += ["--metrics", "l2", "--device", "cpu", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["/somewhere/plot_shift_sensitivity.py", *arguments])
    load_script().main()
    printed = capsys.readouterr().out
    page = (output / "shift_sensitivity.md").read_text(encoding="utf-8")
    assert page.startswith(printed.rstrip("\n"))
    command = shlex.join(["python", "experiments/plot_shift_sensitivity.py", *arguments])
    assert command in page
    assert json.loads((output / "settings.json").read_text())["max_shift"] == 2


@pytest.mark.parametrize(
    "arguments",
    [["--n", "0"], ["--seed", "-1"], ["--data-root", "/no/such"], ["--device", "toaster"]],
)
def test_script_refuses_what_cannot_be(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["plot_shift_sensitivity.py", *arguments])
    with pytest.raises(SystemExit):
        load_script().main()
    assert arguments[0] in capsys.readouterr().err


def test_default_device_is_one_that_there_is():
    assert torch.empty(1, device=cli.default_device()).device.type in ("cpu", "cuda")


def test_a_metric_of_the_users_own(settings, tmp_path, monkeypatch):
    (tmp_path / "shift_test_metric.py").write_text(
        "def make():\n    return lambda a, b: (a - b).square().mean((1, 2, 3))\n"
    )
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path)])
    table = run(settings, tmp_path / "out", ["l2", "shift_test_metric:make"])
    own, l2 = (part for _, part in table.groupby("metric", sort=False))
    columns = ["shift", "distance", "rrf"]
    assert own[columns].to_numpy() == pytest.approx(l2[columns].to_numpy(), nan_ok=True)
    assert (tmp_path / "out" / "distances-shift_test_metric-make.csv.gz").is_file()
