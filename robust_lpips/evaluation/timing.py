"""Timing of sides that take turns, and the ratios between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from tqdm.auto import tqdm

# The first steps of a round are slower: memory is taken, kernels are chosen.
WARM_UP = 2


def now(device: str) -> float:
    """The time, in seconds, when everything that was asked of ``device`` is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Seconds that ``work()`` takes."""
    start = now(device)
    work()
    return now(device) - start


def median_step(step: Callable[[], object], steps: int, device: str) -> float:
    """Seconds of one ``step()``: the median of ``steps`` calls, after some that do not count."""
    seconds = [seconds_of(step, device) for _ in range(WARM_UP + steps)]
    return float(np.median(seconds[WARM_UP:]))


def in_turns(
    sides: Mapping[str, Callable[[], float]], rounds: int, description: str
) -> dict[str, np.ndarray]:
    """Let every side take its turn, in their order, ``rounds`` times.

    Whatever slows the machine for a while then slows all of them.

    Args:
        sides: by name a function that does a side's share of a round and returns its seconds.
        rounds: number of rounds, at least 1.
        description: text of the progress bar.

    Returns:
        The (rounds,) seconds of each side.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with tqdm(total=rounds * len(sides), desc=description, unit="turn") as bar:
        for _ in range(rounds):
            for name, side in sides.items():
                bar.set_postfix_str(name)
                seconds[name].append(side())
                bar.update()
    return {name: np.array(values) for name, values in seconds.items()}


def ratios(ours: np.ndarray, released: np.ndarray) -> dict[str, float]:
    """Speed of ours relative to the released package: median over the rounds, and extremes.

    Args:
        ours, released: (rounds,) seconds; those of one round are compared with each other.

    Returns:
        ``ratio, ratio_low, ratio_high``.
    """
    of_rounds = released / ours
    return {
        "ratio": float(np.median(of_rounds)),
        "ratio_low": float(of_rounds.min()),
        "ratio_high": float(of_rounds.max()),
    }


def compare(ours: np.ndarray, released: np.ndarray, units: int) -> dict[str, float]:
    """``ours`` and ``released`` in units per second, medians over the rounds, and :func:`ratios`.

    Args:
        ours, released: (rounds,) seconds in which each works off ``units`` units.
    """
    rates = {
        "ours": float(units / np.median(ours)),
        "released": float(units / np.median(released)),
    }
    return rates | ratios(ours, released)
