"""Training objectives: people's judgments, or the distances of another metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Keeps the logarithm finite for nearly equal patches; well below a visible distance.
_LOG_FLOOR = 1e-3


class Objective(Protocol):
    """A loss over the two distances of each triplet, with parameters of its own."""

    def __call__(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> Tensor: ...

    def start(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Set starting values from the first batch."""


class RankingObjective(nn.Module):
    """Predict from two distances which patch people choose (Zhang et al., CVPR 2018, Sec. 3).

    The distances, their difference and their two ratios pass through two fully connected layers
    of 32 units with leaky ReLU; the loss is the binary cross-entropy of the predicted share of
    people who find p1 closer against ``batch["judge"]``.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(5, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def logits(self, d0: Tensor, d1: Tensor) -> Tensor:
        """Log odds (N,) that p1 is judged closer, from distances (N,)."""
        inputs = torch.stack([d0, d1, d0 - d1, d0 / (d1 + 0.1), d1 / (d0 + 0.1)], dim=1)
        return self.head(inputs).squeeze(1)

    def start(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Nothing to set: the layers start at random."""

    def forward(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        # The sigmoid is inside the loss, where it cannot saturate.
        return F.binary_cross_entropy_with_logits(self.logits(d0, d1), batch["judge"].to(d0.dtype))


class TeacherObjective(nn.Module):
    """Regress the logarithms of both distances on another metric's: distillation.

    The loss is the mean squared error to ``batch["teacher"]``, (N, 2) distances of the teacher.
    One learnt offset takes up the two metrics' difference of scale; it starts at the mean
    difference.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))

    def start(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Start the offset at the mean difference of logarithms over the first batch."""
        with torch.no_grad():
            self.offset.copy_(self._difference(d0, d1, batch).mean())

    def forward(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return (self._difference(d0, d1, batch) - self.offset).square().mean()

    def _difference(self, d0: Tensor, d1: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        student = torch.stack([d0, d1], dim=1)
        teacher = batch["teacher"].to(student)
        return (teacher + _LOG_FLOOR).log() - (student + _LOG_FLOOR).log()


OBJECTIVES = {"judge": RankingObjective, "teacher": TeacherObjective}
