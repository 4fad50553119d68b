"""What tells one state of a dataset's files from another."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset, Subset


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 that is another one where samples, what people said of them, or files differ.

    Of a dataset that lists its ``samples``: every field, and size and time of change of those that
    name a file. Others are made from settings that their runs compare, and count by length. A
    dataset that holds what its files once were says so itself, as ``fingerprint``.
    """
    if (own := getattr(dataset, "fingerprint", None)) is not None:
        return own
    digest = hashlib.sha256()
    folders: dict[str | Path, str] = {}
    for sample in _samples(dataset):
        fields = sample if isinstance(sample, tuple) else (sample,)
        digest.update(repr([_stamp(value, folders) for value in fields]).encode())
    return digest.hexdigest()


def _samples(dataset: Dataset) -> Iterable[Any]:
    whole = dataset.dataset if isinstance(dataset, Subset) else dataset
    samples = getattr(whole, "samples", None)
    if samples is None:
        return [len(dataset)]
    return samples if whole is dataset else (samples[i] for i in dataset.indices)


def _stamp(value: Any, folders: dict[str | Path, str]) -> Any:
    """A file by its name, size and time of change, a folder by its name; else the value.

    Text counts as a path where it is absolute. ``folders`` keeps the names of those seen.
    """
    if not isinstance(value, Path) and not (isinstance(value, str) and os.path.isabs(value)):
        return value
    if value in folders:
        return folders[value]
    try:
        status = os.stat(value)
    except (FileNotFoundError, NotADirectoryError):
        status = None
    if status is not None and stat.S_ISREG(status.st_mode):
        return os.path.basename(value), status.st_size, status.st_mtime_ns
    # The same name whichever way it is reached.
    folders[value] = os.path.basename(os.path.realpath(value))
    return folders[value]


def content_digest(dataset: Dataset) -> str:
    """SHA-256 of the items of a dataset."""
    digest = hashlib.sha256()
    for i in range(len(dataset)):
        item = dataset[i]
        for name in sorted(item):
            value = item[name]
            digest.update(name.encode())
            digest.update(
                value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()
            )
    return digest.hexdigest()
