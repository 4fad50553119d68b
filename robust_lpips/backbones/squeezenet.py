"""SqueezeNet 1.1 (Iandola et al., 2016) in torchvision's form, plain or anti-aliased."""

from __future__ import annotations

from torchvision.models.squeezenet import Fire as TorchvisionFire

from robust_lpips.backbones.chain import Chain, convolution, output_size
from robust_lpips.backbones.config import BackboneConfig
from robust_lpips.backbones.downsampling import max_pool
from robust_lpips.backbones.stem import stem


class Fire(TorchvisionFire):
    """Torchvision's Fire module with optional full convolution (F-Conv).

    Shapes: (N, in_channels, H, W) to (N, 2 * expand, H', W'); H' = H, or H + 2 with ``full``.

    Args:
        in_channels: channels of the input.
        squeeze: channels between its two layers.
        expand: channels of each half of the output.
        full: pad the 3x3 convolution by 2 (F-Conv).
    """

    def __init__(self, in_channels: int, squeeze: int, expand: int, *, full: bool) -> None:
        super().__init__(in_channels, squeeze, expand, expand)
        if full:
            self.expand3x3.padding = (2, 2)
            # For equal sizes: a 1x1 convolution itself needs no padding.
            self.expand1x1.padding = (1, 1)

    def output_size(self, n: int) -> int:
        """Side of the output for an input of side ``n``."""
        return output_size(self.expand3x3, n)


def squeezenet1_1(config: BackboneConfig) -> Chain:
    """SqueezeNet 1.1 with LPIPS's seven taps: 64, 128, 256, 384, 384, 512 and 512 channels."""
    full = config.full_conv
    first = convolution(3, 64, 3, stride=config.stride1, padding=0, full=full)
    first_layers, first_tap = stem(config, first)
    layers = [
        *first_layers,
        ("pool1", max_pool(config, 64, size=3, ceil_mode=True)),
        ("fire2", Fire(64, 16, 64, full=full)),
        ("fire3", Fire(128, 16, 64, full=full)),
        ("pool3", max_pool(config, 128, size=3, ceil_mode=True)),
        ("fire4", Fire(128, 32, 128, full=full)),
        ("fire5", Fire(256, 32, 128, full=full)),
        ("pool5", max_pool(config, 256, size=3, ceil_mode=True)),
        ("fire6", Fire(256, 48, 192, full=full)),
        ("fire7", Fire(384, 48, 192, full=full)),
        ("fire8", Fire(384, 64, 256, full=full)),
        ("fire9", Fire(512, 64, 256, full=full)),
    ]
    taps = {
        first_tap: 64,
        "fire3": 128,
        "fire5": 256,
        "fire6": 384,
        "fire7": 384,
        "fire8": 512,
        "fire9": 512,
    }
    return Chain(layers, taps)
