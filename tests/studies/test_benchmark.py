"""The benchmark: what it computes from seconds, and that both sides do the same work."""

import pytest
import torch

from robust_lpips.studies import benchmark
from robust_lpips.studies.benchmark import Case, run, training_cases, write_report


@pytest.fixture
def suite(monkeypatch):
    """One case: ours takes 1 s a step and the released package 2 s, but for the first steps."""

    def seconds(each):
        return lambda steps: [100.0] * 2 + [each] * (steps - 2)

    case = Case("case", ours=seconds(1.0), peer=seconds(2.0), per_step=50, unit="triplet")
    monkeypatch.setitem(benchmark.SUITES, "test", lambda device: [case])


def test_rates_and_ratio(suite, tmp_path):
    table = run("test", "cpu", steps=3, rounds=2)
    (row,) = table.to_dict("records")
    assert (row["ours"], row["released"]) == (50.0, 25.0)
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (2.0, 2.0, 2.0)
    page = write_report(table, "test", tmp_path / "new", "cpu", "the command")
    assert "2.00 [2.00, 2.00]" in page
    assert (tmp_path / "new" / "benchmark.csv").is_file()


def test_training_steps_of_both_sides(monkeypatch):
    monkeypatch.setattr(benchmark, "BATCH", 2)
    torch.manual_seed(0)
    for case in training_cases("cpu"):
        for side in (case.ours, case.peer):
            seconds = side(2)
            assert len(seconds) == 2
            assert min(seconds) > 0
