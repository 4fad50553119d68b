"""The training loop: triplets in, a trained metric out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from robust_lpips.metric import RobustLPIPS
from robust_lpips.training.objectives import Objective, RankingObjective, TeacherObjective

Target = Literal["judge", "teacher"]


@dataclass(frozen=True)
class Recipe:
    """How a metric is trained from scratch; the defaults are those of the papers.

    Attributes:
        target: ``"judge"``, the ranking loss on people's judgments (Zhang et al., CVPR 2018), or
            ``"teacher"``, distillation of another metric.
        epochs: passes over the triplets.
        decay_epochs: how many of the last epochs lower the learning rate, in equal steps.
        learning_rate: of Adam.
        batch_size: triplets a step.
        dropout: share of squared differences left out before each 1x1 layer.
    """

    target: Target = "judge"
    epochs: int = 10
    decay_epochs: int = 4
    learning_rate: float = 1e-4
    batch_size: int = 50
    dropout: float = 0.5

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0.

        Example:
            >>> [round(Recipe().rate(epoch) / 1e-4, 1) for epoch in (0, 5, 6, 7, 8, 9)]
            [1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
        """
        left = (self.epochs - epoch) / (self.decay_epochs + 1)
        return self.learning_rate * min(1.0, left)


def fit(
    metric: RobustLPIPS,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    num_workers: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> list[float]:
    """Train every weight of ``metric`` in place.

    The reference's features are computed once for both distances. After every step the 1x1
    weights are clamped at 0, so that no difference can lower a distance.

    Args:
        metric: with ``linear=True``, on the device to train on.
        dataset: items as :class:`robust_lpips.data.TwoAFCDataset`; for ``target="teacher"`` also
            with ``teacher``, the teacher's two distances.
        recipe: how.
        seed: of the order of triplets, the dropout and the head.
        num_workers: processes that load images.
        on_step: called with the loss after every step.

    Returns:
        The mean loss of each epoch.

    Raises:
        ValueError: for a metric without 1x1 weights, and where the loss is not finite.
    """
    if not metric.linear:
        raise ValueError("metric must have 1x1 weights to train: build it with linear=True")
    torch.manual_seed(seed)
    # Distances of a metric in half precision are float32.
    dtype = torch.promote_types(metric.shift.dtype, torch.float32)
    objective = _objective(recipe.target).to(metric.shift.device, dtype)
    loader = DataLoader(
        dataset,
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(seed),
    )
    parameters = [*metric.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=(0.5, 0.999))
    means = []
    with _trainable(metric):
        for epoch in range(recipe.epochs):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(epoch)
            total = 0.0
            for step, batch in enumerate(loader):
                d0, d1 = _distances(metric, batch, recipe.dropout)
                batch = {k: v.to(d0.device) for k, v in batch.items() if isinstance(v, Tensor)}
                if epoch == step == 0:
                    objective.start(d0, d1, batch)
                loss = objective(d0, d1, batch)
                value = loss.item()  # once: on a GPU it waits for the step
                if not math.isfinite(value):
                    raise ValueError(f"loss is {value} in step {step} of epoch {epoch}")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                clamp(metric)
                total += value * len(d0)
                if on_step is not None:
                    on_step(value)
            means.append(total / len(dataset))
    return means


def clamp(metric: RobustLPIPS) -> None:
    """Raise negative 1x1 weights to 0."""
    with torch.no_grad():
        for weight in metric.lin:
            weight.clamp_(min=0.0)


@contextmanager
def _trainable(metric: RobustLPIPS) -> Iterator[None]:
    """Let gradients reach every weight and batch normalisation follow its batch; then undo both."""
    metric.requires_grad_(True)
    metric.backbone.train()
    try:
        yield
    finally:
        metric.requires_grad_(False)
        metric.backbone.eval()


def _distances(
    metric: RobustLPIPS, batch: dict[str, Tensor], dropout: float
) -> tuple[Tensor, Tensor]:
    images = torch.cat([batch["ref"], batch["p0"], batch["p1"]]).to(metric.shift.device)
    features = [tap.chunk(3) for tap in metric.features(images)]
    ref, p0, p1 = ([parts[i] for parts in features] for i in range(3))
    return metric.distance(ref, p0, dropout=dropout), metric.distance(ref, p1, dropout=dropout)


def _objective(target: Target) -> Objective:
    return {"judge": RankingObjective, "teacher": TeacherObjective}[target]()
