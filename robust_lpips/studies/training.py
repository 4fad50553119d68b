"""Training of one metric, and its scores before training, at the end and at its best."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.backbones import BackboneConfig
from robust_lpips.comparison import metric_names
from robust_lpips.evaluation import paired_difference, summarize
from robust_lpips.metric import RobustLPIPS
from robust_lpips.provenance import file_digest
from robust_lpips.studies.base import (
    LeftOut,
    Plan,
    Record,
    Results,
    Study,
    Tables,
    interval_cells,
    option,
    quantity_label,
    rank_flip_columns,
)
from robust_lpips.studies.base.measuring import first_sentence
from robust_lpips.studies.base.study import single_part
from robust_lpips.studies.base.tasks import next_stage
from robust_lpips.studies.base.training import (
    TrainedSettings,
    TrainingTask,
    in_one_line,
    measure_teacher,
    state_scores,
)
from robust_lpips.studies.base.words import (
    ceilings_note,
    difference_rows,
    quantities_note,
    recipe_note,
)
from robust_lpips.tables import to_markdown
from robust_lpips.training import BEST, LAST, PRECISIONS, Recipe
from robust_lpips.training.initialization import INITS, initialize
from robust_lpips.training.log import HISTORY_FILE, STEPS_FILE

# Triplets where no number is given, of the sample set and of BAPPS; None: all. Every epoch ends
# with a validation, and BAPPS has 36,344 triplets for it.
_COUNTS = {"train": (500, None), "val": (200, 2000)}
_PAPERS = Recipe()
_JUDGE = "judge"
BEFORE, TRAINING = "before", "training"
_STATES = {BEFORE: "before training", "last": "after the last epoch", "best": "at its best"}
_CHECKPOINTS = {"last": LAST, "best": BEST}


def initial_weights(text: str) -> str | Path:
    """A name of initial weights, or the path of a file, for ``type=`` of an argument."""
    path = Path(text).expanduser()
    if text not in INITS and not path.is_file():
        names = ", ".join(INITS)
        raise argparse.ArgumentTypeError(f"must be one of {names}, or a file; got {text!r}")
    return text if text in INITS else path.resolve()


def known_target(text: str) -> str:
    """Judgments or a metric as the target, for ``type=`` of an argument."""
    names = (_JUDGE, "package.module:factory", *metric_names())
    if text not in names and ":" not in text:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(names)}; got {text!r}")
    return text


@dataclass(frozen=True)
class TrainSettings(TrainedSettings):
    """Settings of a training; the defaults are the papers'.

    Raises:
        ValueError: if a value is out of range, or random weights are to be tuned.
    """

    n: int | None = option(None, "validation triplets (200; of BAPPS 2000 evenly spaced)", least=1)
    n_train: int | None = option(
        None, "training triplets, evenly spaced ones of BAPPS (500; of BAPPS all)", least=1
    )
    config: BackboneConfig = option(BackboneConfig(), "the network that is trained")
    # Not "head", which is for the study of the distance.
    mode: str = option(_PAPERS.mode, "what is trained", choices=("lin", "tune", "scratch"))
    init: str | Path = option(
        "random", f"initial weights: {', '.join(INITS)}, or a file", parse=initial_weights
    )
    target: str = option(
        _JUDGE,
        "target of the training: judge for judgments, a metric's name, or package.module:factory",
        parse=known_target,
        metavar="judge|METRIC",
    )
    epochs: int = option(_PAPERS.epochs, "passes over the training triplets", least=1)
    decay_epochs: int | None = option(
        None, "number of last epochs at lower learning rates (4 of 10)", least=0
    )
    learning_rate: float = option(_PAPERS.learning_rate, "learning rate of Adam")
    batch_size: int = option(_PAPERS.batch_size, "triplets per step, over all processes", least=1)
    dropout: float = option(_PAPERS.dropout, "dropout before each 1x1 layer")
    precision: str = option("32", "precision of the training", choices=PRECISIONS)
    seed: int = option(0, "seed of random weights, of the order and of dropout", least=0)
    resume: bool = option(
        False, "refuse to begin a new training: there has to be one to resume", claimed=False
    )
    checkpoint_every: int = option(
        200, "steps between checkpoints, next to one per epoch", least=1, claimed=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe.mode == "tune" and self.init in ("random", "kmeans"):
            raise ValueError(
                f"init must name trained weights with mode 'tune'; got {self.init!r} (to train "
                "those is mode 'scratch')"
            )

    def count(self, split: str) -> int | None:
        return super().count(split) or _COUNTS[split][self.data_root is not None]

    def record(self) -> dict[str, Any]:
        return asdict(self.config) | super().record()

    @property
    def teacher(self) -> str | None:
        return None if self.target == _JUDGE else self.target

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        decay = self.epochs * _PAPERS.decay_epochs // _PAPERS.epochs
        return Recipe(
            target=_JUDGE if self.teacher is None else "teacher",
            epochs=self.epochs,
            decay_epochs=decay if self.decay_epochs is None else self.decay_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            dropout=self.dropout,
            mode=self.mode,
        )


@dataclass(frozen=True)
class TrainTask(TrainingTask):
    """Measure the initial network, train it, and measure its last and its best checkpoint."""

    settings: TrainSettings

    validates: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "training"

    @property
    def folder(self) -> str:
        return ""

    @property
    def stages(self) -> tuple[str, ...]:
        return (BEFORE, TRAINING, *_CHECKPOINTS)

    @property
    def config(self) -> BackboneConfig:
        return self.settings.config

    def recipe(self, stage: str) -> Recipe | None:
        return self.settings.recipe if stage == TRAINING else None

    def network(self, stage: str, output: Path) -> RobustLPIPS:
        folder, settings = self.stage_folder(TRAINING, output), self.settings
        if stage in _CHECKPOINTS:
            return RobustLPIPS(weights=folder / _CHECKPOINTS[stage])
        torch.manual_seed(self.seed)
        metric = RobustLPIPS(self.config, weights=None, linear=True).to(self.device)
        # Else the checkpoint brings the weights.
        if stage == BEFORE or not (folder / LAST).is_file():
            try:
                data = self.training.dataset
                initialize(metric, settings.init, seed=self.seed, dataset=data)
            except FileNotFoundError as error:
                raise LeftOut(first_sentence(error)) from error
        return metric

    def network_key(self, stage: str, output: Path) -> Mapping[str, Any]:
        if stage in _CHECKPOINTS:
            path = self.stage_folder(TRAINING, output) / _CHECKPOINTS[stage]
            return {"checkpoint": file_digest(path)}
        init = self.settings.init
        return {
            "config": asdict(self.config),
            "init": file_digest(init) if isinstance(init, Path) else init,
            "init_data": self.training.content if init == "kmeans" else None,
            "init_seed": self.seed,
        }

    def join(self, output: Path) -> None:
        # The first process cannot finish the training alone, so that all of them see that stage.
        if next_stage(self, output) in (BEFORE, TRAINING):
            self.do(TRAINING, output, lambda _: None)


def tasks(study: Study[TrainSettings], plan: Plan[TrainSettings]) -> list[TrainTask]:
    """The training, the only task."""
    return [TrainTask(plan.device, single_part, plan.settings, plan.settings.seed)]


def prepare(plan: Plan[TrainSettings], output: Path) -> None:
    """Check that there is a training to resume, if one has to be; measure the teacher."""
    if plan.settings.resume and not (output / TRAINING / LAST).is_file():
        raise ValueError(f"output: {output} holds no {TRAINING}/{LAST} to resume from")
    measure_teacher(plan, output)


def tables(results: Results[TrainSettings]) -> dict[str, pd.DataFrame]:
    """Tables of a finished training, in percent and percentage points.

    ``summary``: one row per state, before training, after the last epoch and at the best one:
    ``state, n``, and scores with 95 % intervals.

    ``differences``: paired differences of the trained states from the one before training:
    ``comparison, quantity, a, b, difference, low, high``.
    """
    (task,) = results.of(TrainTask)
    distances = {title: task.distances(state, results.output) for state, title in _STATES.items()}
    before, *trained = distances
    rows = [
        {"state": state} | summarize(table).iloc[-1].drop("subset").to_dict()
        for state, table in distances.items()
    ]
    differences = []
    for state in trained:
        part = paired_difference(distances[state], distances[before])
        part.insert(0, "comparison", f"{state} - {before}")
        differences.append(part)
    return {"summary": pd.DataFrame(rows), "differences": pd.concat(differences, ignore_index=True)}


def page(results: Results[TrainSettings], tables: Tables) -> list[str]:
    """Conditions, scores of all states, and what training gained."""
    settings, source, summary = results.settings, results.source, tables["summary"]
    (task,) = results.of(TrainTask)
    quantities = ["two_afc", *rank_flip_columns(summary)]
    history = pd.read_csv(results.output / TRAINING / HISTORY_FILE)
    best = int(history.loc[history["validation"].iloc[1:].idxmax(), "epoch"])
    scores = summary[["state"]].rename(columns={"state": "weights"})
    scores = scores.assign(**{quantity_label(q): interval_cells(summary, q) for q in quantities})
    return [
        f"# {_title(settings)}",
        f"{in_one_line(results)}. {source.judged_by} "
        f"{ceilings_note(task.distances(BEFORE, results.output))}",
        f"{_training_note(settings)} Backbone: `{settings.config}`.",
        f"## Validation\n\n{quantities_note(source)}. Brackets: 95 % intervals{source.clustered}. "
        f"The best epoch, {best} of {settings.epochs}, was chosen by these same triplets, which "
        "favours it.",
        to_markdown(scores),
        "## Differences\n\nPaired over the same triplets, in percentage points.",
        to_markdown(difference_rows(tables["differences"], ["comparison"], quantities)),
    ]


def figures(results: Results[TrainSettings], tables: Tables) -> Mapping[str, Figure]:
    """``training``: loss and accuracies against epochs."""
    folder = results.output / TRAINING
    history, steps = (pd.read_csv(folder / name) for name in (HISTORY_FILE, STEPS_FILE))
    title = f"{_title(results.settings)}\n{in_one_line(results)}"
    return {"training": training_figure(history, steps, title, results.source.accuracy_label)}


def training_figure(
    history: pd.DataFrame, steps: pd.DataFrame, title: str, accuracy_label: str
) -> Figure:
    """Loss and accuracy of one training against its epochs.

    Panels: the loss of every step (thin) and its mean over each epoch, which stands in the epoch's
    middle; and the mean accuracy on the training triplets, likewise, and that on the validation
    triplets before training and after each epoch, if there are any.

    Args:
        history: ``epoch`` (0: before training), ``loss``, ``accuracy``, ``validation``;
            accuracies in [0, 1], NaN where there is none.
        steps: ``epoch, step, loss``; epochs and steps counted from 0.
        title: its first line is the heading; further lines give the conditions.
        accuracy_label: term for the accuracies with its unit.

    Raises:
        ValueError: if a table has no rows.
    """
    for name, table in (("history", history), ("steps", steps)):
        if table.empty:
            raise ValueError(f"{name} has no rows")
    middle = history["epoch"] - 0.5
    with plotting.figure((9.6, 4.75), title) as fig:
        left, right = plotting.panels(fig, 2, left=0.7, right=0.95, top=1.05, height=3.1, gap=1.7)
        when = steps["epoch"] + (steps["step"] + 1) / (steps["step"].max() + 1)
        left.plot(when, steps["loss"], color=plotting.BLUE, alpha=0.35, lw=0.7, zorder=2)
        plotting.draw_epochs(left, {"epoch mean": (middle, history["loss"])})
        left.set(title="Training loss (thin: each step)", ylabel="loss")
        accuracies = {
            "training": (middle, 100 * history["accuracy"]),
            "validation": (history["epoch"], 100 * history["validation"].astype(float)),
        }
        plotting.draw_epochs(right, accuracies)
        right.set(title="Accuracy", ylabel=accuracy_label)
    return fig


def records(results: Results[TrainSettings], tables: Tables) -> Iterator[Record]:
    """Scores of every state."""
    (task,) = results.of(TrainTask)
    entries, config = results.record(task), results.settings.config
    for state, row in zip(_STATES, tables["summary"].to_dict("records"), strict=True):
        scores = state_scores(row)
        yield Record(f"{config.arch}, {row['state']}", row["n"], scores, entries[state]["weights"])


STUDY = Study(
    name="training",
    settings=TrainSettings,
    tasks=tasks,
    prepare=prepare,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    folder=lambda settings: "train",
    page_name="report",
)


def _title(settings: TrainSettings) -> str:
    # A file by its name alone: folders of this machine mean nothing where the page is read.
    return f"Training: {settings.config.arch}, {settings.mode}, from {Path(settings.init).name}"


def _training_note(settings: TrainSettings) -> str:
    aim = "judgments, with the ranking loss"
    if settings.teacher is not None:
        aim = f"the logarithms of the distances of {settings.teacher} (distillation)"
    parts = [
        n for n, split in (("training", "train"), ("validation", "val")) if settings.count(split)
    ]
    spaced = (
        f" Evenly spaced {' and '.join(parts)} triplets." if parts and settings.data_root else ""
    )
    how = recipe_note(settings.recipe)
    return f"Trained to {aim}: {how}, precision {settings.precision}.{spaced}"
