"""Suite ``distance``: distances of batches, without gradients, next to the released packages."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.comparison import Metric
from robust_lpips.evaluation.precision import computing_in
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, interval_cells, option, pivot_in_order
from robust_lpips.studies.base.machine import multiply_accumulates
from robust_lpips.studies.base.timing import compare, in_turns, median_step
from robust_lpips.studies.benchmark import peers
from robust_lpips.studies.benchmark.capability import compiler_problem, peaks
from robust_lpips.studies.benchmark.suite import Measured, suite

PLAIN = "alexnet, random trunk"
# Side of the images in pixels, and pairs per batch.
CASES: dict[str, tuple[tuple[int, int], ...]] = {
    "alexnet-shift-tolerant": ((64, 50), (256, 8)),
    "vgg16-shift-tolerant": ((64, 50),),
    PLAIN: ((64, 50), (256, 8)),
}
FLOAT32 = "float32"

_TEXT = """Pairs per second in `torch.inference_mode()`, with the images on the device already. \
`ratio`: how many times as fast as the released package ours is, both in float32 and not compiled. \
Next to it ours with `torch.compile`, with bfloat16 autocast, and with both, against the same rate \
of the released package. Medians over {rounds} rounds of {steps} steps, in which all take turns; \
in brackets the lowest and the highest ratio of a round. Ours checks the values of images, except \
where it is compiled.

`difference`: largest relative difference of the two float32 distances. Both have the same \
weights: for the shift-tolerant networks the released ones, for plain AlexNet the released linear \
layers on one random trunk (its ImageNet trunk is a download). `ours (%)`, `released (%)`: share \
of the matrix multiply's rate, counted by the multiply-adds of the plain network. Merged and fast \
convolutions do fewer, so a share may exceed 100 %."""


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
            ours, builders = networks(name)
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


def networks(name: str) -> tuple[RobustLPIPS, peers.Builders]:
    """Our network of a case, and the released ones with the same weights.

    Raises:
        ImportError: if the package that the weights come from is missing.
    """
    if name in peers.STLPIPS_NETS:
        return RobustLPIPS(name), peers.shift_tolerant_peers(name)
    state = peers.lpips().state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lpips.pth")
        torch.save(state, path)
        return RobustLPIPS(BackboneConfig(), weights=path), peers.plain_peers(state)


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


SUITE = suite("distance", DistanceSettings, measure, _TEXT, "noise", _cells)
