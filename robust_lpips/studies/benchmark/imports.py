"""Suite ``import``: time to import, in fresh interpreters, next to the released packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.base.timing import in_turns, ratios, seconds_of
from robust_lpips.studies.benchmark.suite import Measured, suite

STATEMENTS = (
    "import torch",
    "import robust_lpips",
    "from robust_lpips import RobustLPIPS",
    "import stlpips_pytorch.stlpips",
    "import lpips",
    "import torchmetrics",
)

_TEXT = f"""Seconds of `python -c STATEMENT`, start and end of the interpreter included, with \
files in the system's cache. `ratio`: to the seconds of `{STATEMENTS[0]}` in the same \
round, the median over {{rounds}} rounds, in which all take turns; in brackets the extremes."""


@dataclass(frozen=True)
class ImportSettings(Settings):
    """Settings of suite ``import``."""

    rounds: int = option(7, "turns of each statement", least=1)


def measure(settings: ImportSettings, device: str) -> Measured:
    """One row per statement: ``seconds``, median over rounds, and ``ratio`` to the first one's."""
    found, unavailable = _importable(STATEMENTS)
    sides = {statement: partial(_seconds, statement) for statement in found}
    seconds = in_turns(sides, settings.rounds, "import")
    rows = [
        # A cost: the ratio is how many times as long as the first one it takes.
        {"case": name, "seconds": np.median(values), **ratios(seconds[STATEMENTS[0]], values)}
        for name, values in seconds.items()
    ]
    return Measured(pd.DataFrame(rows), unavailable)


def _importable(statements: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Statements that work, run once and so in the system's cache; and why the others do not."""
    found, unavailable = [], {}
    for statement in statements:
        done = subprocess.run(_command(statement), capture_output=True, text=True)
        if done.returncode == 0:
            found.append(statement)
        else:
            unavailable[statement] = done.stderr.strip().rpartition("\n")[2]
    return found, unavailable


def _seconds(statement: str) -> float:
    run = partial(subprocess.run, _command(statement), check=True, capture_output=True)
    return seconds_of(run, "cpu")


def _command(statement: str) -> list[str]:
    return [sys.executable, "-c", statement]


SUITE = suite("import", ImportSettings, measure, _TEXT, "statements")
