"""Digests of datasets: of the state of their files, which is quick, and of their content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

if TYPE_CHECKING:
    from hashlib import _Hash


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the state of a dataset: samples, labels, and size and time of change of files.

    For a dataset that lists its ``samples`` it covers every field of them, and size and time of
    change of the files that they name. Other datasets are made from settings that their runs
    compare; of these it covers the length. A dataset that holds an earlier state of its files
    gives that state itself, as its attribute ``fingerprint``.
    """
    if (own := getattr(dataset, "fingerprint", None)) is not None:
        return own
    digest = hashlib.sha256()
    folders: dict[str | Path, str] = {}
    for sample in _samples(dataset):
        digest.update(repr([_stamp(value, folders) for value in _fields(sample)]).encode())
    return digest.hexdigest()


def _samples(dataset: Dataset) -> Iterable[Any]:
    whole, indices = _chosen(dataset)
    samples = getattr(whole, "samples", None)
    return [len(dataset)] if samples is None else (samples[index] for index in indices)


def _stamp(value: Any, folders: dict[str | Path, str]) -> Any:
    """Name, size and time of change of a file, the name of a folder, or another value itself.

    ``folders`` caches the names of folders.
    """
    if not _is_path(value):
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
    """SHA-256 of the content of a dataset: names, labels, and pixels or bytes of files.

    Copies of a dataset have the same digest, wherever they are and whenever they were made. The
    digest covers, in the order of the items:

    - for a dataset that lists ``samples`` with files in them: every field of the samples, files by
      their bytes and without their folders; and the dataset's type and ``image_size``;
    - for any other dataset with a length: its items, which may be made of mappings, sequences,
      tensors, arrays, numbers, texts, bytes and None.

    A :class:`robust_lpips.data.PackedDataset` has computed the digest of its items, its attribute
    ``content_digest``. A subset has the digest of a dataset that holds its samples alone.

    Raises:
        FileNotFoundError: if a file of a sample is missing.
        TypeError: if an item holds a value of another type.
    """
    if (own := getattr(dataset, "content_digest", None)) is not None:
        return own
    whole, indices = _chosen(dataset)
    digest = hashlib.sha256()
    samples = getattr(whole, "samples", None)
    # A pack lists files too, which may have changed since they were packed.
    if hasattr(whole, "content_digest") or samples is None or not _name_files(samples):
        for index in indices:
            add_content(digest, whole[index])
        return digest.hexdigest()
    add_content(digest, (type(whole).__qualname__, getattr(whole, "image_size", None)))
    for index in indices:
        for value in _fields(samples[index]):
            _add_field(digest, value)
    return digest.hexdigest()


def add_content(digest: _Hash, value: Any) -> None:
    """Add a value to ``digest``, so that other values, types and nestings change it.

    Tensors and arrays count by type, shape and elements; mappings regardless of their order.

    Raises:
        TypeError: for a value other than mappings, sequences, tensors, arrays, numbers, texts,
            bytes and None.
    """
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        kind = f"{value.dtype} {tuple(value.shape)}"
        _add(digest, kind, flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        _add(digest, f"array {value.dtype.str} {value.shape}", value.tobytes())
    elif isinstance(value, Mapping):
        _add(digest, f"mapping {len(value)}")
        for key in sorted(value):
            add_content(digest, key)
            add_content(digest, value[key])
    elif isinstance(value, bytes):
        _add(digest, "bytes", value)
    elif isinstance(value, str):
        _add(digest, "text", value.encode("utf-8", "surrogateescape"))
    elif isinstance(value, Sequence):
        _add(digest, f"sequence {len(value)}")
        for element in value:
            add_content(digest, element)
    elif value is None or isinstance(value, bool | int | float | complex | np.generic):
        plain = value.item() if isinstance(value, np.generic) else value
        _add(digest, type(plain).__name__, repr(plain).encode())
    else:
        raise TypeError(
            "items must be made of mappings, sequences, tensors, arrays, numbers, texts, bytes and "
            f"None; got {type(value).__name__}"
        )


def _add(digest: _Hash, kind: str, content: bytes = b"") -> None:
    digest.update(f"{kind} {len(content)}\n".encode())
    digest.update(content)


def _add_field(digest: _Hash, value: Any) -> None:
    """Add a field of a sample; a file by its content, a folder not at all."""
    if not _is_path(value):
        add_content(digest, value)
    elif not os.path.isdir(value):
        _add(digest, "file", Path(value).read_bytes())


def _chosen(dataset: Dataset) -> tuple[Dataset, Sequence[int]]:
    """The whole dataset under any subsets, and the indices of the chosen items."""
    indices: Sequence[int] = range(len(dataset))
    while isinstance(dataset, Subset):
        indices = [dataset.indices[index] for index in indices]
        dataset = dataset.dataset
    return dataset, indices


def _name_files(samples: Sequence[Any]) -> bool:
    return len(samples) > 0 and any(
        _is_path(value) and os.path.isfile(value) for value in _fields(samples[0])
    )


def _fields(sample: Any) -> tuple[Any, ...]:
    return sample if isinstance(sample, tuple) else (sample,)


def _is_path(value: Any) -> bool:
    """True for paths, and for text that is an absolute path."""
    return isinstance(value, Path) or (isinstance(value, str) and os.path.isabs(value))
