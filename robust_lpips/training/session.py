"""State of a training, and the checkpoints that save and restore it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from robust_lpips._settings import differences
from robust_lpips.training.trainee import Trainee
from robust_lpips.weights import read_checkpoint, save_checkpoint

LAST, BEST = "last.pt", "best.pt"


@dataclass
class Progress:
    """Position and running sums of a training.

    Attributes:
        epoch: number of finished epochs.
        step: number of steps taken in the current epoch.
        loss, accuracy, triplets: sums over the triplets of those steps.
        history: one record per epoch, the first before training: ``epoch, loss, accuracy,
            validation, learning_rate``; accuracies in [0, 1]; None for missing values.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    triplets: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def count(self, loss: float, accuracy: float, triplets: int) -> None:
        """Add a step, with its mean loss and accuracy."""
        self.step += 1
        self.loss += loss * triplets
        self.accuracy += accuracy * triplets
        self.triplets += triplets

    def begin(self, validation: float | None) -> None:
        """Record the validation score before the first step."""
        self.history.append(
            {
                "epoch": 0,
                "loss": None,
                "accuracy": None,
                "validation": validation,
                "learning_rate": None,
            }
        )

    def end_epoch(self, validation: float | None, learning_rate: float) -> None:
        """Record the means of the epoch and start the next one."""
        self.epoch += 1
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": self.loss / self.triplets,
                "accuracy": self.accuracy / self.triplets,
                "validation": validation,
                "learning_rate": learning_rate,
            }
        )
        self.step, self.loss, self.accuracy, self.triplets = 0, 0.0, 0.0, 0

    @property
    def best_is_last(self) -> bool:
        """True if the last epoch has a higher validation score than all earlier ones."""
        scores = [record["validation"] for record in self.history[1:]]
        return bool(scores) and scores[-1] is not None and scores[-1] > max(scores[:-1], default=-1)


@dataclass
class Session:
    """All state that changes during training, saved and restored together.

    Args:
        fabric: device and processes.
        trainee: the metric and its objective.
        optimizer: of the parameters that learn.
        scheduler: of the learning rate.
        provenance: settings that are written into checkpoints, and that a checkpoint must equal to
            be resumed from.
        folder: of the checkpoints; None: nothing is saved.
        progress: position of the training.
    """

    fabric: Fabric
    trainee: Trainee
    optimizer: Optimizer
    scheduler: LRScheduler
    provenance: Mapping[str, Any]
    folder: Path | None
    progress: Progress = field(default_factory=Progress)

    @property
    def learning_rate(self) -> float:
        """Learning rate of this epoch."""
        return self.optimizer.param_groups[0]["lr"]

    def begin(self, validate: Callable[[], float | None]) -> Progress:
        """Resume from the last checkpoint, or score the metric before training.

        Raises:
            ValueError: the checkpoint is damaged, has no training state, or belongs to other
                settings or another number of processes.
        """
        if self.folder is not None and (self.folder / LAST).is_file():
            self._restore(self.folder / LAST)
        else:
            self.progress.begin(validate())
        return self.progress

    def save(self, *names: str) -> None:
        """Write checkpoints with these names. All processes must call it; the first one writes."""
        if self.folder is None:
            return
        states = _random_states(self.fabric)
        if not self.fabric.is_global_zero:
            return
        content = {
            "progress": asdict(self.progress),
            "objective": self.trainee.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": states,
        }
        for name in names:
            save_checkpoint(
                self.trainee.metric,
                self.folder / name,
                self.provenance,
                metrics=self.progress.history[-1],
                training=content,
            )

    def _restore(self, path: Path) -> None:
        content = read_checkpoint(path)
        training = content.get("training")
        if training is None:
            raise ValueError(f"{path} holds a metric but no training state to resume from")
        found = content["provenance"] | {"config": content["config"]}
        wanted = {**self.provenance, "config": asdict(self.trainee.metric.config)}
        if unlike := differences(found, wanted):
            raise ValueError(f"{path} belongs to other settings ({unlike})")
        world_size = training["random"]["cpu"].shape[0]
        if world_size != self.fabric.world_size:
            raise ValueError(
                f"{path} was made by {world_size} processes and cannot be resumed with "
                f"{self.fabric.world_size}"
            )
        self.trainee.metric.load_state_dict(content["state_dict"])
        self.trainee.objective.load_state_dict(training["objective"])
        self.optimizer.load_state_dict(training["optimizer"])
        self.scheduler.load_state_dict(training["scheduler"])
        self.progress = Progress(**training["progress"])
        _set_random_state(self.fabric, training["random"])


def _random_states(fabric: Fabric) -> dict[str, torch.Tensor]:
    """Torch's random states of all processes, which dropout draws from: one row per process."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    gathered = {name: fabric.all_gather(state) for name, state in states.items()}
    return {
        name: value.reshape(fabric.world_size, -1).cpu().to(torch.uint8)
        for name, value in gathered.items()
    }


def _set_random_state(fabric: Fabric, states: Mapping[str, torch.Tensor]) -> None:
    # Copies: torch reads a state from the start of its storage and ignores the offset of a view.
    own = {name: rows[fabric.global_rank].clone() for name, rows in states.items()}
    torch.set_rng_state(own["cpu"])
    if fabric.device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], fabric.device)
