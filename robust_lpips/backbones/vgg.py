"""VGG-16 (Simonyan and Zisserman, ICLR 2015) in torchvision's form, plain or anti-aliased."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from robust_lpips.backbones.chain import Chain, convolution, output_size
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import BlurPool, max_pool, reflection_padding

# Output channels and number of convolutions of each stage; a pool stands between stages.
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(config: BackboneConfig) -> Chain:
    """VGG-16 with taps at relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
    layers: list[tuple[str, nn.Module]] = []
    taps: dict[str, int] = {}
    in_channels = 3
    for stage, (channels, depth) in enumerate(STAGES, start=1):
        path = list(_stage(config, stage, in_channels))
        if stage > 1 and config.skip != "none":
            skip = Skip(config, in_channels, channels)
            lead = _skip_lead(config, depth)
            path = [(f"stage{stage}", SkippedStage(OrderedDict(path), skip, lead))]
        tap = f"relu{stage}_{depth}"
        layers += [*path, (tap, nn.ReLU(inplace=True))]
        taps[tap] = in_channels = channels
    return Chain(layers, taps)


def _stage(config: BackboneConfig, stage: int, in_channels: int) -> Iterator[tuple[str, nn.Module]]:
    """The named layers of a stage from its pool to its last convolution."""
    channels, depth = STAGES[stage - 1]
    if stage > 1:
        yield f"pool{stage - 1}", max_pool(config, in_channels, size=2)
    for index in range(1, depth + 1):
        if index > 1:
            yield f"relu{stage}_{index - 1}", nn.ReLU(inplace=True)
        conv = convolution(in_channels, channels, 3, padding=1, full=config.full_conv)
        yield f"conv{stage}_{index}", conv
        in_channels = channels


class Skip(nn.Sequential):
    """A 1x1 convolution that halves the map: of stride 2, or of stride 1 and then blurred.

    Shapes: (N, in_channels, H, W) to (N, channels, H', W').
    """

    def __init__(self, config: BackboneConfig, in_channels: int, channels: int) -> None:
        if config.skip == "strided":
            super().__init__(nn.Conv2d(in_channels, channels, 1, stride=2, bias=False))
            return
        super().__init__(
            nn.Conv2d(in_channels, channels, 1, bias=False),
            BlurPool(channels, config.blur_size, 2, config.reflection_pad),
        )


class SkippedStage(nn.Module):
    """Layers with a skip connection around them; the outputs of both are added.

    Args:
        path: the layers by name.
        skip: the connection.
        lead: number of rows and columns of the path's output before the first of the skip's;
            negative if the skip's begin first.
    """

    def __init__(self, path: OrderedDict[str, nn.Module], skip: Skip, lead: int) -> None:
        super().__init__()
        self.path = nn.Sequential(path)
        self.skip = skip
        self.lead = lead

    def forward(self, x: Tensor) -> Tensor:
        path, skip = self.path(x), self.skip(x)
        # Aligned at the beginning; at the end padded with zeros or cut.
        below, right = (
            size - own - self.lead
            for size, own in zip(path.shape[-2:], skip.shape[-2:], strict=True)
        )
        return path + F.pad(skip, (self.lead, right, self.lead, below))

    def output_size(self, n: int) -> int:
        """Side of the output for an input of side ``n``; 0 or less: too small."""
        return output_size(self.path, n) if output_size(self.skip, n) > 0 else 0


def _skip_lead(config: BackboneConfig, depth: int) -> int:
    """The ``lead`` of the skip over a stage of ``depth`` convolutions.

    ``path`` and ``skip`` below are the centres of index 0 of both maps in the stage's input, in
    pixels; an index is two pixels. So a shift by whole indices brings them within one pixel of each
    other, or half a pixel if the filter has a centre. With F-Conv each convolution adds a pixel
    before the path.
    """
    before, _ = reflection_padding(config.blur_size, config.reflection_pad)
    filtered = (config.blur_size - 1) / 2 - before
    path = 0.5 + (0.0 if config.anti_alias == "none" else filtered)  # 0.5: max-pooling over 2
    skip = filtered if config.skip == "blurpool" else 0.0
    return round((skip - path) / 2) + (depth if config.full_conv else 0)
