"""The benchmark: arithmetic on clocks that are not real, the page, and what every suite gives."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from robust_lpips.studies.benchmark.timing import (
    compare,
    median_step,
    ratios,
    seconds_of,
    turn_about,
)

from robust_lpips.studies import benchmark
from robust_lpips.studies.benchmark import Result, Settings, Suite, run, write_report
from robust_lpips.studies.benchmark.rates import Peaks, network_operations, peaks
from robust_lpips.studies.tasks import multiply_accumulates
from robust_lpips.weights import release


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""

    class Clock:
        time = 0.0

        def move(self, seconds):
            self.time += seconds

    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.time)
    return clock


def test_sides_take_turns():
    calls = []

    def side(name, seconds):
        return lambda: calls.append(name) or seconds[calls.count(name) - 1]

    sides = {"a": side("a", [1, 2, 3]), "b": side("b", [4, 5, 6])}
    seconds = turn_about(sides, 3, "turns")
    assert calls == ["a", "b"] * 3
    assert {name: values.tolist() for name, values in seconds.items()} == {
        "a": [1, 2, 3],
        "b": [4, 5, 6],
    }


def test_seconds_are_the_clocks(clock):
    assert seconds_of(lambda: clock.move(3.0), "cpu") == 3.0


def test_first_steps_do_not_count(clock):
    took = iter([100.0, 100.0, 1.0, 9.0, 2.0])
    assert median_step(lambda: clock.move(next(took)), 3, "cpu") == 2.0


def test_ratios_are_of_rounds():
    ours, released = np.array([1.0, 2.0, 4.0]), np.array([4.0, 4.0, 4.0])
    assert ratios(ours, released) == {"ratio": 2.0, "ratio_low": 1.0, "ratio_high": 4.0}
    found = compare(ours, released, units=8)
    assert (found["ours"], found["released"]) == (4.0, 2.0)


class TestRates:
    def test_operations_of_the_plain_network(self):
        config = release("alexnet-shift-tolerant").config
        forward = network_operations(config, 64, 64)
        assert forward == 2 * multiply_accumulates(config, 64)
        # Backward computes gradients of features and of weights, but none of the images.
        assert 2 * forward < network_operations(config, 64, 64, backward=True) < 3 * forward

    def test_share(self):
        assert Peaks(side=8, matmul=200.0, kernel=3, convolution=400.0).share(50.0) == 25.0

    def test_peaks_of_this_machine(self, monkeypatch):
        # One call in 2 s of matrices of side 64, whose product takes 2 * 64^3 operations.
        rates = "robust_lpips.studies.benchmark.rates."
        monkeypatch.setattr(rates + "_SIDE", {"cpu": 64})
        monkeypatch.setattr(rates + "_BATCH", {"cpu": 1})
        monkeypatch.setattr(rates + "seconds_of", lambda work, device: work() is None or 2.0)
        found = peaks("cpu")
        assert found.matmul == 64**3
        assert found.kernel == 5
        assert found.convolution == 32**2 * 256**2 * 25


@pytest.fixture
def suite(monkeypatch):
    """A suite that gives the settings back."""

    def measure(settings):
        table = pd.DataFrame({"case": ["x"], "ratio": [1 / 3]})
        left_out = {"peer": "not installed"}
        given = Peaks(side=8, matmul=2e9, kernel=3, convolution=3e9)
        shown = table.assign(steps=settings.steps, rounds=settings.rounds)
        return Result(table, shown, "What was done.", {"ratio": ".2f"}, left_out, given)

    monkeypatch.setitem(benchmark.SUITES, "test", Suite(measure, Settings(steps=7, rounds=2)))
    return "test"


class TestRun:
    def test_settings_of_the_suite_unless_given(self, suite):
        shown = run(suite, rounds=4).shown
        assert shown[["steps", "rounds"]].to_numpy().tolist() == [[7, 4]]

    def test_unknown_suite(self):
        with pytest.raises(ValueError, match=r"suite must be one of distance, .*; got 'speed'"):
            run("speed")

    def test_nothing_to_measure(self, suite):
        with pytest.raises(ValueError, match="rounds must be at least 1; got 0"):
            run(suite, rounds=0)

    def test_report(self, suite, tmp_path):
        page = write_report(run(suite), suite, tmp_path / "new", "cpu", "the command")
        assert (tmp_path / "new" / "benchmark.md").read_text() == page + "\n"
        for part in (
            "# Benchmark: test",
            "`the command` on ",
            f"torch {torch.__version__}, {torch.get_num_threads()} threads.",
            "What was done.",
            "8x8 matrices by torch reached 2 GFLOP/s",
            "| x    |  0.33 |     7 |      2 |",
            "## Left out\n\n- peer: not installed",
        ):
            assert part in page
        written = pd.read_csv(tmp_path / "new" / "benchmark.csv")
        assert written["ratio"].item() == 1 / 3


def test_command_line(suite, monkeypatch, tmp_path, capsys):
    script = Path(__file__).parents[3] / "experiments" / "benchmark.py"
    arguments = ["--suite", suite, "--device", "cpu", "--rounds", "5", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    assert "|     7 |      5 |" in capsys.readouterr().out
    assert (
        "`python experiments/benchmark.py --suite test" in (tmp_path / "benchmark.md").read_text()
    )
