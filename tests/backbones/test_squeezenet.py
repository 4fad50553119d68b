"""SqueezeNet 1.1 against torchvision and chains of torch calls."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from robust_lpips import BackboneConfig
from tests.backbones.reference import (
    IMAGES,
    Calls,
    assert_same_features,
    images,
    seeded,
    share_weights,
)

PLACEMENTS = ["original", "feature_after_blur", "blur_before_activation"]


def config(**options):
    return BackboneConfig(arch="squeezenet1_1", **options)


def features_by_calls(backbone, config, x):
    calls = Calls(backbone, config)

    def fire(name, x):
        x = calls.conv(f"{name}.squeeze", x, 0).relu()
        small, large = calls.conv(f"{name}.expand1x1", x, 0), calls.conv(f"{name}.expand3x3", x, 1)
        if config.full_conv:
            # Without padding of its own the 1x1 half is two pixels smaller: zeros around it are
            # what its bias alone gives there.
            bias = backbone.get_submodule(f"{name}.expand1x1").bias.view(1, -1, 1, 1)
            small = F.pad(small - bias, (1, 1, 1, 1)) + bias
        return torch.cat([small.relu(), large.relu()], dim=1)

    x = calls.conv("conv1", x, 0, config.conv1_stride or 2)
    first, x = calls.after_conv1(x, own_stride=2)
    fire3 = fire("fire3", fire("fire2", calls.pool("pool1", x, 3, ceil_mode=True)))
    fire5 = fire("fire5", fire("fire4", calls.pool("pool3", fire3, 3, ceil_mode=True)))
    fire6 = fire("fire6", calls.pool("pool5", fire5, 3, ceil_mode=True))
    fire7 = fire("fire7", fire6)
    fire8 = fire("fire8", fire7)
    return [first, fire3, fire5, fire6, fire7, fire8, fire("fire9", fire8)]


def torchvision_outputs(features, x):
    """What LPIPS taps of torchvision's ``features``."""
    outputs = []
    for i, layer in enumerate(features):
        x = layer(x)
        # Of the pairs of Fire modules before the pools the second, of the four after them all.
        if isinstance(layer, nn.ReLU) or i in (4, 7) or i >= 9:
            outputs.append(x)
    return outputs


@pytest.mark.parametrize("shape", [*IMAGES, (62, 59), (17, 40)])
def test_plain_equals_torchvision(shape):
    """Whatever remainder its three pools leave: they round up."""
    ours = seeded(config())
    peer = share_weights(ours, torchvision.models.squeezenet1_1(weights=None).features)
    assert_same_features(ours(images(*shape)), torchvision_outputs(peer, images(*shape)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"conv1_stride": 1},
        {"full_conv": True},
        *(
            {"anti_alias": anti_alias, "conv1_stride": 1, "reflection_pad": pad, "full_conv": full}
            for anti_alias in ("blurpool", "adaptive")
            for pad in (1, 2)
            for full in (False, True)
        ),
        {"anti_alias": "blurpool", "blur_size": 4},
        {"anti_alias": "adaptive", "blur_size": 2},
        *(
            {"anti_alias": anti_alias, "conv1_stride": 1, "blur_placement": placement}
            for anti_alias in ("blurpool", "adaptive")
            for placement in PLACEMENTS[1:]
        ),
    ],
    ids=str,
)
def test_equals_torch_calls(options):
    ours = seeded(config(**options))
    for shape in IMAGES:
        x = images(*shape)
        assert_same_features(ours(x), features_by_calls(ours, config(**options), x))


def test_taps_are_those_of_lpips():
    assert list(seeded(config()).taps.items()) == [
        ("relu1", 64),
        ("fire3", 128),
        ("fire5", 256),
        ("fire6", 384),
        ("fire7", 384),
        ("fire8", 512),
        ("fire9", 512),
    ]
