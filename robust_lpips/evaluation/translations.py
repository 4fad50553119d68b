"""Scores of estimated translations whose true ones are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def exact(table: pd.DataFrame) -> pd.Series:
    """(N,) bool: the estimate is the true shift.

    Args:
        table: estimates ``rows, columns`` and true shifts ``true_rows, true_columns`` in pixels.
    """
    return (_errors(table) == 0).all(axis=1)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of right estimates of each distortion and severity.

    Args:
        table: the columns of :func:`exact`, ``distortion`` and ``severity``.

    Returns:
        One row per distortion and severity: ``distortion, severity, n``; in percent ``exact``, the
        true shift, ``stayed``, wrong and no shift, and ``wrong``, all others; ``farthest``, the
        largest error along an axis in pixels.
    """
    right = exact(table)
    stayed = ~right & (table["rows"] == 0) & (table["columns"] == 0)
    cells = table.assign(
        exact=100.0 * right,
        stayed=100.0 * stayed,
        wrong=100.0 * ~(right | stayed),
        farthest=_errors(table).max(axis=1),
    ).groupby(["distortion", "severity"], sort=False)
    found = cells[["exact", "stayed", "wrong"]].mean()
    found.insert(0, "n", cells.size())
    return found.assign(farthest=cells["farthest"].max()).reset_index()


def axis_errors(table: pd.DataFrame, reach: int) -> pd.DataFrame:
    """Errors of estimates along each axis.

    Args:
        table: the columns of :func:`exact`, and ``distortion``.
        reach: true shifts up to this length along an axis, in pixels, are told from longer ones.

    Returns:
        One row per distortion, axis and length of the true shift along it: ``distortion, axis,
        shift`` (``to 2 px`` or ``beyond``), ``n``; ``median`` and ``p95`` of the absolute error in
        pixels.
    """
    parts = [
        table[["distortion"]].assign(
            axis=axis,
            shift=np.where(table[f"true_{axis}"].abs() <= reach, f"to {reach} px", "beyond"),
            error=errors,
        )
        for axis, errors in _errors(table).items()
    ]
    cells = pd.concat(parts).groupby(["distortion", "axis", "shift"], sort=False)["error"]
    found = cells.agg(n="size", median="median", p95=lambda errors: errors.quantile(0.95))
    return found.reset_index()


def case_means(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Estimates and means of several pairs of one kind.

    Args:
        table: the columns of :func:`exact`, ``case``, ``radius`` of the search, and the
            quantities. The true shift, NaN where there is none, and the radius are one per case.
        quantities: columns with numbers.

    Returns:
        One row per case: ``case, radius, n``; ``true_rows, true_columns``, and the first estimate
        ``rows, columns``, in pixels; ``stayed`` and ``right``, the percentage of estimates that
        are no shift, and the true one (NaN: there is none); and the means of the quantities.
    """
    shifts = ["true_rows", "true_columns", "rows", "columns"]
    known = table["true_rows"].notna()
    cases = table.assign(
        stayed=100.0 * (table[["rows", "columns"]] == 0).all(axis=1),
        right=(100.0 * exact(table)).where(known),
    ).groupby("case", sort=False)
    found = cases[["radius", *shifts]].first().join(cases[["stayed", "right", *quantities]].mean())
    found.insert(1, "n", cases.size())
    return found.reset_index()


def _errors(table: pd.DataFrame) -> pd.DataFrame:
    """Absolute errors along both axes, in pixels."""
    return pd.DataFrame(
        {axis: (table[axis] - table[f"true_{axis}"]).abs() for axis in ("rows", "columns")}
    )
