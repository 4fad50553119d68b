"""The states of a row as data, and the task that brings a row into each and measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from robust_lpips.backbones import BackboneConfig
from robust_lpips.metric import RobustLPIPS
from robust_lpips.provenance import file_digest
from robust_lpips.published.rows import Row
from robust_lpips.studies.ablation.settings import AblationSettings, parts
from robust_lpips.studies.base import Plan, Study, Task, metric_tasks
from robust_lpips.studies.base.training import TrainingTask, measure_teacher
from robust_lpips.training import LAST, Recipe

# References that stand with the untrained rows in the table; others stand with the trained ones.
UNTRAINED_REFERENCES = ("l2", "alexnet-untrained")
REFERENCES = (*UNTRAINED_REFERENCES, "alexnet-shift-tolerant")


class State(NamedTuple):
    """A state in which the network of each row is measured.

    Attributes:
        name: name of the state, of its stage and in tables.
        start: initial weights, one of :data:`STARTS`.
        training: name of the stage that trains from there; None: measured as it starts.
    """

    name: str
    start: str
    training: str | None = None

    @property
    def before(self) -> State | None:
        """The state that the training starts from; None: nothing is trained."""
        untrained = (state for state in STATES if state.start == self.start and not state.training)
        return next(untrained, None) if self.training else None


STATES = (State("untrained", "random"), State("trained", "random", "training"))


def _random(config: BackboneConfig, seed: int, learns: bool) -> RobustLPIPS:
    torch.manual_seed(seed)
    return RobustLPIPS(config, weights=None, linear=learns)


# Initial weights by name: they give the network of a configuration and a seed; the last argument
# says that its 1x1 weights are to be trained.
STARTS: Mapping[str, Callable[[BackboneConfig, int, bool], RobustLPIPS]] = {"random": _random}


@dataclass(frozen=True)
class RowTask(TrainingTask):
    """Measure a row of a table in each of its states, with one seed."""

    settings: AblationSettings
    row_name: str

    @property
    def name(self) -> str:
        return f"{self.row_name}, seed {self.seed}"

    @property
    def folder(self) -> str:
        return f"rows/{self.row_name}-seed{self.seed}"

    @property
    def row(self) -> Row:
        """Its row of the table."""
        return next(row for row in self.settings.chosen_rows if row.name == self.row_name)

    @property
    def config(self) -> BackboneConfig:
        return self.row.config

    @property
    def given(self) -> Path | None:
        """The checkpoint that is measured instead of training."""
        return dict(self.settings.weights).get(self.row_name)

    @property
    def stages(self) -> tuple[str, ...]:
        trains = self.given is None
        return tuple(
            stage
            for state in STATES
            for stage in (state.training if trains else None, state.name)
            if stage
        )

    def recipe(self, stage: str) -> Recipe | None:
        return self.settings.recipe if stage == _state_of(stage).training else None

    def network(self, stage: str, output: Path) -> RobustLPIPS:
        checkpoint, learns = self.checkpoint(stage, output), self.recipe(stage) is not None
        if checkpoint is not None:
            return RobustLPIPS(self.config, checkpoint)
        return STARTS[_state_of(stage).start](self.config, self.seed, learns)

    def network_key(self, stage: str, output: Path) -> Mapping[str, Any]:
        checkpoint, key = self.checkpoint(stage, output), {"config": asdict(self.config)}
        if checkpoint is not None:
            return key | {"checkpoint": file_digest(checkpoint)}
        return key | {"seed": self.seed, "start": _state_of(stage).start}

    def checkpoint(self, stage: str, output: Path) -> Path | None:
        """The trained weights that a stage measures; None: it begins with initial weights."""
        state = _state_of(stage)
        if state.training in (None, stage):
            return None
        return self.given or self.stage_folder(state.training, output) / LAST


def tasks(study: Study[AblationSettings], plan: Plan[AblationSettings]) -> list[Task]:
    """A task for every row and seed, and one for every reference."""
    settings = plan.settings
    rows = [
        RowTask(plan.device, parts, settings, seed, row.name)
        for row in settings.chosen_rows
        for seed in settings.chosen_seeds
    ]
    return [*rows, *metric_tasks(study, plan)]


def prepare(plan: Plan[AblationSettings], output: Path) -> None:
    """Make what rows need that are trained: the training triplets, and the teacher's distances."""
    given = dict(plan.settings.weights)
    if any(row.name not in given for row in plan.settings.chosen_rows):
        measure_teacher(plan, output)


def _state_of(stage: str) -> State:
    return next(state for state in STATES if stage in (state.name, state.training))
