"""Suite ``distance``: distances of batches, without gradients, next to the released packages."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import Metric, peers
from robust_lpips.evaluation.capability import compiler_problem, peaks
from robust_lpips.evaluation.precision import computing_in
from robust_lpips.evaluation.timing import compare, in_turns, median_step
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, interval_cells, option, pivot_in_order
from robust_lpips.studies.benchmark.suite import Measured, suite

# Side of the images in pixels, and pairs per batch.
CASES: dict[str, tuple[tuple[int, int], ...]] = {
    "alexnet-shift-tolerant": ((64, 50), (256, 8)),
    "vgg16-shift-tolerant": ((64, 50),),
    peers.PLAIN: ((64, 50), (256, 8)),
}
FLOAT32 = "float32"


@dataclass(frozen=True)
class DistanceSettings(Settings):
    """Settings of suite ``distance``."""

    steps: int = option(3, "timed steps per round", least=1)
    rounds: int = option(5, "turns of each side", least=1)


def measure(settings: DistanceSettings, device: str) -> Measured:
    """One row per case, released package and mode of ours.

    Modes are ``float32``, which is what the package does by itself, ``compiled``, ``bfloat16``
    and ``bfloat16 compiled``; the released package always computes in float32.
    """
    problem = compiler_problem(device)
    unavailable = {} if problem is None else {"torch.compile": problem}
    fastest, rows = peaks(device), []
    for name, sizes in CASES.items():
        try:
            ours, builders = peers.networks(name)
        except ImportError as error:
            unavailable[name] = str(error)
            continue
        released, missing = peers.build(builders, device)
        unavailable |= {f"{peer}, {name}": why for peer, why in missing.items()}
        for size, batch in sizes:
            of_pair = 2 * multiply_accumulates(ours.config, size)
            timed = _rows(ours.to(device), released, (size, batch), settings, problem is None)
            rows += [{"case": name, **row, **fastest.shares(row, of_pair)} for row in timed]
    return Measured(pd.DataFrame(rows), unavailable | peers.NEEDS_DOWNLOAD, fastest)


def modes(metric: RobustLPIPS, pair: Tensor, *, compiled: bool) -> dict[str, Metric]:
    """Ways to compute a metric, by name.

    Args:
        metric: the metric; it is left as it is.
        pair: (2, N, 3, H, W) images of the size in question.
        compiled: also with ``torch.compile``.
    """
    found: dict[str, Metric] = {FLOAT32: metric}
    if compiled:
        # Functions compiled for the case before count towards the limit of one function.
        torch.compiler.reset()
        fused = copy.deepcopy(metric).fuse()
        fused(*pair)  # so that fast convolutions are prepared
        found["compiled"] = torch.compile(fused)
    halves = {
        "bfloat16" if mode == FLOAT32 else f"bfloat16 {mode}": partial(_in_bfloat16, call)
        for mode, call in found.items()
    }
    return found | halves


def relative_difference(ours: Tensor, released: Tensor) -> float:
    """Largest difference of a batch, relative to ``released``."""
    return float(((ours - released).abs() / released.abs()).max())


@torch.inference_mode()
def _rows(
    metric: RobustLPIPS,
    released: dict[str, nn.Module],
    case: tuple[int, int],
    settings: DistanceSettings,
    compiled: bool,
) -> Iterator[dict[str, Any]]:
    """One row per released package and mode, without the shares."""
    (size, batch), device = case, next(metric.parameters()).device
    # Noise: the time of a call does not depend on what the images show.
    generator = torch.Generator().manual_seed(0)
    pair = (torch.rand(2, batch, 3, size, size, generator=generator) * 2 - 1).to(device)
    ours = modes(metric, pair, compiled=compiled)
    calls = ours | released
    distances = {name: call(*pair) for name, call in calls.items()}
    sides = {
        name: partial(median_step, partial(call, *pair), settings.steps, device)
        for name, call in calls.items()
    }
    seconds = in_turns(sides, settings.rounds, f"{size} px, {metric.config.arch}")
    for peer in released:
        for mode in ours:
            yield {
                "image_size": size,
                "batch": batch,
                "peer": peer,
                "mode": mode,
                "unit": "pair",
                **compare(seconds[mode], seconds[peer], batch),
                "difference": relative_difference(distances[mode], distances[peer]),
            }


def _in_bfloat16(metric: Metric, *images: Tensor) -> Tensor:
    with computing_in("bfloat16", images[0].device):
        return metric(*images)


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """One row per case and released package: float32, then the ratios of the other modes."""
    size, batch = table["image_size"].astype(str), table["batch"].astype(str)
    table = table.assign(case=table["case"] + ", " + size + " px, batch " + batch)
    table["row"] = table["case"] + table["peer"]
    table["cell"] = interval_cells(table, "ratio", digits=2)
    by_mode = pivot_in_order(table, "row", "mode", "cell").drop(columns=FLOAT32)
    return table[table["mode"] == FLOAT32].drop(columns="mode").merge(by_mode, on="row")


SUITE = suite("distance", DistanceSettings, measure, "noise", _cells)
