"""Sizes, taps, full convolution, initial weights and cost: what holds for every architecture."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips import BackboneConfig, RobustLPIPS, build_backbone
from robust_lpips.backbones import ARCHITECTURES
from robust_lpips.backbones.chain import convolution, output_size
from tests.backbones.reference import BLURRED, ROWS, SHIFT_TOLERANT, images, seeded

BLURS = {"anti_alias": "blurpool", "reflection_pad": 2}
CONFIGS = (
    *ROWS.values(),
    SHIFT_TOLERANT,
    BackboneConfig(anti_alias="blurpool", blur_size=7, reflection_pad=2),
    BackboneConfig(anti_alias="adaptive", blur_size=2),
    *(
        BackboneConfig(arch=arch, **options)
        for arch in ("vgg16", "squeezenet1_1", "resnet18")
        for options in ({}, {"full_conv": True}, {"anti_alias": "adaptive"}, BLURS)
    ),
    *(
        BackboneConfig(arch=arch, conv1_stride=1, full_conv=full, **BLURS)
        for arch in ("squeezenet1_1", "resnet18")
        for full in (False, True)
    ),
    BackboneConfig(arch="vgg16", skip="strided"),
    BackboneConfig(arch="vgg16", skip="blurpool", blur_size=7, reflection_pad=2),
    BackboneConfig(arch="vgg16", skip="blurpool", full_conv=True),
    BackboneConfig(arch="vgg16", skip="strided", **BLURS),
)


def on_meta(config):
    with torch.device("meta"):
        return build_backbone(config).eval()


class TestSmallestImage:
    @pytest.mark.parametrize("config", CONFIGS)
    def test_min_size_passes_and_one_pixel_less_does_not(self, config):
        backbone = seeded(config)
        least = backbone.min_size
        assert all(min(f.shape) >= 1 for f in backbone(images(least, least)))
        backbone(images(least, least + 9))
        for shape in ((least - 1, least - 1), (least - 1, 64), (64, least - 1)):
            with pytest.raises((RuntimeError, ValueError)):
                backbone(images(*shape))

    @pytest.mark.parametrize("config", CONFIGS)
    def test_declared_sizes_are_the_real_ones(self, config):
        backbone = on_meta(config)
        for n in range(backbone.min_size, backbone.min_size + 18):
            declared, size = [], n
            for name, layer in backbone.named_children():
                size = output_size(layer, size)
                if name in backbone.taps:
                    declared.append(size)
            features = backbone(torch.empty(1, 3, n, n, device="meta"))
            assert [f.shape[-1] for f in features] == declared

    def test_known_sizes(self):
        """Torchvision documents SqueezeNet's; AlexNet's and VGG-16's behind another max-pool."""
        assert build_backbone(BackboneConfig(arch="vgg16")).min_size == 16
        assert build_backbone(BackboneConfig()).min_size == 31
        weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
        assert (build_backbone(BackboneConfig(arch="squeezenet1_1")).min_size,) * 2 == (
            weights.meta["min_size"]
        )

    @pytest.mark.parametrize("config", [BackboneConfig(), SHIFT_TOLERANT])
    def test_metric_refuses_less(self, config):
        metric = RobustLPIPS(config, weights=None)
        least = metric.backbone.min_size
        assert metric(images(least, 64), images(least, 64), validate=False).shape == (2,)
        with pytest.raises(ValueError, match=f"img0 must be at least {least}x{least}"):
            metric(images(least - 1, 64), images(least - 1, 64))


@pytest.mark.parametrize("config", [BLURRED, *CONFIGS])
def test_taps_name_their_channels(config):
    backbone = on_meta(config)
    features = backbone(torch.empty(1, 3, 96, 96, device="meta"))
    assert [f.shape[1] for f in features] == list(backbone.taps.values())


