"""Suites as studies: measured anew by every run, written and recorded."""

import csv
import json
from dataclasses import dataclass

import pandas as pd
import pytest

from robust_lpips import cli
from robust_lpips.studies.base import Plan, Settings, option, runner
from robust_lpips.studies.benchmark import SUITES
from robust_lpips.studies.benchmark.capability import Peaks
from robust_lpips.studies.benchmark.suite import Measured, suite

MEASURED = []


@dataclass(frozen=True)
class ToySettings(Settings):
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


def nothing(settings, device):
    return Measured(pd.DataFrame(), {"peer": "not installed"})


@pytest.fixture
def toy():
    MEASURED.clear()
    return suite("toy", ToySettings, measure, "Over {rounds} rounds.", "noise")


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
    for part in ("Over 2 rounds.", "8x8 matrices", "2 GFLOP/s", "- peer: not installed"):
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
    assert record["benchmark"] == "benchmark-toy"
    assert record["metric"] == "x, mode float32"
    assert record["scores"] == {"ratio": [1 / 3, 0.25, 1.0]}
    assert record["settings"]["machine"]


@pytest.mark.parametrize(
    ("measure", "reason"), [(without_packages, "No module named 'peer'"), (nothing, "peer: not")]
)
def test_nothing_to_compare_with(measure, reason, tmp_path):
    study = suite("toy", ToySettings, measure, "", "noise")
    with pytest.raises(ValueError, match=reason):
        run(study, tmp_path)


def test_shares_are_of_the_matrix_multiply():
    peaks = Peaks(side=8, matmul=200.0, kernel=3, convolution=400.0)
    shares = peaks.shares({"ours": 5.0, "released": 2.5}, multiply_accumulates=5)
    assert shares == {"ours_share": 25.0, "released_share": 12.5}


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
    assert "Over 5 rounds." in capsys.readouterr().out


def test_options_of_other_suites_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main_of(SUITES, "--suite", "", arguments=["--suite", "import", "--steps", "3"])
    assert "--steps" in capsys.readouterr().err
