"""Feature extractors: a :class:`BackboneConfig` in, a module with named taps out."""

from __future__ import annotations

from robust_lpips.backbones import alexnet as _alexnet
from robust_lpips.backbones import vgg as _vgg
from robust_lpips.backbones.chain import Chain
from robust_lpips.backbones.config import ARCHITECTURES, BackboneConfig
from robust_lpips.backbones.downsampling import AdaptiveBlurPool, BlurPool

__all__ = [
    "ARCHITECTURES",
    "AdaptiveBlurPool",
    "BackboneConfig",
    "BlurPool",
    "Chain",
    "build_backbone",
    "torchvision_keys",
]

_BUILDERS = {"alexnet": _alexnet.alexnet, "vgg16": _vgg.vgg16}
_TORCHVISION_KEYS = {"alexnet": _alexnet.TORCHVISION_KEYS, "vgg16": _vgg.TORCHVISION_KEYS}


def build_backbone(config: BackboneConfig) -> Chain:
    """Build the feature extractor that ``config`` describes.

    Weights are Gaussian (He et al., ICCV 2015), drawn from torch's global generator; biases are 0.

    Returns:
        A module from (N, 3, H, W) images, normalised as the ImageNet networks expect, to a tuple
        of (N, C_l, H_l, W_l) features; its ``taps`` names them and gives C_l, its ``min_size`` is
        the smallest H and W.

    Example:
        >>> list(build_backbone(BackboneConfig()).taps)
        ['relu1', 'relu2', 'relu3', 'relu4', 'relu5']
    """
    return _BUILDERS[config.arch](config)


def torchvision_keys(arch: str) -> dict[str, str]:
    """Name of each of our convolutions in the state dict of torchvision's ``arch``."""
    return dict(_TORCHVISION_KEYS[arch])
