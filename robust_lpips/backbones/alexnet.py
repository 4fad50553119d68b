"""AlexNet (Krizhevsky, 2014) in torchvision's form, with every option against aliasing."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from robust_lpips.backbones.chain import Chain, convolution
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import blur, max_pool

TORCHVISION_KEYS = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
}


def alexnet(config: BackboneConfig) -> Chain:
    """AlexNet with five taps: 64, 192, 384, 256 and 256 channels."""
    full = config.full_conv
    first = convolution(3, 64, 11, stride=config.stride1, padding=2, full=full)
    first_tap = "blur1" if config.blur_placement == "feature_after_blur" else "relu1"
    layers = [
        ("conv1", first),
        *_after_conv1(config),
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


def _after_conv1(config: BackboneConfig) -> Iterator[tuple[str, nn.Module]]:
    relu = ("relu1", nn.ReLU(inplace=True))
    if not config.blurs_conv1:
        yield relu
    elif config.blur_placement == "blur_before_activation":
        yield from (("blur1", blur(config, 64)), relu)
    else:
        yield from (relu, ("blur1", blur(config, 64)))
