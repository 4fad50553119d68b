"""How the tensors of a backbone are named by the packages that publish the same networks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from robust_lpips.backbones.build import build_backbone
from robust_lpips.backbones.chain import Chain
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import AdaptiveBlurPool
from robust_lpips.backbones.vgg import Skip

# What has weights in our networks and is not part of the published ones.
_ADDED = (AdaptiveBlurPool, Skip)


def torchvision_keys(config: BackboneConfig) -> dict[str, str]:
    """Name of each tensor of ``build_backbone(config)`` in torchvision's state dict.

    Weights, biases and statistics of batch normalisation, in the order of the network. What
    torchvision does not have is left out: adaptive filters and the skips of VGG-16.

    Example:
        >>> torchvision_keys(BackboneConfig())["conv2.weight"]
        'features.3.weight'
    """
    return _keys(config, BackboneConfig(arch=config.arch))


def antialiased_keys(config: BackboneConfig) -> dict[str, str]:
    """As :func:`torchvision_keys`, in the state dict of ``antialiased_cnns``.

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
    """Names in the state dict of ``backbone``, less those of adaptive filters and skips."""
    added = tuple(
        f"{name}." for name, layer in backbone.named_modules() if isinstance(layer, _ADDED)
    )
    return [name for name in backbone.state_dict() if not name.startswith(added)]


def _keys(config: BackboneConfig, published: BackboneConfig) -> dict[str, str]:
    """Both networks have the same tensors in the same order."""
    with torch.device("meta"):
        ours, theirs = build_backbone(config), build_backbone(published)
    names = zip(published_tensors(ours), _published_names(theirs, config.arch), strict=True)
    return dict(names)


def _published_names(backbone: Chain, arch: str) -> list[str]:
    if arch == "resnet18":
        return published_tensors(backbone)  # its layers are named as they are there
    features = nn.Sequential(*_flattened(backbone))
    return [f"features.{name}" for name in published_tensors(features)]


def _flattened(backbone: Chain) -> Iterator[nn.Module]:
    """Layers as an unnested ``Sequential`` has them: a pool and its blur are two."""
    for layer in backbone.children():
        if isinstance(layer, nn.Sequential):
            yield from layer
        else:
            yield layer
