"""Numerical precisions for computing distances."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError for an unknown precision, or one that ``device`` does not support."""
    allowed = get_args(Precision)
    if precision not in allowed:
        raise ValueError(f"precision must be one of {', '.join(allowed)}; got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision 'tf32' is for NVIDIA GPUs; got the device {str(device)!r}")


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute on ``device`` in a precision that :func:`check_precision` accepts.

    ``"float32"`` is strict, regardless of global settings: by default PyTorch lets convolutions on
    NVIDIA GPUs round their inputs to TF32 (10 bits of mantissa). ``"tf32"`` allows it for matrix
    products as well. Half precisions are those of :class:`torch.autocast`.
    """
    half = _HALF.get(precision)
    switches = _tf32_switches() if half is None and device.type == "cuda" else []
    before = [getattr(backend, name) for backend, name, _ in switches]
    try:
        for backend, name, values in switches:
            setattr(backend, name, values[precision])
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            yield
    finally:
        for (backend, name, _), value in zip(switches, before, strict=True):
            setattr(backend, name, value)


def _tf32_switches() -> list[tuple[Any, str, dict[str, Any]]]:
    """Switches of TF32 in NVIDIA's libraries: objects, attributes, values by precision."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    try:
        for backend in backends:
            _ = backend.allow_tf32
    except RuntimeError:  # PyTorch refuses to read these after its newer switches were used
        backends = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
        values = {"float32": "ieee", "tf32": "tf32"}
        return [(backend, "fp32_precision", values) for backend in backends]
    return [(backend, "allow_tf32", {"float32": False, "tf32": True}) for backend in backends]
