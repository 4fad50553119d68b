"""Precisions to compute distances in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError for an unknown precision, or one that ``device`` does not have."""
    allowed = get_args(Precision)
    if precision not in allowed:
        raise ValueError(f"precision must be one of {', '.join(allowed)}; got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision 'tf32' is for NVIDIA GPUs; got the device {str(device)!r}")


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute on ``device`` in that precision, which :func:`check_precision` allowed.

    ``"float32"`` is strict: PyTorch's own default lets convolutions on NVIDIA GPUs round their
    inputs to TF32 (10 bits of mantissa). ``"tf32"`` lets matrix products do so, too. Half
    precisions are those of :class:`torch.autocast`.
    """
    if precision in _HALF:
        with torch.autocast(device.type, dtype=_HALF[precision]):
            yield
        return
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul) if device.type == "cuda" else ()
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = precision == "tf32"
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
