"""Tasks of the study of registration: its parts, whose results are tables and images."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robust_lpips._files import atomic_path
from robust_lpips.comparison import load_metric
from robust_lpips.data.photographs import PHOTOGRAPHS, photograph_path
from robust_lpips.provenance import file_digest, source_digest
from robust_lpips.studies.base import Plan, Study, Task, Tick, file_stem
from robust_lpips.studies.base.measuring import errors_leave_out, identity_of, load_or_leave_out
from robust_lpips.studies.base.tasks import record_of
from robust_lpips.studies.registration import descent, estimates, failures, human
from robust_lpips.studies.registration.settings import RegistrationSettings
from robust_lpips.tables import write_csv

_IMAGES_FILE = "images.npz"
_PARTS = {"estimates": estimates, "human": human, "descent": descent, "failures": failures}
# Settings that measurements depend on; the others are about people's answers.
_SETTINGS = ("split", "n", "examples", "steps", "image_size", "seed")
# Sources of results, in addition to those of distances and of the part itself.
_SOURCES = (
    "data/photographs.py",
    "data/sample.py",
    "data/shifted.py",
    "distortions",
    "studies/registration/settings.py",
    "studies/registration/windows.py",
)


@dataclass(frozen=True)
class PartTask(Task):
    """Measure one part of the study with one metric.

    Attributes:
        settings: settings of the study.
        part: name of the part.
        metric: name of the metric; empty where the part needs none.
    """

    settings: RegistrationSettings
    part: str
    metric: str = ""

    @property
    def name(self) -> str:
        return f"{self.part}, {self.metric}" if self.metric else self.part

    @property
    def folder(self) -> str:
        return "/".join(filter(None, ("parts", self.part, self.metric and file_stem(self.metric))))

    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        sources = (*_SOURCES, f"studies/registration/{self.part}.py")
        seed = self.settings.seed
        return {
            "settings": {name: getattr(self.settings, name) for name in _SETTINGS},
            "metric": identity_of(load_metric, self.metric, seed).key if self.metric else None,
            "photographs": _photographs(),
            "source": source_digest(more=sources),
        }

    def do(self, stage: str, output: Path, tick: Tick) -> Mapping[str, Any]:
        load = partial(load_or_leave_out, load_metric, self.metric, self.device)
        metric = load(self.settings.seed) if self.metric else None
        with errors_leave_out() if self.metric else nullcontext():
            tables, images = _PARTS[self.part].measure(self.settings, metric, self.device, tick)
        folder = output / self.folder
        for name, table in tables.items():
            write_csv(table, folder / f"{name}.csv")
        if images:
            with atomic_path(folder / _IMAGES_FILE) as temporary:
                np.savez_compressed(temporary, **images)
        # CSV does not tell single from double precision.
        return {
            "dtypes": {name: table.dtypes.astype(str).to_dict() for name, table in tables.items()}
        }

    def tables(self, output: Path) -> dict[str, pd.DataFrame]:
        """The tables, as they were measured."""
        tables = {}
        for name, dtypes in record_of(self, output)["results"]["dtypes"].items():
            path = output / self.folder / f"{name}.csv"
            text = pd.read_csv(path, dtype=str, keep_default_na=False)
            tables[name] = pd.DataFrame({c: _typed(text[c], dtype) for c, dtype in dtypes.items()})
        return tables

    def images(self, output: Path) -> dict[str, np.ndarray]:
        """The images, by name."""
        with np.load(output / self.folder / _IMAGES_FILE, allow_pickle=False) as images:
            return dict(images)


def tasks(study: Study[RegistrationSettings], plan: Plan[RegistrationSettings]) -> list[PartTask]:
    """The chosen parts: of every metric what is about people, of the first one the others."""
    metrics = {
        "estimates": ("",),
        "human": plan.metrics,
        "descent": plan.metrics[:1],
        "failures": plan.metrics[:1],
    }
    return [
        PartTask(plan.device, plan.settings, part, metric)
        for part in metrics
        if part in plan.settings.parts
        for metric in metrics[part]
    ]


def _typed(text: pd.Series, dtype: str) -> pd.Series:
    if dtype == "bool":
        return text == "True"
    # Left to Python, because pandas parses the last bit right only in some versions.
    return pd.Series(text.replace("", "nan").to_numpy(dtype=object)).astype(dtype)


@cache
def _photographs() -> dict[str, str]:
    """Digest of each photograph's file."""
    return {
        name: file_digest(photograph_path(file))
        for files in PHOTOGRAPHS.values()
        for name, file in files.items()
    }
