"""Speed and memory beside the released packages: the same work, in the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from robust_lpips.evaluation.precision import computing_in
from robust_lpips.studies.benchmark import distance, imports, memory, precision, protocol, training
from robust_lpips.studies.benchmark.report import page
from robust_lpips.studies.benchmark.suite import Result, Settings, Suite
from robust_lpips.tables import write_csv, write_text

SUITES: dict[str, Suite] = {
    "distance": Suite(distance.measure, Settings(steps=3)),
    "protocol": Suite(protocol.measure, Settings(triplets=500, rounds=3)),
    "precision": Suite(precision.measure, Settings(triplets=300)),
    "training": Suite(training.measure, Settings(steps=10)),
    "memory": Suite(memory.measure, Settings(triplets=20_000)),
    "import": Suite(imports.measure, Settings(rounds=7)),
}


def run(
    suite: str,
    device: str = "cpu",
    *,
    steps: int | None = None,
    rounds: int | None = None,
    triplets: int | None = None,
) -> Result:
    """Measure a suite; :class:`Settings` says what the arguments are. None: the suite's own.

    Raises:
        ValueError: unknown suite, or numbers that it cannot do with.
    """
    if suite not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}; got {suite!r}")
    numbers = {"steps": steps, "rounds": rounds, "triplets": triplets}
    given = {name: value for name, value in numbers.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    chosen = SUITES[suite]
    # Strict on both sides: by itself torch lets convolutions on GPUs round to TF32.
    with computing_in("float32", torch.device(device)):
        return chosen.measure(replace(chosen.defaults, device=device, **given))


def write_report(result: Result, suite: str, output: Path, device: str, command: str) -> str:
    """Write ``benchmark.csv`` and ``benchmark.md`` into ``output``; return the page."""
    text = page(result, suite, device, command)
    write_csv(result.table, output / "benchmark.csv")
    write_text(output / "benchmark.md", text + "\n")
    return text
