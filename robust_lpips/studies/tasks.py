"""What an ablation run consists of: a task a row and seed, and one a reference."""

from __future__ import annotations

import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips.backbones import BackboneConfig, build_backbone
from robust_lpips.comparison import load_metric
from robust_lpips.evaluation import write_distances
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.folder import read_json, write_json
from robust_lpips.studies.measured import file_stem
from robust_lpips.studies.pool import Tick, machine
from robust_lpips.studies.rows import Row
from robust_lpips.studies.study import Study
from robust_lpips.training import LAST, fit, launch

# Shown in every table for orientation: names of robust_lpips.comparison, and whether to stand
# with the untrained rows or with the trained ones.
REFERENCES = {
    "l2": "untrained",
    "alexnet-untrained": "untrained",
    "alexnet-shift-tolerant": "trained",
}
RECORD_FILE = "record.json"

# Training costs about three passes: forward, and backward to the features and to the weights.
_TRAINING_PASSES = 3


def references(study: Study) -> dict[str, str]:
    """:data:`REFERENCES`, and the user's own metrics, which stand with the trained rows."""
    return REFERENCES | dict.fromkeys(study.metrics, "trained")


@dataclass(frozen=True)
class StudyTask(ABC):
    """A part of a study that is done in stages, each of which leaves files in its output folder.

    What is done is told from the files alone, so that any process can go on with it.
    """

    study: Study

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether every stage is done."""

    @property
    @abstractmethod
    def work(self) -> float:
        """What is left to do, in multiply-accumulates."""

    @abstractmethod
    def advance(self, tick: Tick) -> None:
        """Do the next stage."""

    @property
    def files(self) -> Iterator[Path]:
        """What there is already of what :meth:`advance` needs."""
        yield from ()

    def __call__(self, tick: Tick) -> None:
        """Do every stage that is not done."""
        while not self.finished:
            self.advance(tick)

    def moved(self, output: Path, device: str) -> StudyTask:
        """The same with another output folder, on another device."""
        return replace(self, study=replace(self.study, output=output, device=device))


@dataclass(frozen=True)
class RowTask(StudyTask):
    """Measure one row untrained, train it, measure it again."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where its distances, checkpoints and record are."""
        return self.study.output / "rows" / f"{self.row.name}-seed{self.seed}"

    @property
    def files(self) -> Iterator[Path]:
        # Names that begin with a dot are what a killed process left half-written.
        yield from (path for path in self.folder.rglob("[!.]*") if path.is_file())
        if self.study.teacher_path.is_file():
            yield self.study.teacher_path

    @property
    def record(self) -> dict[str, Any]:
        """The finished stages, by name, with what they took."""
        return read_json(self._record_path) if self._record_path.is_file() else {}

    @property
    def _record_path(self) -> Path:
        return self.folder / RECORD_FILE

    @property
    def training_folder(self) -> Path:
        """What :func:`robust_lpips.training.fit` writes: checkpoints, and the log of each step."""
        return self.folder / "training"

    @property
    def checkpoint(self) -> Path:
        """The trained weights: given, or to be trained."""
        return self.study.weights.get(self.row.name, self.training_folder / LAST)

    def distances_path(self, state: str) -> Path:
        """The distances of state ``"untrained"`` or ``"trained"``."""
        return self.folder / f"{state}.csv.gz"

    @property
    def _stages(self) -> dict[str, Callable[[Tick], dict[str, Any]]]:
        """By name what does it, told of its progress as a share of 1."""
        stages = {
            "untrained": functools.partial(self._measure, "untrained"),
            "training": self._train,
            "trained": functools.partial(self._measure, "trained"),
        }
        if self.row.name in self.study.weights:
            del stages["training"]
        return stages

    @property
    def finished(self) -> bool:
        return self._stages.keys() <= self.record.keys()

    @property
    def work(self) -> float:
        return sum(self._work_of(stage) for stage in self._stages.keys() - self.record.keys())

    def _work_of(self, stage: str) -> float:
        """Multiply-accumulates of a stage."""
        study = self.study
        macs = multiply_accumulates(self.row.config, study.image_size)
        if stage == "training":
            images = 3 * study.count("train") * study.preset.recipe.epochs
            return macs * images * _TRAINING_PASSES
        return macs * study.images_per_triplet * study.count("val")

    def advance(self, tick: Tick) -> None:
        record = self.record
        stage = next(name for name in self._stages if name not in record)
        work = self._work_of(stage)
        start = time.perf_counter()
        result = self._stages[stage](lambda share: tick(share * work))
        took = {
            "seconds": round(time.perf_counter() - start, 2),
            "machine": machine(self.study.device),
        }
        write_json(self._record_path, record | {stage: took | result})

    def untrained(self, *, linear: bool) -> RobustLPIPS:
        """The network before training: the same for the same seed."""
        torch.manual_seed(self.seed)
        metric = RobustLPIPS(self.row.config, weights=None, linear=linear)
        return metric.to(self.study.device)

    def _measure(self, state: str, tick: Tick) -> dict[str, Any]:
        if state == "untrained":
            metric: nn.Module = self.untrained(linear=False)
        else:
            metric = RobustLPIPS(self.row.config, self.checkpoint)
        total = self.study.count("val")
        table = self.study.measure(metric, lambda n: tick(n / total))
        write_distances(table, self.distances_path(state))
        return {}

    def _train(self, tick: Tick) -> dict[str, Any]:
        study, recipe = self.study, self.study.preset.recipe
        data = study.training_data()
        steps = recipe.epochs * -(-len(data) // recipe.batch_size)
        # What was trained before an interruption was not timed.
        unknown = {"seconds": None} if self.checkpoint.is_file() else {}
        history = fit(
            self.untrained(linear=True),
            data,
            recipe,
            seed=self.seed,
            output=self.training_folder,
            provenance={"row": self.row.name, "seed": self.seed} | study.settings,
            checkpoint_every=study.preset.checkpoint_every,
            fabric=launch(study.device),
            num_workers=study.num_workers,
            on_step=lambda _: tick(1 / steps),
        )
        return {"losses": history["loss"].iloc[1:].tolist()} | unknown


@dataclass(frozen=True)
class ReferenceTask(StudyTask):
    """Measure a metric that is shown for orientation."""

    metric: str

    @property
    def name(self) -> str:
        return self.metric

    @property
    def path(self) -> Path:
        """Its distances."""
        return self.study.output / "references" / f"{file_stem(self.metric)}.csv.gz"

    @property
    def finished(self) -> bool:
        return self.path.is_file()

    @property
    def work(self) -> float:
        if self.finished:
            return 0.0
        config = getattr(load_metric(self.metric), "config", None)
        macs = multiply_accumulates(config, self.study.image_size) if config else 0.0
        return macs * self.study.images_per_triplet * self.study.count("val")

    def advance(self, tick: Tick) -> None:
        share = self.work / self.study.count("val")
        table = self.study.measure(load_metric(self.metric), lambda n: tick(n * share))
        write_distances(table, self.path)


@functools.cache
def multiply_accumulates(config: BackboneConfig, image_size: int) -> int:
    """Of one image through the backbone, blurs included."""
    with torch.device("meta"):
        backbone = build_backbone(config).eval()
        with FlopCounterMode(display=False) as counter:
            backbone(torch.zeros(1, 3, image_size, image_size))
    return counter.get_total_flops() // 2


def parameters(config: BackboneConfig) -> int:
    """Weights of the trunk and of the 1x1 layers."""
    with torch.device("meta"):
        backbone = build_backbone(config)
    return sum(p.numel() for p in backbone.parameters()) + sum(backbone.taps.values())
