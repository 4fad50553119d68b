"""Logs of a training: CSV files, and TensorBoard if it is installed."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import pandas as pd
from lightning_fabric.loggers import TensorBoardLogger

from robust_lpips.tables import write_csv
from robust_lpips.training.session import Progress, Session

STEP_COLUMNS = ("epoch", "step", "loss", "accuracy", "learning_rate")
STEPS_FILE, HISTORY_FILE, TENSORBOARD_FOLDER = "steps.csv", "history.csv", "tensorboard"


class TrainingLog:
    """``steps.csv`` with one line per step, ``history.csv`` with one per epoch, and TensorBoard.

    ``accuracy`` is the mean 2AFC score on the step's triplets, in [0, 1]. Epochs and steps are
    counted from 0 in ``steps.csv``; ``history.csv`` is the table that
    :func:`~robust_lpips.training.fit` returns. When a training resumes, lines of steps after the
    last checkpoint are removed.

    A context manager. Without a folder, and in all processes but the first, it does nothing.

    Args:
        session: the training, whose progress is logged in its folder.
        steps: number of steps per epoch.
    """

    def __init__(self, session: Session, steps: int) -> None:
        self.session = session
        self.steps = steps
        self.active = session.folder is not None and session.fabric.is_global_zero

    def __enter__(self) -> TrainingLog:
        if not self.active:
            return self
        folder, progress = self.session.folder, self.session.progress
        _cut(folder / STEPS_FILE, progress)
        self._file = (folder / STEPS_FILE).open("a", newline="", encoding="utf-8", buffering=1)
        self._writer = csv.DictWriter(self._file, STEP_COLUMNS, lineterminator="\n")
        self._tensorboard = None
        spec = importlib.util.find_spec("tensorboard")
        if spec is not None and spec.origin is not None:  # not just a folder of that name
            # Events after the last checkpoint are removed.
            self._tensorboard = TensorBoardLogger(
                folder, name=TENSORBOARD_FOLDER, version="", purge_step=self._steps_done + 1
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.active:
            self._file.close()
            if self._tensorboard is not None:
                self._tensorboard.finalize("finished" if error is None else "failed")

    def step(self, loss: float, accuracy: float) -> None:
        """Log the step that has just been counted."""
        if self.active:
            progress = self.session.progress
            values = {
                "loss": loss,
                "accuracy": accuracy,
                "learning_rate": self.session.learning_rate,
            }
            self._writer.writerow({"epoch": progress.epoch, "step": progress.step - 1, **values})
            self._events(values)

    def epoch(self) -> None:
        """Log the epoch that has just ended."""
        if self.active:
            history = self.session.progress.history
            write_csv(pd.DataFrame(history), self.session.folder / HISTORY_FILE)
            names = ("loss", "accuracy", "validation")
            self._events(
                {f"epoch {n}": history[-1][n] for n in names if history[-1][n] is not None}
            )

    @property
    def _steps_done(self) -> int:
        return self.session.progress.epoch * self.steps + self.session.progress.step

    def _events(self, values: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            self._tensorboard.log_metrics(dict(values), self._steps_done)


def _cut(path: Path, progress: Progress) -> None:
    """Keep only the header and the lines of steps that ``progress`` has counted."""
    steps = pd.DataFrame(columns=list(STEP_COLUMNS))
    if path.is_file():
        # As text, so that kept lines do not change; the last line may be incomplete after a kill.
        found = pd.read_csv(path, dtype=str, on_bad_lines="skip").dropna()
        numbers = found[["epoch", "step"]].astype(int)
        same_epoch = numbers["epoch"] == progress.epoch
        earlier = numbers["epoch"] < progress.epoch
        steps = found[earlier | (same_epoch & (numbers["step"] < progress.step))]
    write_csv(steps, path)
