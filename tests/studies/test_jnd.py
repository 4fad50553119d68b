import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from robust_lpips import cli
from robust_lpips.data import ShiftedPhotographs
from robust_lpips.evaluation import jnd_map
from robust_lpips.published import published, published_shares
from robust_lpips.studies.base import Plan, Results, records, runner
from robust_lpips.studies.jnd import STUDY, JNDSettings


def run(output: Path, metrics: Sequence[str] = ("l2",), **settings) -> str:
    return runner.run(STUDY, Plan(JNDSettings(**settings), tuple(metrics)), output)


def drawn(output: Path, metrics: Sequence[str] = ("l2",), **settings) -> Figure:
    """The figure of a run that is finished."""
    plan = Plan(JNDSettings(**settings), tuple(metrics))
    results = Results(plan, plan.settings.source(), output, STUDY.planned(plan))
    return STUDY.figures(results, STUDY.tables(results))["jnd"]


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
def user_study(tmp_path) -> dict[str, Path]:
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
    return {"user_study": folder, "responses": responses}


def test_shares_are_the_published_ones():
    shares = published_shares()
    assert list(shares) == list(range(10))
    assert shares[0] == pytest.approx(140 / 150, abs=5e-4)
    assert shares[9] == pytest.approx(15 / 150, abs=5e-4)


def test_scores_by_hand(bapps, tmp_path):
    run(tmp_path, data_root=bapps, image_size=16)
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


def test_page_of_bapps(bapps, tmp_path):
    page = run(tmp_path, ["ssim", "l2"], data_root=bapps, image_size=16)
    assert "clustered" not in page
    for subset in ("traditional", "cnn"):
        assert subset in page
    for row in published("jnd").to_dict("records"):
        assert f"{row['jnd_map']:.3f}" in page
    table = pd.read_csv(tmp_path / "jnd.csv")
    assert set(table["dataset"]) == {"BAPPS JND val"}
    means = table[table["subset"] == "mean"].set_index("metric")
    assert list(means.index) == ["ssim", "l2"]
    # Published in the paper's table of JND: SSIM 0.722, and nothing of L2.
    assert means.loc["ssim", "published_jnd_map"] == 0.722
    assert np.isnan(means.loc["l2", "published_jnd_map"])
    assert table.loc[table["subset"] != "mean", "published_jnd_map"].isna().all()
    assert f"{means.loc['l2', 'jnd_map']:.3f} [" in page


def test_figure_shows_what_is_published_hollow(bapps, tmp_path):
    settings = {"data_root": bapps, "image_size": 16}
    run(tmp_path, ["ssim", "l2"], **settings)
    table = pd.read_csv(tmp_path / "jnd.csv").query("subset == 'mean'")
    lines = drawn(tmp_path, ["ssim", "l2"], **settings).axes[0].get_lines()
    dots = [line.get_xdata()[0] for line in lines if line.get_marker() == "o"]
    assert sorted(dots) == pytest.approx(sorted(table["jnd_map"]))
    hollow = [line.get_xdata()[0] for line in lines if line.get_marker() == "D"]
    assert [value for value in hollow if not np.isnan(value)] == [0.722]
    assert {line.get_markerfacecolor() for line in lines if line.get_marker() == "D"} == {"white"}


def test_shifts_say_everywhere_that_nobody_judged_them(tmp_path):
    settings = {"image_size": 32, "crops": 2}
    page = run(tmp_path, **settings)
    source = JNDSettings(**settings).source()
    note = source.judged_by
    assert isinstance(source.dataset, ShiftedPhotographs)
    assert "not judgments" in note
    table = pd.read_csv(tmp_path / "jnd.csv")
    (record,) = records.read(tmp_path)
    title = " ".join(drawn(tmp_path, **settings).texts[1].get_text().split())
    for text in (page, title, record["judged_by"], *table["judged_by"]):
        assert note in text
    assert record["n"] == 160
    assert record["settings"] == {"image_size": 32, "crops": 2, "seed": 0}
    value, low, high = record["scores"]["jnd_map"]
    assert low < value < high
    assert value == pytest.approx(table["jnd_map"].iloc[-1])
    # Better than no order, no better than the order of the shares.
    floor = np.mean(list(published_shares().values()))
    assert floor < value < 0.7


def test_user_study(user_study, tmp_path):
    run(tmp_path / "out", **user_study)
    table = pd.read_csv(tmp_path / "out" / "jnd.csv")
    # Both unshifted pairs, of which all said same, come first, then two of which half did: by
    # hand, precision 1 up to recall 2/3, then 2.5 / 3 and 3 / 4 for a sixth each.
    assert table["jnd_map"].iloc[-1] == pytest.approx(2 / 3 + (2.5 / 3 + 3 / 4) / 6)
    assert set(table["n"]) == {4}
    assert set(table["image_size"]) == {256}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data_root": "a", "user_study": "b", "responses": "c"}, "data_root and user_study"),
        ({"user_study": "b"}, "user_study and responses"),
        ({"responses": "c"}, "user_study and responses"),
        ({"crops": 0}, "crops must be at least 1"),
        ({"image_size": 0}, "image_size must be at least 1"),
    ],
)
def test_settings_that_do_not_go_together(given, message):
    with pytest.raises(ValueError, match=message):
        JNDSettings(**{k: Path(v) if isinstance(v, str) else v for k, v in given.items()})


def test_missing_data_leave_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="jnd"):
        run(tmp_path / "out", data_root=tmp_path)
    assert not (tmp_path / "out").exists()


def test_command_line(tmp_path, capsys):
    arguments = ["--metrics", "l2", "--image-size", "32", "--crops", "1", "--device", "cpu"]
    cli.main(STUDY, "", [*arguments, "--output", str(tmp_path)])
    assert (tmp_path / "jnd.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "jnd.csv")["image_size"]) == {32}
    with pytest.raises(SystemExit):
        cli.main(STUDY, "", ["--responses", str(tmp_path / "jnd.csv")])
    assert "user_study" in capsys.readouterr().err
