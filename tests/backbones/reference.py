"""What the tests of every architecture share: seeded backbones, images and plain torch calls."""

import csv
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import robust_lpips
from robust_lpips import BackboneConfig, build_backbone

IMAGES = [(64, 64), (61, 83)]
ABLATION = Path(robust_lpips.__file__).parent / "published" / "ablation_alexnet.csv"

BLURRED = BackboneConfig(anti_alias="blurpool", conv1_stride=2)
SHIFT_TOLERANT = BackboneConfig(
    anti_alias="blurpool",
    reflection_pad=2,
    conv1_stride=1,
    blur_placement="blur_before_activation",
)


def ablation_rows():
    with ABLATION.open(newline="") as file:
        return {
            row["row"]: BackboneConfig(
                anti_alias=row["anti_alias"],
                reflection_pad=int(row["reflection_pad"]),
                full_conv=row["full_conv"] == "true",
                conv1_stride=int(row["conv1_stride"]),
            )
            for row in csv.DictReader(file)
        }


ROWS = ablation_rows()


def images(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def seeded(config):
    """The backbone with biases and statistics of its own, so that a lost one shows."""
    torch.manual_seed(0)
    return unsettle(build_backbone(config))


def unsettle(network):
    """Draw what initialisation leaves at 0 or 1; the network is in evaluation mode then."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.uniform_(layer.bias, -0.3, 0.3)
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (layer.bias, layer.running_mean):
                nn.init.uniform_(tensor, -0.3, 0.3)
    return network.eval().requires_grad_(False)


def share_weights(backbone, peer):
    """Copy each layer with weights of ``backbone`` into the one of ``peer`` at the same depth."""
    ours, theirs = (
        [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        for module in (backbone, peer)
    )
    for own, other in zip(ours, theirs, strict=True):
        other.load_state_dict(own.state_dict())
    return peer.eval().requires_grad_(False)


def relu_outputs(features, x, *, only_before_pools=False):
    """Outputs of the ReLUs of a ``Sequential``, or of those alone that a max-pool follows."""
    outputs = []
    # The pool after the last ReLU has no part in LPIPS, and small images do not pass it.
    last = max(i for i, layer in enumerate(features) if isinstance(layer, nn.ReLU))
    for i, layer in enumerate(features[: last + 1]):
        x = layer(x)
        wanted = not only_before_pools or isinstance(features[i + 1], nn.MaxPool2d)
        if isinstance(layer, nn.ReLU) and wanted:
            outputs.append(x)
    return outputs


def resnet_outputs(peer, x):
    """The five features of a ResNet of torchvision's or antialiased_cnns' class."""
    x = peer.relu(peer.bn1(peer.conv1(x)))
    outputs = [x]
    x = peer.maxpool(x)
    for layer in (peer.layer1, peer.layer2, peer.layer3, peer.layer4):
        x = layer(x)
        outputs.append(x)
    return outputs


def assert_same_features(ours, theirs):
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.shape == other.shape
        assert (own - other).norm() <= 1e-5 * other.norm()


def binomial_blur(x, size, reflection_pad):
    """Reflect, then filter rows and columns one after the other, then keep every second pixel."""
    total = size - 1
    before, after = (total // 2, total - total // 2) if reflection_pad == 1 else (total, total)
    x = F.pad(x, (before, after, before, after), mode="reflect")
    row = torch.tensor([math.comb(total, i) / 2.0**total for i in range(size)])
    planes = F.conv2d(x.flatten(0, 1).unsqueeze(1), row.view(1, 1, 1, -1))
    planes = F.conv2d(planes, row.view(1, 1, -1, 1))
    return planes.unflatten(0, x.shape[:2]).squeeze(2)[..., ::2, ::2]


class Calls:
    """A backbone's layers as torch calls, for references written from DESIGN.md.

    Only the filters of 'adaptive' are the backbone's own layers (test_downsampling.py holds them
    against loops); where they stand is decided by who calls.
    """

    def __init__(self, backbone, config):
        self.backbone = backbone
        self.config = config

    def conv(self, name, x, padding, stride=1):
        """A convolution; with F-Conv its padding is k-1."""
        layer = self.backbone.get_submodule(name)
        if self.config.full_conv:
            padding = layer.weight.shape[-1] - 1
        return F.conv2d(x, layer.weight, layer.bias, stride, padding)

    def norm(self, name, x):
        """Batch normalisation by its running statistics."""
        layer = self.backbone.get_submodule(name)
        x = (x - layer.running_mean.view(-1, 1, 1)) / (
            layer.running_var.view(-1, 1, 1) + layer.eps
        ).sqrt()
        return x * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)

    def blur(self, name, x):
        if self.config.anti_alias == "blurpool":
            return binomial_blur(x, self.config.blur_size, self.config.reflection_pad)
        return self.backbone.get_submodule(name)(x)

    def pool(self, name, x, size, *, ceil_mode=False):
        """Max-pooling of stride 2, or of stride 1 and then blurred."""
        if self.config.anti_alias == "none":
            return F.max_pool2d(x, size, 2, ceil_mode=ceil_mode)
        return self.blur(f"{name}.1", F.max_pool2d(x, size, 1))

    def after_conv1(self, x, own_stride):
        """From the output of conv-1 to the first feature and the input of the first pool."""
        stride = self.config.conv1_stride or own_stride
        if self.config.anti_alias == "none" or stride == own_stride:
            return x.relu(), x.relu()
        if self.config.blur_placement == "original":
            return x.relu(), self.blur("blur1", x.relu())
        if self.config.blur_placement == "feature_after_blur":
            first = self.blur("blur1", x.relu())
        else:
            first = self.blur("blur1", x).relu()
        return first, first
