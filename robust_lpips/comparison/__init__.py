"""Metrics by name, for comparing them: each a callable of two batches of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from robust_lpips import weights
from robust_lpips.backbones import BackboneConfig
from robust_lpips.comparison.simple import l2, ssim
from robust_lpips.metric import RobustLPIPS

__all__ = ["l2", "load_metric", "metric_names", "ssim"]

Metric = Callable[[Tensor, Tensor], Tensor]


def metric_names() -> tuple[str, ...]:
    """The names that :func:`load_metric` takes."""
    return tuple(_factories())


def load_metric(name: str, device: torch.device | str | None = None, seed: int = 0) -> Metric:
    """The metric of that name.

    Args:
        name: ``l2``, ``ssim``, ``alexnet-untrained`` (plain AlexNet, random weights), or a name
            of :func:`robust_lpips.weights.names`.
        device: where its weights go, if it has any. Default: the CPU.
        seed: of random weights; the global random state is left as it was.

    Returns:
        A callable of two (N, 3, H, W) batches in [-1, 1] that gives (N,) distances, smaller being
        more alike. Each metric has its own unit.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: released weights that cannot be found.

    Example:
        >>> black, white = torch.full((1, 3, 16, 16), -1.0), torch.full((1, 3, 16, 16), 1.0)
        >>> load_metric("l2")(black, white)
        tensor([4.])
    """
    factories = _factories()
    if name not in factories:
        raise ValueError(f"metric must be one of {', '.join(factories)}; got {name!r}")
    metric = factories[name](seed)
    return metric.to(device) if isinstance(metric, nn.Module) else metric


def _factories() -> dict[str, Callable[[int], Metric]]:
    """How each metric is made, given a seed."""
    return {
        "l2": lambda seed: l2,
        "ssim": lambda seed: ssim,
        "alexnet-untrained": _untrained_alexnet,
        **{name: partial(_released, name) for name in weights.names()},
    }


def _untrained_alexnet(seed: int) -> RobustLPIPS:
    with torch.random.fork_rng(devices=[]):
        # Weights are drawn on the CPU; torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        return RobustLPIPS(BackboneConfig(), weights=None)


def _released(name: str, seed: int) -> RobustLPIPS:
    return RobustLPIPS(name)
