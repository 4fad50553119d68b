"""Studies that train networks: their settings, and tasks that train and measure them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from robust_lpips.backbones import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import load_metric
from robust_lpips.data.sample import JUDGE, judge_distances
from robust_lpips.evaluation import ShiftViews, read_distances, write_distances
from robust_lpips.metric import RobustLPIPS
from robust_lpips.provenance import file_digest, weights_digest
from robust_lpips.records import with_bounds
from robust_lpips.studies.base import Plan, Results, conditions, option, rank_flip_columns
from robust_lpips.studies.base.measuring import (
    DISTANCES_FILE,
    MetricTask,
    Part,
    cached_parts,
    identity_of,
)
from robust_lpips.studies.base.settings import DataSettings
from robust_lpips.studies.base.source import Source, source_of, triplets
from robust_lpips.tasks.engines import do_task, progress_bar
from robust_lpips.tasks.machine import loading_workers
from robust_lpips.tasks.task import LeftOut, Task, Tick
from robust_lpips.training import LAST, Recipe, fit, launch, with_teacher

# A step costs about three passes: forward, and backward to the features and to the weights.
_TRAINING_PASSES = 3
# Triplets at a time: what fits a CPU's cache, and what fills a GPU.
_BATCH_CPU, _BATCH_GPU = 16, 200


@dataclass(frozen=True)
class TrainedSettings(DataSettings):
    """Settings of studies that train networks on 2AFC triplets.

    Attributes:
        teacher: metric whose distances are learnt; None: judgments are.
        precision: as :func:`robust_lpips.training.launch` takes it.
        checkpoint_every: steps of training that an interruption may cost.
    """

    n_train: int | None = option(None, "training triplets, evenly spaced ones of BAPPS", least=1)

    teacher: ClassVar[str | None] = None
    precision: ClassVar[str] = "32"
    checkpoint_every: ClassVar[int] = 200

    def count(self, split: str) -> int | None:
        """Number of triplets of split ``"train"`` or ``"val"``; None: all of BAPPS."""
        return self.n_train if split == "train" else self.n

    def source(self, split: str = "val") -> Source:
        return triplets(self.data_root, split, self.count(split), self.image_size)


def validation_parts(settings: TrainedSettings) -> dict[str, Part]:
    """The validation triplets, the part without a name."""
    views = ShiftViews(settings.max_shift)
    return {"": Part(source_of(settings).dataset, views, _BATCH_CPU, _BATCH_GPU)}


def training_parts(settings: TrainedSettings) -> dict[str, Part]:
    """The training triplets, part ``train``."""
    return {"train": Part(settings.source("train").dataset)}


def measure_teacher(plan: Plan[TrainedSettings], output: Path) -> None:
    """Build the training triplets, and measure the teacher's distances if they lack them.

    Raises:
        ValueError: if the teacher is unavailable.
    """
    teacher = plan.settings.teacher
    dataset = cached_parts(training_parts, plan.settings)["train"].dataset
    if teacher is None or (teacher == JUDGE and judge_distances(dataset) is not None):
        return
    task = _teacher_task(plan.settings, plan.device)
    try:
        with progress_bar([task], output, f"teacher {teacher}") as (_, bar):
            do_task(task, output, bar.update)
    except LeftOut as reason:
        raise ValueError(f"the teacher {teacher} {reason}") from reason


@dataclass(frozen=True)
class TrainingTask(Task):
    """Task whose stages train a network, or measure it on the validation triplets.

    Attributes:
        settings: settings of the study.
        seed: seed of random weights, of the order of triplets and of dropout.
        config: the backbone.
        validates: the network is scored before training and after every epoch, and the best epoch
            is kept.
    """

    settings: TrainedSettings
    seed: int
    config: BackboneConfig

    validates: ClassVar[bool] = True

    @abstractmethod
    def recipe(self, stage: str) -> Recipe | None:
        """How a stage trains; None: it measures."""

    @abstractmethod
    def checkpoint(self, stage: str, output: Path) -> Path | None:
        """The trained weights that a stage measures; None: it takes initial weights."""

    @abstractmethod
    def initial(self, stage: str) -> RobustLPIPS:
        """The network with the initial weights of a stage.

        Raises:
            LeftOut: if they are unavailable.
        """

    @abstractmethod
    def initial_key(self, stage: str) -> Mapping[str, Any]:
        """Part of a key: what :meth:`initial` depends on, next to the backbone."""

    def network(self, stage: str, output: Path) -> RobustLPIPS:
        """The network that a stage trains or measures."""
        path, begun = self.checkpoint(stage, output), self.stage_folder(stage, output) / LAST
        if path is None and not begun.is_file():
            return self.initial(stage)
        # A training that is resumed needs no initial weights.
        return RobustLPIPS(self.config, path or begun)

    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        path, recipe = self.checkpoint(stage, output), self.recipe(stage)
        weights = self.initial_key(stage) if path is None else {"checkpoint": file_digest(path)}
        network = {"config": asdict(self.config), **weights}
        if recipe is None:
            return network | self._validation.key()
        # Without the source of distances: a training is worth more than a new measurement.
        return network | {
            "seed": self.seed,
            "data": self.training.content,
            "validation": self._validation.content if self.validates else None,
            "recipe": asdict(recipe),
            "precision": self.settings.precision,
            "teacher": _teacher_key(self.settings),
        }

    def do(self, stage: str, output: Path, tick: Tick) -> dict[str, Any]:
        if self.recipe(stage) is not None:
            return self._train(stage, output, tick)
        metric, work = self.network(stage, output), self.work(stage)
        table = self._validation.measure(metric, self.device, lambda share: tick(share * work))
        write_distances(table, self.stage_folder(stage, output) / DISTANCES_FILE)
        return {"weights": weights_digest(metric)}

    def work(self, stage: str) -> float:
        recipe, images = self.recipe(stage), self._validation.images
        if recipe is not None:
            images = 3 * len(self.training.dataset) * recipe.epochs * _TRAINING_PASSES
        return float(images * multiply_accumulates(self.config, self.settings.image_size))

    def distances(self, stage: str, output: Path) -> pd.DataFrame:
        """The table that a stage measured."""
        return read_distances(self.stage_folder(stage, output) / DISTANCES_FILE)

    def files(self, output: Path) -> Iterator[Path]:
        yield from super().files(output)
        if self.settings.teacher:
            yield from _teacher_task(self.settings, self.device).files(output)

    @property
    def training(self) -> Part:
        """The training triplets."""
        return cached_parts(training_parts, self.settings)["train"]

    @property
    def _validation(self) -> Part:
        return cached_parts(validation_parts, self.settings)[""]

    def _train(self, stage: str, output: Path, tick: Tick) -> dict[str, Any]:
        recipe, folder = self.recipe(stage), self.stage_folder(stage, output)
        resumed = (folder / LAST).is_file()
        fabric = launch(self.device, self.settings.precision)
        with fabric.rank_zero_first():
            metric, data = self.network(stage, output).to(fabric.device), self.training.dataset
            if teacher := self.settings.teacher:
                table = output / _teacher_task(self.settings, self.device).folder / DISTANCES_FILE
                data = with_teacher(data, teacher, table, device=self.device)
        a_step = self.work(stage) / recipe.epochs / math.ceil(len(data) / recipe.batch_size)
        history = fit(
            metric,
            data,
            recipe,
            seed=self.seed,
            validation=self._validation.dataset if self.validates else None,
            output=folder,
            provenance=self.key(stage, output),
            checkpoint_every=self.settings.checkpoint_every,
            fabric=fabric,
            num_workers=loading_workers(self.device),
            on_step=lambda _: tick(a_step),
        )
        found = {"triplets": len(data), "losses": history["loss"].iloc[1:].tolist()}
        # What was trained before an interruption was not timed.
        return found | ({"seconds": None} if resumed else {})


def in_one_line(results: Results[TrainedSettings]) -> str:
    """Data set, numbers of triplets, largest shift and seeds of a run, for pages and figures."""
    tasks = results.of(TrainingTask)
    counts = [len(t.training.dataset) for t in tasks if any(map(t.recipe, t.stages))]
    return conditions(
        results.source,
        len(results.source.dataset),
        n_train=counts[0] if counts else None,
        max_shift=results.settings.max_shift,
        seed=sorted({task.seed for task in tasks}),
    )


def state_scores(row: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Accuracy and r_rf of a row of a table, with their bounds, for a record."""
    return with_bounds(row, ["two_afc", *rank_flip_columns(row)])


def _teacher_task(settings: TrainedSettings, device: str) -> MetricTask:
    return MetricTask(device, training_parts, settings, settings.teacher, "train")


def _teacher_key(settings: TrainedSettings) -> dict[str, Any] | None:
    """Identity of the teacher's weights, without the text that describes its layers."""
    if settings.teacher is None:
        return None
    key = identity_of(load_metric, settings.teacher, settings.seed).key
    return {part: value for part, value in key.items() if part != "settings"}
