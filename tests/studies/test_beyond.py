"""The table of designs beyond the paper: scores, figure and runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robust_lpips.cli import main
from robust_lpips.comparison import MetricUnavailable, designs
from robust_lpips.evaluation import rank_flip_rate
from robust_lpips.records import read
from robust_lpips.studies import beyond
from robust_lpips.studies.base import LeftOut, MetricTask, Plan
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.beyond import STUDY, row_scores
from robust_lpips.studies.beyond.figure import pareto_figure
from robust_lpips.studies.beyond.measuring import BeyondSettings, TimeTask
from robust_lpips.tasks.task import RECORD_FILE, staleness

BASE = "alexnet-shift-tolerant"
FEW = [f"{BASE}-registered", "alexnet-untrained"]
PARTS = ("horizontal", "vertical", "diagonal", "half-pixel", "warp")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Six triplets of two subsets in BAPPS's layout: smooth references, noisy p0 and p1."""
    root = tmp_path_factory.mktemp("bapps")
    rng = np.random.default_rng(0)
    for subset in ("traditional", "cnn"):
        folder = root / "2afc" / "val" / subset
        for part in ("ref", "p0", "p1", "judge"):
            (folder / part).mkdir(parents=True)
        for i in range(3):
            ref = np.kron(rng.integers(30, 220, (16, 16, 3)), np.ones((4, 4, 1)))
            for part, noise in (("ref", 0), ("p0", 30), ("p1", 28)):
                image = np.clip(ref + rng.normal(0, noise, ref.shape), 0, 255).astype(np.uint8)
                Image.fromarray(image).save(folder / part / f"{i:06d}.png")
            np.save(folder / "judge" / f"{i:06d}.npy", np.array([0.4]))
    return root


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path_factory):
    """Few pairs and calls to time, few resamples, and a cache of its own."""
    monkeypatch.setattr(beyond, "_N_BOOT", 50)
    for name, value in (("BATCH", 4), ("ROUNDS", 1), ("WARM_UP", 1)):
        monkeypatch.setattr(f"robust_lpips.studies.beyond.measuring.{name}", value)
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))


def settings_of(root, names, **options) -> BeyondSettings:
    return BeyondSettings(data_root=root, rows=tuple(names), **{"n": 4, "n_more": 2} | options)


