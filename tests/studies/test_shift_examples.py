import importlib.util
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips.comparison import metric_names
from robust_lpips.data import sample_dataset
from robust_lpips.plots import plot_shift_examples
from robust_lpips.studies.shift_examples import (
    DEFAULT_METRICS,
    MILD,
    Settings,
    first_flips,
    make_examples,
    run,
    triplet_table,
)

SIZE = 32
METRICS = ["ssim", "l2"]
FILES = ("examples.csv", "triplets.csv", "shift_examples.md", "shift_examples.png")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The output folder of a run, and its page."""
    folder = tmp_path_factory.mktemp("run")
    settings = Settings(k=2, n=24, image_size=SIZE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(folder / "cache"))
        page = run(settings, folder / "out", METRICS, command="python experiments/x.py")
        # For tests that want the triplets themselves.
        sample_dataset(folder / "set", n=24, image_size=SIZE)
    return folder, page


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "run_shift_examples.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def l2(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = (image.double() / 127.5 - 1 for image in (a, b))
    return float((a - b).square().mean())


def distances(rows: list[tuple[float, float, float, float]]) -> pd.DataFrame:
    """A table of triplets of d0, d1, and both shifted."""
    parts = []
    for view, columns in (("full", (0, 1)), ("shift-0", (0, 1)), ("shift-1", (2, 3))):
        d0, d1 = ([row[column] for row in rows] for column in columns)
        samples = [f"x-{i}" for i in range(len(rows))]
        part = {"subset": "traditional", "sample": samples, "view": view}
        parts.append(pd.DataFrame(part | {"d0": d0, "d1": d1, "judge": 0.0}))
    return pd.concat(parts, ignore_index=True)


class TestTables:
    def test_examples_by_hand(self, finished):
        table = pd.read_csv(finished[0] / "out" / "examples.csv")
        examples = make_examples(Settings(k=2, image_size=SIZE))
        assert len(table) == 2 * len(METRICS)
        of_l2 = table[table["metric"] == "l2"].set_index("example")
        for number, example in enumerate(examples, start=1):
            ref, other = example.reference, example.distorted
            window = ref[..., :-1]
            row = of_l2.loc[number]
            assert row["no_shift"] == pytest.approx(l2(window, other[..., :-1]), rel=1e-5)
            assert row["shift_1px"] == pytest.approx(l2(window, other[..., 1:]), rel=1e-5)
            assert row["no_shift"] < row["shift_1px"]
            assert (row["image"], row["distortion"]) == (example.name, example.distortion)

    def test_verdicts_by_hand(self):
        rows = [(1.0, 2, 2, 1), (1, 2, 3, 4), (2, 1, 2, 2), (2, 1, 1, 2)]
        table = triplet_table({"a": distances(rows), "b": distances(rows[::-1])})
        a = table[table["metric"] == "a"]
        assert a["closer"].tolist() == ["p0", "p0", "p1", "p1"]
        assert a["closer_shifted"].tolist() == ["p1", "p0", "p1", "p0"]
        assert a["flips"].tolist() == [True, False, False, True]
        assert table["metric"].tolist() == ["a", "b"] * 4
        assert table["sample"].tolist() == [f"x-{i}" for i in range(4) for _ in "ab"]

    def test_the_first_flips_are_chosen(self):
        rows = [(1.0, 2, 3, 4), (1, 2, 2, 1), (2, 1, 1, 2), (1, 2, 2, 1)]
        table = triplet_table({"a": distances(rows), "b": distances(rows[::-1])})
        assert first_flips(table, "a", 2) == ["x-1", "x-2"]
        assert first_flips(table, "a", 9) == ["x-1", "x-2", "x-3"]
        assert first_flips(table, "b", 1) == ["x-0"]

    def test_triplets_shown_by_hand(self, finished):
        folder, _ = finished
        table = pd.read_csv(folder / "out" / "triplets.csv")
        assert 1 <= table["sample"].nunique() <= 2
        assert table.loc[table["metric"] == METRICS[0], "flips"].all()
        items = {item["sample"]: item for item in sample_dataset(folder / "set", "val", 24, SIZE)}
        for row in table[table["metric"] == "l2"].to_dict("records"):
            ref, p0, p1 = (items[row["sample"]][part] for part in ("ref", "p0", "p1"))
            window = ref[..., :-1]
            for name, image in (("d0", p0), ("d1", p1)):
                assert row[name] == pytest.approx(l2(window, image[..., :-1]), rel=1e-5)
                shifted = l2(window, image[..., 1:])
                assert row[f"{name}_shifted"] == pytest.approx(shifted, rel=1e-5)


class TestExamples:
    def test_distortions_take_turns_and_are_mild(self):
        examples = make_examples(Settings(k=5, image_size=64))
        assert len({example.name for example in examples}) == 5
        names = [example.distortion.partition("(")[0] for example in examples]
        assert names == [*(name for name, _ in MILD), MILD[0][0]]
        for example in examples:
            assert example.reference.shape == example.distorted.shape == (3, 64, 64)
            assert 0 < l2(example.reference, example.distorted) < 0.02
        again = make_examples(Settings(k=2, image_size=64))
        assert torch.equal(again[1].distorted, examples[1].distorted)
        other = make_examples(Settings(k=2, image_size=64, seed=1))
        assert not torch.equal(other[1].reference, examples[1].reference)

    def test_own_images_are_taken_whole(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine.png")
        (example,) = make_examples(Settings(images=(str(tmp_path / "mine.png"),), k=3))
        assert example.name == "mine.png"
        assert np.array_equal(example.reference.permute(1, 2, 0).numpy(), pixels)

    def test_images_that_are_too_small(self, tmp_path):
        Image.new("RGB", (9, 20)).save(tmp_path / "tiny.png")
        with pytest.raises(ValueError, match=r"images: tiny\.png: .*>= 16"):
            make_examples(Settings(images=(str(tmp_path / "tiny.png"),)))

    @pytest.mark.parametrize("name", ["k", "n"])
    def test_settings_are_checked(self, name):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            Settings(**{name: 0})


class TestRun:
    def test_files_and_page(self, finished):
        folder, page = finished
        assert {path.name for path in (folder / "out").iterdir()} >= set(FILES)
        assert (folder / "out" / "shift_examples.md").read_text(encoding="utf-8") == page
        assert "chosen because that metric flips there" in page
        assert "**flips**" in page
        assert "python experiments/x.py" in page
        assert "| LPIPS (Alex)" in page
        table = pd.read_csv(folder / "out" / "examples.csv")
        assert f"{table['shift_1px'][0]:.3g}" in page

    def test_a_metric_that_never_flips_shows_none(self, tmp_path, monkeypatch, finished):
        monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(finished[0] / "cache"))
        (tmp_path / "constant_metric.py").write_text(
            "import torch\n\n\ndef make():\n    return lambda a, b: torch.zeros(len(a))\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        settings = Settings(k=1, n=24, image_size=SIZE)
        page = run(settings, tmp_path / "out", ["constant_metric:make"])
        assert "On none of 24 triplets" in page
        assert pd.read_csv(tmp_path / "out" / "triplets.csv").empty
        assert (tmp_path / "out" / "shift_examples.png").is_file()

    def test_other_images_need_another_folder(self, tmp_path, monkeypatch, finished):
        monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(finished[0] / "cache"))
        path = tmp_path / "mine.png"
        Image.new("RGB", (30, 24), (9, 99, 199)).save(path)
        settings = Settings(images=(str(path),), k=1, n=24, image_size=SIZE)
        page = run(settings, tmp_path / "out", ["l2"])
        assert "the images given, whole" in page
        Image.new("RGB", (30, 24), (9, 99, 19)).save(path)
        with pytest.raises(ValueError, match="another folder"):
            run(settings, tmp_path / "out", ["l2"])

    def test_default_metrics_exist(self):
        assert set(DEFAULT_METRICS) <= set(metric_names())


@pytest.mark.parametrize("flips", [True, False])
def test_plot_colours_flips_alone(flips, tmp_path):
    examples = pd.DataFrame(
        {
            "example": [1],
            "distortion": "jpeg(0.30)",
            "metric": "l2",
            "no_shift": 0.1,
            "shift_1px": 0.3,
        }
    )
    row = (1.0, 2, 2, 1) if flips else (1.0, 2, 1, 2)
    triplets = triplet_table({"l2": distances([row])})
    grey = np.full((8, 8, 3), 120, dtype=np.uint8)
    images = {1: [grey] * 2}, {"x-0": [grey] * 3}
    path = plot_shift_examples(examples, triplets, *images, tmp_path / "a.png", "Heading")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert ((pixels == (213, 94, 0)).all(-1).sum() > 20) == flips
    assert (pixels == 120).all(-1).sum() > 5 * 100**2
    with pytest.raises(ValueError, match="examples has no rows"):
        plot_shift_examples(examples.head(0), triplets, *images, path, "")


def test_script(tmp_path, monkeypatch, capsys, finished):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(finished[0] / "cache"))
    output = tmp_path / "out"
    arguments = ["--n", "24", "--k", "1", "--image-size", str(SIZE)]
    arguments += ["--metrics", "l2", "--device", "cpu", "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["/somewhere/run_shift_examples.py", *arguments])
    load_script().main()
    page = (output / "shift_examples.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.rstrip("\n") == page.rstrip("\n")
    assert shlex.join(["python", "experiments/run_shift_examples.py", *arguments]) in page


@pytest.mark.parametrize("arguments", [["--k", "0"], ["--image", "/no/such.png"]])
def test_script_refuses_what_cannot_be(arguments, tmp_path, monkeypatch, capsys):
    arguments = [*arguments, "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["run_shift_examples.py", *arguments])
    with pytest.raises(SystemExit):
        load_script().main()
    assert arguments[1] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
