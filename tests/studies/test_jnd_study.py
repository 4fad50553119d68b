import importlib.util
import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from robust_lpips.studies.published import published
from robust_lpips.studies.records import read

from robust_lpips.evaluation import jnd_map
from robust_lpips.plots import plot_scores
from robust_lpips.studies import jnd, measured
from robust_lpips.studies.jnd import Settings, published_shares, run

NOT_JUDGED = (
    "same is the share that the paper's user study reports for a shift of that size (published), "
    "not judgments of these patches: the score says how well a metric orders shifts as people did"
)


@pytest.fixture(scope="module")
def bapps(tmp_path_factory) -> Path:
    """Two subsets of unequal size in BAPPS's layout, of noisy patches."""
    root = tmp_path_factory.mktemp("bapps")
    rng = np.random.default_rng(0)
    for subset, count in (("traditional", 6), ("cnn", 4)):
        folder = root / "jnd" / "val" / subset
        for part in ("p0", "p1", "same"):
            (folder / part).mkdir(parents=True)
        for i in range(count):
            p0 = rng.integers(60, 200, (16, 16, 3))
            p1 = p0 + rng.integers(-5 * i - 1, 5 * i + 2, p0.shape)
            for part, pixels in (("p0", p0), ("p1", p1)):
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / f"{i:06d}.png")
            np.save(folder / "same" / f"{i:06d}.npy", np.array([rng.integers(4) / 3]))
    return root


@pytest.fixture
def user_study(tmp_path) -> dict[str, str]:
    folder = tmp_path / "stimuli"
    folder.mkdir()
    rng = np.random.default_rng(1)
    answers = {}
    for image in ("00001", "00002"):
        wide = rng.integers(0, 255, (256, 259, 3), dtype=np.uint8)
        for shift, given in ((0, [1, 1]), (3, [0, 1])):
            gap = np.full((256, 20, 3), 255, np.uint8)
            pair = np.hstack([wide[:, :256], gap, wide[:, shift : shift + 256]])
            Image.fromarray(pair).save(folder / f"{image}_n-{shift}.png")
            answers[f"./0_9_pix_shift/{image}_n-{shift}.png"] = given
    responses = tmp_path / "responses.json"
    responses.write_text(json.dumps(answers), encoding="utf-8")
    return {"user_study": str(folder), "responses": str(responses)}


def load_script():
    path = Path(__file__).parents[2] / "experiments" / "run_jnd.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shares_are_the_published_ones():
    shares = published_shares()
    assert list(shares) == list(range(10))
    assert shares[0] == pytest.approx(140 / 150, abs=5e-4)
    assert shares[9] == pytest.approx(15 / 150, abs=5e-4)


def test_scores_by_hand(bapps, tmp_path):
    run(Settings(data_root=str(bapps), image_size=16), tmp_path, ["l2"])
    table = pd.read_csv(tmp_path / "jnd.csv").set_index("subset")
    by_subset = []
    for subset in ("traditional", "cnn"):
        folder = bapps / "jnd" / "val" / subset
        distances, same = [], []
        for path in sorted((folder / "p0").iterdir()):
            p0, p1 = (
                np.asarray(Image.open(folder / part / path.name), float) for part in ("p0", "p1")
            )
            distances.append(((p0 - p1) ** 2).mean())
            same.append(np.load(folder / "same" / f"{path.stem}.npy").item())
        by_subset.append(jnd_map(distances, same))
        assert table.loc[subset, "jnd_map"] == pytest.approx(by_subset[-1])
        assert table.loc[subset, "n"] == len(same)
    row = table.loc["mean"]
    assert row["jnd_map"] == pytest.approx(np.mean(by_subset))
    assert row["low"] <= row["jnd_map"] <= row["high"] <= 1


def test_bounds_are_what_no_order_and_the_best_order_give():
    same = {"a": [1.0, 0.0, 0.5], "b": [0.0, 1.0]}
    rows = [(s, f"{i}", 0.0, v) for s, values in same.items() for i, v in enumerate(values)]
    table = pd.DataFrame(rows, columns=["subset", "sample", "distance", "same"])
    floor, best = jnd.bounds(table)
    assert floor == pytest.approx(0.5)
    # By hand: precision 1 up to recall 2/3, then 3/4; and 1.
    assert best == pytest.approx(((2 / 3 + 0.75 / 3) + 1) / 2)


def test_pages_of_bapps(bapps, tmp_path):
    page = run(
        Settings(data_root=str(bapps), image_size=16), tmp_path, ["ssim", "l2"], command="python x"
    )
    assert page == (tmp_path / "jnd.md").read_text(encoding="utf-8")
    assert "BAPPS JND val, 10 pairs of 16x16 px, seed 0" in page
    assert "People judged these pairs" in page
    assert "user study reports" not in page
    assert "clustered" not in page
    assert "## Measured, by subset" in page
    assert "python x" in page
    for row in published("jnd").to_dict("records"):
        assert f"{row['jnd_map']:.3f}" in page
    table = pd.read_csv(tmp_path / "jnd.csv")
    means = table[table["subset"] == "mean"].set_index("metric")
    assert list(means.index) == ["ssim", "l2"]
    # Published in the paper's table of JND: SSIM 0.722, and nothing of L2.
    assert means.loc["ssim", "published_jnd_map"] == 0.722
    assert np.isnan(means.loc["l2", "published_jnd_map"])
    assert f"{means.loc['l2', 'jnd_map']:.3f} [" in page
    assert (tmp_path / "jnd.png").stat().st_size > 5000


