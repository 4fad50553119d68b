"""AlexNet against torchvision, antialiased_cnns, stlpips_pytorch and chains of torch calls."""

import dataclasses

import antialiased_cnns
import pytest
import torchvision
from stlpips_pytorch import invariant_networks
from torch import nn

from robust_lpips import BackboneConfig
from tests.backbones.reference import (
    BLURRED,
    IMAGES,
    ROWS,
    SHIFT_TOLERANT,
    Calls,
    assert_same_features,
    images,
    relu_outputs,
    seeded,
    share_weights,
)


def features_by_calls(backbone, config, x):
    calls = Calls(backbone, config)
    x = calls.conv("conv1", x, 2, config.conv1_stride or 4)
    first, x = calls.after_conv1(x, own_stride=4)
    second = calls.conv("conv2", calls.pool("pool1", x, 3), 2).relu()
    third = calls.conv("conv3", calls.pool("pool2", second, 3), 1).relu()
    fourth = calls.conv("conv4", third, 1).relu()
    return [first, second, third, fourth, calls.conv("conv5", fourth, 1).relu()]


def check_by_calls(config):
    ours = seeded(config)
    for shape in IMAGES:
        x = images(*shape)
        assert_same_features(ours(x), features_by_calls(ours, config, x))


@pytest.mark.parametrize("shape", IMAGES)
def test_plain_equals_torchvision(shape, quick_build):
    ours = seeded(BackboneConfig())
    with quick_build():
        peer = share_weights(ours, torchvision.models.alexnet(weights=None).features)
    assert_same_features(ours(images(*shape)), relu_outputs(peer, images(*shape)))


@pytest.mark.parametrize(
    ("variant", "config"),
    [
        ("vanilla", BackboneConfig()),
        *(("antialiased", dataclasses.replace(BLURRED, blur_size=k)) for k in (2, 3, 5, 7)),
        *(("shift_tolerant", dataclasses.replace(SHIFT_TOLERANT, blur_size=k)) for k in (3, 4)),
    ],
)
def test_equals_stlpips(variant, config):
    ours = seeded(config)
    peer = invariant_networks.alexnet(variant, filter_size=config.blur_size)
    share_weights(ours, peer)
    for shape in IMAGES:
        assert_same_features(ours(images(*shape)), peer(images(*shape)))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("stride", "placement", "options"),
    [
        (2, "original", {}),
        (2, "blur_before_activation", {"relu_first": False}),
        (4, "original", {"pool_only": True}),
    ],
)
def test_equals_antialiased_cnns(stride, placement, options, size, quick_build):
    config = BackboneConfig(
        anti_alias="blurpool", blur_size=size, conv1_stride=stride, blur_placement=placement
    )
    ours = seeded(config)
    with quick_build():
        peer = antialiased_cnns.alexnet(filter_size=size, **options).features
    if "pool_only" in options:
        # There the package leaves out the ReLU after conv-1, the feature that LPIPS taps.
        peer.insert(1, nn.ReLU())
    share_weights(ours, peer)
    assert_same_features(ours(images(61, 83)), relu_outputs(peer, images(61, 83)))


@pytest.mark.parametrize("row", ROWS)
def test_every_published_row_equals_torch_calls(row):
    check_by_calls(ROWS[row])


def test_published_rows_are_all_there():
    """The paper's table has eleven; two of them are networks that peers have, checked above."""
    assert len(set(ROWS.values())) == len(ROWS) == 11
    assert ROWS["vanilla"] == BackboneConfig(conv1_stride=4)
    assert ROWS["blurpool-pad1-s2"] == BLURRED


@pytest.mark.parametrize("anti_alias", ["blurpool", "adaptive"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("placement", ["original", "feature_after_blur", "blur_before_activation"])
def test_blur_placement_equals_torch_calls(placement, stride, anti_alias):
    check_by_calls(
        BackboneConfig(
            anti_alias=anti_alias,
            reflection_pad=2,
            conv1_stride=stride,
            blur_placement=placement,
        )
    )


@pytest.mark.parametrize("n", [64, 61])
def test_sizes_with_full_convolution(n):
    """A convolution of side k and stride s gives (n + k - 2) // s + 1 pixels."""
    backbone = seeded(BackboneConfig(full_conv=True))
    first = (n + 11 - 2) // 4 + 1
    second = (first - 3) // 2 + 1 + 4
    third = (second - 3) // 2 + 1 + 2
    expected = [first, second, third, third + 2, third + 4]
    assert [f.shape[-1] for f in backbone(images(n, n))] == expected
