"""What a configuration accepts, and that a refusal names the field."""

import dataclasses

import pytest

from robust_lpips import BackboneConfig
from robust_lpips.backbones import ARCHITECTURES
from tests.backbones.reference import ROWS, SHIFT_TOLERANT


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
        ("skip", {"skip": "blurpool", "blur_size": 5}),
        ("skip", {"arch": "squeezenet1_1", "skip": "strided"}),
        ("skip", {"arch": "resnet18", "anti_alias": "blurpool", "skip": "blurpool"}),
        ("skip", {"skip": None}),
        ("blur_size", {"arch": "vgg16", "skip": "strided", "blur_size": 5}),
        ("reflection_pad", {"arch": "vgg16", "skip": "strided", "reflection_pad": 2}),
        ("conv1_stride", {"arch": "squeezenet1_1", "conv1_stride": 4}),
        ("conv1_stride", {"arch": "resnet18", "conv1_stride": 4}),
        ("blur_placement", {"conv1_stride": 1, "blur_placement": "feature_after_blur"}),
        *(
            (
                "blur_placement",
                {"arch": arch, "anti_alias": "blurpool", "blur_placement": "feature_after_blur"},
            )
            for arch in ("squeezenet1_1", "resnet18")
        ),
    ],
)
def test_refusal_names_the_field(field, options):
    with pytest.raises(ValueError, match=rf"^{field}\b"):
        BackboneConfig(**options)


def test_is_frozen_and_hashable():
    config = BackboneConfig(anti_alias="blurpool")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.blur_size = 5
    assert {config: 1}[BackboneConfig(anti_alias="blurpool")] == 1
    assert config != BackboneConfig()


@pytest.mark.parametrize("config", [*ROWS.values(), SHIFT_TOLERANT])
def test_survives_a_dictionary(config):
    """As checkpoints store it."""
    assert BackboneConfig(**dataclasses.asdict(config)) == config


def test_architectures():
    assert ARCHITECTURES == ("alexnet", "vgg16", "squeezenet1_1", "resnet18")
    strides = [BackboneConfig(arch=arch).stride1 for arch in ARCHITECTURES]
    assert strides == [4, 1, 2, 2]


@pytest.mark.parametrize(
    ("arch", "blurred"),
    [("alexnet", {1, 2}), ("vgg16", set()), ("squeezenet1_1", {1}), ("resnet18", {1})],
)
def test_a_blur_follows_conv1_at_less_than_its_own_stride(arch, blurred):
    own = BackboneConfig(arch=arch).stride1
    for stride in (s for s in (1, 2, 4) if s <= own):
        for anti_alias in ("blurpool", "adaptive"):
            config = BackboneConfig(arch=arch, anti_alias=anti_alias, conv1_stride=stride)
            assert config.blurs_conv1 == (stride in blurred)
        assert not BackboneConfig(arch=arch, conv1_stride=stride).blurs_conv1


@pytest.mark.parametrize("anti_alias", ["none", "blurpool", "adaptive"])
def test_a_blurred_skip_brings_the_options_of_its_filter(anti_alias):
    config = BackboneConfig(
        arch="vgg16", anti_alias=anti_alias, skip="blurpool", blur_size=5, reflection_pad=2
    )
    assert not config.blurs_conv1
