"""Distances of metrics on the parts of a study: measured once, cached under what they depend on."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips._cache import cache_dir
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import Metric, MetricUnavailable, load_metric
from robust_lpips.data.fingerprint import content_digest
from robust_lpips.evaluation import ShiftViews, measure, read_distances, write_distances
from robust_lpips.provenance import metric_identity, source_digest
from robust_lpips.studies.base.settings import Settings
from robust_lpips.tasks.machine import loading_workers
from robust_lpips.tasks.task import LeftOut, Task, Tick

DISTANCES_FILE = "distances.csv.gz"


@dataclass(frozen=True)
class Part:
    """One data set of a study, and the shifts at which it is measured.

    Attributes:
        dataset: as :func:`robust_lpips.evaluation.measure` takes it.
        views: shifts of triplets; pairs have none.
        batch_size: items that are loaded at a time; 1 for images of several sizes.
        gpu_batch_size: the same where a GPU computes. Default: ``batch_size``.
    """

    dataset: Dataset
    views: ShiftViews = field(default_factory=partial(ShiftViews, 0))
    batch_size: int = 50
    gpu_batch_size: int | None = None

    @functools.cached_property
    def content(self) -> str:
        """Digest of the content of the data set."""
        return content_digest(self.dataset)

    @property
    def images(self) -> int:
        """Images that go through a network to measure all items."""
        shifts = len(self.views.shifts)
        return len(self.dataset) * (3 + (1 + 2 * shifts if shifts else 0))

    def measure(self, metric: Metric, device: str, tick: Tick) -> pd.DataFrame:
        """Distances of every item, see :func:`robust_lpips.evaluation.measure`.

        ``tick`` is called with the share of items done since its last call.
        """
        on_cpu = torch.device(device).type == "cpu"
        return measure(
            metric,
            self.dataset,
            self.views.max_shift,
            direction=self.views.direction,
            step=self.views.step,
            batch_size=self.batch_size if on_cpu else self.gpu_batch_size or self.batch_size,
            device=device,
            num_workers=loading_workers(device),
            progress=lambda items: tick(items / len(self.dataset)),
        )

    def key(self) -> dict[str, Any]:
        """Part of a key: the content of the data, the shifts, and the source of distances."""
        return {
            "data": self.content,
            "views": [self.views.max_shift, list(self.views.direction), self.views.step],
            "dtype": "float32",
            "source": source_digest(),
        }


Parts = Callable[[Any], Mapping[str, Part]]
Load = Callable[[str, str, int], Metric]


@dataclass(frozen=True)
class MetricTask(Task):
    """Measure the distances of one metric on one part of a study.

    Attributes:
        parts: gives the parts of a study by name, from its settings.
        settings: settings of the study; their ``seed`` is that of random weights.
        metric: name that ``load`` takes.
        part: name of the part; empty where the study has a single one.
        load: gives the metric from its name, a device and a seed.
    """

    parts: Parts
    settings: Settings
    metric: str
    part: str = ""
    load: Load = load_metric

    @property
    def name(self) -> str:
        return f"{self.metric}, {self.part}" if self.part else self.metric

    @property
    def folder(self) -> str:
        return "/".join(filter(None, ("distances", self.part, file_stem(self.metric))))

    @property
    def identity(self) -> Identity:
        """Key and cost of the metric; LeftOut where it is unavailable."""
        return identity_of(self.load, self.metric, self.settings.seed)

    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        return {**self.identity.key, "seed": self.settings.seed, **self.data.key()}

    def do(self, stage: str, output: Path, tick: Tick) -> None:
        work = self.work(stage)
        metric = load_or_leave_out(self.load, self.metric, self.device, self.settings.seed)
        with errors_leave_out():
            measured = self.measure(metric, lambda share: tick(share * work))
        self.write(measured, output / self.folder)

    def measure(self, metric: Metric, tick: Tick) -> Any:
        """Measure the loaded metric on the part; ``tick`` takes shares of the whole."""
        return self.data.measure(metric, self.device, tick)

    def write(self, measured: Any, folder: Path) -> None:
        """Write what :meth:`measure` returned."""
        write_distances(measured, folder / DISTANCES_FILE)

    def work(self, stage: str) -> float:
        return float(self.identity.cost * self.data.images)

    def distances(self, output: Path) -> pd.DataFrame:
        """The table that was measured."""
        return read_distances(output / self.folder / DISTANCES_FILE)

    @property
    def data(self) -> Part:
        """The part that is measured."""
        return cached_parts(self.parts, self.settings)[self.part]


@functools.lru_cache(maxsize=4)
def cached_parts(parts: Parts, settings: Settings) -> Mapping[str, Part]:
    """``parts(settings)``, whose data sets are built once per process."""
    return parts(settings)


def file_stem(name: str) -> str:
    """Name of a metric as a file's, different for different names: paths have slashes."""
    stem = re.sub(r"[^\w.-]+", "-", name)
    return stem if stem == name else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def errors_leave_out() -> Iterator[None]:
    """Turn an error of a metric into the reason why its task is left out."""
    try:
        yield
    # Metrics of others raise errors of every kind, at images too small for them, say.
    except Exception as error:
        first, *_ = [*str(error).strip().splitlines(), "no message"]
        raise LeftOut(f"failed with {type(error).__name__}: {portable(first)}") from error


def portable(text: str) -> str:
    """``text`` without folders of this machine, which mean nothing where a page is read."""
    return text.replace(str(cache_dir()), "the cache folder").replace(f"{Path.home()}/", "~/")


def first_sentence(error: Exception) -> str:
    """The first sentence of an error; the others may tell paths of this machine."""
    return portable(str(error).partition(". ")[0])


class Identity(NamedTuple):
    """Part of a key that tells a metric from others, and what an image costs the metric."""

    key: dict[str, Any]
    cost: int


@functools.cache
def identity_of(load: Load, name: str, seed: int) -> Identity:
    """Identity of the metric that ``load`` gives; computed once per process.

    Raises:
        LeftOut: if the metric is unavailable.
    """
    metric = load_or_leave_out(load, name, "cpu", seed)
    config = getattr(metric, "config", None)
    # A guess for metrics that are no network of ours: it is only for progress.
    cost = 30_000_000 if config is None else multiply_accumulates(config, 64)
    return Identity(metric_identity(name, metric), cost)


def load_or_leave_out(load: Load, name: str, device: str, seed: int) -> Metric:
    """The metric that ``load`` gives.

    Raises:
        LeftOut: if the metric is unavailable.
    """
    try:
        # Factories of the user's own may draw weights, which a key has to find again.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return load(name, device, seed)
    except MetricUnavailable as error:
        raise LeftOut(portable(str(error).removeprefix(f"{name} "))) from error
