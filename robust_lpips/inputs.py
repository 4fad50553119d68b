"""Checks on what users pass in, in one place, so that every error reads alike."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

# Pixels to compute on together. On a CPU the maps between layers then stay in the cache, and their
# memory is not taken anew from the system each time; a GPU is busy with that many.
_CPU_PIXELS = 32 * 64**2
_GPU_PIXELS = 512 * 64**2

# A value may leave its range by rounding: conversion, resizing, bfloat16.
_TOLERANCE = 1e-3


def as_batch(name: str, image: Tensor, min_size: int) -> Tensor:
    """``image`` as (N, 3, H, W), its type, shape and size checked.

    Raises:
        TypeError: not a tensor.
        ValueError: other than 3 channels, other than 3 or 4 axes, an empty batch, an H or W below
            ``min_size``, or values that are neither floating nor ``uint8``.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(image).__name__}")
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or image.shape[0] == 0:
        raise ValueError(
            f"{name} must have shape (N, 3, H, W) or (3, H, W) with N >= 1; "
            f"got {tuple(image.shape)}"
        )
    if min(image.shape[-2:]) < min_size:
        raise ValueError(
            f"{name} must be at least {min_size}x{min_size} for this backbone; "
            f"got {image.shape[-2]}x{image.shape[-1]}"
        )
    if not image.is_floating_point() and image.dtype != torch.uint8:
        raise ValueError(f"{name} must be floating or uint8; got {image.dtype}")
    return image if image.ndim == 4 else image.unsqueeze(0)


def check_same_shape(**images: Tensor) -> None:
    """Raise ValueError unless all the named images have one shape."""
    first, *others = (image.shape for image in images.values())
    # Compared, not hashed: while tracing, the sides are tensors.
    if any(shape != first for shape in others):
        given = ", ".join(f"{name} {tuple(image.shape)}" for name, image in images.items())
        raise ValueError(f"images must have the same shape; got {given}")


def check_device(name: str, image: Tensor, device: torch.device) -> None:
    """Raise ValueError unless ``image`` is on ``device``."""
    if image.device != device:
        raise ValueError(
            f"{name} is on {image.device}, the metric on {device}: move one, "
            f"for instance with metric.to({str(image.device)!r})"
        )


def at_a_time(images: Tensor, device: torch.device) -> int:
    """How many images of the size of these (N, C, H, W) are best computed on together."""
    pixels = _CPU_PIXELS if device.type == "cpu" else _GPU_PIXELS
    return max(1, pixels // (images.shape[-2] * images.shape[-1]))


def value_range(name: str, image: Tensor, low: float, high: float) -> tuple[float, float]:
    """The least and largest value of ``image``, checked to be numbers within [low, high].

    Raises:
        ValueError: for NaN, infinities and values outside the range.
    """
    least, largest = (bound.item() for bound in image.detach().aminmax())
    if not (low - _TOLERANCE <= least and largest <= high + _TOLERANCE):
        if least != least or largest != largest:
            raise ValueError(f"{name} contains NaN; values must be in [{low:g}, {high:g}]")
        hint = " (for [0, 1] pass normalize=True; for 0..255 pass uint8)" if low < 0 else ""
        raise ValueError(
            f"{name} must have values in [{low:g}, {high:g}]{hint}; "
            f"got [{least:.6g}, {largest:.6g}]"
        )
    return least, largest


def warn_if_unit_range(least: float, stacklevel: int) -> None:
    """Warn where images for [-1, 1] have no negative value: they are probably in [0, 1]."""
    if least >= 0.0:
        warnings.warn(
            "all values are in [0, 1], but the metric expects [-1, 1]: pass normalize=True for "
            "images in [0, 1], or validate=False if they are right as they are",
            UserWarning,
            stacklevel=stacklevel,
        )


def value_checks_possible() -> bool:
    """Whether values can be looked at: not while compiling, exporting or capturing a graph."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())
