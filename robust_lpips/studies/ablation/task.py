"""Settings of the ablation tables, and the task that brings a row into each state.

The states are data (:data:`STATES`), and so are the sizes of a run (:data:`PRESETS`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch

from robust_lpips.backbones import BackboneConfig
from robust_lpips.data.sample import JUDGE
from robust_lpips.metric import RobustLPIPS
from robust_lpips.published.rows import Row, table_rows
from robust_lpips.studies.base import Plan, Study, Task, metric_tasks, option
from robust_lpips.studies.base.training import TrainedSettings, TrainingTask, measure_teacher
from robust_lpips.training import LAST, Recipe

# References that stand with the untrained rows in the table; others stand with the trained ones.
UNTRAINED_REFERENCES = ("l2", "alexnet-untrained")
REFERENCES = (*UNTRAINED_REFERENCES, "alexnet-shift-tolerant")


class Preset(NamedTuple):
    """How large a run is.

    Attributes:
        recipe: how each row is trained.
        n_train: training triplets; None: all of BAPPS.
        n: validation triplets; None: all of BAPPS.
        seeds: seeds of initial weights and order; each row is trained with every one.
        checkpoint_every: steps of training that an interruption may cost.
    """

    recipe: Recipe
    n_train: int | None
    n: int | None
    seeds: tuple[int, ...] = (0,)
    checkpoint_every: int = 200


_QUICK = Recipe("teacher", 1, 0, 5e-4, batch_size=10, dropout=0.0)
_STANDARD = Recipe("teacher", 10, 4, 5e-4, batch_size=50, dropout=0.0)
PRESETS = {
    "quick": Preset(_QUICK, 500, 600, checkpoint_every=10),
    "standard": Preset(_STANDARD, 4000, 2000, seeds=(0, 1, 2)),
    "paper": Preset(Recipe(), None, None),
}
# VGG-16 costs about thirty times as much as AlexNet.
_QUICK_VGG = PRESETS["quick"]._replace(n_train=400, n=240)


def row_and_path(text: str) -> tuple[str, Path]:
    """``ROW=PATH`` of an existing file, for ``type=`` of an argument."""
    row, _, path = text.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"must be ROW=PATH of a checkpoint; got {text!r}")
    return row, Path(path).resolve()


@dataclass(frozen=True)
class AblationSettings(TrainedSettings):
    """Settings of an ablation table.

    Attributes:
        table: name of the table, one of :data:`robust_lpips.published.rows.TABLES`.
        seed: seed of the references with random weights and of the intervals.

    Raises:
        ValueError: if rows are unknown, a value is out of range, or the preset needs BAPPS.
    """

    n: int | None = option(None, "validation triplets (default: the preset's)", least=1)
    n_train: int | None = option(None, "training triplets (default: the preset's)", least=1)
    preset: str = option("quick", "how large the run is", choices=PRESETS)
    rows: tuple[str, ...] = option(
        (), "only these rows (all)", claimed=False, alone=True, metavar="ROW"
    )
    seeds: tuple[int, ...] = option(
        (), "seeds, with each of which every row is trained (the preset's)", least=0, claimed=False
    )
    weights: tuple[tuple[str, Path], ...] = option(
        (),
        "measure these checkpoints instead of training those rows",
        alone=True,
        metavar="ROW=PATH",
        parse=row_and_path,
    )

    table: ClassVar[str]
    presets: ClassVar[dict[str, Preset]] = PRESETS
    seed: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [row.name for row in table_rows(self.table)]
        for name, given in (("rows", self.rows), ("weights", [row for row, _ in self.weights])):
            if unknown := [row for row in given if row not in known]:
                raise ValueError(f"{name} must be of {', '.join(known)}; got {', '.join(unknown)}")
        if self.data_root is None and self.recipe.target == "judge":
            raise ValueError(
                f"data_root must be given with preset {self.preset!r}, which learns people's "
                "judgments: the folder of BAPPS"
            )

    def claim(self) -> dict[str, Any]:
        return {"table": self.table, **super().claim()}

    def record(self) -> dict[str, Any]:
        return {"table": self.table, **super().record()}

    def count(self, split: str) -> int | None:
        given, size = super().count(split), self.size
        return given or (size.n_train if split == "train" else size.n)

    @property
    def size(self) -> Preset:
        """The chosen preset, as it is for this table."""
        return self.presets[self.preset]

    @property
    def recipe(self) -> Recipe:
        """How rows are trained."""
        return self.size.recipe

    @property
    def teacher(self) -> str | None:
        return JUDGE if self.recipe.target == "teacher" else None

    @property
    def checkpoint_every(self) -> int:
        return self.size.checkpoint_every

    @property
    def chosen_rows(self) -> list[Row]:
        """The rows to run, in the paper's order."""
        return [row for row in table_rows(self.table) if not self.rows or row.name in self.rows]

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        """The seeds to run each row with."""
        return tuple(dict.fromkeys(self.seeds or self.size.seeds))


class AlexNetSettings(AblationSettings):
    table = "alexnet"


class BlurPlacementSettings(AblationSettings):
    table = "blur-placement"


class BackbonesSettings(AblationSettings):
    table, presets = "backbones", PRESETS | {"quick": _QUICK_VGG}


class SkipSettings(AblationSettings):
    table, presets = "skip", PRESETS | {"quick": _QUICK_VGG}


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

    validates = False

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
    def stages(self) -> tuple[str, ...]:
        training = self.row_name not in dict(self.settings.weights)
        pairs = [(state.training if training else None, state.name) for state in STATES]
        return tuple(stage for pair in pairs for stage in pair if stage)

    def recipe(self, stage: str) -> Recipe | None:
        return self.settings.recipe if stage == _state_of(stage).training else None

    def checkpoint(self, stage: str, output: Path) -> Path | None:
        training = _state_of(stage).training
        if training in (None, stage):
            return None
        given = dict(self.settings.weights).get(self.row_name)
        return given or self.stage_folder(training, output) / LAST

    def initial(self, stage: str) -> RobustLPIPS:
        start = STARTS[_state_of(stage).start]
        return start(self.config, self.seed, self.recipe(stage) is not None)

    def initial_key(self, stage: str) -> Mapping[str, Any]:
        return {"seed": self.seed, "start": _state_of(stage).start}


def tasks(study: Study[AblationSettings], plan: Plan[AblationSettings]) -> list[Task]:
    """A task for every row and seed, and one for every reference."""
    settings = plan.settings
    rows = [
        RowTask(plan.device, settings, seed, row.config, row.name)
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
