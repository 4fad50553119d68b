"""A dataset's images, decoded and resized once, in one file that is mapped into memory.

The file holds, from multiples of 4096 bytes on: :data:`MAGIC`, the length of the header (8 bytes,
little-endian) and the header (JSON); the labels (float64, little-endian); the images (uint8,
samples x parts x 3 x S x S).
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL
import torch
from torch.utils.data import Dataset, Subset
from tqdm.auto import tqdm

from robust_lpips._cache import cache_dir
from robust_lpips._files import atomic_path
from robust_lpips.data.bapps import RESAMPLING, JNDDataset, PathLike, Samples, TwoAFCDataset
from robust_lpips.data.fingerprint import fingerprint

MAGIC = b"robust-lpips\x93\r\n\x00"
# Raise it whenever files of before could not be read, or would hold other pixels.
FORMAT = 1

_ALIGNMENT = 4096
_LONGEST_HEADER = 4096
# Samples that are decoded before the next are begun, which bounds the memory.
_BATCH = 64
_LABEL = np.dtype("<f8")


class UnfitPackError(RuntimeError):
    """A file is not, or no longer, the pack of a dataset."""


def packed(
    dataset: TwoAFCDataset | JNDDataset | Subset,
    folder: PathLike | None = None,
    *,
    progress: bool = True,
) -> PackedDataset:
    """The same items as ``dataset`` gives, their images decoded once for all runs.

    The file is mapped where it is there already, and written where it is not. It counts as stale
    when a file of the dataset, image or label, has another name, size or time of change, or when
    another version of Pillow decoded it.

    Args:
        dataset: one with an ``image_size``, or a subset of one, of which only the chosen samples
            are packed.
        folder: where packs are kept, one file for each choice of samples and size, of
            3 * 3 * image_size^2 bytes a triplet. Default: ``packed`` in the user's cache
            (:func:`robust_lpips._cache.cache_dir`).
        progress: show a bar while decoding, which as many threads do as torch computes with.

    Warns:
        UserWarning: a file of that name is stale, cut off or something else, and is replaced.

    Raises:
        TypeError: another kind of dataset.
        ValueError: ``image_size`` is None; an image or label that cannot be read.
        OSError: the disk has not the room.
        RuntimeError: files of the dataset changed while they were packed.
    """
    source, samples = _source(dataset)
    header = _header(source, samples, fingerprint(dataset))
    folder = cache_dir() / "packed" if folder is None else Path(folder).expanduser()
    path = folder / f"{source.task}-{source.image_size}px-{header['identity'][:24]}.pack"
    pack = partial(PackedDataset, path, header, source, samples)
    if path.exists():
        try:
            return pack()
        except UnfitPackError as error:
            warnings.warn(f"{error}; it is packed anew", UserWarning, stacklevel=2)
    _check_room(path, _layout(header).end)
    with atomic_path(path) as temporary:
        _write(temporary, header, dataset, source, progress)
        if fingerprint(dataset) != header["fingerprint"]:
            raise RuntimeError(f"{source!r}: files changed while they were packed; pack them again")
    return pack()


class PackedDataset(Dataset):
    """What :func:`packed` gives: the items of a :class:`TwoAFCDataset` or :class:`JNDDataset`.

    Processes share the pages of one file. To another process it goes as the file's path, which is
    opened there when the first item is asked for.

    Attributes:
        path: the file.
        fingerprint: :func:`robust_lpips.data.fingerprint.fingerprint` of the dataset when it was
            packed.
        samples: of the items, in order.
        subsets: those that the samples are of.
        task, images, label, roots, split, image_size: of the dataset.

    Raises:
        UnfitPackError: the file is not the pack that ``header`` describes; also on access in
            another process, where it has been replaced by one of another content.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        source: TwoAFCDataset | JNDDataset,
        samples: Samples,
    ) -> None:
        self.path = path
        self.fingerprint = header["fingerprint"]
        self.samples = samples
        self.subsets = samples.subsets
        self.task, self.images, self.label = source.task, source.images, source.label
        self.roots, self.split, self.image_size = source.roots, source.split, source.image_size
        self._header = header
        self._arrays: _Arrays | None = _mapped(path, header)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        if self._arrays is None:
            self._arrays = _mapped(self.path, self._header)
        labels, images = self._arrays
        sample = self.samples[index]
        item = {
            # A copy, because the file is not to be written to.
            part: torch.from_numpy(image.copy())
            for part, image in zip(self.images, images[index], strict=True)
        }
        item[self.label] = labels[index].item()
        item["subset"], item["sample"] = sample.subset, sample.sample
        return item

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} samples of {self.split}: "
            f"{', '.join(self.subsets)}; image_size={self.image_size}; {self.path})"
        )


class _Arrays(NamedTuple):
    """What a file holds, as views of its pages."""

    labels: np.ndarray  # (N,)
    images: np.ndarray  # (N, parts, 3, S, S)


class _Layout(NamedTuple):
    """Where in the file the labels and the images begin, and how long it is."""

    labels: int
    images: int
    end: int


