"""What a suite is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from robust_lpips.studies.benchmark.rates import Peaks


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where.

    Attributes:
        device: where to compute.
        steps: timed steps of each side in a round; of suites that time steps.
        rounds: how often the sides take turns.
        triplets: how many to measure; of suites that measure triplets.
    """

    device: str = "cpu"
    steps: int = 10
    rounds: int = 5
    triplets: int = 500


@dataclass(frozen=True)
class Result:
    """What a suite measured.

    Attributes:
        table: tidy, in full precision; as written to ``benchmark.csv``.
        shown: the same as it is printed.
        text: what was done, and what the columns are.
        formats: of the columns of ``shown`` that are numbers.
        left_out: what could not be measured, by name, with the reason.
        peaks: what the shares in ``table`` are of, where it has any.
    """

    table: pd.DataFrame
    shown: pd.DataFrame
    text: str
    formats: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    peaks: Peaks | None = None


@dataclass(frozen=True)
class Suite:
    """A benchmark, and the settings that it runs with unless others are given."""

    measure: Callable[[Settings], Result]
    defaults: Settings
