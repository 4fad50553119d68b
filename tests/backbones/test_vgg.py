"""VGG-16 against torchvision, antialiased_cnns, stlpips_pytorch and chains of torch calls."""

import antialiased_cnns
import pytest
import torch
import torch.nn.functional as F
import torchvision
from stlpips_pytorch import invariant_networks
from torch import nn

from robust_lpips import BackboneConfig, build_backbone
from tests.backbones.reference import (
    IMAGES,
    Calls,
    assert_same_features,
    binomial_blur,
    images,
    relu_outputs,
    seeded,
    share_weights,
)

DEPTHS = (2, 2, 3, 3, 3)

# (anti_alias, skip, blur_size, reflection_pad): row and column of the path on which the skip's
# first falls. In the stage's input index i of a map is centred on 2i after a stride, 2i + 1/2
# after a max-pool of 2 and, for an odd filter, as far before that as it reflects beyond (k-1)/2.
LEADS = {
    ("none", "strided", 3, 1): 0,  # 2i + 1/2, and 2i
    ("none", "blurpool", 3, 1): 0,  # 2i + 1/2, and 2i
    ("none", "blurpool", 3, 2): -1,  # 2i + 1/2, and 2i - 1
    ("blurpool", "strided", 3, 1): 0,  # 2i + 1/2, and 2i
    ("blurpool", "strided", 3, 2): 0,  # 2i - 1/2, and 2i
    ("blurpool", "strided", 5, 2): 1,  # 2i - 3/2, and 2i
    ("blurpool", "strided", 7, 2): 1,  # 2i - 5/2, and 2i
    ("blurpool", "blurpool", 3, 1): 0,
    ("blurpool", "blurpool", 3, 2): 0,
    ("blurpool", "blurpool", 4, 2): 0,
    ("adaptive", "blurpool", 3, 1): 0,
    ("adaptive", "strided", 3, 2): 0,
}


def skipped(key, **options):
    anti_alias, skip, size, pad = key
    options = {"blur_size": size, "reflection_pad": pad} | options
    return BackboneConfig(arch="vgg16", anti_alias=anti_alias, skip=skip, **options)


def features_by_calls(backbone, config, lead, x):
    calls, features = Calls(backbone, config), []
    for stage, depth in enumerate(DEPTHS, start=1):
        start, inside = x, ""
        if stage > 1:
            inside = "" if config.skip == "none" else f"stage{stage}.path."
            x = calls.pool(f"{inside}pool{stage - 1}", x, 2)
        for index in range(1, depth + 1):
            x = calls.conv(f"{inside}conv{stage}_{index}", x.relu() if index > 1 else x, 1)
        if inside:
            skip = skip_by_calls(backbone.get_submodule(f"stage{stage}.skip"), config, start)
            x = x + placed(skip, lead + (depth if config.full_conv else 0), x.shape[-2:])
        x = x.relu()
        features.append(x)
    return features


def skip_by_calls(layers, config, x):
    if config.skip == "strided":
        return F.conv2d(x[..., ::2, ::2], layers[0].weight)
    return binomial_blur(F.conv2d(x, layers[0].weight), config.blur_size, config.reflection_pad)


def placed(x, lead, shape):
    """``x`` on zeros of ``shape``, its first pixel at (lead, lead); what sticks out is cut."""
    x = x[..., max(-lead, 0) :, max(-lead, 0) :]
    lead = max(lead, 0)
    out = torch.zeros(*x.shape[:2], *shape)
    x = x[..., : shape[0] - lead, : shape[1] - lead]
    out[..., lead : lead + x.shape[-2], lead : lead + x.shape[-1]] = x
    return out


@pytest.mark.parametrize("shape", IMAGES)
def test_plain_equals_torchvision(shape, quick_build):
    ours = seeded(BackboneConfig(arch="vgg16"))
    with quick_build():
        peer = share_weights(ours, torchvision.models.vgg16(weights=None).features)
    expected = relu_outputs(peer, images(*shape), only_before_pools=True)
    assert_same_features(ours(images(*shape)), expected)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_blurpool_equals_antialiased_cnns(size, quick_build):
    ours = seeded(BackboneConfig(arch="vgg16", anti_alias="blurpool", blur_size=size))
    with quick_build():
        peer = antialiased_cnns.vgg16(filter_size=size, init_weights=False).features
    share_weights(ours, peer)
    expected = relu_outputs(peer, images(61, 64), only_before_pools=True)
    assert_same_features(ours(images(61, 64)), expected)


@pytest.mark.parametrize("shape", IMAGES)
def test_shift_tolerant_equals_stlpips(shape, quick_build):
    ours = seeded(BackboneConfig(arch="vgg16", anti_alias="blurpool", reflection_pad=2))
    with quick_build():
        peer = share_weights(ours, invariant_networks.vggnet("shift_tolerant"))
    assert_same_features(ours(images(*shape)), peer(images(*shape)))


@pytest.mark.parametrize("anti_alias", ["none", "blurpool", "adaptive"])
def test_full_convolution_equals_torch_calls(anti_alias):
    config = BackboneConfig(arch="vgg16", anti_alias=anti_alias, full_conv=True)
    backbone, x = seeded(config), images(32, 32)
    assert_same_features(backbone(x), features_by_calls(backbone, config, 0, x))


class TestSkip:
    @pytest.mark.parametrize("full_conv", [False, True])
    @pytest.mark.parametrize("key", LEADS, ids=str)
    def test_equals_torch_calls(self, key, full_conv):
        config = skipped(key, full_conv=full_conv)
        backbone, x = seeded(config), images(37, 50)
        if backbone.min_size > 37:
            x = images(85, 98)
        assert_same_features(backbone(x), features_by_calls(backbone, config, LEADS[key], x))

    @pytest.mark.parametrize("full_conv", [False, True])
    @pytest.mark.parametrize("n", [24, 25])
    @pytest.mark.parametrize("key", [k for k in LEADS if k[0] != "adaptive"])
    def test_both_are_centred_alike(self, key, n, full_conv):
        """A ramp tells where an output looks: half a pixel apart, one for filters of even size."""
        stage = build_backbone(skipped(key, full_conv=full_conv)).stage2.requires_grad_(False)
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight)
        ramp = torch.arange(n).float().expand(1, 64, n, n) + 100
        # A max-pool reads a rising ramp at one end and a falling one at the other.
        both = torch.cat([ramp, 300 - ramp])
        rising, falling = stage.path(both)
        path = ((rising - falling) / 2)[0, n // 4]
        rising, falling = (stage(both) - stage.path(both)).unbind()
        skip = ((rising - falling) / 2)[0, n // 4]
        apart = (path - skip)[5:9]
        assert apart.abs().max() <= (0.5 if key[2] % 2 else 1.0)

    def test_without_it_names_are_those_of_released_checkpoints(self):
        names = set(build_backbone(BackboneConfig(arch="vgg16")).state_dict())
        assert names == {
            f"conv{stage}_{index}.{kind}"
            for stage, depth in enumerate(DEPTHS, start=1)
            for index in range(1, depth + 1)
            for kind in ("weight", "bias")
        }