def _source(dataset: Dataset) -> tuple[TwoAFCDataset | JNDDataset, Samples]:
    """The whole dataset, and which of its samples are meant."""
    source = dataset.dataset if isinstance(dataset, Subset) else dataset
    if not isinstance(source, TwoAFCDataset | JNDDataset):
        of = "a Subset of " if source is not dataset else ""
        raise TypeError(
            "dataset must be a TwoAFCDataset, a JNDDataset or a Subset of one; "
            f"got {of}{type(source).__name__}"
        )
    if source.image_size is None:
        raise ValueError("dataset must have an image_size, so that all images are of one; got None")
    samples = source.samples
    return source, samples if source is dataset else samples.take(dataset.indices)


def _header(source: TwoAFCDataset | JNDDataset, samples: Samples, files: str) -> dict[str, Any]:
    """All that a file has to say of itself to be the pack of these samples."""
    return {
        "format": FORMAT,
        "identity": _identity(source, samples),
        "count": len(samples),
        "shape": [len(source.images), 3, source.image_size, source.image_size],
        "pillow": PIL.__version__,
        "fingerprint": files,
    }


def _identity(source: TwoAFCDataset | JNDDataset, samples: Samples) -> str:
    """SHA-256 of which samples these are, and of what is done to their images."""
    roots = {root: str(root.resolve()) for root in source.roots}
    how = (source.task, [*roots.values()], source.split, source.image_size, RESAMPLING.name)
    digest = hashlib.sha256(repr(how).encode())
    for sample in samples:
        digest.update(repr((roots[sample.root], sample.subset, sample.sample)).encode())
    return digest.hexdigest()


def _head(header: Mapping[str, Any]) -> bytes:
    """How the file of ``header`` begins."""
    text = json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text


def _layout(header: Mapping[str, Any]) -> _Layout:
    labels = _aligned(len(_head(header)))
    images = _aligned(labels + header["count"] * _LABEL.itemsize)
    return _Layout(labels, images, images + header["count"] * math.prod(header["shape"]))


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _mapped(path: Path, header: Mapping[str, Any]) -> _Arrays:
    """The arrays in the file of ``header``; UnfitPackError where it is another."""
    layout, count = _layout(header), header["count"]
    with open(path, "rb") as file:
        if reason := _misfit(file, header):
            raise UnfitPackError(f"{path}: not the pack of this dataset: {reason}")
        # As a plain array, because every view of a memmap costs more.
        pages = np.asarray(np.memmap(file, np.uint8, mode="r"))
    labels = pages[layout.labels :][: count * _LABEL.itemsize].view(_LABEL)
    return _Arrays(labels, pages[layout.images :].reshape(count, *header["shape"]))


def _misfit(file: BinaryIO, header: Mapping[str, Any]) -> str | None:
    """Why ``file`` is not the whole file of ``header``; None where it is."""
    head, size, end = _head(header), os.fstat(file.fileno()).st_size, _layout(header).end
    if file.read(len(head)) == head:
        return None if size == end else f"it has {size:,} bytes, not {end:,}"
    file.seek(0)
    found = _read_header(file)
    if found is None:
        return "it is no pack, or its header is broken"
    reasons = {
        "format": f"it is of format {found.get('format')}, not {FORMAT}",
        "identity": "it is of another dataset",
        "pillow": f"Pillow {found.get('pillow')} decoded it, not {PIL.__version__}",
        "fingerprint": "files of the dataset have changed",
    }
    differing = (reason for name, reason in reasons.items() if found.get(name) != header[name])
    return next(differing, "its header is broken")


def _read_header(file: BinaryIO) -> dict[str, Any] | None:
    """The header at the beginning of ``file``, of whatever pack; None where there is none."""
    if file.read(len(MAGIC)) != MAGIC:
        return None
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(min(length, _LONGEST_HEADER)))
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _check_room(path: Path, needed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        message = f"the packed dataset needs {needed:,} bytes, {free:,} are free"
        raise OSError(errno.ENOSPC, message, str(path))


def _write(
    path: Path,
    header: Mapping[str, Any],
    dataset: Dataset,
    source: TwoAFCDataset | JNDDataset,
    progress: bool,
) -> None:
    """Write the file of ``header``, one batch in memory at a time."""
    layout, count = _layout(header), header["count"]
    labels: list[float] = []
    bar = tqdm(total=count, desc="pack", unit="sample", disable=not progress)
    # Threads are enough: Pillow lets others run while it decodes.
    with open(path, "wb") as file, bar, ThreadPoolExecutor(torch.get_num_threads()) as pool:
        file.write(_head(header))
        file.seek(layout.images)
        for begin in range(0, count, _BATCH):
            indices = range(begin, min(begin + _BATCH, count))
            for item in pool.map(dataset.__getitem__, indices):
                for part in source.images:
                    file.write(item[part].numpy())
                labels.append(item[source.label])
            bar.update(len(indices))
        file.truncate(layout.end)
        file.seek(layout.labels)
        file.write(np.array(labels, _LABEL))
        file.flush()
        # Else a machine that goes down may leave a file of the right length and other content.
        os.fsync(file.fileno())
