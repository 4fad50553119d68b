"""Suites as studies: measured anew by every run, written and recorded."""

import csv
import json
from dataclasses import dataclass

import pandas as pd
import pytest

from robust_lpips import cli
from robust_lpips.evaluation.capability import Peaks
from robust_lpips.studies.base import Plan, Settings, option, runner
from robust_lpips.studies.benchmark import SUITES
from robust_lpips.studies.benchmark.suite import SCORES, Measured, SuiteTask, mean_scores, suite

MEASURED = []


@dataclass(frozen=True)
class ToySettings(Settings):
    """Settings of the page of suite ``import``."""

    rounds: int = option(2, "turns", least=1)


def measure(settings, device):
    MEASURED.append(settings.rounds)
    row = {"mode": "float32", "ours": 3.0, "released": 1.0}
    bounds = {"ratio": 1 / 3, "ratio_low": 0.25, "ratio_high": len(MEASURED)}
    rows = [row | bounds | {"case": case, "triplets": n} for case, n in (("x", 3), ("y", None))]
    table = pd.DataFrame(rows).astype({"triplets": "Int64"})
    peaks = Peaks(side=8, matmul=2e9, kernel=3, convolution=3e9)
    return Measured(table, {"peer": "not installed"}, peaks)


def without_packages(settings, device):
    raise ModuleNotFoundError("No module named 'peer'", name="peer")


def without_memory(settings, device):
    raise NotImplementedError("needs another system")


def nothing(settings, device):
    return Measured(pd.DataFrame(), {"peer": "not installed"})


@pytest.fixture
def toy():
    MEASURED.clear()
    return suite("import", ToySettings, measure, "noise", first="the first")


def run(study, output):
    return runner.run(study, Plan(study.settings()), output)


def test_every_run_measures_anew(toy, tmp_path):
    run(toy, tmp_path)
    page = run(toy, tmp_path)
    assert MEASURED == [2, 2]
    assert "0.33 [0.25, 2.00]" in page


def test_page(toy, tmp_path):
    page = run(toy, tmp_path)
    assert (tmp_path / "benchmark.md").read_text() == page
    for part in ("2 rounds", "8x8 matrices", "2 GFLOP/s", "- peer: not installed"):
        assert part in page
    assert not list(tmp_path.glob("*.png"))


def test_table_in_full_precision(toy, tmp_path):
    run(toy, tmp_path)
    with (tmp_path / "benchmark.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["ratio"]) == 1 / 3
    assert (first["triplets"], second["triplets"]) == ("3", "")


def test_ratios_are_recorded(toy, tmp_path):
    run(toy, tmp_path)
    first, _ = (tmp_path / "records.jsonl").read_text().splitlines()
    record = json.loads(first)
    assert record["benchmark"] == "benchmark-import"
    assert record["metric"] == "x, mode float32"
    assert record["scores"] == {"ratio": [1 / 3, 0.25, 1.0]}
    assert record["settings"]["machine"]


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        (without_packages, "No module named 'peer'"),
        (without_memory, "needs another system"),
        (nothing, "peer: not"),
    ],
)
def test_nothing_to_compare_with(measure, reason, tmp_path):
    study = suite("import", ToySettings, measure, "noise")
    with pytest.raises(ValueError, match=reason):
        run(study, tmp_path)


def test_mean_scores():
    views = ["full", "shift-0", "shift-1", "shift-2", "shift-3"]
    rows = [{"subset": "s", "sample": name, "view": view} for name in "abc" for view in views]
    table = pd.DataFrame(rows).assign(d0=0.2, d1=0.1, judge=1.0)
    table.loc[2, "d0"] = 0.09
    assert mean_scores(table).to_dict() == pytest.approx(
        {"two_afc": 100.0, "rrf_1": 100 / 3, "rrf_2": 0.0, "rrf_3": 0.0}
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("distance", {"steps", "rounds"}),
        ("protocol", {"n", "rounds"}),
        ("precision", {"n"}),
        ("training", {"steps", "rounds"}),
        ("memory", {"n"}),
        ("import", {"rounds"}),
    ],
)
def test_suites_have_their_own_options(name, options):
    assert set(SUITES[name].settings().claim()) == options
    assert SUITES[name].output_folder(SUITES[name].settings()).name == f"benchmark-{name}"


def test_command_line(toy, tmp_path, capsys):
    arguments = ["--suite", "toy", "--rounds", "5", "--output", str(tmp_path), "--device", "cpu"]
    cli.main_of({"other": toy, "toy": toy}, "--suite", "", arguments=arguments)
    assert "5 rounds" in capsys.readouterr().out


def test_options_of_other_suites_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main_of(SUITES, "--suite", "", arguments=["--suite", "import", "--steps", "3"])
    assert "--steps" in capsys.readouterr().err


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_a_page(name, tmp_path, monkeypatch):
    """Its words are there, and their fields have values."""
    row = {"case": "x", "mode": "float32", "image_size": 64, "batch": 50, "peer": "y 1.0"}
    row |= dict.fromkeys(("ratio", "ratio_low", "ratio_high"), 1.0)
    row |= {f"{side}_{score}": 1.0 for side in ("ours", "released") for score in SCORES}
    record = {"rows": [row], "unavailable": {}, "peaks": None, "threads": 1}
    monkeypatch.setattr(SuiteTask, "do", lambda self, stage, output, tick: record)
    page = run(SUITES[name], tmp_path)
    assert page.startswith(f"# Benchmark: {name}\n")
    assert "| x" in page
