"""Suite ``memory``: what measuring takes at its peak, of few triplets and of ten times as many."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from robust_lpips.backbones import BackboneConfig
from robust_lpips.data import TwoAFCDataset, packed, sample_dataset
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.benchmark import peers
from robust_lpips.studies.benchmark.suite import Result, Settings

FACTOR = 10
IMAGE_SIZE = 64
BATCH = 50
MAX_SHIFT = 3
# Different triplets; the others are the same files under other names.
DISTINCT = 24
PEER_CALLS = 40

_POLL_SECONDS = 0.01
_STATUS = Path("/proc/self/status")
_MIB = 2**20
_PARTS = ("ref", "p0", "p1", "judge")

_TEXT = """Anonymous memory (`RssAnon`) of a process of its own, its peak while it measures \
triplets of {size}x{size} PNGs with all views up to {shift} px, packed first, batches of {batch}. \
The network is an untrained plain AlexNet, so that a run takes minutes. `start`: of that process \
before, libraries and network loaded. `increase`: of the peak over that of the first line. For \
scale the released package's network alone: {calls} calls with the same batch of pairs, no \
gradients."""


class Footprint(NamedTuple):
    """Anonymous memory of a process in MiB, before some work and at its peak meanwhile."""

    start: float
    peak: float


def measure(settings: Settings) -> Result:
    """A row for a tenth of ``settings.triplets``, one for all, one for a released network.

    Raises:
        OSError: the system does not tell a process its anonymous memory, as Linux does.
        ValueError: fewer triplets than there are different ones.
    """
    _require_linux()
    small = settings.triplets // FACTOR
    if small < DISTINCT:
        raise ValueError(
            f"triplets must be at least {FACTOR * DISTINCT} for suite memory; "
            f"got {settings.triplets}"
        )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in (small, settings.triplets):
            root = Path(folder, str(n))
            repeat_triplets(root, n)
            found = _in_fresh_process(measured_footprint, root, settings.device)
            rows.append({"case": "ours, measure", "triplets": n, **found._asdict()})
    left_out = {}
    try:
        found = _in_fresh_process(peer_footprint, settings.device)
        rows.append({"case": "lpips, network alone", "triplets": None, **found._asdict()})
    except ImportError as error:
        left_out["lpips"] = str(error)
    table = pd.DataFrame(rows).astype({"triplets": "Int64"})
    table.loc[1, "increase"] = 100.0 * (table.loc[1, "peak"] / table.loc[0, "peak"] - 1.0)
    text = _TEXT.format(size=IMAGE_SIZE, shift=MAX_SHIFT, batch=BATCH, calls=PEER_CALLS)
    units = {"start": "start (MiB)", "peak": "peak (MiB)", "increase": "increase (%)"}
    shown = table.rename(columns=units)
    formats = {"start (MiB)": ".0f", "peak (MiB)": ".0f", "increase (%)": "+.1f"}
    return Result(table, shown, text, formats, left_out)


def anonymous_bytes(status: str) -> int:
    """``RssAnon`` of the text of ``/proc/self/status``.

    Raises:
        ValueError: it does not say.
    """
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ValueError("status must have a line 'RssAnon: N kB'; got none")
    return int(found[1]) * 1024


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
    """What ``work()`` takes in this process."""
    start = _anonymous_now()
    peaks = [start]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            peaks.append(_anonymous_now())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
        peaks.append(_anonymous_now())
    finally:
        done.set()
        watcher.join()
    return Footprint(start / _MIB, max(peaks) / _MIB)


def measured_footprint(root: Path, device: str) -> Footprint:
    """Of packing and measuring the triplets under ``root``."""
    metric = RobustLPIPS(BackboneConfig(), weights=None).to(device)
    dataset = TwoAFCDataset(root, image_size=IMAGE_SIZE)

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            data = packed(dataset, folder)
            measure_distances(metric, data, MAX_SHIFT, batch_size=BATCH)

    return peak_of(work)


def peer_footprint(device: str) -> Footprint:
    """Of some calls of the network of ``lpips``."""
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


def _anonymous_now() -> int:
    return anonymous_bytes(_STATUS.read_text())


def _require_linux() -> None:
    if not _STATUS.is_file():
        raise OSError(
            f"suite memory reads {_STATUS}, which Linux has; this system is {sys.platform}"
        )
