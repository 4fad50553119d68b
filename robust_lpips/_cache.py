"""Where the package keeps what it builds or downloads."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The user's cache folder of this package; not created here.

    It is ``$ROBUST_LPIPS_CACHE`` where that is set, else ``robust-lpips`` under ``$XDG_CACHE_HOME``
    (which has to be absolute to count, as the XDG base directory specification says), else
    ``~/.cache/robust-lpips``.
    """
    if own := os.environ.get("ROBUST_LPIPS_CACHE"):
        return Path(own).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = shared if shared.is_absolute() else Path.home() / ".cache"
    return base / "robust-lpips"
