"""Loaders for the folder layout of BAPPS (Zhang et al., CVPR 2018)."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

SUBSET_ORDER = ("traditional", "cnn", "mix", "superres", "deblur", "color", "frameinterp")
# Triplets of each subset for validation, in the release of the data set.
VAL_TRIPLETS = {
    "traditional": 4720,
    "cnn": 4720,
    "superres": 10856,
    "deblur": 9440,
    "color": 4720,
    "frameinterp": 1888,
}

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
LABEL_SUFFIXES = frozenset({".npy"})

# How images are resized: Pillow's filter, which low-passes before it shrinks.
RESAMPLING = Image.Resampling.BICUBIC

PathLike = str | os.PathLike[str]


class Triplet(NamedTuple):
    """The files of one 2AFC sample."""

    root: Path
    subset: str
    sample: str
    ref: str
    p0: str
    p1: str
    judge: str


class Pair(NamedTuple):
    """The files of one JND sample."""

    root: Path
    subset: str
    sample: str
    p0: str
    p1: str
    same: str


class Samples(Sequence):
    """File names of a data set's samples, in order; each named tuple is made on access.

    Only file names are kept, in one array: that takes a tenth of the memory of the tuples, and
    forked loader processes do not copy it. A slice gives :class:`Samples`.
    """

    def __init__(
        self,
        record: type[Triplet | Pair],
        folders: Sequence[_Folder],
        owners: np.ndarray,
        names: np.ndarray,
    ) -> None:
        self._record = record
        self._folders = folders
        self._owners = owners  # (N,): which of the folders
        self._names = names  # (N, parts): encoded as the file system has them

    @classmethod
    def listed(
        cls, record: type[Triplet | Pair], listings: Iterable[tuple[_Folder, np.ndarray]]
    ) -> Samples:
        """Join several folders in order, each given with its file names, (n, parts)."""
        folders, names = zip(*listings, strict=True)
        owners = np.repeat(np.arange(len(folders), dtype=np.int32), [len(part) for part in names])
        return cls(record, folders, owners, np.concatenate(names))

    def take(self, indices: Sequence[int]) -> Samples:
        """Select the samples at ``indices``, in that order."""
        chosen = np.asarray(indices, dtype=np.intp)
        return Samples(self._record, self._folders, self._owners[chosen], self._names[chosen])

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the samples' subsets, in BAPPS's order."""
        found = {self._folders[owner].subset for owner in np.unique(self._owners)}
        return tuple(sorted(found, key=subset_rank))

    def __len__(self) -> int:
        return len(self._owners)

    def __getitem__(self, index: int | slice) -> Triplet | Pair | Samples:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        folder = self._folders[self._owners[index]]
        names = [os.fsdecode(name) for name in self._names[index].tolist()]
        stem, _ = os.path.splitext(names[0])
        paths = map(os.path.join, folder.parts, names)
        return self._record(folder.root, folder.subset, stem, *paths)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {_listing(self.subsets)})"


class _Folder(NamedTuple):
    """Location of the samples of one subset under one root: one folder per part."""

    root: Path
    subset: str
    parts: tuple[str, ...]


def subset_rank(name: str) -> tuple[int, str]:
    """Sort key: BAPPS's subsets in the order of its paper, then all others by name."""
    known = name in SUBSET_ORDER
    return (SUBSET_ORDER.index(name) if known else len(SUBSET_ORDER), name)


def read_image(path: PathLike, size: int | None = None) -> torch.Tensor:
    """Read the image at ``path`` as uint8 (3, H, W); with ``size``, resized to (3, size, size).

    Grey, palette and alpha images become RGB. Images are resized by Pillow's bicubic filter, which
    low-passes before it shrinks and rounds to uint8; an image of that size is not resampled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be decoded as an image.
    """
    try:
        with Image.open(path) as image:
            image = image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: expected an image, cannot decode it ({error})") from error
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), RESAMPLING)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def read_label(path: PathLike) -> float:
    """Read the single number in [0, 1] from the .npy file at ``path``; any shape is accepted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds several numbers or one out of range.
    """
    expected = f"{path}: expected a .npy file of one number in [0, 1]"
    try:
        value = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{expected}, but it cannot be read ({error})") from error
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{expected}, got an archive of several arrays")
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise ValueError(f"{expected}, got shape {value.shape} of {value.dtype}")
    number = float(value.item())
    if not 0 <= number <= 1:  # false for NaN too
        raise ValueError(f"{expected}, got {number}")
    return number


