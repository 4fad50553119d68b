"""Writing files so that nobody ever reads half of one."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(content, indent=2) + "\n"
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
