"""Studies that train networks: their settings, and tasks that train and measure them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from robust_lpips.backbones import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import load_metric
from robust_lpips.data.sample import JUDGE, judge_distances
from robust_lpips.evaluation import read_distances, write_distances
from robust_lpips.metric import RobustLPIPS
from robust_lpips.provenance import weights_digest
from robust_lpips.records import with_bounds
from robust_lpips.studies.base.engines import do_task, progress_bar
from robust_lpips.studies.base.machine import loading_workers
from robust_lpips.studies.base.measuring import (
    DISTANCES_FILE,
    MetricTask,
    Part,
    Parts,
    cached_parts,
    identity_of,
)
from robust_lpips.studies.base.settings import DataSettings, option
from robust_lpips.studies.base.source import Source, triplets
from robust_lpips.studies.base.study import Plan, Results
from robust_lpips.studies.base.tasks import LeftOut, Task, Tick
from robust_lpips.studies.base.words import conditions, rank_flip_columns
from robust_lpips.training import LAST, Recipe, fit, launch, with_teacher
from robust_lpips.training.batches import EpochBatches

# A step costs about three passes: forward, and backward to the features and to the weights.
_TRAINING_PASSES = 3


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

    def triplets(self, split: str) -> Source:
        """The triplets of split ``"train"`` or ``"val"``."""
        return triplets(self.data_root, split, self.count(split), self.image_size)

    def source(self) -> Source:
        return self.triplets("val")


def training_parts(settings: TrainedSettings) -> dict[str, Part]:
    """The training triplets, part ``train``."""
    return {"train": Part(settings.triplets("train").dataset)}


def measure_teacher(plan: Plan[TrainedSettings], output: Path) -> None:
    """Build the training triplets, and measure the teacher's distances if they lack them.

    Raises:
        ValueError: if the teacher is unavailable.
    """
    settings = plan.settings
    dataset = cached_parts(training_parts, settings)["train"].dataset
    if settings.teacher is None:
        return
    if settings.teacher == JUDGE and judge_distances(dataset) is not None:
        return
    task = _teacher_task(settings, plan.device)
    try:
        with progress_bar([task], output, f"teacher {task.metric}") as (_, bar):
            do_task(task, output, bar.update)
    except LeftOut as reason:
        raise ValueError(f"the teacher {task.metric} {reason}") from reason


@dataclass(frozen=True)
class TrainingTask(Task):
    """Task whose stages train a network, or measure it on the validation triplets.

    Attributes:
        parts: gives the validation triplets as the part without a name.
        settings: settings of the study.
        seed: seed of random weights, of the order of triplets and of dropout.
        validates: the network is scored before training and after every epoch, and the best epoch
            is kept.
    """

    parts: Parts
    settings: TrainedSettings
    seed: int

    validates: ClassVar[bool] = False

    @property
    @abstractmethod
    def config(self) -> BackboneConfig:
        """The backbone."""

    @abstractmethod
    def recipe(self, stage: str) -> Recipe | None:
        """How a stage trains; None: it measures."""

    @abstractmethod
    def network(self, stage: str, output: Path) -> RobustLPIPS:
        """The network that a stage trains or measures.

        Raises:
            LeftOut: if its weights are unavailable.
        """

    @abstractmethod
    def network_key(self, stage: str, output: Path) -> Mapping[str, Any]:
        """Part of a key: what :meth:`network` depends on."""

    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        network, recipe = self.network_key(stage, output), self.recipe(stage)
        if recipe is None:
            return {**network, **self.validation.key()}
        teacher = self.settings.teacher
        # Without the source of distances: a training is worth more than a new measurement.
        return {
            **network,
            "seed": self.seed,
            "data": self.training.content,
            "validation": self.validation.content if self.validates else None,
            "recipe": asdict(recipe),
            "precision": self.settings.precision,
            "teacher": None if teacher is None else _weights_key(teacher, self.settings.seed),
        }

    def do(self, stage: str, output: Path, tick: Tick) -> dict[str, Any]:
        return (self._measure if self.recipe(stage) is None else self._train)(stage, output, tick)

    def work(self, stage: str) -> float:
        recipe = self.recipe(stage)
        images = self.validation.images
        if recipe is not None:
            images = 3 * len(self.training.dataset) * recipe.epochs * _TRAINING_PASSES
        return float(images * multiply_accumulates(self.config, self.settings.image_size))

    def distances(self, stage: str, output: Path) -> pd.DataFrame:
        """The table that a stage measured."""
        return read_distances(self.stage_folder(stage, output) / DISTANCES_FILE)

    def files(self, output: Path) -> Any:
        yield from super().files(output)
        if self.settings.teacher is not None:
            yield from _teacher_task(self.settings, self.device).files(output)

    @property
    def validation(self) -> Part:
        """The validation triplets."""
        return cached_parts(self.parts, self.settings)[""]

    @property
    def training(self) -> Part:
        """The training triplets."""
        return cached_parts(training_parts, self.settings)["train"]

    def _measure(self, stage: str, output: Path, tick: Tick) -> dict[str, Any]:
        metric, work = self.network(stage, output), self.work(stage)
        table = self.validation.measure(metric, self.device, lambda share: tick(share * work))
        write_distances(table, self.stage_folder(stage, output) / DISTANCES_FILE)
        return {"weights": weights_digest(metric)}

    def _train(self, stage: str, output: Path, tick: Tick) -> dict[str, Any]:
        settings, recipe, folder = (
            self.settings,
            self.recipe(stage),
            self.stage_folder(stage, output),
        )
        resumed = (folder / LAST).is_file()
        fabric = launch(self.device, settings.precision)
        with fabric.rank_zero_first():
            metric, data = self.network(stage, output).to(fabric.device), self._learnt_from(output)
            steps = EpochBatches(
                len(data), recipe.batch_size, self.seed, fabric.global_rank, fabric.world_size
            ).steps
        a_step = self.work(stage) / (recipe.epochs * steps)
        history = fit(
            metric,
            data,
            recipe,
            seed=self.seed,
            validation=self.validation.dataset if self.validates else None,
            output=folder,
            provenance=self.key(stage, output),
            checkpoint_every=settings.checkpoint_every,
            fabric=fabric,
            num_workers=loading_workers(self.device),
            on_step=lambda _: tick(a_step),
        )
        found = {"triplets": len(data), "losses": history["loss"].iloc[1:].tolist()}
        # What was trained before an interruption was not timed.
        return found | ({"seconds": None} if resumed else {})

    def _learnt_from(self, output: Path) -> Any:
        """The training triplets, with the teacher's distances where there is a teacher."""
        settings = self.settings
        if settings.teacher is None:
            return self.training.dataset
        path = output / _teacher_task(settings, self.device).folder / DISTANCES_FILE
        return with_teacher(self.training.dataset, settings.teacher, path, device=self.device)


def in_one_line(results: Results[TrainedSettings]) -> str:
    """Data set, numbers of triplets, largest shift and seeds of a run, for pages and figures."""
    tasks = results.of(TrainingTask)
    trained = [task for task in tasks if any(map(task.recipe, task.stages))]
    return conditions(
        results.source,
        len(results.source.dataset),
        n_train=len(trained[0].training.dataset) if trained else None,
        max_shift=results.settings.max_shift,
        seed=sorted({task.seed for task in tasks}),
    )


def state_scores(row: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Accuracy and r_rf of a row of a table, with their bounds, for a record."""
    return with_bounds(row, ["two_afc", *rank_flip_columns(row)])


def _teacher_task(settings: TrainedSettings, device: str) -> MetricTask:
    return MetricTask(device, training_parts, settings, settings.teacher, "train")


def _weights_key(name: str, seed: int) -> dict[str, Any]:
    """What tells the teacher's weights, but not the text that describes its layers."""
    key = identity_of(load_metric, name, seed).key
    return {part: value for part, value in key.items() if part != "settings"}
