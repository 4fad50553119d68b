"""Reader of the distance tables that the released ST-LPIPS code writes."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from robust_lpips.data.bapps import SUBSET_ORDER
from robust_lpips.evaluation.distances import TRIPLETS, check_table, few, read_distances
from robust_lpips.evaluation.scores import credit
from robust_lpips.evaluation.shifts import FULL, view_name

# One row per triplet, without a header: a file's path, both distances, the metric's 2AFC credit
# and the share of people who found p1 closer.
COLUMNS = ("path", "d0", "d1", "score", "judge")

_SUFFIXES = (".csv", ".csv.gz")
_NUMBERS = COLUMNS[1:]
# The scores were computed from float32 judgments.
_TOLERANCE = 1e-6

_FULL_NAME = re.compile(r"twoAFC_model-(?P<model>.+)_distortion-(?P<subset>.+)")
_SHIFTED_NAME = re.compile(
    r"xshifted_n-(?P<shift>\d+)_right_crop_model-(?P<model>.+)_distortion-(?P<subset>.+)_results"
)
_SAMPLE_PATH = re.compile(
    r"^(?:.*[/\\])?(?P<subset>[^/\\]+)[/\\](?:ref|p0|p1)[/\\](?P<file>[^/\\]+)$"
)


class _Name(NamedTuple):
    """Label, view and subset that a file's name states."""

    label: str
    view: str
    subset: str | None


def read_any_distances(path: str | Path | Sequence[str | Path]) -> tuple[str, pd.DataFrame]:
    """Read the distances of one metric, from our table or those of the released ST-LPIPS code.

    That code writes one file per subset and view, without a header and always with the columns
    :data:`COLUMNS`: ``twoAFC_model-<model>_distortion-<subset>.csv`` is the view ``full``,
    ``xshifted_n-<k>_right_crop_model-<model>_distortion-<subset>_results.csv`` the view
    ``shift-<k>``. Such a file with another name is read as the view ``full``, with the folder
    above ``p0`` in the column path as its subset. The largest shift, which decides how patches are
    cropped, is not recorded; the code's default is 3 pixels.

    Args:
        path: a file ``.csv`` or ``.csv.gz``, several files of one metric, or a folder in which all
            such files belong to one metric.

    Returns:
        The metric's label, which is the model in the files' names or else the file's name without
        suffix; and the table ``subset, sample, view, d0, d1, judge``, subsets in BAPPS's order. A
        table that :func:`~robust_lpips.evaluation.write_distances` wrote is returned unchanged.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: no tables in the folder, tables of several metrics, other columns, rows that
            are repeated or out of range, or a score that does not follow from the distances and
            the judgment (for instance if they are similarities); the message names the file.

    Source: Ghildyal and Liu, ECCV 2022, the released code's folder ``results``.
    """
    files = _files(path)
    names = {file: _parse_name(file) for file in files}
    labels = list(dict.fromkeys(name.label for name in names.values()))
    if len(labels) > 1:
        raise ValueError(
            f"path must hold one metric; {_shown(path)} has {len(labels)}: {few(labels, 10)}"
        )
    tables = [_read(file, name) for file, name in names.items()]
    if len(tables) == 1:
        return labels[0], tables[0]
    table = pd.concat(tables, ignore_index=True)
    check_table(table, TRIPLETS, _shown(path))
    return labels[0], table


def read_named_distances(paths: Sequence[str | Path]) -> dict[str, pd.DataFrame]:
    """Read the distances of several metrics by label, each as :func:`read_any_distances` does.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: if two metrics have the same label, or a table cannot be read.
    """
    tables = [read_any_distances(path) for path in paths]
    if len(found := dict(tables)) < len(tables):
        names = ", ".join(name for name, _ in tables)
        raise ValueError(f"distances: every table must have a name of its own; got {names}")
    return found


def _files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    """List the files to read, which must exist."""
    if isinstance(path, (str, Path)):
        folder = Path(path)
        if not folder.is_dir():
            return _files([path])
        files = [file for file in folder.iterdir() if file.name.endswith(_SUFFIXES)]
        if not files:
            raise ValueError(f"path must hold files {' or '.join(_SUFFIXES)}; {folder} has none")
        return sorted(files, key=_order)
    files = [Path(file) for file in path]
    if not files:
        raise ValueError("path must name at least one file; got none")
    for file in files:
        if not file.name.endswith(_SUFFIXES):
            raise ValueError(f"path must end in {' or '.join(_SUFFIXES)}; got {str(file)!r}")
        if not file.is_file():
            raise FileNotFoundError(f"no file {file}")
    return sorted(files, key=_order)


