"""ResNet-18 (He et al., CVPR 2016) in torchvision's form, plain or anti-aliased."""

from __future__ import annotations

from typing import ClassVar

from torch import nn
from torchvision.models.resnet import BasicBlock

from robust_lpips.backbones.chain import Chain, convolution, output_size
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import blur, max_pool
from robust_lpips.backbones.stem import stem

# Output channels and stride of each stage of two blocks.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


class Block(BasicBlock):
    """Torchvision's block of two 3x3 convolutions and a shortcut, blurred where it subsamples.

    With blurs the first convolution has stride 1 and a blur of stride 2 stands before the second
    (Zhang, ICML 2019, Sec. 3).

    Shapes: (N, in_channels, H, W) to (N, channels, H', W').

    Args:
        config: filter and padding.
        in_channels: channels of the input.
        channels: channels of the output.
        stride: 1, which needs ``in_channels == channels``, or 2.
    """

    # Each convolution and its normalisation.
    normalized: ClassVar[dict[str, str]] = {"conv1": "bn1", "conv2": "bn2"}

    def __init__(
        self, config: BackboneConfig, in_channels: int, channels: int, stride: int
    ) -> None:
        blurred = stride == 2 and config.anti_alias != "none"
        shortcut = _shortcut(config, in_channels, channels, stride)
        super().__init__(in_channels, channels, 1 if blurred else stride, shortcut)
        if config.full_conv:
            self.conv1.padding = self.conv2.padding = (2, 2)
        if blurred:
            self.conv2 = nn.Sequential(blur(config, channels), self.conv2)

    def output_size(self, n: int) -> int:
        """Side of the output for an input of side ``n``; 0 or less: too small."""
        return output_size(nn.Sequential(self.conv1, self.conv2), n)


def _shortcut(
    config: BackboneConfig, in_channels: int, channels: int, stride: int
) -> nn.Module | None:
    """Shortcut that brings a block's input to the size of its output; None if it has that size.

    With F-Conv each of the block's 3x3 convolutions adds one pixel per side. The shortcut is
    zero-padded at the same two places, before and after subsampling and before the batch
    normalisation, so that equal positions of both are centred on the same pixel.
    """
    full = config.full_conv
    if stride == 1:
        return nn.ZeroPad2d(2) if full else None
    norm = nn.BatchNorm2d(channels)
    if config.anti_alias == "none":
        # A pixel of zeros after the subsampling is two before it: 1 + 2.
        conv = nn.Conv2d(in_channels, channels, 1, stride=2, padding=3 if full else 0, bias=False)
        return nn.Sequential(conv, norm)
    before = [nn.ZeroPad2d(1)] if full else []
    conv = nn.Conv2d(in_channels, channels, 1, padding=1 if full else 0, bias=False)
    return nn.Sequential(*before, blur(config, in_channels), conv, norm)


def resnet18(config: BackboneConfig) -> Chain:
    """ResNet-18 with five taps: 64, 64, 128, 256 and 512 channels."""
    first = convolution(
        3, 64, 7, stride=config.stride1, padding=3, bias=False, full=config.full_conv
    )
    layers, first_tap = stem(config, first, nn.BatchNorm2d(64))
    layers.append(("pool1", _first_pool(config)))
    taps = {first_tap: 64}
    in_channels = 64
    for stage, (channels, stride) in enumerate(STAGES, start=1):
        blocks = (
            Block(config, in_channels, channels, stride),
            Block(config, channels, channels, 1),
        )
        layers.append((f"layer{stage}", nn.Sequential(*blocks)))
        taps[f"layer{stage}"] = in_channels = channels
    return Chain(layers, taps)


def _first_pool(config: BackboneConfig) -> nn.Module:
    # With a blur a window of 2 is enough: the blur widens it (Zhang, ICML 2019).
    if config.anti_alias == "none":
        return nn.MaxPool2d(3, stride=2, padding=1)
    return max_pool(config, 64, size=2)
