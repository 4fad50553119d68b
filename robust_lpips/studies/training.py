"""Training of one metric, and its scores before training, at the end and at its best."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.backbones import BackboneConfig
from robust_lpips.comparison import metric_names
from robust_lpips.evaluation import ceilings_table, paired_difference, summarize
from robust_lpips.metric import RobustLPIPS
from robust_lpips.provenance import file_digest
from robust_lpips.studies import base
from robust_lpips.studies.base import option
from robust_lpips.studies.base.measuring import first_sentence
from robust_lpips.studies.base.training import (
    TrainedSettings,
    TrainingTask,
    in_one_line,
    measure_teacher,
    state_scores,
)
from robust_lpips.studies.base.words import difference_rows
from robust_lpips.tables import to_markdown
from robust_lpips.tasks.task import RECORD_FILE, next_stage
from robust_lpips.training import BEST, LAST, PRECISIONS, Recipe
from robust_lpips.training.initialization import INITS, initialize
from robust_lpips.training.log import HISTORY_FILE, STEPS_FILE, TENSORBOARD_FOLDER

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
    """Measure the initial network, train it, and measure its last and its best checkpoint.

    Checkpoints and logs of the training lie in the output folder itself.
    """

    settings: TrainSettings

    name = "training"
    folder = ""
    stages = (BEFORE, TRAINING, *_CHECKPOINTS)

    def stage_folder(self, stage: str, output: Path) -> Path:
        return output if stage == TRAINING else super().stage_folder(stage, output)

    def results(self, stage: str, output: Path) -> list[Path]:
        if stage != TRAINING:
            return super().results(stage, output)
        names = (LAST, BEST, HISTORY_FILE, STEPS_FILE)
        return [output / name for name in names if (output / name).is_file()]

    def discard(self, stage: str, output: Path) -> None:
        if stage != TRAINING:
            return super().discard(stage, output)
        for name in (LAST, BEST, HISTORY_FILE, STEPS_FILE):
            (output / name).unlink(missing_ok=True)
        shutil.rmtree(output / TENSORBOARD_FOLDER, ignore_errors=True)

    def recipe(self, stage: str) -> Recipe | None:
        return self.settings.recipe if stage == TRAINING else None

    def checkpoint(self, stage: str, output: Path) -> Path | None:
        return output / _CHECKPOINTS[stage] if stage in _CHECKPOINTS else None

    def initial(self, stage: str) -> RobustLPIPS:
        torch.manual_seed(self.seed)
        metric = RobustLPIPS(self.config, weights=None, linear=True).to(self.device)
        dataset = self.training.dataset
        try:
            initialize(metric, self.settings.init, seed=self.seed, dataset=dataset)
        except FileNotFoundError as error:
            raise base.LeftOut(first_sentence(error)) from error
        return metric

    def initial_key(self, stage: str) -> Mapping[str, Any]:
        init = self.settings.init
        return {
            "init": file_digest(init) if isinstance(init, Path) else init,
            "init_data": self.training.content if init == "kmeans" else None,
            "init_seed": self.seed,
        }

    def join(self, output: Path) -> None:
        # The first process cannot finish the training alone, so that all of them see that stage.
        if next_stage(self, output) in (BEFORE, TRAINING):
            self.do(TRAINING, output, lambda _: None)


def tasks(study: base.Study, plan: base.Plan[TrainSettings]) -> list[TrainTask]:
    """The training, the only task."""
    return [TrainTask(plan.device, plan.settings, plan.settings.seed, plan.settings.config)]


def check(settings: TrainSettings, output: Path) -> None:
    """Raise ValueError unless the folder holds a training to resume, or may hold a new one."""
    found = (output / LAST).is_file()
    if settings.resume and not found:
        raise ValueError(f"output: {output} holds no {LAST} to resume from")
    if found and not (output / RECORD_FILE).is_file():
        raise ValueError(f"output: {output} holds {LAST} of another program: choose another folder")


def tables(results: base.Results[TrainSettings]) -> dict[str, pd.DataFrame]:
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
    differences = [
        pd.DataFrame(
            {"comparison": f"{state} - {before}"}
            | dict(paired_difference(distances[state], distances[before]))
        )
        for state in trained
    ]
    return {"summary": pd.DataFrame(rows), "differences": pd.concat(differences, ignore_index=True)}


def page(results: base.Results[TrainSettings], tables: base.Tables) -> list[str]:
    """Conditions, scores of all states, and what training gained."""
    settings, summary, output = results.settings, tables["summary"], results.output
    (task,) = results.of(TrainTask)
    quantities = ["two_afc", *base.rank_flip_columns(summary)]
    cells = {base.quantity_label(q): base.interval_cells(summary, q) for q in quantities}
    history = pd.read_csv(output / HISTORY_FILE)
    splits = {"training": "train", "validation": "val"}
    chosen = " and ".join(name for name, split in splits.items() if settings.count(split))
    return base.filled(
        "training",
        title=_title(settings),
        conditions=in_one_line(results),
        source=results.source,
        ceilings=ceilings_table(task.distances(BEFORE, output)).iloc[-1],
        judged=None if settings.teacher else settings.recipe,
        distilled=settings.recipe if settings.teacher else None,
        settings=settings,
        spaced=f" Evenly spaced {chosen} triplets." if chosen and settings.data_root else "",
        best=int(history.loc[history["validation"].iloc[1:].idxmax(), "epoch"]),
        scores=to_markdown(pd.DataFrame({"weights": summary["state"], **cells})),
        differences=to_markdown(difference_rows(tables["differences"], ["comparison"], quantities)),
    )


def figures(results: base.Results[TrainSettings], tables: base.Tables) -> dict[str, Figure]:
    """``training``: loss and accuracies against epochs; means stand in the middle of an epoch."""
    history, steps = (pd.read_csv(results.output / name) for name in (HISTORY_FILE, STEPS_FILE))
    middle = history["epoch"] - 0.5
    figure = plotting.epochs_figure(
        {"epoch mean": (middle, history["loss"])},
        {
            "training": (middle, 100 * history["accuracy"]),
            "validation": (history["epoch"], 100 * history["validation"]),
        },
        f"{_title(results.settings)}\n{in_one_line(results)}",
        results.source.accuracy_label,
        ("Training loss (thin: each step)", "Accuracy"),
        (steps["epoch"] + (steps["step"] + 1) / (steps["step"].max() + 1), steps["loss"]),
    )
    return {"training": figure}


def records(results: base.Results[TrainSettings], tables: base.Tables) -> Iterator[base.Record]:
    """Scores of every state."""
    (task,) = results.of(TrainTask)
    entries, arch = results.record(task), results.settings.config.arch
    for state, row in zip(_STATES, tables["summary"].to_dict("records"), strict=True):
        title, weights = f"{arch}, {row['state']}", entries[state]["weights"]
        yield base.Record(title, row["n"], state_scores(row), weights)


def _title(settings: TrainSettings) -> str:
    # A file by its name alone: folders of this machine mean nothing where the page is read.
    return f"Training: {settings.config.arch}, {settings.mode}, from {Path(settings.init).name}"


STUDY = base.Study(
    "training",
    *(TrainSettings, tables, page, figures, records),
    tasks=tasks,
    check=check,
    prepare=measure_teacher,
    folder=lambda settings: "train",
    page_name="report",
)
