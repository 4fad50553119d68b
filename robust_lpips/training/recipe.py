"""Hyperparameters of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["lin", "tune", "scratch", "head"]
Target = Literal["judge", "teacher"]

MODES: tuple[str, ...] = get_args(Mode)
TARGETS: tuple[str, ...] = get_args(Target)


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training; the defaults are the papers', for training from scratch.

    Attributes:
        target: ``"judge"``, the ranking loss on people's judgments (Zhang et al., CVPR 2018), or
            ``"teacher"``, distillation of another metric.
        epochs: passes over the triplets.
        decay_epochs: number of last epochs in which the learning rate decreases, in equal steps.
        learning_rate: of Adam.
        batch_size: triplets per step, over all processes.
        dropout: share of squared differences left out before each 1x1 layer.
        mode: the parameters that learn. ``"lin"``: the 1x1 weights; the trunk, including batch
            normalisation, is fixed. ``"tune"`` and ``"scratch"``: all, where the caller has
            initialized the trunk with trained or with random weights. ``"head"``: the parameters
            of the objective only, which gives the loss of a fixed distance.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    target: Target = "judge"
    epochs: int = 10
    decay_epochs: int = 4
    learning_rate: float = 1e-4
    batch_size: int = 50
    dropout: float = 0.5
    mode: Mode = "scratch"

    def __post_init__(self) -> None:
        for name, allowed in (("target", TARGETS), ("mode", MODES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        for name, valid, range_ in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("decay_epochs", 0 <= self.decay_epochs <= self.epochs, "from 0 to epochs"),
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("dropout", 0 <= self.dropout < 1, "in [0, 1)"),
        ):
            if not valid:
                raise ValueError(f"{name} must be {range_}; got {getattr(self, name)!r}")

    def decay(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0, as a share of the highest.

        Example:
            >>> [round(Recipe().decay(epoch), 1) for epoch in (0, 5, 6, 7, 8, 9)]
            [1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
        """
        return min(1.0, (self.epochs - epoch) / (self.decay_epochs + 1))

    @property
    def in_words(self) -> str:
        """Epochs, batch size, optimizer and dropout, for pages.

        Example:
            >>> Recipe().in_words
            '10 epochs, the last 4 at lower rates, batch 50, Adam at 0.0001, dropout 0.5'
        """
        epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        decay = f", the last {self.decay_epochs} at lower rates" if self.decay_epochs else ""
        optimizer = f"batch {self.batch_size}, Adam at {self.learning_rate:g}"
        return f"{epochs}{decay}, {optimizer}, dropout {self.dropout:g}"
