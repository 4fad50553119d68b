"""Packs: the images of a dataset, decoded and resized once, in arrays that are mapped into memory.

A pack is a folder of three files:

- ``header.json``: identity and state of the dataset, shape of the images, digest of the content;
- ``labels.npy``: float64, (samples,);
- ``images.npy``: uint8, (samples, parts, 3, S, S).

A pack never changes. Its name tells the choice of samples and the state of their files, so that
a dataset whose files have changed gets another folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import PIL
import torch
from torch.utils.data import Dataset, Subset
from tqdm.auto import tqdm

from robust_lpips._cache import cache_dir
from robust_lpips.data.bapps import RESAMPLING, JNDDataset, PathLike, Samples, TwoAFCDataset
from robust_lpips.data.fingerprint import add_content, fingerprint

# Raised whenever earlier packs cannot be read, or would hold other pixels.
FORMAT = 2
HEADER, LABELS, IMAGES = "header.json", "labels.npy", "images.npy"

_STATE_DIGITS = 12  # hexadecimal, at the end of a pack's name
# Samples that are decoded before the next are begun, which bounds the memory.
_CHUNK = 64


class UnfitPackError(RuntimeError):
    """A folder is not, or no longer, the pack of a dataset."""


def packed(
    dataset: TwoAFCDataset | JNDDataset | Subset,
    folder: PathLike | None = None,
    *,
    progress: bool = True,
) -> PackedDataset:
    """The items of ``dataset``, with images that are decoded once for all runs.

    An existing pack is mapped into memory; a missing one is written first. A pack is stale when a
    file of the dataset, image or label, has another name, size or time of change than when it was
    packed, or when another version of Pillow decoded it.

    Args:
        dataset: a dataset with an ``image_size``, or a subset of one, of which only the chosen
            samples are packed.
        folder: folder of the packs, one for each choice of samples and image size, of
            3 * 3 * image_size^2 bytes per triplet. Default: ``packed`` in the user's cache
            (:func:`robust_lpips._cache.cache_dir`).
        progress: show a bar while decoding, which uses as many threads as torch.

    Warns:
        UserWarning: if a pack of these samples is stale or incomplete; it is deleted.

    Raises:
        TypeError: for another kind of dataset.
        ValueError: if ``image_size`` is None, or an image or label cannot be read.
        OSError: if the disk has too little room.
        RuntimeError: if files of the dataset change while they are packed.
    """
    source, samples = _source(dataset)
    header = _header(source, samples, fingerprint(dataset))
    folder = cache_dir() / "packed" if folder is None else Path(folder).expanduser()
    stem = f"{source.task}-{source.image_size}px-{header['identity'][:24]}"
    path = folder / f"{stem}-{_sha256(header)[:_STATE_DIGITS]}"
    pack = partial(PackedDataset, path, header, source, samples)
    if path.exists():
        try:
            return pack()
        except UnfitPackError as error:
            _delete(path, str(error))
    for other in sorted(folder.glob(f"{stem}-{'[0-9a-f]' * _STATE_DIGITS}")):
        _delete(other, f"{other}: {_misfit(other, header)}")
    _check_room(path, header)
    with _new_folder(path) as temporary:
        _write(temporary, header, dataset, source, progress)
        if fingerprint(dataset) != header["fingerprint"]:
            raise RuntimeError(f"{source!r}: files changed while they were packed; pack them again")
    return pack()


def packed_or_read(dataset: Dataset) -> Dataset:
    """``dataset`` packed in the cache (:func:`packed`).

    Where the cache has no room for it, the dataset itself, with a warning.
    """
    try:
        return packed(dataset)
    except FileNotFoundError:  # a file of the dataset itself
        raise
    except OSError as error:
        warnings.warn(
            f"{error}; images are decoded each time they are read", UserWarning, stacklevel=3
        )
        return dataset


class PackedDataset(Dataset):
    """The items of a :class:`TwoAFCDataset` or :class:`JNDDataset`, read from a pack.

    :func:`packed` makes it. Processes share the pages of the files. Pickled, it holds the path of
    the pack alone, which is opened when the first item is read.

    Attributes:
        path: folder of the pack.
        fingerprint: :func:`robust_lpips.data.fingerprint.fingerprint` of the dataset when it was
            packed.
        content_digest: :func:`robust_lpips.data.fingerprint.content_digest` of the items.
        samples: files of the items, in order.
        subsets: names of the subsets of the samples.
        task, images, label, roots, split, image_size: attributes of the dataset.

    Raises:
        UnfitPackError: if the folder is not the pack that ``header`` describes; also when the first
            item is read in another process, if the pack has been deleted meanwhile.
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
        content = _mapped(path, header)
        self.content_digest = content.digest
        self._content: _Content | None = content

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        if self._content is None:
            self._content = _mapped(self.path, self._header)
        content = self._content
        sample = self.samples[index]
        item = {
            # A copy, because the pack must not be written to.
            part: torch.from_numpy(image.copy())
            for part, image in zip(self.images, content.images[index], strict=True)
        }
        item[self.label] = content.labels[index].item()
        item["subset"], item["sample"] = sample.subset, sample.sample
        return item

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_content": None}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} samples of {self.split}: "
            f"{', '.join(self.subsets)}; image_size={self.image_size}; {self.path})"
        )


