"""Backbones against torchvision, antialiased_cnns, stlpips_pytorch and chains of torch calls."""

import csv
import dataclasses
import math
from pathlib import Path

import antialiased_cnns
import pytest
import torch
import torch.nn.functional as F
import torchvision
from stlpips_pytorch import invariant_networks
from torch import nn

import robust_lpips
from robust_lpips import BackboneConfig, RobustLPIPS, build_backbone
from robust_lpips.backbones import torchvision_keys
from robust_lpips.backbones.chain import convolution

ABLATION = Path(robust_lpips.__file__).parent / "studies" / "published" / "ablation_alexnet.csv"
IMAGES = [(64, 64), (61, 83)]

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


def seeded(config):
    """The backbone with biases that are not 0, so that a lost bias shows."""
    torch.manual_seed(0)
    backbone = build_backbone(config).eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.uniform_(layer.bias, -0.3, 0.3)
    return backbone.requires_grad_(False)


def share_weights(backbone, peer):
    """Copy each convolution of ``backbone`` into the one of ``peer`` at the same depth."""
    ours, theirs = (
        [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
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


def assert_same_features(ours, theirs):
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        assert own.shape == other.shape
        assert (own - other).norm() <= 1e-5 * other.norm()


def images(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def binomial_blur(x, size, reflection_pad):
    """Reflect, then filter rows and columns one after the other, then keep every second pixel."""
    total = size - 1
    before, after = (total // 2, total - total // 2) if reflection_pad == 1 else (total, total)
    x = F.pad(x, (before, after, before, after), mode="reflect")
    row = torch.tensor([math.comb(total, i) / 2.0**total for i in range(size)])
    planes = F.conv2d(x.flatten(0, 1).unsqueeze(1), row.view(1, 1, 1, -1))
    planes = F.conv2d(planes, row.view(1, 1, -1, 1))
    return planes.unflatten(0, x.shape[:2]).squeeze(2)[..., ::2, ::2]


def alexnet_features(backbone, config, x):
    """AlexNet's five features by torch calls alone, written from DESIGN.md.

    Only the filters of 'adaptive' are the backbone's own layers (test_downsampling.py holds them
    against loops); where they stand is decided here.
    """

    def conv(name, x, padding, stride=1):
        layer = getattr(backbone, name)
        if config.full_conv:
            padding = layer.weight.shape[-1] - 1
        return F.conv2d(x, layer.weight, layer.bias, stride, padding)

    def blur(name, x):
        if config.anti_alias == "blurpool":
            return binomial_blur(x, config.blur_size, config.reflection_pad)
        return getattr(backbone, name)(x) if name == "blur1" else getattr(backbone, name)[1](x)

    def pool(name, x):
        if config.anti_alias == "none":
            return F.max_pool2d(x, 3, 2)
        return blur(name, F.max_pool2d(x, 3, 1))

    x = conv("conv1", x, 2, config.conv1_stride or 4)
    if config.anti_alias == "none" or config.conv1_stride in (None, 4):
        first = x = x.relu()
    elif config.blur_placement == "original":
        first = x.relu()
        x = blur("blur1", first)
    elif config.blur_placement == "feature_after_blur":
        first = x = blur("blur1", x.relu())
    else:
        first = x = blur("blur1", x).relu()
    second = conv("conv2", pool("pool1", x), 2).relu()
    third = conv("conv3", pool("pool2", second), 1).relu()
    fourth = conv("conv4", third, 1).relu()
    return [first, second, third, fourth, conv("conv5", fourth, 1).relu()]


class TestAlexNet:
    @pytest.mark.parametrize("shape", IMAGES)
    def test_plain_equals_torchvision(self, shape, quick_build):
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
    def test_equals_stlpips(self, variant, config):
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
    def test_equals_antialiased_cnns(self, stride, placement, options, size, quick_build):
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
    def test_every_published_row_equals_torch_calls(self, row):
        self._check(ROWS[row])

    def test_published_rows_are_all_there(self):
        """The paper's table has eleven; two of them are networks that peers have, checked above."""
        assert len(set(ROWS.values())) == len(ROWS) == 11
        assert ROWS["vanilla"] == BackboneConfig(conv1_stride=4)
        assert ROWS["blurpool-pad1-s2"] == BLURRED

    @pytest.mark.parametrize("anti_alias", ["blurpool", "adaptive"])
    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize(
        "placement", ["original", "feature_after_blur", "blur_before_activation"]
    )
    def test_blur_placement_equals_torch_calls(self, placement, stride, anti_alias):
        self._check(
            BackboneConfig(
                anti_alias=anti_alias,
                reflection_pad=2,
                conv1_stride=stride,
                blur_placement=placement,
            )
        )

    @staticmethod
    def _check(config):
        ours = seeded(config)
        for shape in IMAGES:
            x = images(*shape)
            assert_same_features(ours(x), alexnet_features(ours, config, x))

    def test_taps_name_their_channels(self):
        for config in (BackboneConfig(), BLURRED, SHIFT_TOLERANT):
            backbone = seeded(config)
            features = backbone(images(64, 64))
            assert [f.shape[1] for f in features] == list(backbone.taps.values())


class TestVGG16:
    @pytest.mark.parametrize("shape", IMAGES)
    def test_plain_equals_torchvision(self, shape, quick_build):
        ours = seeded(BackboneConfig(arch="vgg16"))
        with quick_build():
            peer = share_weights(ours, torchvision.models.vgg16(weights=None).features)
        expected = relu_outputs(peer, images(*shape), only_before_pools=True)
        assert_same_features(ours(images(*shape)), expected)

    @pytest.mark.parametrize("size", [2, 3, 5])
    def test_blurpool_equals_antialiased_cnns(self, size, quick_build):
        ours = seeded(BackboneConfig(arch="vgg16", anti_alias="blurpool", blur_size=size))
        with quick_build():
            peer = antialiased_cnns.vgg16(filter_size=size, init_weights=False).features
        share_weights(ours, peer)
        expected = relu_outputs(peer, images(64, 64), only_before_pools=True)
        assert_same_features(ours(images(64, 64)), expected)

    @pytest.mark.parametrize("shape", IMAGES)
    def test_shift_tolerant_equals_stlpips(self, shape, quick_build):
        ours = seeded(BackboneConfig(arch="vgg16", anti_alias="blurpool", reflection_pad=2))
        with quick_build():
            peer = share_weights(ours, invariant_networks.vggnet("shift_tolerant"))
        assert_same_features(ours(images(*shape)), peer(images(*shape)))


@pytest.mark.parametrize("arch", ["alexnet", "vgg16"])
def test_torchvision_keys_name_the_same_convolutions(arch, quick_build):
    """Name by name, where share_weights goes by depth."""
    ours = seeded(BackboneConfig(arch=arch))
    with quick_build():
        peer = getattr(torchvision.models, arch)(weights=None)
    share_weights(ours, peer.features)
    keys, state = torchvision_keys(arch), peer.state_dict()
    assert {f"{name}.{kind}" for name in keys for kind in ("weight", "bias")} == set(
        ours.state_dict()
    )
    for name, key in keys.items():
        assert torch.equal(ours.get_submodule(name).weight, state[f"{key}.weight"])


class TestFullConvolution:
    @pytest.mark.parametrize("size", [3, 5, 11])
    def test_every_pixel_meets_every_weight(self, size):
        """The sum of the output weighs each pixel, corners too, by the sum of all weights."""
        torch.manual_seed(0)
        layer = convolution(1, 1, size, padding=size // 2, full=True).double()
        x = torch.randn(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
        torch.testing.assert_close(gradient, layer.weight.sum().expand_as(gradient))

    @pytest.mark.parametrize("n", [64, 61])
    def test_plain_alexnet_sizes(self, n):
        """A convolution of side k and stride s gives (n + k - 2) // s + 1 pixels."""
        backbone = seeded(BackboneConfig(full_conv=True))
        first = (n + 11 - 2) // 4 + 1
        second = (first - 3) // 2 + 1 + 4
        third = (second - 3) // 2 + 1 + 2
        expected = [first, second, third, third + 2, third + 4]
        assert [f.shape[-1] for f in backbone(images(n, n))] == expected

    @pytest.mark.parametrize("anti_alias", ["none", "blurpool"])
    def test_vgg_equals_torch_calls(self, anti_alias):
        backbone = seeded(BackboneConfig(arch="vgg16", anti_alias=anti_alias, full_conv=True))
        x, expected = images(32, 32), []
        for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
            if stage > 1 and anti_alias == "none":
                x = F.max_pool2d(x, 2, 2)
            elif stage > 1:
                x = binomial_blur(F.max_pool2d(x, 2, 1), 3, 1)
            for index in range(1, depth + 1):
                layer = getattr(backbone, f"conv{stage}_{index}")
                x = F.conv2d(x, layer.weight, layer.bias, padding=2).relu()
            expected.append(x)
        assert_same_features(backbone(images(32, 32)), expected)


class TestSmallestImage:
    CONFIGS = (
        *ROWS.values(),
        SHIFT_TOLERANT,
        BackboneConfig(anti_alias="blurpool", blur_size=7, reflection_pad=2),
        BackboneConfig(anti_alias="adaptive", blur_size=2),
        BackboneConfig(arch="vgg16"),
        BackboneConfig(arch="vgg16", full_conv=True),
        BackboneConfig(arch="vgg16", anti_alias="blurpool", reflection_pad=2),
    )

    @pytest.mark.parametrize("config", CONFIGS)
    def test_min_size_passes_and_one_pixel_less_does_not(self, config):
        backbone = seeded(config)
        least = backbone.min_size
        assert all(min(f.shape) >= 1 for f in backbone(images(least, least)))
        backbone(images(least, least + 9))
        for shape in ((least - 1, least - 1), (least - 1, 64), (64, least - 1)):
            with pytest.raises((RuntimeError, ValueError)):
                backbone(images(*shape))

    def test_known_sizes(self):
        """Torchvision's documented minimum for AlexNet's features is 31 behind another max-pool."""
        assert build_backbone(BackboneConfig(arch="vgg16")).min_size == 16
        assert build_backbone(BackboneConfig()).min_size == 31

    @pytest.mark.parametrize("config", [BackboneConfig(), SHIFT_TOLERANT])
    def test_metric_refuses_less(self, config):
        metric = RobustLPIPS(config, weights=None)
        least = metric.backbone.min_size
        assert metric(images(least, 64), images(least, 64), validate=False).shape == (2,)
        with pytest.raises(ValueError, match=f"img0 must be at least {least}x{least}"):
            metric(images(least - 1, 64), images(least - 1, 64))


class TestConfig:
    @pytest.mark.parametrize(
        ("field", "options"),
        [
            ("arch", {"arch": "alex"}),
            ("anti_alias", {"anti_alias": True}),
            ("blur_size", {"anti_alias": "blurpool", "blur_size": 0}),
            ("blur_size", {"anti_alias": "blurpool", "blur_size": 8}),
            ("blur_size", {"anti_alias": "blurpool", "blur_size": True}),
            ("blur_size", {"anti_alias": "blurpool", "blur_size": 3.0}),
            ("blur_size", {"anti_alias": "none", "blur_size": 5}),
            ("blur_size", {"anti_alias": "adaptive", "blur_size": 1}),
            ("reflection_pad", {"anti_alias": "blurpool", "reflection_pad": 3}),
            ("reflection_pad", {"anti_alias": "blurpool", "reflection_pad": True}),
            ("reflection_pad", {"anti_alias": "none", "reflection_pad": 2}),
            ("conv1_stride", {"conv1_stride": 3}),
            ("conv1_stride", {"conv1_stride": True}),
            ("conv1_stride", {"arch": "vgg16", "conv1_stride": 2}),
            ("blur_placement", {"blur_placement": "after"}),
            ("blur_placement", {"blur_placement": "feature_after_blur"}),
            (
                "blur_placement",
                {"anti_alias": "blurpool", "blur_placement": "feature_after_blur"},
            ),
            (
                "blur_placement",
                {
                    "arch": "vgg16",
                    "anti_alias": "blurpool",
                    "blur_placement": "blur_before_activation",
                },
            ),
            ("full_conv", {"full_conv": 1}),
            ("full_conv", {"full_conv": "yes"}),
            ("skip", {"skip": "strided"}),
            ("skip", {"arch": "vgg16", "skip": "blurpool"}),
            ("skip", {"skip": None}),
        ],
    )
    def test_refusal_names_the_field(self, field, options):
        with pytest.raises(ValueError, match=rf"^{field}\b"):
            BackboneConfig(**options)

    def test_is_frozen_and_hashable(self):
        config = BackboneConfig(anti_alias="blurpool")
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.blur_size = 5
        assert {config: 1}[BackboneConfig(anti_alias="blurpool")] == 1
        assert config != BackboneConfig()

    @pytest.mark.parametrize("config", [*ROWS.values(), SHIFT_TOLERANT])
    def test_survives_a_dictionary(self, config):
        """As checkpoints store it."""
        assert BackboneConfig(**dataclasses.asdict(config)) == config