def _order(file: Path) -> tuple[int, str, str, str]:
    """Sort key: subsets in BAPPS's order, then views by name."""
    name = _parse_name(file)
    subset = name.subset or ""
    rank = SUBSET_ORDER.index(subset) if subset in SUBSET_ORDER else len(SUBSET_ORDER)
    return rank, subset, name.view, file.name


def _parse_name(file: Path) -> _Name:
    stem = file.name.removesuffix(".gz").removesuffix(".csv")
    if match := _FULL_NAME.fullmatch(stem):
        return _Name(match["model"], FULL, match["subset"])
    if match := _SHIFTED_NAME.fullmatch(stem):
        return _Name(match["model"], view_name(int(match["shift"])), match["subset"])
    if stem.startswith("xshifted"):
        raise ValueError(
            f"{file}: a shifted table must be named xshifted_n-<k>_right_crop_model-<model>"
            "_distortion-<subset>_results"
        )
    return _Name(stem, FULL, None)


def _read(file: Path, name: _Name) -> pd.DataFrame:
    """Read one file of either kind as a tidy table."""
    opened = gzip.open if file.name.endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8") as lines:
        first = lines.readline().strip().split(",")
    if {"subset", "sample"} <= set(first):
        return read_distances(file)
    header = first == list(COLUMNS)
    if not header and (len(first) != len(COLUMNS) or not all(map(_is_number, first[1:]))):
        raise ValueError(
            f"{file} must have the columns {', '.join(TRIPLETS.all)}, or, with or without a "
            f"header, {', '.join(COLUMNS)}; its first line is {','.join(first)!r}"
        )
    # As text: pandas must not change names or numbers.
    try:
        table = pd.read_csv(
            file,
            header=0 if header else None,
            names=list(COLUMNS),
            dtype=str,
            keep_default_na=False,
        )
        numbers = {c: table[c].to_numpy(dtype=object).astype(np.float64) for c in _NUMBERS}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    parts = table["path"].str.extract(_SAMPLE_PATH)
    unclear = parts["file"].isna()
    if unclear.any():
        raise ValueError(
            f"{file}: path must be <subset>/p0/<sample>.png, behind any folders; "
            f"got {few(table.loc[unclear, 'path'])}"
        )
    if name.subset is not None and (parts["subset"] != name.subset).any():
        raise ValueError(
            f"{file}: the name says subset {name.subset!r}, the column path "
            f"{few(parts['subset'].unique())}"
        )
    tidy = pd.DataFrame(
        {
            "subset": parts["subset"],
            "sample": parts["file"].str.replace(r"\.[^.]*$", "", regex=True),
            "view": name.view,
            "d0": numbers["d0"],
            "d1": numbers["d1"],
            "judge": numbers["judge"],
        }
    )
    check_table(tidy, TRIPLETS, str(file))
    _check_score(tidy, numbers["score"], str(file))
    return tidy


def _check_score(tidy: pd.DataFrame, score: np.ndarray, name: str) -> None:
    """Raise ValueError unless ``score`` is the 2AFC credit of the distances, in every row."""
    d0, d1, judge = (tidy[column].to_numpy() for column in ("d0", "d1", "judge"))
    wrong = np.abs(score - credit(d0, d1, judge)) > _TOLERANCE
    if not wrong.any():
        return
    similarities = (np.abs(score - credit(d1, d0, judge)) <= _TOLERANCE).all()
    why = (
        "larger numbers count as closer in it, so d0 and d1 are similarities"
        if similarities
        else "columns are swapped, or d0, d1 and judge belong to different triplets"
    )
    keys = tidy.loc[wrong, ["subset", "sample"]].agg("/".join, axis=1)
    raise ValueError(f"{name}: score must follow from d0, d1 and judge; {why}: at {few(keys)}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(path: str | Path | Sequence[str | Path]) -> str:
    return str(path) if isinstance(path, (str, Path)) else few(path)
