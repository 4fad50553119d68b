"""Timing: arithmetic on clocks that are not real."""

import numpy as np
import pytest

from robust_lpips.evaluation.timing import compare, in_turns, median_step, ratios, seconds_of


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
    seconds = in_turns(sides, 3, "turns")
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
