import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from robust_lpips.plots import plot_correlations
from robust_lpips.studies import iqa
from robust_lpips.studies.iqa import SEVERITY_NOTE, Settings, run

pytest.importorskip("skimage", reason="scikit-image has the photographs")

GRADED = Settings(image_size=32)
METRICS = ["l2", "ssim"]


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("graded")
    return output, run(GRADED, output, METRICS, command="python experiments/run_iqa.py")


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
    assert list(table["metric"].unique()) == METRICS
    l2 = table[table["metric"] == "l2"].set_index("subset")
    assert "all" not in l2.index
    assert l2.index[-1] == "mean"
    distances = pd.read_csv(output / "distances-l2.csv.gz")
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
    assert "Severities of different types are not comparable" in " ".join(page.split())
    assert page == (output / "iqa.md").read_text()
    assert set(pd.read_csv(output / "iqa.csv")["judged_by"]) == {SEVERITY_NOTE}
    lines = (output / "records.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        assert "not people's opinion" in record["judged_by"]
        assert record["settings"]["over"] == "mean over types of distortion"
    assert [json.loads(line)["metric"] for line in lines] == METRICS
    assert "Published" not in page
    assert "python experiments/run_iqa.py" in page
    with Image.open(output / "iqa.png") as image:
        assert image.width > 800


def test_a_published_set(tid, tmp_path):
    settings = Settings("tid2013", str(tid))
    output = tmp_path / "out"
    page = run(settings, output, METRICS)
    table = pd.read_csv(output / "iqa.csv")
    rows = table[table["metric"] == "l2"].set_index("subset")
    assert list(rows.index) == ["additive-gaussian-noise", "gaussian-blur", "mean", "all"]
    distances = pd.read_csv(output / "distances-l2.csv.gz")
    expected = -stats.spearmanr(distances["distance"], distances["score"]).statistic
    assert rows.loc["all", "srcc"] == pytest.approx(expected)
    assert expected > 0.3
    assert "over all pairs" in page
    assert "people's opinion, as published" in page
    assert SEVERITY_NOTE not in page
    published = page.partition("## Published")[2]
    assert "TID2013" in published
    assert "0.776" in published
    assert "CSIQ" not in published
    record = json.loads((output / "records.jsonl").read_text().splitlines()[0])
    assert record["scores"]["srcc"][0] == pytest.approx(expected)


def test_what_is_measured_is_read_again(tid, tmp_path, monkeypatch):
    settings = Settings("tid2013", str(tid))
    first = run(settings, tmp_path / "out", ["l2"])
    path = tmp_path / "out" / "distances-l2.csv.gz"
    before = path.stat().st_mtime_ns
    assert run(settings, tmp_path / "out", ["l2"]) == first
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="other settings"):
        run(Settings("tid2013", str(tid), seed=1), tmp_path / "out", ["l2"])


def test_metrics_left_out_are_named_with_the_reason(tid, tmp_path, monkeypatch):
    settings = Settings("tid2013", str(tid))
    original = iqa.measure_all

    def measure_all(*args, **options):
        measured = original(*args, **options)
        measured.tables["ssim"]["distance"] = 0.5
        measured.left_out["pieapp"] = "pieapp needs piq"
        return measured

    monkeypatch.setattr(iqa, "measure_all", measure_all)
    page = run(settings, tmp_path / "out", METRICS)
    left_out = page.partition("## Left out")[2]
    assert "- pieapp needs piq" in left_out
    assert "- ssim has no correlation: distances of additive-gaussian-noise: distance" in left_out
    assert set(pd.read_csv(tmp_path / "out" / "iqa.csv")["metric"]) == {"l2"}
    with pytest.raises(ValueError, match=r"no metric can be scored: .*ssim has no correlation"):
        run(settings, tmp_path / "other", ["ssim"])


def test_a_csv(tid, tmp_path):
    names = [f"i{i:02d}_01_{level}" for i in range(1, 7) for level in (1, 2, 3)]
    lines = [
        f"reference_images/{name[:3].upper()}.BMP,distorted_images/{name}.bmp,{name[-1]}\n"
        for name in names
    ]
    path = tid / "mine.csv"
    path.write_text("reference,distorted,score\n" + "".join(lines))
    for higher_is_better, sign in ((False, 1), (True, -1)):
        output = tmp_path / f"out{sign}"
        page = run(Settings("csv", str(path), higher_is_better), output, ["l2"])
        table = pd.read_csv(output / "iqa.csv").set_index("subset")
        assert sign * table.loc["all", "srcc"] > 0.9
        assert "mine, 18 pairs" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "tid2008"}, "dataset must be one of graded, csiq, tid2013"),
        ({"dataset": "csiq"}, "data_root must be the path of csiq; got None"),
        ({"data_root": "/data"}, "data_root must be None for graded"),
        ({"dataset": "csv", "data_root": "a.csv"}, "higher_is_better must be given for csv"),
        ({"higher_is_better": True}, "higher_is_better must be given for csv, and only for it"),
    ],
)
def test_settings_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        Settings(**options)


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "run_iqa.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command(tid, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    command = ["--dataset", "tid2013", "--data-root", str(tid), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["run_iqa.py", *command, "--metrics", "l2", "--device", "cpu"])
    load_script().main()
    assert capsys.readouterr().out.startswith("# Image quality")
    assert "experiments/run_iqa.py --dataset tid2013" in (output / "iqa.md").read_text()
    (tid / "mos_with_names.txt").unlink()
    with pytest.raises(SystemExit):
        load_script().main()
    assert "mos_with_names.txt: no such file" in capsys.readouterr().err


class TestPlot:
    def test_it_shows_each_metric(self, tmp_path):
        nan = float("nan")
        rows = [
            {"metric": metric, "subset": subset, "srcc": value, "plcc": value, "krcc": value / 2}
            | {f"{s}_{end}": nan for s in ("srcc", "plcc", "krcc") for end in ("low", "high")}
            for metric, value in (("l2", 0.5), ("ssim", -0.2))
            for subset in ("blur", "all")
        ]
        path = tmp_path / "a.png"
        assert plot_correlations(pd.DataFrame(rows), path, "Heading\nset", "all") == path
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        for color in ((0, 114, 178), (213, 94, 0), (0, 158, 115)):
            assert (pixels == color).all(axis=-1).sum() > 20
        with pytest.raises(ValueError, match="table has no rows of 'mean'"):
            plot_correlations(pd.DataFrame(rows), path, "Heading", "mean")
        with pytest.raises(ValueError, match=r"must end in \.png"):
            plot_correlations(pd.DataFrame(rows), tmp_path / "a.pdf", "Heading", "all")
