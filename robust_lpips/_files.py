"""Writing files so that nobody ever reads half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` on success and is removed on error.

    The folder is made where it is missing. The temporary name ends as ``path`` does, so that
    writers that look at the suffix do the same thing.

    Raises:
        FileNotFoundError: nothing was written to the temporary path.

    Example:
        >>> with atomic_path("runs/numbers.csv") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("1,2,3")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
