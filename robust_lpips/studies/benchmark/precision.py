"""Suite ``precision``: what merging, compiling and lower precision do to the numbers."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.data import packed, sample_dataset
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.evaluation import summarize
from robust_lpips.evaluation.precision import Precision
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.benchmark.distance import compiler_problem
from robust_lpips.studies.benchmark.protocol import differing_verdicts
from robust_lpips.studies.benchmark.suite import Result, Settings

NETS = ("alexnet-shift-tolerant",)
IMAGE_SIZE = 64
MAX_SHIFT = 3

_TEXT = """{triplets} triplets of the sample set at {size}x{size}, largest shift {shift} px, by \
`measure(..., precision=, compile=)`. Nobody judged these patches: agreement is with the released \
VGG-16 metric, not with people, in percent as r_rf. The first line of a network is every layer by \
itself in float32; `difference`: largest difference of a distance from its, over the median \
distance; `verdicts that differ`: of its {verdicts} verdicts d0 < d1 at {views} views."""


class Mode(NamedTuple):
    """A way to compute."""

    fused: bool
    precision: Precision
    compiled: bool

    def __str__(self) -> str:
        parts = (
            self.precision,
            "merged" if self.fused else "",
            "compiled" if self.compiled else "",
        )
        return ", ".join(filter(None, parts))


def modes(device: str, *, compiled: bool) -> list[Mode]:
    """Every way that ``device`` has, beginning with layers by themselves."""
    # Float16 is for GPUs: CPUs seldom multiply it, and convert it back and forth.
    precisions = ["float32", "bfloat16"]
    if torch.device(device).type == "cuda":
        precisions = ["float32", "tf32", "bfloat16", "float16"]
    both = (False, True) if compiled else (False,)
    merged = [Mode(True, precision, each) for precision in precisions for each in both]
    return [Mode(False, "float32", False), *merged]


def measure(settings: Settings) -> Result:
    """A row a network and mode: scores, and what differs from layers by themselves."""
    problem = compiler_problem(settings.device)
    dataset = packed(sample_dataset(n=settings.triplets, image_size=IMAGE_SIZE))
    rows = []
    for name in NETS:
        metric = RobustLPIPS(name).to(settings.device)
        first, *others = modes(settings.device, compiled=problem is None)
        plain = _measured(metric, first, dataset)
        rows.append({"case": name} | row(first, plain, plain))
        rows += [
            {"case": name} | row(mode, _measured(metric, mode, dataset), plain) for mode in others
        ]
    table = pd.DataFrame(rows)
    text = _TEXT.format(
        triplets=len(dataset),
        size=IMAGE_SIZE,
        shift=MAX_SHIFT,
        verdicts=len(plain),
        views=MAX_SHIFT + 2,
    )
    names = {"two_afc": "agreement", "verdicts_differ": "verdicts that differ"}
    names |= {f"rrf_{shift}": f"r_rf {shift}" for shift in range(1, MAX_SHIFT + 1)}
    formats = dict.fromkeys([name for name in names.values() if "verdicts" not in name], ".2f")
    left_out = {} if problem is None else {"compiled": problem}
    return Result(
        table, table.rename(columns=names), text, formats | {"difference": ".1e"}, left_out
    )


def row(mode: Mode, table: pd.DataFrame, plain: pd.DataFrame) -> dict[str, object]:
    """Scores of ``table``, and how far it is from ``plain``."""
    mean = summarize(table, n_boot=0).iloc[-1]
    scores = ["two_afc", *(f"rrf_{shift}" for shift in range(1, MAX_SHIFT + 1))]
    distances = ["d0", "d1"]
    # Over the median: of two all but equal patches the distance may be a millionth of it.
    typical = float(plain[distances].stack().median())
    difference = (table[distances] - plain[distances]).abs() / typical
    return {
        "mode": str(mode),
        **{name: float(mean[name]) for name in scores},
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
