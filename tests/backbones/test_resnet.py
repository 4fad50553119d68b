"""ResNet-18 against torchvision, antialiased_cnns and chains of torch calls."""

import antialiased_cnns
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from robust_lpips import BackboneConfig
from robust_lpips.backbones.resnet import Block
from tests.backbones.reference import (
    IMAGES,
    Calls,
    assert_same_features,
    images,
    resnet_outputs,
    seeded,
    share_weights,
)

PLACEMENTS = ["original", "feature_after_blur", "blur_before_activation"]


def config(**options):
    return BackboneConfig(arch="resnet18", **options)


def features_by_calls(backbone, config, x):
    calls, blurred = Calls(backbone, config), config.anti_alias != "none"

    def block(name, x, subsamples):
        start, second = x, f"{name}.conv2"
        x = calls.conv(f"{name}.conv1", x, 1, 2 if subsamples and not blurred else 1)
        x = calls.norm(f"{name}.bn1", x).relu()
        if subsamples and blurred:
            x, second = calls.blur(f"{second}.0", x), f"{second}.1"
        x = calls.norm(f"{name}.bn2", calls.conv(second, x, 1))
        return (x + shortcut(f"{name}.downsample", start, subsamples)).relu()

    def shortcut(name, x, subsamples):
        around = 1 if config.full_conv else 0
        x = F.pad(x, (around,) * 4)
        if subsamples:
            # Its layers are the padding, if any, the blur, if any, the convolution and the norm.
            first = around if blurred else 0
            x = calls.blur(f"{name}.{first}", x) if blurred else x[..., ::2, ::2]
            last = first + 1 if blurred else 0
            x = F.conv2d(x, backbone.get_submodule(f"{name}.{last}").weight)
            return calls.norm(f"{name}.{last + 1}", F.pad(x, (around,) * 4))
        return F.pad(x, (around,) * 4)

    x = calls.conv("conv1", x, 3, config.conv1_stride or 2)
    first, x = calls.after_conv1(calls.norm("bn1", x), own_stride=2)
    x = calls.pool("pool1", x, 2) if blurred else F.max_pool2d(x, 3, 2, padding=1)
    features = [first]
    for stage in range(1, 5):
        x = block(f"layer{stage}.0", x, subsamples=stage > 1)
        x = block(f"layer{stage}.1", x, subsamples=False)
        features.append(x)
    return features


@pytest.mark.parametrize("shape", IMAGES)
def test_plain_equals_torchvision(shape):
    ours = seeded(config())
    peer = share_weights(ours, torchvision.models.resnet18(weights=None))
    assert_same_features(ours(images(*shape)), resnet_outputs(peer, images(*shape)))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("pool_only", [False, True])
def test_equals_antialiased_cnns(pool_only, size):
    stride = 2 if pool_only else 1
    ours = seeded(config(anti_alias="blurpool", blur_size=size, conv1_stride=stride))
    peer = antialiased_cnns.resnet18(filter_size=size, pool_only=pool_only)
    share_weights(ours, peer)
    for shape in IMAGES:
        assert_same_features(ours(images(*shape)), resnet_outputs(peer, images(*shape)))


@pytest.mark.parametrize(
    "options",
    [
        {"conv1_stride": 1},
        {"full_conv": True},
        *(
            {"anti_alias": anti_alias, "conv1_stride": 1, "reflection_pad": pad, "full_conv": full}
            for anti_alias in ("blurpool", "adaptive")
            for pad in (1, 2)
            for full in (False, True)
        ),
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
    x = images(45, 58)
    assert_same_features(ours(x), features_by_calls(ours, config(**options), x))


@pytest.mark.parametrize("n", [12, 13])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("full_conv", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anti_alias": "blurpool"},
        {"anti_alias": "blurpool", "reflection_pad": 2},
        {"anti_alias": "blurpool", "blur_size": 4},
    ],
    ids=str,
)
def test_shortcut_is_aligned(options, full_conv, stride, n):
    """With kernels that copy their centre, both branches of a block see the same pixels."""
    block = Block(config(full_conv=full_conv, **options), 4, 4, stride).requires_grad_(False)
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
    # The normalisation is left out: it acts on each pixel.
    block.bn1 = block.bn2 = nn.Identity()
    if stride == 2:
        block.downsample[-1] = nn.Identity()
    x = images(n, n + 3)[:, :1].abs().expand(-1, 4, -1, -1)
    shortcut = x if block.downsample is None else block.downsample(x)
    torch.testing.assert_close(block(x), 2 * shortcut)
    assert shortcut.shape[-1] == block.output_size(n + 3)
    assert shortcut.abs().sum() > 0


@pytest.mark.parametrize("n", [64, 61])
def test_sizes_with_full_convolution(n):
    """Two pixels more for each 3x3 convolution, after the stride for the second of a block."""
    sizes = [(n + 2 * 6 - 7) // 2 + 1]
    pooled = (sizes[0] - 1) // 2 + 1
    sizes.append(pooled + 8)
    for _ in range(3):
        sizes.append((sizes[-1] + 1) // 2 + 1 + 2 + 4)
    backbone = seeded(config(full_conv=True))
    assert [f.shape[-1] for f in backbone(images(n, n))] == sizes
