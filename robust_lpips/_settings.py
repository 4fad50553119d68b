"""Settings of runs, compared, so that results of different ones are not mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In words, which of the ``wanted`` settings are others in ``found``; empty: none.

    Example:
        >>> differences({"seed": 0, "epochs": 3}, {"seed": 1, "epochs": 3})
        'seed 0 there, 1 here'
    """
    return "; ".join(
        f"{name} {found.get(name)!r} there, {value!r} here"
        for name, value in wanted.items()
        if found.get(name) != value
    )
