"""Loader for the human choices of CLIC's perceptual track (2021)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from robust_lpips.data.bapps import PathLike, _check_image_size, _listing, read_image

SUBSET = "clic"
COLUMNS = ("O", "A", "B", "T")
DEFAULT_CSV = "oracle.csv"
# Words in the names of the files with the choices: oracle.csv, and *_answers.csv in the archive.
CSV_WORDS = ("oracle", "answers")

VERDICTS = {"0": 0.0, "1": 1.0}


class Choice(NamedTuple):
    """Files of one choice, and the reconstruction that was chosen."""

    root: Path
    subset: str
    sample: str
    ref: str
    p0: str
    p1: str
    judge: float


class CLICDataset(Dataset):
    """Crops of photographs, two reconstructions of each, and the one that a person preferred.

    Reads the validation and test sets of the perceptual track of CLIC 2021 (Challenge on Learned
    Image Compression). The development kit of the challenge gives its files: a CSV without a header
    with the columns ``O,A,B,T``: names of the original and of two reconstructions (PNG files of
    768x768 next to the CSV), and the choice ``T``, which is 0 if A was chosen as closer to the
    original and 1 if B was. ``judge`` is ``T``, with A as p0 and B as p1.

    The kit holds ``oracle.csv`` twice, and in the older copy, in its folder ``data``, ``T`` is
    inverted. If metrics agree with people in fewer than half of the choices, that copy was read.

    An item is a dict of ``ref``, ``p0`` and ``p1``, uint8 tensors (3, H, W); ``judge``, 0.0 or 1.0;
    ``subset``, always ``"clic"``; and ``sample``, ``<stem of the original>-<number of the row>``,
    so that choices on one original are resampled together. Rows in which a reconstruction is the
    original itself are kept, and so are repeated choices.

    Args:
        root: the folder that the paths in the CSV are relative to.
        csv: the CSV, relative to ``root``. Its first row may be a header, which then gives the
            order of the columns; other columns and blank lines are ignored. Backslashes in paths
            are read as slashes. Default: ``oracle.csv``, or else the only CSV in ``root`` with
            "oracle" or "answers" in its name.
        image_size: side that images are resized to, by Pillow's bicubic filter. None: as on disk.

    Attributes:
        samples: one :class:`Choice` per item, in the same order.
        root, csv, image_size: the arguments.

    Raises:
        FileNotFoundError: the folder, the CSV, or an image that a row names is missing.
        ValueError: several CSV files match, a column is missing, a row has another length, a T is
            neither 0 nor 1, or there are no rows; when an item is read, an image that cannot be
            decoded.
    """

    def __init__(
        self, root: PathLike, csv: PathLike | None = None, image_size: int | None = None
    ) -> None:
        _check_image_size(image_size)
        self.root = Path(root).expanduser()
        self.csv = _csv_path(self.root, csv)
        self.image_size = image_size
        self.samples = _choices(self.root, self.csv)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        sample = self.samples[index]
        images = {
            part: read_image(getattr(sample, part), self.image_size) for part in ("ref", "p0", "p1")
        }
        return {
            **images,
            "judge": sample.judge,
            "subset": sample.subset,
            "sample": sample.sample,
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} samples of {self.csv}; "
            f"image_size={self.image_size}; {self.root})"
        )


def _csv_path(root: Path, csv: PathLike | None) -> Path:
    """Path of the file with the choices."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected one with the images of CLIC")
    if csv is not None or (root / DEFAULT_CSV).is_file():
        path = root / Path(csv or DEFAULT_CSV).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected a CSV of {','.join(COLUMNS)}")
        return path
    tables = sorted(path for path in root.glob("*.csv") if path.is_file())
    found = [path for path in tables if any(word in path.name.lower() for word in CSV_WORDS)]
    if len(found) > 1:
        raise ValueError(
            f"csv must be given where several may be it; {root} holds "
            f"{_listing([path.name for path in found])}"
        )
    if not found:
        raise FileNotFoundError(
            f"{root / DEFAULT_CSV}: no such file; of CSV files {root} holds "
            f"{_listing([path.name for path in tables])}"
        )
    return found[0]


def _choices(root: Path, table: Path) -> list[Choice]:
    """Read the rows of ``table`` and check that their images exist."""
    choices: list[Choice] = []
    present: dict[str, bool] = {}
    for line, (*names, verdict) in _rows(table):
        where = f"{table}, line {line}"
        if verdict not in VERDICTS:
            raise ValueError(f"{where}: T must be 0 or 1; got {verdict!r}")
        names = [name.replace("\\", "/") for name in names]
        for column, name in zip(COLUMNS, names, strict=False):
            if name not in present:
                present[name] = bool(name) and (root / name).is_file()
            if not present[name]:
                raise FileNotFoundError(f"{where}: {column} is {name!r}, no such file in {root}")
        sample = f"{PurePosixPath(names[0]).stem}-{len(choices):06d}"
        paths = [str(root / name) for name in names]
        choices.append(Choice(root, SUBSET, sample, *paths, VERDICTS[verdict]))
    if not choices:
        raise ValueError(f"{table}: expected rows of {','.join(COLUMNS)}, found none")
    return choices


def _rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and the cells O, A, B, T of each row that is not blank."""
    order, width = range(len(COLUMNS)), len(COLUMNS)
    first = True
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            is_header = first and not {"O", "A", "B", "T"}.isdisjoint(cells)
            first = False
            if is_header:
                if missing := [name for name in COLUMNS if name not in cells]:
                    raise ValueError(
                        f"{table}: expected columns {','.join(COLUMNS)}; lacks {_listing(missing)}"
                    )
                order, width = [cells.index(name) for name in COLUMNS], len(cells)
                continue
            if len(cells) != width:
                raise ValueError(
                    f"{table}, line {reader.line_num}: expected {width} columns "
                    f"({','.join(COLUMNS)}), got {len(cells)}"
                )
            yield reader.line_num, [cells[i] for i in order]
