"""The folder of a run: its files, and whose results it holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robust_lpips._files import atomic_path
from robust_lpips._settings import differences
from robust_lpips.tables import write_text

SETTINGS_FILE = "settings.json"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_files(folder: Path, paths: Iterable[Path]) -> dict[str, bytes]:
    """Files by their path in ``folder``, with forward slashes, in the order given."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what :func:`read_files` read, in its order, each file whole or not at all."""
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Write down the settings of a run in ``output``, or check that they are those found there.

    Raises:
        ValueError: the folder holds results of other settings; the message says which differ.
    """
    path = output / SETTINGS_FILE
    if not path.is_file():
        write_json(path, settings)
        return
    found = read_json(path)
    wanted = json.loads(json.dumps(settings))  # as it would be read: tuples become lists
    if unlike := differences(found, wanted):
        raise ValueError(
            f"output: {output} holds results of other settings ({unlike}): choose another folder"
        )
