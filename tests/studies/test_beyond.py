"""The table of designs beyond the paper: what is measured, kept, scored, said and refused."""

import copy
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips.data import TwoAFCDataset
from robust_lpips.evaluation import rank_flip_rate
from robust_lpips.studies import beyond
from robust_lpips.studies.beyond import Settings, WarpedAndNoisy, row_scores, run
from robust_lpips.studies.beyond_rows import NETWORKS, ROWS, chosen, reconfigured

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
    monkeypatch.setattr(beyond, "_BATCH", 4)
    monkeypatch.setattr(beyond, "_ROUNDS", 1)
    monkeypatch.setattr(beyond, "WARM_UP", 1)
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """How many triplets each call of ``measure`` had."""
    counts = []

    def measure(metric, dataset, *args, **options):
        counts.append(len(dataset))
        return original(metric, dataset, *args, **options)

    original = beyond.measure
    monkeypatch.setattr(beyond, "measure", measure)
    return counts


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "experiments" / "run_ablation.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run_ablation.py", "--device", "cpu", *arguments])
    script.main()


def test_files_columns_and_resuming(root, tmp_path, measured):
    settings = Settings(str(root), n=4, n_more=2)
    page = run(settings, tmp_path, FEW)
    assert measured == [4, 2, 2, 2, 2] * 3
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"settings.json", "summary.csv", "summary.md", "pareto.png", "rows"}
    assert page == (tmp_path / "summary.md").read_text(encoding="utf-8")
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

    # What is kept is not measured again, part by part.
    (tmp_path / "rows" / BASE / "vertical.json").unlink()
    assert run(settings, tmp_path, FEW) == page
    assert measured[15:] == [2]
    with pytest.raises(ValueError, match=r"n_more 2 there, 3 here.*another folder"):
        run(Settings(str(root), n=4, n_more=3), tmp_path, FEW)


def test_the_sample_set_says_what_judges(tmp_path):
    page = run(Settings(n=4, n_more=4), tmp_path, ["alexnet-untrained"])
    header = next(line for line in page.splitlines() if line.startswith("| network"))
    assert "agreement with the released VGG-16 metric, not with people (%)" in header
    assert "Nobody judged these patches" in page
    assert "clustered by photograph" in page


def test_rows_whose_weights_cannot_be_had_are_named(root, tmp_path, monkeypatch):
    reason = f"alexnet-vanilla needs weights in {Path.home()}/cache"
    original = beyond.load_metrics

    def load(names, device, seed):
        rest = [name for name in names if name != "alexnet-vanilla"]
        found, missing = original(rest, device, seed) if rest else ({}, {})
        return found, missing | {"alexnet-vanilla": reason}

    monkeypatch.setattr(beyond, "load_metrics", load)
    settings = Settings(str(root), n=2, n_more=2)
    with pytest.raises(ValueError, match="no row can be measured: alexnet-vanilla needs"):
        run(settings, tmp_path, ["alexnet-vanilla-jittered"])
    page = run(settings, tmp_path, ["alexnet-untrained", "alexnet-vanilla-jittered"])
    *_, last = page.splitlines()
    names = "alexnet-vanilla, alexnet-vanilla-jittered"
    assert last == f"- {names}: alexnet-vanilla needs weights in ~/cache"


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


def test_warps_are_mild_noise_is_seen_and_both_are_drawn_once(root):
    dataset = TwoAFCDataset(root, image_size=64)
    items = [WarpedAndNoisy(dataset)[i] for i in (0, 1)]
    for item, again in zip(items, (WarpedAndNoisy(dataset)[i] for i in (0, 1)), strict=True):
        noise = (item["p1"].double() - item["ref"].double()).std() / 255
        assert noise == pytest.approx(beyond.SEVERITY * 0.15, rel=0.05)
        assert not torch.equal(item["p0"], item["ref"])
        assert torch.equal(item["p0"], again["p0"])
    other = WarpedAndNoisy(dataset, seed=1)[0]
    assert not torch.equal(other["p1"], items[0]["p1"])


