"""Build the feature extractor of a configuration."""

from __future__ import annotations

from importlib import import_module

from robust_lpips.backbones.chain import Chain
from robust_lpips.backbones.config import BackboneConfig

# Module of each architecture's builder, a function with the architecture's name. Modules are
# imported on demand, because some of them import torchvision.
_MODULES = {
    "alexnet": "alexnet",
    "vgg16": "vgg",
    "squeezenet1_1": "squeezenet",
    "resnet18": "resnet",
}


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
    module = import_module(f"{__package__}.{_MODULES[config.arch]}")
    return getattr(module, config.arch)(config)
