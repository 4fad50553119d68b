"""Suite ``distance``: distances of batches, without gradients, beside the released packages."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.evaluation.precision import computing_in
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.benchmark.peers import (
    NEEDS_DOWNLOAD,
    STLPIPS_NETS,
    Builders,
    Metric,
    build,
    lpips,
    plain_peers,
    shift_tolerant_peers,
)
from robust_lpips.studies.benchmark.rates import network_operations, peaks
from robust_lpips.studies.benchmark.suite import Result, Settings
from robust_lpips.studies.benchmark.timing import compare, median_step, turn_about
from robust_lpips.tables import with_interval

PLAIN = "alexnet, random trunk"
# Side of the images in pixels, and pairs a batch.
CASES: dict[str, tuple[tuple[int, int], ...]] = {
    "alexnet-shift-tolerant": ((64, 50), (256, 8)),
    "vgg16-shift-tolerant": ((64, 50),),
    PLAIN: ((64, 50), (256, 8)),
}
FLOAT32 = "float32"

_TEXT = """Pairs a second in `torch.inference_mode()`, images on the device already. `ratio`: how \
many times as fast as the released package ours is, both in float32 and not compiled; beside it \
ours with `torch.compile`, with bfloat16 autocast, and with both, against the same figure of the \
released package. Medians over {rounds} rounds of {steps} steps, in which all take turns; in \
brackets the lowest and the highest ratio of a round. Ours checks the values of images, except \
where it is compiled.

`difference`: largest relative difference of the two float32 distances; both have the same \
weights, for the shift-tolerant networks the released ones, for plain AlexNet the released linear \
layers on one random trunk (its ImageNet trunk is a download). `ours (%)`, `released (%)`: share \
of the matrix multiply's rate, counted by the multiply-adds of the plain network; merged and fast \
convolutions do fewer, so a share may exceed 100 %."""


class Subject(NamedTuple):
    """A network of ours, the same of the released packages, and those that there are not."""

    ours: RobustLPIPS
    peers: dict[str, nn.Module]
    left_out: dict[str, str]


def measure(settings: Settings) -> Result:
    """A row a case, released package and mode of ours.

    Modes are ``float32``, which is what the package does by itself, ``compiled``, ``bfloat16``
    and ``bfloat16 compiled``; the released package is in float32 each time.
    """
    device = settings.device
    problem = compiler_problem(device)
    left_out = {} if problem is None else {"torch.compile": problem}
    fastest = peaks(device)
    rows = []
    for name, sizes in CASES.items():
        try:
            subject = _subject(name, device)
        except ImportError as error:
            left_out[name] = str(error)
            continue
        left_out |= {f"{peer}, {name}": why for peer, why in subject.left_out.items()}
        for size, batch in sizes:
            operations = 2 * batch * network_operations(subject.ours.config, size, size)
            for row in _rows(subject, size, batch, settings, compiled=problem is None):
                shares = {
                    f"{side}_share": fastest.share(row[side] * operations / batch)
                    for side in ("ours", "released")
                }
                rows.append({"case": name} | row | shares)
    table = pd.DataFrame(rows)
    text = _TEXT.format(rounds=settings.rounds, steps=settings.steps)
    return Result(table, _shown(table), text, _FORMATS, left_out | NEEDS_DOWNLOAD, fastest)


def modes(metric: RobustLPIPS, pair: Tensor, *, compiled: bool) -> dict[str, Metric]:
    """What a user may do to ``metric``, by name; ``compiled``: with ``torch.compile`` too.

    ``pair`` are images of the size in question.
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


def compiler_problem(device: str) -> str | None:
    """Why ``torch.compile`` does not work here; None where it does."""
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return None


def relative_difference(ours: Tensor, released: Tensor) -> float:
    """The largest over a batch, relative to ``released``."""
    return float(((ours - released).abs() / released.abs()).max())


def _subject(name: str, device: str) -> Subject:
    """Our network and the released ones, with the same weights."""
    if name in STLPIPS_NETS:
        return _beside(RobustLPIPS(name), shift_tolerant_peers(name), device)
    state = lpips().state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lpips.pth")
        torch.save(state, path)
        ours = RobustLPIPS(BackboneConfig(), weights=path)
    return _beside(ours, plain_peers(state), device)


def _beside(ours: RobustLPIPS, builders: Builders, device: str) -> Subject:
    return Subject(ours.to(device), *build(builders, device))


@torch.inference_mode()
def _rows(
    subject: Subject, size: int, batch: int, settings: Settings, *, compiled: bool
) -> Iterator[dict[str, Any]]:
    """A row a released package and mode, without the shares."""
    device = settings.device
    pair = _pair(size, batch, device)
    ours = modes(subject.ours, pair, compiled=compiled)
    calls = ours | subject.peers
    distances = {name: call(*pair) for name, call in calls.items()}
    sides = {
        name: partial(median_step, partial(call, *pair), settings.steps, device)
        for name, call in calls.items()
    }
    seconds = turn_about(sides, settings.rounds, f"{size} px, {subject.ours.config.arch}")
    for peer in subject.peers:
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


def _pair(size: int, batch: int, device: str) -> Tensor:
    """Noise: what a call takes does not depend on what is on the images."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(2, batch, 3, size, size, generator=generator) * 2 - 1).to(device)


def _in_bfloat16(metric: Metric, *images: Tensor) -> Tensor:
    with computing_in("bfloat16", images[0].device):
        return metric(*images)


_FORMATS = {
    "ours": ".1f",
    "released": ".1f",
    "ours (%)": ".0f",
    "released (%)": ".0f",
    "difference": ".0e",
}


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """A line a case and released package: float32, then the ratios of the other modes."""
    lines = []
    for (case, size, batch, peer), part in table.groupby(
        ["case", "image_size", "batch", "peer"], sort=False
    ):
        by_mode = part.set_index("mode")
        ratios = by_mode[["ratio", "ratio_low", "ratio_high"]]
        plain = by_mode.loc[FLOAT32]
        lines.append(
            {
                "case": f"{case}, {size} px, batch {batch}",
                "released package": peer,
                "ours": plain["ours"],
                "released": plain["released"],
                **{
                    "ratio" if mode == FLOAT32 else mode: with_interval(*values, digits=2)
                    for mode, values in zip(ratios.index, ratios.to_numpy(), strict=True)
                },
                "ours (%)": plain["ours_share"],
                "released (%)": plain["released_share"],
                "difference": plain["difference"],
            }
        )
    return pd.DataFrame(lines)
