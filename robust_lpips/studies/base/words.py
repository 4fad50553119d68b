"""Words that pages of several studies share, and cells of their tables."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import pandas as pd

from robust_lpips.studies.base.source import Source
from robust_lpips.studies.base.study import Results
from robust_lpips.tables import with_interval


def quantity_label(quantity: str) -> str:
    """A column of scores as pages print it: ``two_afc`` is accuracy, ``rrf_1`` is r_rf 1."""
    return "accuracy" if quantity == "two_afc" else quantity.replace("rrf_", "r_rf ")


def rank_flip_columns(scores: Iterable[str]) -> list[str]:
    """The columns of r_rf, without their bounds, in order."""
    return [name for name in scores if name.startswith("rrf_") and name.count("_") == 1]


def interval_cells(table: pd.DataFrame, name: str, digits: int = 1) -> list[str]:
    """One cell per row: column ``name`` with its bounds ``name_low`` and ``name_high``."""
    columns = table[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
    return [with_interval(*row, digits=digits) for row in columns]


def difference_cell(row: pd.Series, digits: int = 1) -> str:
    """``difference`` with its bounds ``low`` and ``high``, all with their signs."""
    value, low, high = (f"{row[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return f"{value} [{low}, {high}]"


def stacked(tables: Mapping[Hashable, pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """Tables one below the other; their keys become the first columns, called ``names``."""
    return pd.concat(tables, names=names).reset_index(names).reset_index(drop=True)


def pivot_in_order(table: pd.DataFrame, index: str, columns: str, values: str) -> pd.DataFrame:
    """One row per value of ``index`` and one column per value of ``columns``, as they appear."""
    order = [list(dict.fromkeys(table[name])) for name in (index, columns)]
    wide = table.pivot(index=index, columns=columns, values=values).loc[order[0], order[1]]
    return wide.rename_axis(columns=None).reset_index()


def conditions(source: Source, n: int, *, max_shift: int | None = None, seed: int) -> str:
    """Data set, number and size of triplets, largest shift and seed, in one line."""
    size = f" of {source.size}" if source.size else ""
    shift = "" if max_shift is None else f", largest shift {max_shift} px"
    return f"{source.name}, {n} triplets{size}{shift}, seed {seed}"


def run_conditions(results: Results) -> str:
    """:func:`conditions` of all triplets of a run, whose settings have ``max_shift, seed``."""
    settings, n = results.settings, len(results.source.dataset)
    return conditions(results.source, n, max_shift=settings.max_shift, seed=settings.seed)
