"""The tidy table of distances: columns, checks, files, and its arrangement by triplet."""

from __future__ import annotations

import gzip
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from robust_lpips._files import atomic_path
from robust_lpips.evaluation.shifts import FULL, parse_view, view_name


@dataclass(frozen=True)
class Columns:
    """Columns of one kind of table: keys, distances, and people's judgment.

    The judgment, ``share``, is a share of people in ``bounds``, or a score without bounds.
    """

    keys: tuple[str, ...]
    distances: tuple[str, ...]
    share: str
    bounds: tuple[float, float] = (0.0, 1.0)

    @property
    def all(self) -> tuple[str, ...]:
        """All columns, in the order of the file."""
        return (*self.keys, *self.distances, self.share)


TRIPLETS = Columns(("subset", "sample", "view"), ("d0", "d1"), "judge")
PAIRS = Columns(("subset", "sample"), ("distance",), "same")
SCORED = Columns(("subset", "sample"), ("distance",), "score", (-np.inf, np.inf))

_SUFFIXES = (".csv", ".csv.gz")


def few(names: Iterable[object], most: int = 5) -> str:
    """List the first few names and the number of the others, for an error message."""
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_table(table: pd.DataFrame, columns: Columns, name: str = "distances") -> None:
    """Raise ValueError, naming the problem, unless ``table`` is a valid table of distances.

    Rows must be unique by their keys, distances and scores finite, and shares of people in [0, 1].
    Further columns are allowed.
    """
    missing = [column for column in columns.all if column not in table.columns]
    if missing:
        raise ValueError(
            f"{name} must have the columns {', '.join(columns.all)}; missing: {', '.join(missing)}"
        )
    if table.empty:
        raise ValueError(f"{name} has no rows")
    keys = list(columns.keys)
    for column in keys:
        # Numbers would have lost their leading zeros; missing names would drop out of groups.
        if not pd.api.types.is_string_dtype(table[column]) or table[column].isna().any():
            raise ValueError(f"{name}: {column} must be text in every row")
    for column in (*columns.distances, columns.share):
        values = table[column].to_numpy(dtype=np.float64)
        low, high = columns.bounds if column == columns.share else (-np.inf, np.inf)
        broken = ~np.isfinite(values) | (values < low) | (values > high)
        if broken.any():
            allowed = "finite" if np.isinf(high) else f"in [{low:g}, {high:g}]"
            raise ValueError(
                f"{name}: {column} must be {allowed}; got {values[broken][0]} at "
                f"{few(_label(table.loc[broken, keys]))}"
            )
    repeated = table.duplicated(keys).to_numpy()
    if repeated.any():
        raise ValueError(f"{name} repeats rows: {few(_label(table.loc[repeated, keys]))}")


@dataclass(frozen=True)
class TripletTable:
    """Triplet distances by view: the same N triplets, in the same order, at every shift.

    Attributes:
        triplets: ``subset, sample, judge``, one row per triplet, in order of first appearance.
        full: d0 and d1 (2, N) of the whole patches.
        shifted: d0 and d1 by shift in pixels, ascending; empty or starting with 0.
    """

    triplets: pd.DataFrame
    full: np.ndarray
    shifted: dict[float, np.ndarray]

    @classmethod
    def from_tidy(cls, table: pd.DataFrame, name: str = "distances") -> TripletTable:
        """Arrange a tidy table.

        Raises:
            ValueError: columns, rows or views are missing, rows are repeated, values are out of
                range, or a sample's ``judge`` is not one number.
        """
        check_table(table, TRIPLETS, name)
        groups = table.groupby(["subset", "sample"], sort=False)
        row = groups.ngroup().to_numpy()
        triplets = groups["judge"].first().reset_index()
        judge = triplets["judge"].to_numpy(dtype=np.float64)
        unlike = table["judge"].to_numpy(dtype=np.float64) != judge[row]
        if unlike.any():
            keys = table.loc[unlike, ["subset", "sample"]].drop_duplicates()
            raise ValueError(f"{name}: judge differs between views of {few(_label(keys))}")
        by_view: dict[float | None, np.ndarray] = {}
        for view, indices in table.groupby("view", sort=False).indices.items():
            values = table[["d0", "d1"]].to_numpy(dtype=np.float64)[indices]
            arranged = np.full((2, len(triplets)), np.nan)
            arranged[:, row[indices]] = values.T
            missing = np.isnan(arranged[0])
            if missing.any():
                keys = triplets.loc[missing, ["subset", "sample"]]
                raise ValueError(f"{name}: view {view!r} is missing for {few(_label(keys))}")
            by_view[parse_view(view)] = arranged
        if None not in by_view:
            raise ValueError(f"{name} must have the view {FULL!r}")
        full = by_view.pop(None)
        if by_view and 0.0 not in by_view:
            raise ValueError(
                f"{name} must have the view {view_name(0)!r}, which flips are counted against"
            )
        return cls(triplets, full, dict(sorted(by_view.items())))


