"""The first convolution and the layers between it and the first max-pool."""

from __future__ import annotations

from torch import nn

from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import blur


def stem(
    config: BackboneConfig, conv: nn.Conv2d, norm: nn.Module | None = None
) -> tuple[list[tuple[str, nn.Module]], str]:
    """Convolution, ReLU and, if configured, the blur, in the configured order.

    Args:
        config: presence and placement of the blur.
        conv: the first convolution.
        norm: normalisation directly after the convolution, if any.

    Returns:
        The layers with their names, and the name of the tapped layer.
    """
    relu = ("relu1", nn.ReLU(inplace=True))
    layers = [("conv1", conv)] if norm is None else [("conv1", conv), ("bn1", norm)]
    if not config.blurs_conv1:
        return [*layers, relu], "relu1"
    blurred = ("blur1", blur(config, conv.out_channels))
    if config.blur_placement == "blur_before_activation":
        return [*layers, blurred, relu], "relu1"
    tap = "blur1" if config.blur_placement == "feature_after_blur" else "relu1"
    return [*layers, relu, blurred], tap