def _names(folder: Path) -> list[str]:
    """Visible subfolders of ``folder``, sorted; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def _files(folder: Path, suffixes: frozenset[str]) -> dict[str, str]:
    """Names by stem of the visible files in ``folder`` with one of ``suffixes``."""
    found: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if entry.name.startswith(".") or suffix.lower() not in suffixes:
                continue
            if stem in found:
                raise ValueError(
                    f"{entry.path}: a second file with the stem of {folder / found[stem]}"
                )
            found[stem] = entry.name
    return found


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "nothing"


def _split_folder(root: Path, task: str, split: str) -> Path:
    """``<root>/<task>/<split>``, or FileNotFoundError that lists the folders found instead."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one that holds {task}/{split}")
    folder = root / task / split
    if folder.is_dir():
        return folder
    message = f"{root}: expected {task}/{split} in it, "
    if (root / task).is_dir():
        message += f"but {root / task} holds {_listing(_names(root / task))}"
    else:
        message += f"but it holds {_listing(_names(root))}"
    for ancestor in (root, *root.parents):
        if ancestor.name == task and (ancestor / split).is_dir():
            message += f"; did you mean root={str(ancestor.parent)!r}?"
            break
    raise FileNotFoundError(message)


def _matched_files(folder: Path, images: Sequence[str], label: str) -> dict[str, dict[str, str]]:
    """File names of one subset by part and stem; every part must have the same stems."""
    parts = {}
    for part in (*images, label):
        if not (folder / part).is_dir():
            expected = ", ".join((*images, label))
            raise FileNotFoundError(f"{folder / part}: no such folder; expected {expected} there")
        suffixes = LABEL_SUFFIXES if part == label else IMAGE_SUFFIXES
        parts[part] = _files(folder / part, suffixes)
    if not any(parts.values()):
        raise ValueError(f"{folder}: expected samples, but the subset is empty")
    first = images[0]
    for part in parts:
        for one, other in ((first, part), (part, first)):
            if lonely := parts[one].keys() - parts[other].keys():
                path = folder / one / parts[one][min(lonely)]
                raise ValueError(
                    f"{path}: expected a file of the same stem in {folder / other}, found none "
                    f"({len(lonely)} such of {len(parts[one])} in {one})"
                )
    return parts


def _check_image_size(image_size: int | None) -> None:
    if image_size is None:
        return
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise ValueError(f"image_size must be None or an integer from 1; got {image_size!r}")


def _as_roots(root: PathLike | Sequence[PathLike]) -> tuple[Path, ...]:
    given = [root] if isinstance(root, str | os.PathLike) else list(root)
    roots = tuple(Path(path).expanduser() for path in given)
    if not roots:
        raise ValueError("root must be a path or several; got none")
    if len({path.resolve() for path in roots}) < len(roots):
        raise ValueError(f"root must be different folders; got {_listing([*map(str, roots)])}")
    return roots