@pytest.mark.parametrize("design", NETWORKS[BASE], ids=lambda design: design.name)
def test_evaluations_are_those_that_the_network_does(design, metric, image_pair):
    network = metric.unfuse()
    made = design.factory(network)
    seen = []
    backbone = getattr(made, "metric", made).unfuse().backbone
    backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        made(*image_pair("photographs", 3, 64, 64))
    assert sum(seen) == 3 * design.evaluations


def test_reconfigured_has_the_weights_and_leaves_the_metric(metric, image_pair):
    before = copy.deepcopy(metric.state_dict())
    made = reconfigured(metric, blur_size=5)
    assert made.config.blur_size == 5
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert metric.config.blur_size == 3
    pair = image_pair("photographs", 2, 64, 64)
    assert torch.equal(reconfigured(metric)(*pair), metric(*pair))
    assert not torch.allclose(made(*pair), metric(*pair), rtol=0.01)


def test_rows():
    assert [row.name for row in chosen()] == list(ROWS)
    assert {row.base for row in chosen()} == set(NETWORKS)
    assert [row.name for row in chosen([f"{BASE}-jittered"])] == [BASE, f"{BASE}-jittered"]
    for names in ([], ["alexnet"]):
        with pytest.raises(ValueError, match="rows must be some of alexnet-shift-tolerant, "):
            chosen(names)


@pytest.mark.parametrize("max_shift", [0, 64])
def test_shifts_have_to_fit_the_images(max_shift):
    with pytest.raises(ValueError, match="max_shift must be from 1"):
        Settings(max_shift=max_shift)


class TestScript:
    @pytest.fixture
    def runs(self, script, monkeypatch):
        """What ``beyond.run`` was called with."""
        calls = []
        monkeypatch.setattr(beyond, "run", lambda *args, **options: calls.append((args, options)))
        return calls

    def test_page(self, script, root, monkeypatch, tmp_path, capsys):
        arguments = ["--table", "beyond", "--n", "2", "--rows", "alexnet-untrained"]
        arguments += ["--data-root", str(root), "--output", str(tmp_path / "out")]
        start(script, monkeypatch, *arguments)
        printed = capsys.readouterr().out
        assert (tmp_path / "out" / "summary.md").read_text(encoding="utf-8") in printed
        assert "python experiments/run_ablation.py --device cpu --table beyond --n 2" in printed
        assert json.loads((tmp_path / "out" / "settings.json").read_text())["n"] == 2

    def test_defaults(self, script, runs, monkeypatch):
        start(script, monkeypatch, "--table", "beyond")
        (((settings, output, rows), _),) = runs
        assert settings == Settings(n=300)
        assert (output, rows) == (Path("runs/ablation-beyond-sample-64px"), None)

    @pytest.mark.parametrize("finished", [True, False])
    def test_comes_last_of_all_tables(self, script, runs, monkeypatch, tmp_path, finished):
        monkeypatch.setattr(script, "report", lambda study, _: finished)
        arguments = ("--table", "all", "--seeds", "0", "--n", "9", "--output", str(tmp_path))
        start(script, monkeypatch, *arguments)
        assert [(args[0].n, args[1]) for args, _ in runs] == [(9, tmp_path / "beyond")] * finished

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["--preset", "quick"],
                "--preset is of trained tables: not allowed with --table beyond",
            ),
            (["--seeds", "0"], "--seeds is of trained tables"),
            (["--weights", f"vanilla={__file__}"], "--weights is of trained tables"),
            (["--jobs", "1"], "--jobs is of trained tables"),
            (["--shard", "0/1"], "--shard is of trained tables"),
            (["--engine", "local"], "--engine is of trained tables"),
            (["--metric", "a:b"], "--metric is of trained tables"),
            (["--rows", "vanilla"], "rows must be some of alexnet-shift-tolerant"),
            (["--max-shift", "64"], "max_shift must be from 1 and below image_size"),
            (["--n", "0"], "must be a whole number from 1"),
            (["--table", "alexnet", "--n", "9"], "--n is of --table beyond: not allowed with"),
        ],
    )
    def test_refused(self, script, runs, monkeypatch, capsys, arguments, message):
        with pytest.raises(SystemExit):
            start(script, monkeypatch, "--table", "beyond", *arguments)
        assert message in capsys.readouterr().err
        assert not runs
