"""Names of a backbone's tensors in the packages that publish the same networks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from robust_lpips.backbones.build import build_backbone
from robust_lpips.backbones.chain import Chain
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import AdaptiveBlurPool
from robust_lpips.backbones.vgg import Skip

# Layers with weights that the published networks do not have.
_ADDED = (AdaptiveBlurPool, Skip)


def torchvision_keys(config: BackboneConfig) -> dict[str, str]:
    """Name of each tensor of ``build_backbone(config)`` in torchvision's state dict.

    Weights, biases and statistics of batch normalisation, in the order of the network. Adaptive
    filters and the skips of VGG-16 are left out: torchvision does not have them.

    Example:
        >>> torchvision_keys(BackboneConfig())["conv2.weight"]
        'features.3.weight'
    """
    return _keys(config, BackboneConfig(arch=config.arch))


def antialiased_keys(config: BackboneConfig) -> dict[str, str]:
    """Name of each tensor of ``build_backbone(config)`` in the state dict of ``antialiased_cnns``.

    The same tensors as in :func:`torchvision_keys`.

    Raises:
        ValueError: for SqueezeNet, which that package does not have.
    """
    if config.arch == "squeezenet1_1":
        raise ValueError("arch: antialiased_cnns has no squeezenet1_1")
    # Its AlexNet is blurred after conv-1, too (pool_only=False).
    stride = 2 if config.arch == "alexnet" else None
    published = BackboneConfig(arch=config.arch, anti_alias="blurpool", conv1_stride=stride)
    return _keys(config, published)


def published_tensors(backbone: nn.Module) -> list[str]:
    """Names in the state dict of ``backbone``, without those of adaptive filters and skips."""
    added = tuple(
        f"{name}." for name, layer in backbone.named_modules() if isinstance(layer, _ADDED)
    )
    return [name for name in backbone.state_dict() if not name.startswith(added)]


def _keys(config: BackboneConfig, published: BackboneConfig) -> dict[str, str]:
    """Match names by position: both networks have the same tensors in the same order."""
    with torch.device("meta"):
        ours, theirs = build_backbone(config), build_backbone(published)
    names = zip(published_tensors(ours), _published_names(theirs, config.arch), strict=True)
    return dict(names)


def _published_names(backbone: Chain, arch: str) -> list[str]:
    if arch == "resnet18":
        return published_tensors(backbone)  # ours has the published names
    features = nn.Sequential(*_flattened(backbone))
    return [f"features.{name}" for name in published_tensors(features)]


def _flattened(backbone: Chain) -> Iterator[nn.Module]:
    """Yield layers with nested ``Sequential`` expanded: a pool and its blur are two."""
    for layer in backbone.children():
        if isinstance(layer, nn.Sequential):
            yield from layer
        else:
            yield layer
