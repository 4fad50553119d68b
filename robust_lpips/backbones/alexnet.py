"""AlexNet (Krizhevsky, 2014) in torchvision's form, with every option against aliasing."""

from __future__ import annotations

from torch import nn

from robust_lpips.backbones.chain import Chain, convolution
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import max_pool
from robust_lpips.backbones.stem import stem


def alexnet(config: BackboneConfig) -> Chain:
    """AlexNet with five taps: 64, 192, 384, 256 and 256 channels."""
    full = config.full_conv
    first = convolution(3, 64, 11, stride=config.stride1, padding=2, full=full)
    first_layers, first_tap = stem(config, first)
    layers = [
        *first_layers,
        ("pool1", max_pool(config, 64, size=3)),
        ("conv2", convolution(64, 192, 5, padding=2, full=full)),
        ("relu2", nn.ReLU(inplace=True)),
        ("pool2", max_pool(config, 192, size=3)),
        ("conv3", convolution(192, 384, 3, padding=1, full=full)),
        ("relu3", nn.ReLU(inplace=True)),
        ("conv4", convolution(384, 256, 3, padding=1, full=full)),
        ("relu4", nn.ReLU(inplace=True)),
        ("conv5", convolution(256, 256, 3, padding=1, full=full)),
        ("relu5", nn.ReLU(inplace=True)),
    ]
    taps = {first_tap: 64, "relu2": 192, "relu3": 384, "relu4": 256, "relu5": 256}
    return Chain(layers, taps)
