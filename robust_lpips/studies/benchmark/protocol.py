"""Suite ``protocol``: 2AFC and rank flips of images on disk, next to the released procedure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import peers
from robust_lpips.data import TwoAFCDataset, packed, sample_dataset
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.evaluation import summarize
from robust_lpips.evaluation.capability import peaks
from robust_lpips.evaluation.released_procedure import released_distances
from robust_lpips.evaluation.timing import compare, in_turns, seconds_of
from robust_lpips.evaluation.verdicts import differing_verdicts
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.benchmark.suite import (
    BATCH,
    IMAGE_SIZE,
    MAX_SHIFT,
    SCORES,
    Measured,
    mean_scores,
    suite,
)

NET = "alexnet-shift-tolerant"
PEER = "stlpips-pytorch"
DISK_SIZE = 256
# Processes that decode, of both sides. On a CPU they would take the cores that compute.
WORKERS = {"cpu": 0, "cuda": 4}


@dataclass(frozen=True)
class ProtocolSettings(Settings):
    """Settings of suite ``protocol``."""

    n: int = option(500, "triplets of the sample set", least=1)
    rounds: int = option(3, "turns of each side", least=1)


def measure(settings: ProtocolSettings, device: str) -> Measured:
    """One row per mode, ``cold`` and ``warm``: speed, scores of both sides, differing verdicts.

    Raises:
        ImportError: if the released package is missing.
    """
    net = peers.shift_tolerant_peers(NET)[PEER]().to(device).eval()
    root = sample_dataset(n=settings.n, image_size=DISK_SIZE).roots[0]
    dataset = TwoAFCDataset(root, image_size=IMAGE_SIZE)
    metric = RobustLPIPS(NET).to(device)
    workers = WORKERS[torch.device(device).type]
    fastest = peaks(device)
    tables: dict[str, pd.DataFrame] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides = _sides(metric, net, dataset, Path(folder), tables, device, workers)
        seconds = in_turns(sides, settings.rounds, "protocol")
    rows = []
    for mode in ("cold", "warm"):
        rates = compare(seconds[mode], seconds["released"], len(dataset))
        rows.append(
            {
                "case": NET,
                "mode": mode,
                "peer": f"{PEER} {version(PEER)}",
                "triplets": len(dataset),
                "unit": "triplet",
                "workers": workers,
                **rates,
                "seconds": np.median(seconds[mode]),
                "released_seconds": np.median(seconds["released"]),
                **fastest.shares(rates, triplet_multiply_accumulates(metric.config)),
                **mean_scores(tables["ours"]).add_prefix("ours_"),
                **mean_scores(tables["released"]).add_prefix("released_"),
                "verdicts_differ": differing_verdicts(tables["ours"], tables["released"]),
            }
        )
    return Measured(pd.DataFrame(rows), peaks=fastest)


def triplet_multiply_accumulates(config: BackboneConfig) -> int:
    """Multiply-accumulates of the different patches of a triplet: three whole, and all windows."""
    window = multiply_accumulates(config, IMAGE_SIZE, IMAGE_SIZE - MAX_SHIFT)
    windows = 1 + 2 * (MAX_SHIFT + 1)
    return 3 * multiply_accumulates(config, IMAGE_SIZE) + windows * window


def _sides(
    metric: RobustLPIPS,
    net: nn.Module,
    dataset: TwoAFCDataset,
    folder: Path,
    tables: dict[str, pd.DataFrame],
    device: str,
    workers: int,
) -> dict[str, Callable[[], float]]:
    """The sides that take turns; each leaves its distances in ``tables``."""
    options = {"batch_size": BATCH, "device": device, "num_workers": workers}

    def ours(place: Path) -> None:
        pack = packed(dataset, place, progress=False)
        tables["ours"] = measure_distances(metric, pack, MAX_SHIFT, progress=False, **options)
        summarize(tables["ours"])

    def cold() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            ours(Path(fresh))

    def released(samples: slice = slice(None)) -> None:
        tables["released"] = released_distances(
            net, dataset.samples[samples], image_size=IMAGE_SIZE, max_shift=MAX_SHIFT, **options
        )

    warm = partial(ours, folder / "warm")
    # Neither side is slowed by what is done for the first time.
    warm()
    released(slice(BATCH))
    works = {"cold": cold, "warm": warm, "released": released}
    return {name: partial(seconds_of, work, device) for name, work in works.items()}


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each score of both sides in one cell."""
    texts = table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else value)
    cells = {name: texts[f"ours_{name}"] + " / " + texts[f"released_{name}"] for name in SCORES}
    return table.assign(**cells)


SUITE = suite(
    "protocol",
    ProtocolSettings,
    measure,
    "sample set val",
    _cells,
    disk_size=DISK_SIZE,
    workers=WORKERS["cuda"],
)