def test_shifts_say_everywhere_that_nobody_judged_them(tmp_path, monkeypatch):
    titles = []
    draw = jnd.plot_scores
    monkeypatch.setattr(
        jnd, "plot_scores", lambda *given: (titles.append(given[2]), draw(*given))[1]
    )
    page = run(Settings(image_size=32, crops=2), tmp_path, ["l2"])
    assert NOT_JUDGED in page
    assert NOT_JUDGED in " ".join(titles[0].split())
    (record,) = read(tmp_path)
    assert NOT_JUDGED in record["judged_by"]
    table = pd.read_csv(tmp_path / "jnd.csv")
    assert table["judged_by"].str.contains(NOT_JUDGED, regex=False).all()
    assert "clustered by photograph" in page
    assert "intervals lie somewhat high" in page
    assert record["n"] == 160
    assert record["settings"] == {"image_size": 32, "crops": 2, "seed": 0}
    value, low, high = record["scores"]["jnd_map"]
    assert low < value < high
    assert value == pytest.approx(table["jnd_map"].iloc[-1])
    # Better than no order, no better than the order of the shares.
    floor = np.mean(list(published_shares().values()))
    assert floor < value < 0.7


def test_user_study(user_study, tmp_path):
    output = tmp_path / "out"
    page = run(Settings(**user_study), output, ["l2"])
    assert "study of small shifts, 4 pairs of 256x256 px" in page
    assert "clustered by image" in page
    table = pd.read_csv(output / "jnd.csv")
    # Both unshifted pairs, of which all said same, come first, then two of which half did: by
    # hand, precision 1 up to recall 2/3, then 2.5 / 3 and 3 / 4 for a sixth each.
    assert table["jnd_map"].iloc[-1] == pytest.approx(2 / 3 + (2.5 / 3 + 3 / 4) / 6)
    assert set(table["n"]) == {4}


def test_what_is_left_out_is_named(bapps, tmp_path, monkeypatch):
    original = measured.load_metrics

    def load(names, *given):
        kept, left_out = original([name for name in names if name != "ssim"], *given)
        return kept, left_out | {"ssim": "ssim needs an hour of patience"}

    monkeypatch.setattr(measured, "load_metrics", load)
    page = run(Settings(data_root=str(bapps), image_size=16), tmp_path, ["l2", "ssim"])
    assert "## Left out\n\n- ssim needs an hour of patience" in page
    assert [record["metric"] for record in read(tmp_path)] == ["l2"]


def test_other_settings_need_another_folder(bapps, tmp_path):
    run(Settings(data_root=str(bapps), image_size=16), tmp_path, ["l2"])
    with pytest.raises(ValueError, match="another folder"):
        run(Settings(data_root=str(bapps), image_size=12), tmp_path, ["l2"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data_root": "a", "user_study": "b", "responses": "c"}, "data_root and user_study"),
        ({"user_study": "b"}, "user_study and responses"),
        ({"responses": "c"}, "user_study and responses"),
        ({"crops": 0}, "crops"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_settings_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        Settings(**given)


def test_missing_data_leave_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="jnd"):
        run(Settings(data_root=str(tmp_path)), tmp_path / "out", ["l2"])
    assert not (tmp_path / "out").exists()


def test_script(tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = ["--metrics", "l2", "--image-size", "32", "--crops", "1", "--device", "cpu"]
    arguments += ["--output", str(output)]
    monkeypatch.setattr("sys.argv", ["/somewhere/run_jnd.py", *arguments])
    load_script().main()
    page = (output / "jnd.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.rstrip() == page.rstrip()
    assert shlex.join(["python", "experiments/run_jnd.py", *arguments]) in page


@pytest.mark.parametrize(
    "arguments",
    [["--crops", "0"], ["--responses", "x.json"], ["--data-root", "/no/such"]],
)
def test_script_refuses_what_cannot_be(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run_jnd.py", "--metrics", "l2", *arguments])
    with pytest.raises(SystemExit):
        load_script().main()
    assert arguments[0].strip("-").replace("-", "_") in capsys.readouterr().err.replace("-", "_")


class TestPlot:
    SCORES = pd.DataFrame(
        {
            "metric": ["l2", "ssim", "vgg16-shift-tolerant"],
            "value": [0.6, 0.65, 0.7],
            "low": [0.55, np.nan, 0.68],
            "high": [0.65, np.nan, 0.75],
            "published": [np.nan, 0.7, 0.75],
        }
    )

    def test_draws_what_is_published_hollow(self, tmp_path):
        with_, without = (
            plot_scores(table, tmp_path / name, "Heading\nline", "mAP")
            for name, table in (
                ("a.png", self.SCORES),
                ("b.png", self.SCORES.assign(published=np.nan)),
            )
        )
        # Of the marker's edge alone, so less than that of a filled dot.
        blue, vermilion = (0, 114, 178), (213, 94, 0)
        assert 0 < count(with_, vermilion) - count(without, vermilion) < count(with_, blue)
        assert count(with_, blue) > 20

    def test_refuses_other_files_and_nothing(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.png"):
            plot_scores(self.SCORES, tmp_path / "plot.pdf", "Heading", "mAP")
        with pytest.raises(ValueError, match="no rows"):
            plot_scores(self.SCORES[:0], tmp_path / "plot.png", "Heading", "mAP")
        assert list(tmp_path.iterdir()) == []


def count(path: Path, color: tuple[int, int, int]) -> int:
    with Image.open(path) as image:
        return int((np.asarray(image.convert("RGB")) == color).all(axis=-1).sum())
