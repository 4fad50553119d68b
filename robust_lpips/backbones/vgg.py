"""VGG-16 (Simonyan and Zisserman, ICLR 2015) in torchvision's form, plain or anti-aliased."""

from __future__ import annotations

from torch import nn

from robust_lpips.backbones.chain import Chain, convolution
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import max_pool

# Output channels and number of convolutions of each stage; a pool stands between stages.
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(config: BackboneConfig) -> Chain:
    """VGG-16 with taps at relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
    layers: list[tuple[str, nn.Module]] = []
    taps: dict[str, int] = {}
    channels = 3
    for stage, (width, depth) in enumerate(STAGES, start=1):
        if stage > 1:
            layers.append((f"pool{stage - 1}", max_pool(config, channels, size=2)))
        for index in range(1, depth + 1):
            conv = convolution(channels, width, 3, padding=1, full=config.full_conv)
            layers.append((f"conv{stage}_{index}", conv))
            layers.append((f"relu{stage}_{index}", nn.ReLU(inplace=True)))
            channels = width
        taps[f"relu{stage}_{depth}"] = width
    return Chain(layers, taps)


def _torchvision_keys() -> dict[str, str]:
    keys, position = {}, 0
    for stage, (_, depth) in enumerate(STAGES, start=1):
        for index in range(1, depth + 1):
            keys[f"conv{stage}_{index}"] = f"features.{position}"
            position += 2  # convolution, ReLU
        position += 1  # pool
    return keys


TORCHVISION_KEYS = _torchvision_keys()