@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig(arch="vgg16", skip="blurpool"),
        BackboneConfig(arch="squeezenet1_1", anti_alias="adaptive", conv1_stride=1),
        BackboneConfig(arch="resnet18", anti_alias="adaptive", conv1_stride=1, full_conv=True),
    ],
)
def test_training_reaches_every_weight(config):
    """Through layers that work in place, and batch normalisation in training mode."""
    torch.manual_seed(0)
    backbone = build_backbone(config).train()
    x = images(64, 64).requires_grad_()
    sum(feature.square().mean() for feature in backbone(x)).backward()
    for tensor in (x, *backbone.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


@pytest.mark.parametrize("size", [3, 5, 11])
def test_with_full_convolution_every_pixel_meets_every_weight(size):
    """The sum of the output weighs each pixel, corners too, by the sum of all weights."""
    torch.manual_seed(0)
    layer = convolution(1, 1, size, padding=size // 2, full=True).double()
    x = torch.randn(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, layer.weight.sum().expand_as(gradient))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_initial_weights(arch):
    """Gaussian with variance 2 / fan-in (He et al., ICCV 2015); biases 0; norms the identity."""
    torch.manual_seed(0)
    skip = "blurpool" if arch == "vgg16" else "none"
    for layer in build_backbone(BackboneConfig(arch=arch, skip=skip)).modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.square().mean().item() == pytest.approx(2 / fan_in, rel=0.15)
            assert layer.bias is None or not layer.bias.any()
        if isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()


@pytest.mark.parametrize(
    ("arch", "classifier"),
    [
        # Multiply-accumulates of what stands behind the features, at 224 pixels.
        ("alexnet", 256 * 6 * 6 * 4096 + 4096 * 4096 + 4096 * 1000),
        ("vgg16", 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000),
        ("squeezenet1_1", 512 * 1000 * 13 * 13),
        ("resnet18", 512 * 1000),
    ],
)
def test_cost_is_what_torchvision_states(arch, classifier):
    backbone = on_meta(BackboneConfig(arch=arch))
    with FlopCounterMode(display=False) as counter:
        backbone(torch.empty(1, 3, 224, 224, device="meta"))
    stated = torchvision.models.get_model_weights(arch).IMAGENET1K_V1.meta["_ops"]
    ours = (counter.get_total_flops() / 2 + classifier) / 1e9
    assert ours == pytest.approx(stated, abs=6e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_first_taps_have_the_features_of_the_whole(arch):
    """Layers after the last tap are gone, and smaller images may pass."""
    whole, cut = seeded(BackboneConfig(arch=arch)), seeded(BackboneConfig(arch=arch))
    cut.keep_first_taps(2)
    image = images(64, 64)
    for found, expected in zip(cut(image), whole(image)[:2], strict=True):
        assert torch.equal(found, expected)
    assert list(cut.taps) == list(whole.taps)[:2]
    assert list(dict(cut.named_children()))[-1] == list(whole.taps)[1]
    assert cut.min_size <= whole.min_size
    cut(images(cut.min_size, cut.min_size))


class TestRevision:
    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.load_state_dict(m.state_dict()),
            lambda m: nn.Sequential(m).load_state_dict(nn.Sequential(m).state_dict()),
            lambda m: m.half(),
            lambda m: m.to("meta"),
            lambda m: nn.Sequential(m).double(),
            lambda m: m.requires_grad_(True),
            lambda m: m.requires_grad_(False),
            lambda m: m.keep_first_taps(1),
        ],
        ids=["load", "load parent", "cast", "move", "cast parent", "learn", "rest", "cut"],
    )
    def test_is_raised(self, change):
        backbone = seeded(BackboneConfig())
        before = backbone.revision
        change(backbone)
        assert backbone.revision > before

    def test_is_not_raised_by_use(self):
        backbone = seeded(BackboneConfig())
        before = backbone.revision
        backbone(images(64, 64))
        backbone.state_dict()
        backbone.train().eval()
        assert backbone.revision == before