class _LabelledPatches(Dataset):
    """Images and one label per sample, under ``<root>/<task>/<split>/<subset>/<part>/``.

    A subclass declares the names of the parts.
    """

    task: ClassVar[str]
    images: ClassVar[tuple[str, ...]]
    label: ClassVar[str]
    record: ClassVar[type[Triplet | Pair]]

    def __init__(
        self,
        root: PathLike | Sequence[PathLike],
        split: str = "val",
        subsets: str | Sequence[str] | None = None,
        image_size: int | None = 64,
    ) -> None:
        _check_image_size(image_size)
        self.roots = _as_roots(root)
        self.split = split
        self.image_size = image_size

        folders = {path: _split_folder(path, self.task, split) for path in self.roots}
        present = {path: _names(folder) for path, folder in folders.items()}
        self.subsets = self._chosen(subsets, folders, present)
        self.samples = Samples.listed(
            self.record,
            (
                self._listed(path, subset, folder / subset)
                for path, folder in folders.items()
                for subset in self.subsets
                if subset in present[path]
            ),
        )

    def _chosen(
        self,
        subsets: str | Sequence[str] | None,
        folders: Mapping[Path, Path],
        present: Mapping[Path, Sequence[str]],
    ) -> tuple[str, ...]:
        """Subsets to read, in order; a subset is available if at least one root has it."""
        available = sorted({name for names in present.values() for name in names}, key=subset_rank)
        where = _listing([str(folder) for folder in folders.values()])
        if not available:
            raise ValueError(f"{where}: expected a folder for each subset, but it is empty")
        if subsets is None:
            return tuple(available)
        wanted = [subsets] if isinstance(subsets, str) else list(subsets)
        unknown = [name for name in wanted if name not in available]
        if unknown or not wanted:
            raise ValueError(
                f"subsets must be some of {_listing(available)} (those in {where}); "
                f"got {_listing(unknown)}"
            )
        return tuple(sorted(set(wanted), key=subset_rank))

    def _listed(self, root: Path, subset: str, folder: Path) -> tuple[_Folder, np.ndarray]:
        """Folder of one subset and the encoded file names of its samples, (n, parts)."""
        parts = _matched_files(folder, self.images, self.label)
        stems = sorted(parts[self.images[0]])
        names = [[os.fsencode(files[stem]) for files in parts.values()] for stem in stems]
        # Absolute, so that files are found from another working folder too.
        paths = tuple(os.path.abspath(folder / part) for part in parts)
        return _Folder(root, subset, paths), np.array(names)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        sample = self.samples[index]
        item = {part: read_image(getattr(sample, part), self.image_size) for part in self.images}
        item[self.label] = read_label(getattr(sample, self.label))
        item["subset"], item["sample"] = sample.subset, sample.sample
        return item

    def __repr__(self) -> str:
        where = _listing([str(root) for root in self.roots])
        return (
            f"{type(self).__name__}({len(self)} samples of {self.split}: "
            f"{_listing(self.subsets)}; image_size={self.image_size}; {where})"
        )


class TwoAFCDataset(_LabelledPatches):
    """Triplets of patches, and the share of people who found p1 closer to ref than p0.

    Reads BAPPS's layout (Zhang et al., CVPR 2018):
    ``<root>/2afc/<split>/<subset>/{ref,p0,p1}/*.png`` and ``judge/*.npy``.

    An item is a dict of ``ref``, ``p0`` and ``p1``, uint8 tensors (3, image_size, image_size);
    ``judge``, a float in [0, 1]; ``subset``; and ``sample``, the stem that its files share.

    Args:
        root: the folder that holds ``2afc``, or several, which are read one after the other.
        split: ``"val"``, ``"train"``, or another folder of ``2afc``.
        subsets: names of the subsets to read. Default: all that are present, in BAPPS's order.
        image_size: side of the square that patches are resized to, by Pillow's bicubic filter.
            None: as on disk.

    Attributes:
        samples: one :class:`Triplet` of file paths per item, in the same order, as
            :class:`Samples`.
        roots, split, subsets, image_size: the arguments.

    Raises:
        FileNotFoundError: a folder of the layout is missing.
        ValueError: an unknown or empty subset, or a file without its counterparts; when an item
            is read, an image that cannot be decoded, or a judge that is not one number in [0, 1].
    """

    task = "2afc"
    images = ("ref", "p0", "p1")
    label = "judge"
    record = Triplet


class JNDDataset(_LabelledPatches):
    """Pairs of patches, and the share of people who judged them to be the same.

    Reads BAPPS's layout (Zhang et al., CVPR 2018): ``<root>/jnd/<split>/<subset>/{p0,p1}/*.png``
    and ``same/*.npy``. An item is a dict of ``p0`` and ``p1``, uint8 tensors
    (3, image_size, image_size); ``same``, a float in [0, 1]; ``subset``; and ``sample``.
    Arguments, attributes and errors are those of :class:`TwoAFCDataset`.
    """

    task = "jnd"
    images = ("p0", "p1")
    label = "same"
    record = Pair
