"""A study of a few triplets, which the tests of the skeleton run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from robust_lpips.evaluation import ShiftViews
from robust_lpips.plotting import figure
from robust_lpips.studies.base import (
    Part,
    Record,
    Results,
    Study,
    Tables,
    Task,
    TripletSettings,
    option,
    source_of,
)

SIZE = 32


def write_bapps(root: Path, count: int, subset: str = "cnn") -> None:
    """Triplets of noise in the layout of BAPPS."""
    rng = np.random.default_rng(0)
    for part in ("ref", "p0", "p1", "judge"):
        folder = root / "2afc" / "val" / subset / part
        folder.mkdir(parents=True)
        for i in range(count):
            if part == "judge":
                np.save(folder / f"{i}.npy", i / count)
            else:
                pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")


@dataclass(frozen=True)
class TinySettings(TripletSettings):
    """Triplets, a file that results depend on, and a text that they do not depend on."""

    notes: Path | None = option(None, "a file")
    label: str = option("", "a text", claimed=False)


def parts(settings: TinySettings) -> dict[str, Part]:
    """The triplets, two at a time, so that a metric is called several times."""
    views = ShiftViews(settings.max_shift)
    return {"": Part(source_of(settings).dataset, views, batch_size=2)}


def tables(results: Results[TinySettings]) -> Tables:
    """Mean distances of each metric."""
    means = {name: table[["d0", "d1"]].mean() for name, table in results.distances().items()}
    return {"tiny": pd.DataFrame(means).T.rename_axis("metric").reset_index()}


def figures(results: Results[TinySettings], tables: Tables) -> dict[str, Figure]:
    """A figure, and one of photographs."""
    drawn = {}
    for name in ("tiny", "photographs"):
        with figure((2, 2), name) as drawn[name]:
            pass
    return drawn


def page(results: Results[TinySettings], tables: Tables) -> list[str]:
    """A title and a number."""
    return ["# Tiny", f"{len(tables['tiny'])} metrics on {results.source.name}."]


def records(results: Results[TinySettings], tables: Tables) -> Iterator[Record]:
    """The mean distance of p0."""
    for row in tables["tiny"].to_dict("records"):
        scores = {"d0": (row["d0"], row["d0"], row["d0"])}
        yield Record(row["metric"], 5, scores, results.weights[row["metric"]])


STUDY = Study(
    name="tiny",
    settings=TinySettings,
    metrics=("l2", "ssim"),
    parts=parts,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    photographs=("photographs",),
)


@dataclass(frozen=True)
class Steps(Task):
    """A task of two stages, each of which writes a file; ``fate`` is what the second one meets."""

    title: str
    fate: str = ""
    version: int = 0

    @property
    def name(self) -> str:
        return self.title

    @property
    def folder(self) -> str:
        return self.title

    @property
    def stages(self) -> tuple[str, ...]:
        return ("begin", "end")

    def key(self, stage, output):
        return {"title": self.title, "version": self.version if stage == "end" else 0}

    def do(self, stage, output, tick):
        folder = self.stage_folder(stage, output)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "process"
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if stage == "end" and not (output / "mended").exists():
            self.meet()
        tick(self.work(stage))
        return {"precision": precision(self.device)}

    def meet(self) -> None:
        """Meet the fate of the task."""
        if self.fate == "raise":
            raise ValueError("this task is broken")
        if self.fate == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fate == "sleep":
            time.sleep(120)
        if self.fate == "interrupt":
            raise KeyboardInterrupt

    def processes(self, output: Path, stage: str) -> list[int]:
        """Number of the process that did a stage, each time."""
        path = self.stage_folder(stage, output) / "process"
        return list(map(int, path.read_text().split())) if path.exists() else []


def precision(device: str) -> dict[str, bool]:
    """What lets PyTorch compute in less than float32."""
    kind = torch.device(device).type
    found = {"autocast": torch.is_autocast_enabled(kind)}
    if kind == "cuda":
        found |= {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "products": torch.backends.cuda.matmul.allow_tf32,
        }
    return found
