"""Computation of a training step: two distances per triplet and their loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robust_lpips.metric import RobustLPIPS
from robust_lpips.training.objectives import Objective
from robust_lpips.training.recipe import Recipe

IMAGES = ("ref", "p0", "p1")


class Uncast:
    """Wrapper that hides tensors from the casts of mixed precision."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors


class Trainee(nn.Module):
    """A metric with its objective: one pass over (ref, p0, p1) that shares ref's features.

    Args:
        metric: the metric to train.
        objective: the loss of its distances.
        recipe: its ``mode`` and ``dropout`` are used.
    """

    def __init__(self, metric: RobustLPIPS, objective: Objective, recipe: Recipe) -> None:
        super().__init__()
        self.metric = metric
        self.objective = objective
        self.dropout = recipe.dropout
        self.trunk_learns = recipe.mode in ("tune", "scratch")
        self.lin_learns = recipe.mode != "head"

    def forward(self, images: Tensor, targets: Uncast) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss, and the distances d0 and d1, each (N,), from (3N, 3, H, W) images."""
        d0, d1 = self.distances(images, self.dropout)
        # In half precision small differences of distances would be lost.
        with torch.autocast(d0.device.type, enabled=False):
            return self.objective(d0, d1, targets.tensors), d0, d1

    def distances(self, images: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Distances d0 and d1, each (N,), from (3N, 3, H, W): all ref, then all p0, then all p1."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trunk_learns):
            features = [tap.chunk(3) for tap in self.metric.features(images)]
        ref, p0, p1 = zip(*features, strict=True)
        return tuple(self.metric.distance(ref, p, dropout=dropout) for p in (p0, p1))

    def learnt(self) -> list[nn.Parameter]:
        """List the parameters that learn."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Enable gradients, and the trunk's training mode if it learns; disable them afterwards."""
        self.metric.backbone.requires_grad_(self.trunk_learns)
        self.metric.backbone.train(self.trunk_learns)
        self.metric.lin.requires_grad_(self.lin_learns)
        try:
            yield
        finally:
            self.metric.requires_grad_(False)
            self.metric.backbone.eval()


def split(batch: Mapping[str, Tensor]) -> tuple[Tensor, Uncast]:
    """Split a batch into its images, (3N, 3, H, W), and its other tensors."""
    images = torch.cat([batch[name] for name in IMAGES])
    others = {k: v for k, v in batch.items() if isinstance(v, Tensor) and k not in IMAGES}
    return images, Uncast(others)


def clamp(metric: RobustLPIPS) -> None:
    """Set negative 1x1 weights to 0, so that no difference can decrease a distance."""
    with torch.no_grad():
        for weight in metric.lin:
            weight.clamp_(min=0.0)
