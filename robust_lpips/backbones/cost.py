"""Costs of a network: multiply-accumulates of an image, and number of weights."""

from __future__ import annotations

import functools

import torch
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips.backbones.build import build_backbone
from robust_lpips.backbones.config import BackboneConfig


@functools.cache
def multiply_accumulates(
    config: BackboneConfig, height: int, width: int | None = None, *, backward: bool = False
) -> int:
    """Multiply-accumulates of one image through the backbone, blurs included.

    Args:
        config: the backbone.
        height: height of the image in pixels.
        width: width of the image in pixels; None: as its height.
        backward: count those of the gradients of the weights, too.
    """
    with torch.device("meta"), torch.enable_grad():
        backbone = build_backbone(config).eval()
        images = torch.zeros(1, 3, height, height if width is None else width)
        with FlopCounterMode(display=False) as counter:
            features = backbone(images)
            if backward:
                sum(feature.sum() for feature in features).backward()
    return counter.get_total_flops() // 2


def parameters(config: BackboneConfig) -> int:
    """Number of weights of the trunk and of the 1x1 layers."""
    with torch.device("meta"):
        backbone = build_backbone(config)
    return sum(p.numel() for p in backbone.parameters()) + sum(backbone.taps.values())
