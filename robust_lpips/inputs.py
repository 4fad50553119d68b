"""Checks of user input, in one place, so that all errors read alike."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

# Pixels to compute in one batch. On a CPU the maps between layers then stay in the cache, and their
# memory is reused instead of allocated anew; on a GPU that many pixels keep all units busy.
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


def chunk_size(images: Tensor, device: torch.device) -> int:
    """Number of images of the same size as ``images`` (N, C, H, W) to compute in one batch."""
    pixels = _CPU_PIXELS if device.type == "cpu" else _GPU_PIXELS
    return max(1, pixels // (images.shape[-2] * images.shape[-1]))


def value_range(name: str, image: Tensor, low: float, high: float) -> tuple[float, float]:
    """Smallest and largest value of ``image``, after checking that they are within [low, high].

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
    """Warn if the smallest value is not negative: the images are probably in [0, 1].

    ``stacklevel`` is that of :func:`warnings.warn`, counted from here.
    """
    if least >= 0.0:
        warnings.warn(
            "all values are in [0, 1], but the metric expects [-1, 1]: pass normalize=True for "
            "images in [0, 1], or validate=False if they are right as they are",
            UserWarning,
            stacklevel=stacklevel,
        )


def in_graph() -> bool:
    """True while a graph is compiled, exported, traced or captured: values are unavailable then."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or detect_fake_mode() is not None:
        return True
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
