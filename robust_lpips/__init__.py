"""robust-lpips: a perceptual image metric that small shifts do not upset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from robust_lpips._version import __version__

if TYPE_CHECKING:
    from robust_lpips.backbones import BackboneConfig, build_backbone
    from robust_lpips.metric import RobustLPIPS
    from robust_lpips.registered import Registered

# Module of each public name; imported on first use, so that `import robust_lpips` is fast.
_HOMES = {
    "BackboneConfig": "robust_lpips.backbones",
    "Registered": "robust_lpips.registered",
    "RobustLPIPS": "robust_lpips.metric",
    "build_backbone": "robust_lpips.backbones",
}

__all__ = ["BackboneConfig", "Registered", "RobustLPIPS", "__version__", "build_backbone"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