class _Content(NamedTuple):
    """Content of a pack; the arrays are views of its pages."""

    labels: np.ndarray  # (N,)
    images: np.ndarray  # (N, parts, 3, S, S)
    digest: str


def _source(dataset: Dataset) -> tuple[TwoAFCDataset | JNDDataset, Samples]:
    """The whole dataset, and the samples that are chosen of it."""
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
    """Header of the pack of these samples, without the digest of the content."""
    return {
        "format": FORMAT,
        "identity": _identity(source, samples),
        "count": len(samples),
        "shape": [len(source.images), 3, source.image_size, source.image_size],
        "pillow": PIL.__version__,
        "fingerprint": files,
    }


def _identity(source: TwoAFCDataset | JNDDataset, samples: Samples) -> str:
    """SHA-256 of the names of the samples and of the processing of their images."""
    roots = {root: str(root.resolve()) for root in source.roots}
    how = (source.task, [*roots.values()], source.split, source.image_size, RESAMPLING.name)
    digest = hashlib.sha256(repr(how).encode())
    for sample in samples:
        digest.update(repr((roots[sample.root], sample.subset, sample.sample)).encode())
    return digest.hexdigest()


def _sha256(header: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path, header: Mapping[str, Any]) -> _Content:
    """The content of the pack at ``path``; UnfitPackError if it is not the one of ``header``."""
    if reason := _misfit(path, header):
        raise UnfitPackError(f"{path}: {reason}")
    # As plain arrays, because every view of a memmap costs more.
    try:
        labels, images = (
            np.asarray(np.load(path / name, mmap_mode="r", allow_pickle=False))
            for name in (LABELS, IMAGES)
        )
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise UnfitPackError(f"{path}: it is incomplete ({error})") from error
    count, shape = header["count"], header["shape"]
    if (labels.dtype, labels.shape) != (np.float64, (count,)):
        raise UnfitPackError(f"{path}: {LABELS} has another type or shape")
    if (images.dtype, images.shape) != (np.uint8, (count, *shape)):
        raise UnfitPackError(f"{path}: {IMAGES} has another type or shape")
    return _Content(labels, images, _read_header(path)["content_digest"])


def _misfit(path: Path, header: Mapping[str, Any]) -> str | None:
    """Why the header of the pack at ``path`` is not ``header``; None if it is."""
    found = _read_header(path)
    reasons = {
        "format": f"it is of format {found.get('format')}, not {FORMAT}",
        "identity": "it is of another dataset",
        "pillow": f"Pillow {found.get('pillow')} decoded it, not {PIL.__version__}",
        "fingerprint": "files of the dataset have changed",
    }
    if not found:
        return "it has no header that can be read"
    differing = (reason for name, reason in reasons.items() if found.get(name) != header[name])
    fits = header.items() <= found.items() and isinstance(found.get("content_digest"), str)
    return next(differing, None if fits else "its header is broken")


def _read_header(path: Path) -> dict[str, Any]:
    """The header of the pack at ``path``; empty if there is none or it cannot be read."""
    try:
        header = json.loads((path / HEADER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _delete(path: Path, reason: str) -> None:
    """Delete a useless pack, and warn the caller of :func:`packed`."""
    message = f"{reason}; it is deleted and the dataset is packed again"
    warnings.warn(message, UserWarning, stacklevel=3)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _check_room(path: Path, header: Mapping[str, Any]) -> None:
    needed = header["count"] * (math.prod(header["shape"]) + np.dtype(np.float64).itemsize)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        message = f"the packed dataset needs {needed:,} bytes, {free:,} are free"
        raise OSError(errno.ENOSPC, message, str(path))


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` on success and is removed on error."""
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():  # else another process has written the same pack meanwhile
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path,
    header: Mapping[str, Any],
    dataset: Dataset,
    source: TwoAFCDataset | JNDDataset,
    progress: bool,
) -> None:
    """Write the files of a pack, one chunk of images in memory at a time."""
    count = header["count"]
    labels = np.empty(count)
    digest = hashlib.sha256()
    bar = tqdm(total=count, desc="pack", unit="sample", disable=not progress)
    # Threads are enough: Pillow lets others run while it decodes.
    with (
        open(folder / IMAGES, "wb") as file,
        bar,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        # Written in order, not through a map, because a full disk would end the process then.
        npy = {"descr": "|u1", "fortran_order": False, "shape": (count, *header["shape"])}
        np.lib.format.write_array_header_1_0(file, npy)
        for begin in range(0, count, _CHUNK):
            indices = range(begin, min(begin + _CHUNK, count))
            for index, item in zip(indices, pool.map(dataset.__getitem__, indices), strict=True):
                for part in source.images:
                    file.write(item[part].numpy())
                labels[index] = item[source.label]
                add_content(digest, item)
            bar.update(len(indices))
        _flush(file)
    with open(folder / LABELS, "wb") as file:
        np.save(file, labels, allow_pickle=False)
        _flush(file)
    with open(folder / HEADER, "w", encoding="utf-8") as file:
        json.dump({**header, "content_digest": digest.hexdigest()}, file, indent=2)
        _flush(file)


def _flush(file: IO) -> None:
    """Write to the disk, or a machine that goes down may leave files of other content."""
    file.flush()
    os.fsync(file.fileno())
