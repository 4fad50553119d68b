"""What a step of training computes: a metric's two distances of each triplet, and their loss."""

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
    """Tensors that mixed precision leaves as they are, because it does not see them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors


class Trainee(nn.Module):
    """A metric with its objective: one pass over (ref, p0, p1), the reference's features once.

    Args:
        metric: the metric that learns.
        objective: the loss over its distances.
        recipe: says what learns, and the dropout.
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
        # In half precision the head would not see small differences of distances.
        with torch.autocast(d0.device.type, enabled=False):
            return self.objective(d0, d1, targets.tensors), d0, d1

    def distances(self, images: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """d0 and d1, each (N,), of the references, p0 and p1 that follow one another."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trunk_learns):
            features = [tap.chunk(3) for tap in self.metric.features(images)]
        ref, p0, p1 = zip(*features, strict=True)
        return tuple(self.metric.distance(ref, p, dropout=dropout) for p in (p0, p1))

    def learnt(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Let gradients reach what learns and batch normalisation follow its batch; then undo."""
        self.metric.backbone.requires_grad_(self.trunk_learns)
        self.metric.backbone.train(self.trunk_learns)
        self.metric.lin.requires_grad_(self.lin_learns)
        try:
            yield
        finally:
            self.metric.requires_grad_(False)
            self.metric.backbone.eval()


def split(batch: Mapping[str, Tensor]) -> tuple[Tensor, Uncast]:
    """The images of a batch one after the other, and everything else in it that is a tensor."""
    images = torch.cat([batch[name] for name in IMAGES])
    others = {k: v for k, v in batch.items() if isinstance(v, Tensor) and k not in IMAGES}
    return images, Uncast(others)


def clamp(metric: RobustLPIPS) -> None:
    """Raise negative 1x1 weights to 0, so that no difference can lower a distance."""
    with torch.no_grad():
        for weight in metric.lin:
            weight.clamp_(min=0.0)
