"""Suite ``precision``: effect of merging, compiling and lower precision on the numbers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.data import packed, sample_dataset
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.evaluation.capability import compiler_problem
from robust_lpips.evaluation.precision import Precision
from robust_lpips.evaluation.verdicts import differing_verdicts, largest_difference
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.benchmark.suite import IMAGE_SIZE, MAX_SHIFT, Measured, mean_scores, suite

NET = "alexnet-shift-tolerant"


@dataclass(frozen=True)
class PrecisionSettings(Settings):
    """Settings of suite ``precision``."""

    n: int = option(300, "triplets of the sample set", least=1)


class Mode(NamedTuple):
    """A way to compute."""

    fused: bool
    precision: Precision
    compiled: bool

    def __str__(self) -> str:
        words = [self.precision, "merged" * self.fused, "compiled" * self.compiled]
        return ", ".join(filter(None, words))


def modes(device: str, *, compiled: bool) -> list[Mode]:
    """Every way that ``device`` has, beginning with layers by themselves."""
    # Float16 is for GPUs: CPUs seldom multiply it, and convert it back and forth.
    precisions = ["float32", "bfloat16"]
    if torch.device(device).type == "cuda":
        precisions = ["float32", "tf32", "bfloat16", "float16"]
    both = (False, True) if compiled else (False,)
    merged = [Mode(True, precision, each) for precision in precisions for each in both]
    return [Mode(False, "float32", False), *merged]


def measure(settings: PrecisionSettings, device: str) -> Measured:
    """One row per mode: scores, and differences from layers by themselves."""
    problem = compiler_problem(device)
    dataset = packed(sample_dataset(n=settings.n, image_size=IMAGE_SIZE))
    metric = RobustLPIPS(NET).to(device)
    first, *others = modes(device, compiled=problem is None)
    plain = _measured(metric, first, dataset)
    rows = [row(first, plain, plain)]
    rows += [row(mode, _measured(metric, mode, dataset), plain) for mode in others]
    return Measured(pd.DataFrame(rows), {} if problem is None else {"compiled": problem})


def row(mode: Mode, table: pd.DataFrame, plain: pd.DataFrame) -> dict[str, object]:
    """Scores of the distances ``table``, and how far they are from ``plain``."""
    return {
        "case": NET,
        "mode": str(mode),
        **mean_scores(table),
        "difference": largest_difference(table, plain),
        "verdicts_differ": differing_verdicts(table, plain),
    }


def _measured(metric: RobustLPIPS, mode: Mode, dataset: Dataset) -> pd.DataFrame:
    torch.compiler.reset()
    metric = copy.copy(metric)
    return measure_distances(
        metric if mode.fused else metric.unfuse(),
        dataset,
        MAX_SHIFT,
        precision=mode.precision,
        compile=mode.compiled,
    )


SUITE = suite("precision", PrecisionSettings, measure, "sample set val")