def test_tables_records_and_resuming(root, tmp_path, monkeypatch):
    plan = Plan(settings_of(root, FEW))
    page = run(STUDY, plan, tmp_path)
    assert page == (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert (tmp_path / "pareto.png").is_file()
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert list(summary) == ["row", "quantity", "value", "low", "high", "n"]
    # The base of a chosen row comes with it.
    assert list(summary["row"].unique()) == [BASE, *FEW]
    own = [
        *("two_afc", "rrf_1", "rrf_2", "rrf_3"),
        *("rrf_1_vertical", "rrf_1_diagonal", "rrf_0.5"),
    ]
    always = {*own, "warp_over_noise", "evaluations", "relative_time"}
    by_row = {name: set(rows["quantity"]) for name, rows in summary.groupby("row")}
    assert by_row[BASE] == by_row["alexnet-untrained"] == always
    assert by_row[FEW[0]] == always | {"verdicts_kept"} | {f"{name}_difference" for name in own}
    counts = summary.groupby("quantity")["n"].agg(set)
    assert counts["two_afc"] == counts["verdicts_kept"] == {4}
    assert counts["rrf_0.5"] == counts["warp_over_noise"] == {2}

    values = summary.set_index(["row", "quantity"])["value"]
    records = {record["metric"]: record for record in read(tmp_path)}
    assert set(records) == {BASE, *FEW}
    for name, record in records.items():
        assert len(record["weights"]) == 64
        assert record["n"] == 4
        for quantity in ("two_afc", "rrf_1", "rrf_3", "rrf_0.5"):
            assert record["scores"][quantity][0] == pytest.approx(values[name, quantity])

    # What is finished is not measured again, task by task.
    measured = []
    for kind in (MetricTask, TimeTask):
        done = kind.do
        monkeypatch.setattr(
            kind, "do", lambda task, *a, do=done: measured.append(task.name) or do(task, *a)
        )
    (tmp_path / "distances" / "vertical" / BASE / RECORD_FILE).unlink()
    # Which rows are reported does not decide whose folder it is.
    assert run(STUDY, Plan(settings_of(root, FEW)), tmp_path) == page
    assert measured == [f"{BASE}, vertical"]
    run(STUDY, Plan(settings_of(root, FEW[1:])), tmp_path)
    assert list(pd.read_csv(tmp_path / "summary.csv")["row"].unique()) == FEW[1:]
    with pytest.raises(ValueError, match="n_more 2 there, 3 here"):
        run(STUDY, Plan(settings_of(root, FEW, n_more=3)), tmp_path)


def test_other_weights_make_results_stale(root, tmp_path, monkeypatch):
    name = "alexnet-untrained-registered"
    settings = settings_of(root, [name], n=2)
    run(STUDY, Plan(settings), tmp_path)
    found = STUDY.planned(Plan(settings))
    assert not any(staleness(task, tmp_path) for task in found)
    original = designs.load_metric
    # Identities are computed once per process: the same weights under a new function.
    monkeypatch.setattr(
        designs, "load_metric", lambda name, device, seed: original(name, device, 9)
    )
    beyond.measuring.identity_of.cache_clear()
    stale = [staleness(task, tmp_path) for task in found]
    beyond.measuring.identity_of.cache_clear()
    assert len(stale) == 11
    assert stale == ["weights changed"] * 10 + ["base, row changed"]


def test_the_sample_set_has_photographs_as_clusters(tmp_path):
    plan = Plan(BeyondSettings(n=4, n_more=4, rows=("alexnet-untrained",)))
    page = run(STUDY, plan, tmp_path)
    assert "clustered by photograph" in page
    assert "released VGG-16" in page


def test_rows_whose_network_is_unavailable_are_left_out(root, tmp_path, monkeypatch):
    original = designs.load_metric

    def load(name, device, seed):
        if name == "alexnet-vanilla":
            raise MetricUnavailable(f"{name} needs weights in {Path.home()}/cache")
        return original(name, device, seed)

    monkeypatch.setattr(designs, "load_metric", load)
    design = "alexnet-vanilla-jittered"
    with pytest.raises(ValueError, match="nothing can be measured: alexnet-vanilla"):
        run(STUDY, Plan(settings_of(root, [design])), tmp_path)
    plan = Plan(settings_of(root, ["alexnet-untrained", design]))
    page = run(STUDY, plan, tmp_path)
    assert f"- alexnet-vanilla, {design}: needs weights in ~/cache" in page
    assert set(pd.read_csv(tmp_path / "summary.csv")["row"]) == {"alexnet-untrained"}


def test_rows_are_compared_with_complete_networks_only(root, tmp_path, monkeypatch):
    do = MetricTask.do

    def broken(task, *arguments):
        if (task.metric, task.part) == ("alexnet-untrained", "warp"):
            raise LeftOut("failed")
        return do(task, *arguments)

    monkeypatch.setattr(MetricTask, "do", broken)
    design = "alexnet-untrained-registered"
    with pytest.raises(ValueError, match="no row is complete; left out: alexnet-untrained"):
        run(STUDY, Plan(settings_of(root, [design], n=2)), tmp_path)
    page = run(STUDY, Plan(settings_of(root, [BASE, design], n=2)), tmp_path)
    assert set(pd.read_csv(tmp_path / "summary.csv")["row"]) == {BASE}
    assert design in page
    assert "- alexnet-untrained: failed" in page


def table(d0, d1, judge=1.0, views=("full", "shift-0", "shift-1", "shift-2", "shift-3")):
    """(V, N) distances as :func:`measure` gives them."""
    parts = [
        pd.DataFrame({"d0": a, "d1": b, "view": view, "judge": judge, "subset": "cnn"}).assign(
            sample=[f"{i:06d}" for i in range(len(a))]
        )
        for a, b, view in zip(d0, d1, views, strict=True)
    ]
    return pd.concat(parts)


def test_scores_by_hand():
    rng = np.random.default_rng(0)
    own, base = rng.random((2, 2, 5, 40))
    views = {
        "horizontal": ("full", "shift-0", "shift-1", "shift-2", "shift-3"),
        "vertical": ("full", "shift-0", "shift-1"),
        "diagonal": ("full", "shift-0", "shift-1"),
        "half-pixel": ("full", "shift-0", "shift-0.5", "shift-1"),
        "warp": ("full",),
    }
    # Each part from other numbers, so that none stands for another.
    tables = [
        {
            part: table(*np.roll(m, i, axis=2)[:, : len(names)], views=names)
            for i, (part, names) in enumerate(views.items())
        }
        for m in (own, base)
    ]
    scores = row_scores(*tables).set_index("quantity")
    closer = own[1] < own[0]
    assert scores.loc["two_afc", "value"] == pytest.approx(100 * closer[0].mean())
    difference = closer[0].mean() - (base[1] < base[0])[0].mean()
    assert scores.loc["two_afc_difference", "value"] == pytest.approx(100 * difference)
    kept = (own[0, 0] < own[1, 0]) == (base[0, 0] < base[1, 0])
    assert scores.loc["verdicts_kept", "value"] == pytest.approx(100 * kept.mean())
    for part, view, quantity in (
        ("horizontal", "shift-2", "rrf_2"),
        ("vertical", "shift-1", "rrf_1_vertical"),
        ("diagonal", "shift-1", "rrf_1_diagonal"),
        ("half-pixel", "shift-0.5", "rrf_0.5"),
    ):
        d = tables[0][part].set_index("view")
        columns = (d.loc[at, name] for at in ("shift-0", view) for name in ("d0", "d1"))
        assert scores.loc[quantity, "value"] == pytest.approx(100 * rank_flip_rate(*columns))
    warp = tables[0]["warp"]
    ratio = np.median(warp["d0"] / warp["d1"])
    assert scores.loc["warp_over_noise", "value"] == pytest.approx(ratio)
    assert (scores["low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["high"]).all()


def test_a_row_equal_to_its_base_differs_in_nothing():
    tables = {part: table(*np.random.default_rng(0).random((2, 5, 9))) for part in PARTS}
    tables["half-pixel"] = tables["half-pixel"].replace({"shift-2": "shift-0.5"})
    tables["warp"] = tables["warp"].query("view == 'full'")
    scores = row_scores(tables, tables).set_index("quantity")["value"]
    assert scores["verdicts_kept"] == 100
    assert (scores[[name for name in scores.index if name.endswith("_difference")]] == 0).all()


def test_unknown_rows_are_refused():
    with pytest.raises(ValueError, match="rows must be one of alexnet-shift-tolerant, "):
        BeyondSettings(rows=("alexnet",))


def points(rrf, accuracy) -> pd.DataFrame:
    """Points of one network, the first of which is its base, without intervals."""
    ends = [f"{name}_{end}" for name in ("rrf_1", "two_afc") for end in ("low", "high")]
    table = pd.DataFrame({"rrf_1": rrf, "two_afc": accuracy, "relative_time": 1.0})
    names = [f"design {i}" for i in range(len(table))]
    return table.assign(
        network="a", design=names, base=table.index == 0, **dict.fromkeys(ends, np.nan)
    )


def test_figure():
    made = pareto_figure(points([3.0, 1.0, 2.0], [80.0, 70.0, 60.0]), "Heading", "accuracy (%)")
    (axes,) = made.axes
    assert axes.get_ylabel() == "accuracy (%)"
    with pytest.raises(ValueError, match="points has no rows"):
        pareto_figure(points([], []), "Heading", "accuracy (%)")


class TestCommandLine:
    def test_page(self, root, tmp_path, capsys):
        arguments = ["--n", "2", "--rows", "alexnet-untrained", "--device", "cpu"]
        output = tmp_path / "out"
        main(STUDY, "", [*arguments, "--data-root", str(root), "--output", str(output)])
        assert (output / "summary.md").read_text(encoding="utf-8") in capsys.readouterr().out

    def test_defaults(self, root):
        assert STUDY.output_folder(BeyondSettings()) == Path("runs/ablation-beyond-sample-64px")
        named = STUDY.output_folder(BeyondSettings(data_root=root, image_size=32))
        assert named == Path("runs/ablation-beyond-bapps-32px")
        assert BeyondSettings.sample_n == 300

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--rows", "vanilla"], "invalid choice: 'vanilla'"),
            (["--max-shift", "64"], "max_shift must be from 1 and below image_size"),
            (["--n", "0"], "n must be at least 1"),
        ],
    )
    def test_refused(self, capsys, arguments, message):
        with pytest.raises(SystemExit):
            main(STUDY, "", arguments)
        assert message in capsys.readouterr().err
