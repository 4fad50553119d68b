"""Suite ``import``: time to import, in fresh interpreters, next to the released packages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from robust_lpips.evaluation.timing import in_turns, ratios, seconds_of
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.benchmark.suite import Measured, suite

STATEMENTS = (
    "import torch",
    "import robust_lpips",
    "from robust_lpips import RobustLPIPS",
    "import stlpips_pytorch.stlpips",
    "import lpips",
    "import torchmetrics",
)


@dataclass(frozen=True)
class ImportSettings(Settings):
    """Settings of suite ``import``."""

    rounds: int = option(7, "turns of each statement", least=1)


def measure(settings: ImportSettings, device: str) -> Measured:
    """One row per statement: ``seconds``, median over rounds, and ``ratio`` to the first one's."""
    sides, unavailable = {}, {}
    for statement in STATEMENTS:
        side = partial(_seconds, statement)
        try:
            side()  # leaves its files in the system's cache
            sides[statement] = side
        except subprocess.CalledProcessError as error:
            unavailable[statement] = error.stderr.strip().rpartition("\n")[2]
    seconds = in_turns(sides, settings.rounds, "import")
    rows = [
        # A cost: the ratio is how many times as long as the first one it takes.
        {"case": name, "seconds": np.median(values), **ratios(seconds[STATEMENTS[0]], values)}
        for name, values in seconds.items()
    ]
    return Measured(pd.DataFrame(rows), unavailable)


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", statement]
    run = partial(subprocess.run, command, check=True, capture_output=True, text=True)
    return seconds_of(run, "cpu")


SUITE = suite("import", ImportSettings, measure, "statements", first=STATEMENTS[0])
