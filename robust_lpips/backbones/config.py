"""Configuration of a backbone: one frozen dataclass covers every row of every table."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Architecture = Literal["alexnet", "vgg16", "squeezenet1_1", "resnet18"]
AntiAlias = Literal["none", "blurpool", "adaptive", "polyphase"]
BlurPlacement = Literal["original", "feature_after_blur", "blur_before_activation"]
Skip = Literal["none", "strided", "blurpool"]

ARCHITECTURES: tuple[str, ...] = get_args(Architecture)

# Stride of the first convolution in torchvision's architectures.
DEFAULT_CONV1_STRIDE = {"alexnet": 4, "vgg16": 1, "squeezenet1_1": 2, "resnet18": 2}

# The values of each field.
ALLOWED: dict[str, tuple[object, ...]] = {
    "arch": ARCHITECTURES,
    "anti_alias": get_args(AntiAlias),
    "blur_size": (1, 2, 3, 4, 5, 6, 7),
    "reflection_pad": (1, 2),
    "conv1_stride": (None, 1, 2, 4),
    "blur_placement": get_args(BlurPlacement),
    "full_conv": (False, True),
    "skip": get_args(Skip),
}


def _option(name: str, default: object, help: str) -> Any:
    """A field with what its command-line option needs."""
    return field(default=default, metadata={"help": help, "choices": ALLOWED[name]})


@dataclass(frozen=True)
class BackboneConfig:
    """A backbone and its options against aliasing (Ghildyal and Liu, ECCV 2022, Sec. 3).

    Attributes:
        arch: torchvision's architecture: ``"alexnet"``, ``"vgg16"``, ``"squeezenet1_1"`` or
            ``"resnet18"``.
        anti_alias: low-pass filter before subsampling. ``"none"``; ``"blurpool"``, a fixed
            binomial filter (Zhang, ICML 2019); ``"adaptive"``, a content-aware filter
            (Zou et al., BMVC 2020); ``"polyphase"``, the fixed filter, then subsampling on the
            grid with the largest norm (Chaman and Dokmanic, CVPR 2021).
        blur_size: side k of the low-pass filter, 1 to 7.
        reflection_pad: reflection padding of the filter: 1 for (k-1)/2 pixels per side, which keeps
            the size; 2 for k-1 pixels per side, used by the released shift-tolerant networks.
        conv1_stride: stride of the first convolution, 1, 2 or 4, at most the architecture's
            own (AlexNet 4, VGG-16 1, SqueezeNet and ResNet-18 2); ``None`` keeps it.
        blur_placement: position of the blur that follows conv-1. ``"original"``: after the
            ReLU, the feature tapped before the blur; ``"feature_after_blur"``: after the ReLU, the
            feature tapped after the blur; ``"blur_before_activation"``: between convolution and
            ReLU.
        full_conv: zero-pad every convolution by k-1, so that every pixel meets every weight
            (F-Conv: Kayhan and van Gemert, CVPR 2020).
        skip: connections over each stage of VGG-16 that subsamples. ``"strided"``: a 1x1
            convolution of stride 2; ``"blurpool"``: one of stride 1, then the fixed filter.
            ResNet-18 has connections of its own, which ``anti_alias`` covers.

    Raises:
        ValueError: for a value outside the sets above, and for an option that could have no
            effect or no meaning together with the others.

    Example:
        >>> BackboneConfig(anti_alias="blurpool", conv1_stride=2).blurs_conv1
        True
    """

    arch: Architecture = _option("arch", "alexnet", "torchvision's architecture")
    anti_alias: AntiAlias = _option("anti_alias", "none", "low-pass filter before subsampling")
    blur_size: int = _option("blur_size", 3, "side of the low-pass filter")
    reflection_pad: int = _option(
        "reflection_pad", 1, "padding of the filter: 1 keeps the size, 2 is that of released ones"
    )
    conv1_stride: int | None = _option(
        "conv1_stride", None, "stride of the first convolution (the architecture's)"
    )
    blur_placement: BlurPlacement = _option(
        "blur_placement", "original", "where the blur that follows the first convolution stands"
    )
    full_conv: bool = _option("full_conv", False, "zero-pad every convolution by k-1 (F-Conv)")
    skip: Skip = _option("skip", "none", "skip connections over each stage of VGG-16")

    def __post_init__(self) -> None:
        for name, allowed in ALLOWED.items():
            value = getattr(self, name)
            # 1 == True in Python: compare types as well, so that blur_size=True is refused.
            if not any(value == a and type(value) is type(a) for a in allowed):
                options = ", ".join(repr(a) for a in allowed)
                raise ValueError(f"{name} must be one of {options}; got {value!r}")
        self._check_combination()

    @property
    def stride1(self) -> int:
        """Stride of the first convolution, with ``None`` resolved."""
        return self.conv1_stride or DEFAULT_CONV1_STRIDE[self.arch]

    @property
    def blurs_conv1(self) -> bool:
        """True if a blur of stride 2 follows the first convolution."""
        own_stride = DEFAULT_CONV1_STRIDE[self.arch]
        return self.anti_alias != "none" and self.stride1 < own_stride

    @property
    def first_stride(self) -> int:
        """Stride, in pixels, of the features after conv-1 and its blur."""
        return self.stride1 * (2 if self.blurs_conv1 else 1)

    def _check_combination(self) -> None:
        if self.anti_alias == "none" and self.skip != "blurpool":
            defaults = {field.name: field.default for field in fields(self)}
            for name in ("blur_size", "reflection_pad"):
                if getattr(self, name) != defaults[name]:
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} needs a blur: set anti_alias to "
                        "'blurpool', 'adaptive' or 'polyphase', or skip to 'blurpool'"
                    )
        if self.anti_alias == "adaptive" and self.blur_size == 1:
            raise ValueError(
                "blur_size=1 leaves nothing to adapt: anti_alias='adaptive' needs 2..7"
            )
        if self.stride1 > DEFAULT_CONV1_STRIDE[self.arch]:
            raise ValueError(
                f"conv1_stride={self.conv1_stride!r} would subsample more than {self.arch} does, "
                f"whose own stride is {DEFAULT_CONV1_STRIDE[self.arch]}: give that or less"
            )
        if self.blur_placement != "original" and not self.blurs_conv1:
            raise ValueError(
                f"blur_placement={self.blur_placement!r} moves the blur that follows conv-1, but "
                f"{self.arch} has none with anti_alias={self.anti_alias!r} and "
                f"conv1_stride={self.stride1}"
            )
        if self.skip != "none" and self.arch != "vgg16":
            raise ValueError(
                f"skip={self.skip!r} is available for vgg16 only; got arch={self.arch!r}"
            )
