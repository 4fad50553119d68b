"""Tables as text: Markdown and CSV, rendered from data and written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robust_lpips._files import atomic_path

MISSING = "–"  # noqa: RUF001, an en dash is what tables print for "no number"


def to_markdown(table: pd.DataFrame, formats: Mapping[str, str] | None = None) -> str:
    """``table`` as a GitHub Markdown table, without its index; ends without a newline.

    Columns of numbers are aligned to the right, missing values are an en dash, and every column
    is padded to one width, so that the source reads as a table too.

    Args:
        table: the data; columns are printed in their order.
        formats: format specification by column, as ``{"rrf_1": ".2f"}``; other values are
            printed by ``str``.

    Raises:
        ValueError: a format for a column that ``table`` has not, or no columns at all.

    Example:
        >>> table = pd.DataFrame({"metric": ["l2", "ssim"], "rrf_1": [12.5, float("nan")]})
        >>> print(to_markdown(table, {"rrf_1": ".2f"}))
        | metric | rrf_1 |
        | ------ | ----: |
        | l2     | 12.50 |
        | ssim   |     – |
    """  # noqa: RUF002
    formats = formats or {}
    if unknown := [name for name in formats if name not in table.columns]:
        raise ValueError(f"formats names columns that the table has not: {', '.join(unknown)}")
    if table.columns.empty:
        raise ValueError("table has no columns")
    columns = [_column(str(name), values, formats.get(name, "")) for name, values in table.items()]
    lines = ["| " + " | ".join(cells) + " |" for cells in zip(*columns, strict=True)]
    return "\n".join(lines)


def with_interval(value: float, low: float, high: float, digits: int = 1) -> str:
    """A number and its interval as one cell; the interval is left out where a bound is NaN.

    >>> with_interval(88.04, 85, 90.81)
    '88.0 [85.0, 90.8]'
    """
    if math.isnan(value):
        return MISSING
    if math.isnan(low) or math.isnan(high):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 with Unix line ends, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write ``table`` without its index as CSV, whole or not at all; numbers in full precision."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _column(name: str, values: pd.Series, spec: str) -> list[str]:
    """Header, rule and cells of one column, padded to one width."""
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    cells = [_escaped(name), *(_cell(value, spec) for value in values)]
    width = max(3, *map(len, cells))
    cells = [cell.rjust(width) if numeric else cell.ljust(width) for cell in cells]
    rule = "-" * (width - 1) + ":" if numeric else "-" * width
    return [cells[0], rule, *cells[1:]]


def _cell(value: Any, spec: str) -> str:
    return MISSING if pd.isna(value) else _escaped(format(value, spec) if spec else str(value))


def _escaped(text: str) -> str:
    """Text that neither ends a cell nor a row."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").splitlines())
