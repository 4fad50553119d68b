"""Suite ``memory``: peak memory of measuring, of few triplets and of ten times as many."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from robust_lpips.backbones import BackboneConfig
from robust_lpips.data import TwoAFCDataset, packed, sample_dataset
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import LeftOut, Settings, option
from robust_lpips.studies.benchmark import peers
from robust_lpips.studies.benchmark.suite import Measured, suite

FACTOR = 10
IMAGE_SIZE = 64
BATCH = 50
MAX_SHIFT = 3
# Different triplets; the others are the same files under other names.
DISTINCT = 24
PEER_CALLS = 40

_POLL_SECONDS = 0.01
_STATUS = Path("/proc/self/status")
_PARTS = ("ref", "p0", "p1", "judge")

_TEXT = f"""Anonymous memory (`RssAnon`) of a process of its own, its peak while it measures \
triplets of {IMAGE_SIZE}x{IMAGE_SIZE} PNGs with all views up to {MAX_SHIFT} px, packed first, \
batches of {BATCH}. The network is an untrained plain AlexNet, so that a run takes minutes. \
`start`: memory of that process before, with libraries and network loaded. `increase`: that of the \
peak over the peak of the first row. For scale the released package's network alone: {PEER_CALLS} \
calls with the same batch of pairs, no gradients."""


@dataclass(frozen=True)
class MemorySettings(Settings):
    """Settings of suite ``memory``."""

    n: int = option(20_000, "triplets, measured next to a tenth of them", least=FACTOR * DISTINCT)


class Footprint(NamedTuple):
    """Anonymous memory of a process in MiB, before some work and at its peak meanwhile."""

    start: float
    peak: float


def measure(settings: MemorySettings, device: str) -> Measured:
    """One row for a tenth of ``settings.n``, one for all, one for a released network.

    Raises:
        LeftOut: if the system does not tell a process its anonymous memory, as Linux does.
    """
    _anonymous_now()
    rows, unavailable = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for n in (settings.n // FACTOR, settings.n):
            root = Path(folder, str(n))
            repeat_triplets(root, n)
            found = _in_fresh_process(measured_footprint, root, device)
            rows.append({"case": "ours, measure", "triplets": n, **found._asdict()})
    try:
        found = _in_fresh_process(peer_footprint, device)
        rows.append({"case": "lpips, network alone", "triplets": None, **found._asdict()})
    except ImportError as error:
        unavailable["lpips"] = str(error)
    table = pd.DataFrame(rows).astype({"triplets": "Int64"})
    table.loc[1, "increase"] = 100.0 * (table.loc[1, "peak"] / table.loc[0, "peak"] - 1.0)
    return Measured(table, unavailable)


def repeat_triplets(root: Path, n: int) -> None:
    """Lay out ``n`` triplets in the new folder ``root`` as BAPPS does, a few over and over."""
    samples = sample_dataset(n=DISTINCT, image_size=IMAGE_SIZE).samples
    for part in _PARTS:
        folder = root / "2afc" / "val" / "traditional" / part
        folder.mkdir(parents=True)
        for index in range(n):
            target = folder / f"{index:06d}{Path(getattr(samples[0], part)).suffix}"
            if index < DISTINCT:
                target.write_bytes(Path(getattr(samples[index], part)).read_bytes())
            else:
                os.link(target.with_stem(f"{index % DISTINCT:06d}"), target)


def peak_of(work: Callable[[], object]) -> Footprint:
    """Memory of this process before and during ``work()``."""
    found, done = [_anonymous_now()], threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            found.append(_anonymous_now())

    with ThreadPoolExecutor(1) as watcher:
        watcher.submit(watch)
        try:
            work()
            found.append(_anonymous_now())
        finally:
            done.set()
    return Footprint(found[0], max(found))


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


def _in_fresh_process(function: Callable[..., Footprint], *arguments: object) -> Footprint:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def _anonymous_now() -> float:
    """Anonymous memory of this process in MiB."""
    status = _STATUS.read_text() if _STATUS.is_file() else ""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise LeftOut(f"reads RssAnon in {_STATUS}, which Linux has; this is {sys.platform}")
    return int(found[1]) / 1024


SUITE = suite("memory", MemorySettings, measure, _TEXT, "sample set val")
