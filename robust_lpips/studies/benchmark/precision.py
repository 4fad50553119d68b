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
from robust_lpips.evaluation.precision import Precision
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.base.source import METRIC
from robust_lpips.studies.benchmark.capability import compiler_problem
from robust_lpips.studies.benchmark.suite import Measured, suite
from robust_lpips.studies.benchmark.verdicts import (
    MAX_SHIFT,
    differing_verdicts,
    mean_scores,
)

NETS = ("alexnet-shift-tolerant",)
IMAGE_SIZE = 64

_TEXT = f"""{{n}} triplets of the sample set at {IMAGE_SIZE}x{IMAGE_SIZE} px, largest shift \
{MAX_SHIFT} px, by `measure(..., precision=, compile=)`. {METRIC} Both are in percent. The first \
row of a network is every layer by itself in float32. `difference`: largest difference of a \
distance from that row's, over the median distance. `verdicts that differ`: number of verdicts \
d0 < d1 that are not that row's, of the {MAX_SHIFT + 2} views of every triplet."""


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
    """One row per network and mode: scores, and differences from layers by themselves."""
    problem = compiler_problem(device)
    dataset = packed(sample_dataset(n=settings.n, image_size=IMAGE_SIZE))
    rows = []
    for name in NETS:
        metric = RobustLPIPS(name).to(device)
        first, *others = modes(device, compiled=problem is None)
        plain = _measured(metric, first, dataset)
        rows.append({"case": name, **row(first, plain, plain)})
        rows += [
            {"case": name, **row(mode, _measured(metric, mode, dataset), plain)} for mode in others
        ]
    return Measured(pd.DataFrame(rows), {} if problem is None else {"compiled": problem})


def row(mode: Mode, table: pd.DataFrame, plain: pd.DataFrame) -> dict[str, object]:
    """Scores of the distances ``table``, and how far they are from ``plain``."""
    distances = ["d0", "d1"]
    # Over the median: the distance of two nearly equal patches may be a millionth of it.
    typical = float(plain[distances].stack().median())
    difference = (table[distances] - plain[distances]).abs() / typical
    return {
        "mode": str(mode),
        **mean_scores(table),
        "difference": float(difference.max(axis=None)),
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


SUITE = suite("precision", PrecisionSettings, measure, _TEXT, "sample set val")
