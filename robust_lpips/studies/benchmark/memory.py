"""Suite ``memory``: peak memory of measuring, of few triplets and of ten times as many."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from robust_lpips.backbones import BackboneConfig
from robust_lpips.comparison import peers
from robust_lpips.data import TwoAFCDataset, packed, sample_dataset
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.evaluation.memory import Footprint, anonymous_memory, in_fresh_process, peak_of
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.benchmark.suite import BATCH, IMAGE_SIZE, MAX_SHIFT, Measured, suite

FACTOR = 10
# Different triplets; the others are the same files under other names.
DISTINCT = 24
PEER_CALLS = 40


@dataclass(frozen=True)
class MemorySettings(Settings):
    """Settings of suite ``memory``."""

    n: int = option(20_000, "triplets, measured next to a tenth of them", least=FACTOR * DISTINCT)


def measure(settings: MemorySettings, device: str) -> Measured:
    """One row for a tenth of ``settings.n``, one for all, one for a released network.

    Raises:
        NotImplementedError: if the system does not tell a process its memory.
    """
    anonymous_memory()  # before any work
    rows, unavailable = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (settings.n // FACTOR, settings.n):
            root = Path(folder, str(n))
            repeat_triplets(root, n)
            found = in_fresh_process(measured_footprint, root, device)
            rows.append({"case": "ours, measure", "triplets": n, **found._asdict()})
    try:
        found = in_fresh_process(peer_footprint, device)
        rows.append({"case": "lpips, network alone", "triplets": None, **found._asdict()})
    except ImportError as error:
        unavailable["lpips"] = str(error)
    table = pd.DataFrame(rows).astype({"triplets": "Int64"})
    table.loc[1, "increase"] = 100.0 * (table.loc[1, "peak"] / table.loc[0, "peak"] - 1.0)
    return Measured(table, unavailable)


def repeat_triplets(root: Path, n: int) -> None:
    """Lay out ``n`` triplets in the new folder ``root`` as BAPPS does, a few over and over."""
    samples = sample_dataset(n=DISTINCT, image_size=IMAGE_SIZE).samples
    for part in ("ref", "p0", "p1", "judge"):
        folder = root / "2afc" / "val" / "traditional" / part
        folder.mkdir(parents=True)
        for index in range(n):
            target = folder / f"{index:06d}{Path(getattr(samples[0], part)).suffix}"
            if index < DISTINCT:
                target.write_bytes(Path(getattr(samples[index], part)).read_bytes())
            else:
                os.link(target.with_stem(f"{index % DISTINCT:06d}"), target)


def measured_footprint(root: Path, device: str) -> Footprint:
    """Memory of packing and measuring the triplets under ``root``."""
    metric = RobustLPIPS(BackboneConfig(), weights=None).to(device)
    dataset = TwoAFCDataset(root, image_size=IMAGE_SIZE)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            measure_distances(metric, packed(dataset, folder), MAX_SHIFT, batch_size=BATCH)

    return peak_of(work)


def peer_footprint(device: str) -> Footprint:
    """Memory of some calls of the network of ``lpips``."""
    net = peers.lpips().to(device)
    pair = torch.rand(2, BATCH, 3, IMAGE_SIZE, IMAGE_SIZE, device=device) * 2 - 1

    @torch.inference_mode()
    def work() -> None:
        for _ in range(PEER_CALLS):
            net(*pair)

    return peak_of(work)


SUITE = suite("memory", MemorySettings, measure, "sample set val", peer_calls=PEER_CALLS)
