"""Names in the packages' state dicts, against the packages' own networks."""

import antialiased_cnns
import pytest
import torch
import torchvision
from torch import nn

from robust_lpips import BackboneConfig, build_backbone
from robust_lpips.backbones import (
    ARCHITECTURES,
    antialiased_keys,
    published_tensors,
    torchvision_keys,
)
from tests.backbones.reference import (
    assert_same_features,
    images,
    relu_outputs,
    resnet_outputs,
    unsettle,
)

# Options that nest layers deeper or add some that the packages do not have.
OPTIONS = [
    {},
    {"anti_alias": "adaptive"},
    {"anti_alias": "blurpool", "full_conv": True},
    {"anti_alias": "adaptive", "conv1_stride": 1, "blur_placement": "blur_before_activation"},
    {"skip": "strided"},
    {"anti_alias": "adaptive", "skip": "blurpool", "full_conv": True},
]


def configs(arch):
    if arch == "vgg16":
        chosen = [options for options in OPTIONS if "conv1_stride" not in options]
    else:
        chosen = [options for options in OPTIONS if "skip" not in options]
    return [BackboneConfig(arch=arch, **options) for options in chosen]


def outputs(arch, peer, x):
    if arch == "resnet18":
        return resnet_outputs(peer, x)
    if arch == "squeezenet1_1":
        return [peer.features(x)]
    return relu_outputs(peer.features, x, only_before_pools=arch == "vgg16")


@pytest.fixture
def peer(arch, package, quick_build):
    torch.manual_seed(0)
    with quick_build():
        network = getattr(package, arch)()
    # quick_build leaves some of antialiased_cnns' convolutions empty.
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return unsettle(network)


@pytest.mark.parametrize("package", [torchvision.models])
@pytest.mark.parametrize("arch", ARCHITECTURES)
class TestTorchvision:
    def test_same_features(self, arch, peer):
        config = BackboneConfig(arch=arch)
        backbone, theirs = build_backbone(config).eval(), peer.state_dict()
        keys = torchvision_keys(config)
        assert list(keys) == list(backbone.state_dict())
        backbone.load_state_dict({ours: theirs[name] for ours, name in keys.items()})
        x = images(64, 61)
        features = backbone(x)
        expected = outputs(arch, peer, x)
        assert_same_features(features[-len(expected) :], expected)

    def test_every_tensor_but_the_classifiers(self, arch, peer):
        """Whatever the options, all of torchvision's are named once, with their shapes."""
        theirs = {
            name: value.shape
            for name, value in peer.state_dict().items()
            if not name.startswith(("classifier.", "fc."))
        }
        for config in configs(arch):
            with torch.device("meta"):
                backbone = build_backbone(config)
            keys, ours = torchvision_keys(config), backbone.state_dict()
            assert {keys[name]: ours[name].shape for name in keys} == theirs
            assert list(keys) == published_tensors(backbone)


@pytest.mark.parametrize("package", [antialiased_cnns])
@pytest.mark.parametrize("arch", ["alexnet", "vgg16", "resnet18"])
class TestAntialiasedCNNs:
    def test_same_features(self, arch, peer):
        stride = 2 if arch == "alexnet" else None
        config = BackboneConfig(arch=arch, anti_alias="blurpool", blur_size=4, conv1_stride=stride)
        backbone, theirs = build_backbone(config).eval(), peer.state_dict()
        keys = antialiased_keys(config)
        assert list(keys) == list(backbone.state_dict())
        backbone.load_state_dict({ours: theirs[name] for ours, name in keys.items()})
        x = images(64, 61)
        assert_same_features(backbone(x), outputs(arch, peer, x))

    def test_every_tensor_but_classifiers_and_filters(self, arch, peer):
        theirs = {
            name: value.shape
            for name, value in peer.state_dict().items()
            if not name.startswith(("classifier.", "fc.")) and not name.endswith(".filt")
        }
        for config in configs(arch):
            with torch.device("meta"):
                ours = build_backbone(config).state_dict()
            keys = antialiased_keys(config)
            assert {keys[name]: ours[name].shape for name in keys} == theirs


def test_antialiased_cnns_has_no_squeezenet():
    with pytest.raises(ValueError, match="has no squeezenet1_1"):
        antialiased_keys(BackboneConfig(arch="squeezenet1_1", anti_alias="blurpool"))


def test_published_tensors_leave_out_adaptive_filters_and_skips():
    config = BackboneConfig(arch="vgg16", anti_alias="adaptive", skip="strided")
    backbone = build_backbone(config)
    added = set(backbone.state_dict()) - set(published_tensors(backbone))
    skips = {f"stage{stage}.skip.0.weight" for stage in range(2, 6)}
    filters = added - skips
    assert skips < added
    assert all(".pool" in name for name in filters)
    # A convolution without bias, and the five tensors of its batch normalisation, four times.
    assert len(filters) == 4 * (1 + 5)
