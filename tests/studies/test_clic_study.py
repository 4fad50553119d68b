import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image
from robust_lpips.studies.published import published
from robust_lpips.studies.records import read

from robust_lpips.evaluation import compare_pairs, read_distances
from robust_lpips.plots import plot_scores_and_flips
from robust_lpips.studies import clic, measured
from robust_lpips.studies.clic import Settings, run

# Height and width: of several sizes, as CLIC's images may be.
SIZES = [(20, 24), (20, 24), (18, 30), (24, 20), (20, 20), (16, 22), (20, 24), (28, 18)]
CHOICES = [0, 1, 1, 0, 1, 0, 0, 1]
VOTES = {"clic": "People judged these images", "sample": "Nobody judged these patches"}


def triplet(i: int) -> list[np.ndarray]:
    """A smooth original and two noisy copies of it."""
    rng = np.random.default_rng(i)
    height, width = SIZES[i]
    original = np.kron(rng.integers(30, 220, (height // 2, width // 2, 3)), np.ones((2, 2, 1)))
    noisy = (original + rng.normal(0, noise, original.shape) for noise in (28, 30))
    return [np.clip(image, 0, 255).astype(np.uint8) for image in (original, *noisy)]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clic"), CHOICES)


def write(root: Path, choices: list[int]) -> Path:
    lines = []
    for i, choice in enumerate(choices):
        names = [f"{i}{part}.png" for part in "oab"]
        for name, image in zip(names, triplet(i), strict=True):
            Image.fromarray(image).save(root / name)
        lines.append(",".join([*names, str(choice)]))
    (root / "oracle.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def by_hand(shift: int | None, max_shift: int) -> np.ndarray:
    """Of each triplet whether its second copy is nearer, by mean squared difference."""
    nearer = []
    for i in range(len(SIZES)):
        original, *copies = (image.astype(float) for image in triplet(i))
        if shift is not None:
            width = original.shape[1] - max_shift
            original = original[:, :width]
            copies = [copy[:, shift : shift + width] for copy in copies]
        a, b = (((original - copy) ** 2).mean() for copy in copies)
        nearer.append(b < a)
    return np.array(nearer)


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "run_clic.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scores_by_hand(root, tmp_path):
    run(Settings(data_root=str(root), max_shift=3), tmp_path, ["l2"])
    (row,) = pd.read_csv(tmp_path / "clic.csv").to_dict("records")
    accuracy = np.mean(by_hand(None, 3) == np.array(CHOICES, dtype=bool))
    assert row["accuracy"] == pytest.approx(100 * accuracy)
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    flips = [int((by_hand(n, 3) != by_hand(0, 3)).sum()) for n in (1, 2, 3)]
    assert [row[f"flips_{n}"] for n in (1, 2, 3)] == flips
    assert 0 < sum(flips) < 24
    for n, count in zip((1, 2, 3), flips, strict=True):
        assert row[f"rrf_{n}"] == pytest.approx(100 * count / 8)
        assert row[f"rrf_{n}_low"] <= row[f"rrf_{n}"] <= row[f"rrf_{n}_high"]
    assert row["n"] == 8


def test_page(root, tmp_path):
    settings = Settings(data_root=str(root), max_shift=2)
    page = run(settings, tmp_path, ["l2", "ssim"], command="python x")
    assert page == (tmp_path / "clic.md").read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "clic.csv").set_index("metric")
    assert "CLIC, 8 triplets, images as on disk, seed 0, largest shift 2 px" in page
    assert VOTES["clic"] in page
    assert VOTES["sample"] not in page
    assert f"{table.loc['l2', 'flips_1']} ({table.loc['l2', 'rrf_1']:.1f} [" in page
    assert "clustered by original" in page
    assert "python x" in page
    for row in published("comparison_clic").to_dict("records"):
        assert f"{row['accuracy']:.2f}" in page
        assert f" {row['flips_3']} |" in page
    assert (tmp_path / "clic.png").stat().st_size > 5000


def test_differences_are_those_of_the_distances(root, tmp_path):
    page = run(Settings(data_root=str(root), max_shift=1), tmp_path, ["ssim", "l2"])
    tables = {m: read_distances(tmp_path / f"distances-{m}.csv.gz") for m in ("ssim", "l2")}
    expected = compare_pairs(tables, [("ssim", "l2")])
    written = pd.read_csv(tmp_path / "clic_differences.csv")
    assert_frame_equal(written, expected, check_dtype=False, rtol=1e-12)
    assert "## Against ssim, measured" in page
    row = expected.iloc[1]
    assert f"{row['difference']:.1f} [{row['low']:.1f}, {row['high']:.1f}]" in page
    assert f"{row['p_value']:.2g}" in page


def test_one_metric_has_nothing_to_be_compared_with(root, tmp_path):
    page = run(Settings(data_root=str(root), max_shift=1), tmp_path, ["l2"])
    assert "## Against" not in page
    assert pd.read_csv(tmp_path / "clic_differences.csv").empty


@pytest.mark.parametrize("inverted", [False, True])
def test_an_inverted_file_is_noticed(inverted, tmp_path):
    choices = by_hand(None, 1) != inverted
    root = write(tmp_path, [int(choice) for choice in choices])
    page = run(Settings(data_root=str(root), max_shift=1), tmp_path / "out", ["l2"])
    assert ("column T inverted" in page) == inverted
    assert pd.read_csv(tmp_path / "out" / "clic.csv")["accuracy"].item() == 100 * (not inverted)


def test_records(root, tmp_path):
    run(Settings(data_root=str(root), max_shift=1, seed=5), tmp_path, ["l2", "ssim"])
    records = read(tmp_path)
    table = pd.read_csv(tmp_path / "clic.csv").set_index("metric")
    assert [record["metric"] for record in records] == ["l2", "ssim"]
    for record in records:
        assert record["n"] == 8
        assert VOTES["clic"] in record["judged_by"]
        assert record["settings"] == {"image_size": "as on disk", "max_shift": 1, "seed": 5}
        assert list(record["scores"]) == ["accuracy", "rrf_1"]
        assert record["scores"]["rrf_1"][0] == table.loc[record["metric"], "rrf_1"]


def test_what_is_published_stands_beside_clic_alone(tmp_path, root, monkeypatch):
    plotted = []
    monkeypatch.setattr(clic, "plot_scores_and_flips", lambda *given: plotted.append(given))
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    run(Settings(data_root=str(root)), tmp_path / "clic", ["l2"])
    page = run(Settings(n=6), tmp_path / "sample", ["l2"])
    assert plotted[0][0]["published"].tolist() == [58.16]
    assert plotted[1][0]["published"].isna().all()
    # Three shifts, none of them 0.
    assert plotted[1][1]["shift"].tolist() == [1, 2, 3]
    # The stand-in says what it is.
    note = f"{VOTES['sample']}: accuracy is agreement with the released VGG-16 metric"
    for text in (page, " ".join(plotted[1][3].split()), read(tmp_path / "sample")[0]["judged_by"]):
        assert note in text
    assert plotted[1][4] == "agreement with the released VGG-16 metric (%)"
    assert "sample set val, 6 triplets, images 64x64 px" in page
    assert "clustered by photograph" in page


def test_fewer_triplets(root, tmp_path):
    run(Settings(data_root=str(root), n=3, max_shift=1), tmp_path, ["l2"])
    distances = read_distances(tmp_path / "distances-l2.csv.gz")
    assert list(distances["sample"].unique()) == ["0o-000000", "4o-000004", "7o-000007"]


def test_what_is_left_out_is_named(root, tmp_path, monkeypatch):
    original = measured.load_metrics

    def load(names, *given):
        kept, left_out = original([name for name in names if name != "ssim"], *given)
        return kept, left_out | {"ssim": "ssim needs an hour of patience"}

    monkeypatch.setattr(measured, "load_metrics", load)
    page = run(Settings(data_root=str(root), max_shift=1), tmp_path, ["ssim", "l2"])
    assert "## Left out\n\n- ssim needs an hour of patience" in page


def test_other_settings_need_another_folder(root, tmp_path):
    run(Settings(data_root=str(root), max_shift=1), tmp_path, ["l2"])
    with pytest.raises(ValueError, match="another folder"):
        run(Settings(data_root=str(root), max_shift=2), tmp_path, ["l2"])


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="max_shift"):
        Settings(max_shift=0)


def test_script(root, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = ["--metrics", "l2", "--data-root", str(root), "--max-shift", "1"]
    arguments += ["--device", "cpu", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["/somewhere/run_clic.py", *arguments])
    load_script().main()
    page = (output / "clic.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.rstrip() == page.rstrip()
    assert shlex.join(["python", "experiments/run_clic.py", *arguments]) in page


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--max-shift", "0"], ["--data-root", "/no"]])
def test_script_refuses_what_cannot_be(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run_clic.py", *arguments])
    with pytest.raises(SystemExit):
        load_script().main()
    assert arguments[0] in capsys.readouterr().err


def test_plot_refuses_other_files_and_nothing(tmp_path):
    row = {"metric": "l2", "value": 60.0, "low": 55.0, "high": 65.0, "published": 58.16}
    points = pd.DataFrame([row])
    flips = pd.DataFrame([{"metric": "l2", "shift": 1, "rrf": 4, "rrf_low": 3, "rrf_high": 5}])
    with pytest.raises(ValueError, match=r"\.png"):
        plot_scores_and_flips(points, flips, tmp_path / "plot.pdf", "Heading", "accuracy")
    with pytest.raises(ValueError, match="scores has no rows"):
        plot_scores_and_flips(points[:0], flips, tmp_path / "plot.png", "Heading", "accuracy")
    with pytest.raises(ValueError, match="flips has no rows"):
        plot_scores_and_flips(points, flips[:0], tmp_path / "plot.png", "Heading", "accuracy")
    assert list(tmp_path.iterdir()) == []
