"""Tasks of the study of registration: its parts, whose results are tables and images."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from robust_lpips._files import atomic_path
from robust_lpips.comparison import load_metric
from robust_lpips.data.photographs import photograph_digests
from robust_lpips.provenance import source_digest
from robust_lpips.studies.base import Plan, Study, Task, Tick, file_stem
from robust_lpips.studies.base.measuring import errors_leave_out, identity_of, load_or_leave_out
from robust_lpips.studies.registration import descent, estimates, failures, human
from robust_lpips.studies.registration.settings import RegistrationSettings

MODULES = {"estimates": estimates, "human": human, "descent": descent, "failures": failures}
_FILE = "measured.npz"
# Settings that measurements depend on; the others are about people's answers.
_SETTINGS = ("split", "n", "examples", "steps", "image_size", "seed")
# Sources of results, in addition to those of distances and of the part itself.
_SOURCES = (
    *(f"data/{name}.py" for name in ("alignment", "photographs", "sample", "shifted", "windows")),
    "distortions",
    "evaluation/descent.py",
    "studies/registration/settings.py",
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
        seed = self.settings.seed
        return {
            "settings": {name: getattr(self.settings, name) for name in _SETTINGS},
            "metric": identity_of(load_metric, self.metric, seed).key if self.metric else None,
            "photographs": photograph_digests(),
            "source": source_digest(more=(*_SOURCES, f"studies/registration/{self.part}.py")),
        }

    def do(self, stage: str, output: Path, tick: Tick) -> None:
        metric, leave_out = None, nullcontext()
        if self.metric:
            seed, leave_out = self.settings.seed, errors_leave_out()
            metric = load_or_leave_out(load_metric, self.metric, self.device, seed)
        with leave_out:
            tables, images = MODULES[self.part].measure(self.settings, metric, self.device, tick)
        columns = {
            f"{name}/{column}": values.to_numpy(None if is_numeric_dtype(values) else str)
            for name, table in tables.items()
            for column, values in table.items()
        }
        # Arrays and not text, so that single precision stays what it is.
        with atomic_path(output / self.folder / _FILE) as temporary:
            np.savez_compressed(temporary, **columns, **images)

    def tables(self, output: Path) -> dict[str, pd.DataFrame]:
        """The tables, as they were measured."""
        tables: dict[str, dict[str, np.ndarray]] = {}
        for key, values in self._arrays(output).items():
            name, _, column = key.rpartition("/")
            tables.setdefault(name, {})[column] = values
        return {name: pd.DataFrame(columns) for name, columns in tables.items() if name}

    def images(self, output: Path) -> dict[str, np.ndarray]:
        """The images, by name."""
        return {key: image for key, image in self._arrays(output).items() if "/" not in key}

    def _arrays(self, output: Path) -> dict[str, np.ndarray]:
        with np.load(output / self.folder / _FILE, allow_pickle=False) as arrays:
            return dict(arrays)


def tasks(study: Study[RegistrationSettings], plan: Plan[RegistrationSettings]) -> list[PartTask]:
    """The chosen parts: of every metric what is about people, of the first one the others."""
    metrics = {"estimates": ("",), "human": plan.metrics}
    return [
        PartTask(plan.device, plan.settings, part, metric)
        for part in MODULES
        if part in plan.settings.parts
        for metric in metrics.get(part, plan.metrics[:1])
    ]
