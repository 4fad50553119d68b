"""Suite distance: the released packages compute what ours does, and who is left out is said."""

import re
from functools import partial

import pytest
import torch

from robust_lpips.evaluation.capability import Peaks
from robust_lpips.studies.base import Plan, runner
from robust_lpips.studies.benchmark import SUITES, distance
from robust_lpips.studies.benchmark.distance import DistanceSettings, modes, relative_difference


@pytest.fixture
def quick(monkeypatch, quick_build):
    """No compiler, no peaks, one small case a network, no time spent on classifiers."""
    monkeypatch.setattr(distance, "compiler_problem", lambda device: "no C++ compiler")
    monkeypatch.setattr(distance, "peaks", lambda device: Peaks(8, 1e12, 3, 1e12))
    cases = {name: ((64, 2),) for name in distance.CASES if "vgg" not in name}
    monkeypatch.setattr(distance, "CASES", cases)
    with quick_build():
        yield partial(distance.measure, DistanceSettings(steps=1, rounds=2), "cpu")


def test_all_compute_the_same(quick):
    pytest.importorskip("lpips")
    result = quick()
    table = result.table
    assert {"stlpips-pytorch", "lpips"} <= {peer.split()[0] for peer in table["peer"]}
    plain = table[table["mode"] == "float32"].set_index("peer")["difference"]
    # torchmetrics adds another small number before it divides.
    exact = [peer for peer in plain.index if not peer.startswith("torchmetrics")]
    assert plain[exact].max() < 1e-5
    assert plain.max() < 1e-3
    halves = table[table["mode"] == "bfloat16"]
    assert halves["difference"].between(1e-6, 0.1).all()
    assert (table["ratio_low"] <= table["ratio"]).all()
    assert (table["ratio"] <= table["ratio_high"]).all()


def test_page_has_one_row_per_case_and_package(quick, tmp_path):
    page = runner.run(SUITES["distance"], Plan(DistanceSettings(steps=1, rounds=1)), tmp_path)
    rows = [line for line in page.splitlines() if line.startswith("| alexnet-shift-tolerant")]
    packages = {row.split("|")[2].split()[0] for row in rows}
    assert len(rows) == len(packages)
    # Ratios of float32 and of bfloat16.
    assert all(len(re.findall(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", row)) == 2 for row in rows)


def test_who_is_left_out_and_why(quick, missing):
    missing("lpips")
    missing("pyiqa")
    result = quick()
    assert result.unavailable["torch.compile"] == "no C++ compiler"
    assert result.unavailable["alexnet, random trunk"] == "No module named 'lpips'"
    assert "No module named 'pyiqa'" in result.unavailable["pyiqa, alexnet-shift-tolerant"]
    assert "download" in result.unavailable["pyiqa, LPIPS"]
    assert {peer.split()[0] for peer in result.table["peer"]} == {"stlpips-pytorch"}


def test_modes_leave_the_metric_alone(metric):
    pair = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    names = list(modes(metric, pair, compiled=True))
    assert names == ["float32", "compiled", "bfloat16", "bfloat16 compiled"]
    assert list(modes(metric, pair, compiled=False)) == ["float32", "bfloat16"]
    assert modes(metric, pair, compiled=False)["float32"] is metric


def test_relative_difference():
    ours, released = torch.tensor([1.0, 2.2]), torch.tensor([1.01, 2.0])
    assert relative_difference(ours, released) == pytest.approx(0.1)
