"""Feature extractors with named taps, built from a :class:`BackboneConfig`."""

from __future__ import annotations

from robust_lpips.backbones.build import build_backbone
from robust_lpips.backbones.chain import Chain
from robust_lpips.backbones.config import ARCHITECTURES, BackboneConfig
from robust_lpips.backbones.downsampling import AdaptiveBlurPool, AdaptivePolyphase, BlurPool
from robust_lpips.backbones.keys import antialiased_keys, published_tensors, torchvision_keys

__all__ = [
    "ARCHITECTURES",
    "AdaptiveBlurPool",
    "AdaptivePolyphase",
    "BackboneConfig",
    "BlurPool",
    "Chain",
    "antialiased_keys",
    "build_backbone",
    "published_tensors",
    "torchvision_keys",
]
