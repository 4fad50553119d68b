"""Suite ``import``: what importing costs, in fresh interpreters, beside the released packages."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd

from robust_lpips.studies.benchmark.suite import Result, Settings
from robust_lpips.studies.benchmark.timing import ratios, seconds_of, turn_about
from robust_lpips.tables import with_interval

STATEMENTS = (
    "import torch",
    "import robust_lpips",
    "from robust_lpips import RobustLPIPS",
    "import stlpips_pytorch.stlpips",
    "import lpips",
    "import torchmetrics",
)
BASELINE = STATEMENTS[0]

_TEXT = """Seconds of `python -c STATEMENT`, start and end of the interpreter included, with \
files in the system's cache. `times torch`: over those of `{baseline}` in the same round, the \
median over {rounds} rounds, in which all take turns; in brackets the extremes."""


def measure(settings: Settings) -> Result:
    """A row a statement: ``seconds``, median over rounds, and ``ratio`` over torch's own."""
    found, left_out = _importable(STATEMENTS)
    sides = {statement: partial(_seconds, statement) for statement in found}
    seconds = turn_about(sides, settings.rounds, "import")
    rows = [
        # A cost: how many times as long as torch's it takes.
        {"case": name, "seconds": np.median(values), **ratios(seconds[BASELINE], values)}
        for name, values in seconds.items()
    ]
    table = pd.DataFrame(rows)
    cells = table[["ratio", "ratio_low", "ratio_high"]].to_numpy()
    shown = table[["case", "seconds"]].assign(
        **{"times torch": [with_interval(*values, digits=2) for values in cells]}
    )
    text = _TEXT.format(baseline=BASELINE, rounds=settings.rounds)
    return Result(table, shown, text, {"seconds": ".2f"}, left_out)


def _importable(statements: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Those that work, run once and so in the system's cache; and why the others do not."""
    found, left_out = [], {}
    for statement in statements:
        done = subprocess.run(_command(statement), capture_output=True, text=True)
        if done.returncode == 0:
            found.append(statement)
        else:
            left_out[statement] = done.stderr.strip().rpartition("\n")[2]
    return found, left_out


def _seconds(statement: str) -> float:
    run = partial(subprocess.run, _command(statement), check=True, capture_output=True)
    return seconds_of(run, "cpu")


def _command(statement: str) -> list[str]:
    return [sys.executable, "-c", statement]