def max_shift_of(distances: pd.DataFrame) -> int:
    """Largest shift S of a table of triplets; 0 if only ``full`` was measured.

    S decides the size of the windows, so report it with every number from such a table. It is
    wrong for a table from which the largest shifts were removed.

    Raises:
        ValueError: no ``view`` column, an unknown view, or a largest shift between pixels.
    """
    if "view" not in distances.columns:
        raise ValueError("distances must have the column view")
    shifts = [parse_view(view) for view in distances["view"].unique()]
    largest = max((shift for shift in shifts if shift is not None), default=0.0)
    if not largest.is_integer():
        raise ValueError(f"the largest shift must be a whole number of pixels; got {largest:g}")
    return int(largest)


def write_distances(distances: pd.DataFrame, path: str | Path) -> None:
    """Write a table of triplets or pairs as ``.csv`` or ``.csv.gz``, atomically.

    :func:`read_distances` returns the same values to the bit. Equal tables give equal bytes.

    Raises:
        ValueError: another suffix, or a table that cannot be scored.
    """
    path = _checked_path(path)
    columns = _columns_of(distances)
    check_table(distances, columns)
    # As float64: the shortest decimals are exact, also for float32 values.
    table = distances[list(columns.all)].astype(
        dict.fromkeys((*columns.distances, columns.share), np.float64)
    )
    content = table.to_csv(index=False, lineterminator="\n").encode()
    if path.suffix == ".gz":
        # Without a time stamp, the bytes depend on the content alone.
        content = gzip.compress(content, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_distances(path: str | Path) -> pd.DataFrame:
    """Read a table of :func:`write_distances`: names as text, numbers as float64, to the bit.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, missing columns or no rows, values that are not finite, shares
            of people outside [0, 1], or repeated rows; the message names the file.
    """
    path = _checked_path(path)
    # All as text, without NA values: a sample may be named "NA" or "000123". Python parses the
    # numbers, because only some versions of pandas get the last bit right.
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = _columns_of(table, str(path))
    try:
        numbers = {
            column: table[column].to_numpy(dtype=object).astype(np.float64)
            for column in (*columns.distances, columns.share)
        }
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    table = table.assign(**numbers)
    check_table(table, columns, str(path))
    return table


def kind_of(names: Container[str]) -> Columns:
    """Kind of table or item with these columns or fields; triplets if it is ambiguous."""
    return next((kind for kind in (TRIPLETS, PAIRS, SCORED) if kind.share in names), TRIPLETS)


def _columns_of(table: pd.DataFrame, name: str = "distances") -> Columns:
    columns = kind_of(table.columns)
    if not set(columns.all) <= set(table.columns):
        raise ValueError(
            f"{name} must have the columns {', '.join(TRIPLETS.all)} (triplets), "
            f"{', '.join(PAIRS.all)} (pairs) or {', '.join(SCORED.all)} (scored pairs); "
            f"got {', '.join(map(str, table.columns))}"
        )
    return columns


def _checked_path(path: str | Path) -> Path:
    path = Path(path)
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(f"path must end in {' or '.join(_SUFFIXES)}; got {str(path)!r}")
    return path


def _label(rows: pd.DataFrame) -> list[str]:
    return ["/".join(map(str, row)) for row in rows.itertuples(index=False)]
