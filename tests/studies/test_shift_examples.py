"""Examples of what one pixel does: tables by hand, on the images themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips import cli, plotting
from robust_lpips.comparison import metric_names
from robust_lpips.evaluation import rank_flip_rate
from robust_lpips.studies.base import Plan, records
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.shift_examples import (
    METRICS,
    STUDY,
    ShiftExampleSettings,
    example_figure,
    make_examples,
)

SETTINGS = ShiftExampleSettings(k=2, n=24, image_size=32)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory) -> Path:
    """The output folder of a run."""
    output = tmp_path_factory.mktemp("run") / "out"
    run(STUDY, Plan(SETTINGS, ("gti-cnn", "ssim", "l2")), output)
    return output


def l2(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = (image.double() / 127.5 - 1 for image in (a, b))
    return float((a - b).square().mean())


class TestTables:
    def test_examples_by_hand(self, finished):
        table = pd.read_csv(finished / "examples.csv")
        assert table["metric"].tolist() == ["ssim", "l2"] * 2
        of_l2 = table[table["metric"] == "l2"].set_index("example")
        for number, example in enumerate(make_examples(SETTINGS), start=1):
            ref, other = example["ref"], example["p0"]
            window, row = ref[..., :-1], of_l2.loc[number]
            assert row["no_shift"] == pytest.approx(l2(window, other[..., :-1]), rel=1e-5)
            assert row["shift_1px"] == pytest.approx(l2(window, other[..., 1:]), rel=1e-5)
            assert row["no_shift"] < row["shift_1px"]
            assert (row["image"], row["distortion"]) == (example["image"], example["distortion"])

    def test_triplets_shown_by_hand(self, finished):
        table = pd.read_csv(finished / "triplets.csv")
        assert 1 <= table["sample"].nunique() <= 2
        assert table.loc[table["metric"] == "ssim", "flips"].all()
        items = {item["sample"]: item for item in SETTINGS.source().dataset}
        for row in table[table["metric"] == "l2"].to_dict("records"):
            ref, p0, p1 = (items[row["sample"]][part] for part in ("ref", "p0", "p1"))
            window = ref[..., :-1]
            for name, image in (("d0", p0), ("d1", p1)):
                assert row[name] == pytest.approx(l2(window, image[..., :-1]), rel=1e-5)
                shifted = l2(window, image[..., 1:])
                assert row[f"{name}_shifted"] == pytest.approx(shifted, rel=1e-5)

    def test_records_are_of_all_triplets(self, finished):
        ssim, _ = records.read(finished)
        table = pd.read_csv(
            finished / "distances" / "triplets" / "ssim" / "distances.csv.gz", dtype={"sample": str}
        )
        views = dict(list(table.groupby("view")))
        rate = rank_flip_rate(*(views[v][d] for v in ("shift-0", "shift-1") for d in ("d0", "d1")))
        assert ssim["scores"]["rrf_1"][0] == pytest.approx(100 * rate)
        assert (ssim["n"], ssim["settings"]["max_shift"]) == (24, 1)


class TestRun:
    def test_page(self, finished):
        page = (finished / "shift_examples.md").read_text(encoding="utf-8")
        assert "**flips**" in page
        assert "| LPIPS (Alex)" in page
        assert "- gti-cnn: " in page.split("## Left out")[1]
        table = pd.read_csv(finished / "examples.csv")
        assert f"{table['shift_1px'][0]:.3g}" in page

    def test_a_metric_that_never_flips_shows_none(self, tmp_path, monkeypatch):
        (tmp_path / "constant_metric.py").write_text(
            "import torch\n\n\ndef make():\n    return lambda a, b: torch.zeros(len(a))\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        run(STUDY, Plan(SETTINGS, ("constant_metric:make",)), tmp_path / "out")
        assert pd.read_csv(tmp_path / "out" / "triplets.csv").empty
        assert (tmp_path / "out" / "shift_examples.png").is_file()

    def test_a_metric_that_fails_on_one_part_is_left_out_of_both(self, tmp_path, monkeypatch):
        (tmp_path / "picky_metric.py").write_text(
            "def make():\n"
            "    def metric(a, b):\n"
            "        assert a.shape[-2] == 32, 'too tall'\n"
            "        return (a - b).abs().mean((1, 2, 3))\n"
            "    return metric\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        Image.new("RGB", (30, 24), (9, 99, 199)).save(tmp_path / "mine.png")
        settings = replace(SETTINGS, image=(tmp_path / "mine.png",))
        page = run(STUDY, Plan(settings, ("picky_metric:make", "l1")), tmp_path / "out")
        assert "too tall" in page.split("## Left out")[1]
        for name in ("examples", "triplets"):
            table = pd.read_csv(tmp_path / "out" / f"{name}.csv")
            assert set(table["metric"]) == {"l1"}
        with pytest.raises(ValueError, match="examples, triplets"):
            run(STUDY, Plan(settings, ("picky_metric:make",)), tmp_path / "out")

    def test_images_may_be_given_several_times_and_are_claimed_by_content(self, tmp_path, capsys):
        first, second = (tmp_path / name for name in ("first.png", "second.png"))
        for path, value in ((first, 99), (second, 19)):
            Image.new("RGB", (30, 24), (9, value, 199)).save(path)
        arguments = ["--image", str(first), "--image", str(second), "--n", "24", "--k", "1"]
        arguments += ["--image-size", "32", "--metrics", "l2", "--device", "cpu"]
        arguments += ["--output", str(tmp_path / "out")]
        cli.main(STUDY, "", arguments)
        table = pd.read_csv(tmp_path / "out" / "examples.csv")
        assert table["image"].tolist() == ["first.png", "second.png"]
        Image.new("RGB", (30, 24), (9, 99, 19)).save(first)
        with pytest.raises(SystemExit):
            cli.main(STUDY, "", arguments)
        assert "choose another folder" in " ".join(capsys.readouterr().err.split())

    @pytest.mark.parametrize("arguments", [["--k", "0"], ["--image", "/no/such.png"]])
    def test_bad_input_is_a_usage_error(self, arguments, tmp_path, capsys):
        with pytest.raises(SystemExit):
            cli.main(STUDY, "", [*arguments, "--output", str(tmp_path / "out")])
        assert arguments[0].strip("-") in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_default_metrics_exist(self):
        assert set(METRICS) <= set(metric_names())


@pytest.mark.parametrize("flips", [True, False])
def test_the_figure_colours_flips_alone(flips, tmp_path):
    columns = ["example", "distortion", "metric", "no_shift", "shift_1px"]
    examples = pd.DataFrame([(1, "jpeg(0.30)", "l2", 0.1, 0.3)], columns=columns)
    verdict = {"sample": "x-0", "metric": "l2", "d0": 1.0, "d1": 2.0, "closer": "p0"}
    shifted = ("p1", True) if flips else ("p0", False)
    verdict |= {"d0_shifted": 2.0, "d1_shifted": 1.0}
    verdict |= dict(zip(("closer_shifted", "flips"), shifted, strict=True))
    grey = torch.full((3, 8, 8), 120, dtype=torch.uint8)
    items = dict.fromkeys((1, "x-0"), dict.fromkeys(("ref", "p0", "p1"), grey))
    figure = example_figure(examples, pd.DataFrame([verdict]), items, "Heading")
    plotting.save(figure, tmp_path / "a")
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert ((pixels == (213, 94, 0)).all(-1).sum() > 20) == flips
    assert (pixels == 120).all(-1).sum() > 5 * 100**2
