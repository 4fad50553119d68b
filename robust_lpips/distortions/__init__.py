"""Distortions of image patches."""

from robust_lpips.distortions.traditional import (
    CATEGORIES,
    TRADITIONAL,
    Composition,
    Distortion,
    apply,
    random_distortion,
)

__all__ = [
    "CATEGORIES",
    "TRADITIONAL",
    "Composition",
    "Distortion",
    "apply",
    "random_distortion",
]
