"""Words that pages of several studies share, and cells of their tables."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Iterable, Mapping, Sequence

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


def conditions(
    source: Source,
    n: int,
    *,
    unit: str = "triplets",
    n_train: int | None = None,
    max_shift: int | None = None,
    seed: int | Sequence[int],
) -> str:
    """Data set, number and size of its items, largest shift and seeds, in one line."""
    size = f" of {source.size}" if source.size else ""
    trained = "" if n_train is None else f", training on {n_train}"
    shift = "" if max_shift is None else f", largest shift {max_shift} px"
    seeds = [seed] if isinstance(seed, int) else list(seed)
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return f"{source.name}, {n} {unit}{size}{trained}{shift}, {named}"


def run_conditions(results: Results, unit: str = "triplets") -> str:
    """:func:`conditions` of all items of a run, at the ``max_shift`` of its settings if any."""
    settings, n = results.settings, len(results.source.dataset)
    max_shift = getattr(settings, "max_shift", None)
    return conditions(results.source, n, unit=unit, max_shift=max_shift, seed=settings.seed)


def figure_title(heading: str, *lines: str) -> str:
    """Heading of a figure, and the lines below it, wrapped at the width of a narrow figure."""
    return "\n".join([heading, *(part for line in lines for part in textwrap.wrap(line, 105))])


def left_out_blocks(left_out: Mapping[str, str]) -> list[str]:
    """Title and list of what is unavailable, name -> why; names with the same reason share a line.

    Empty where nothing is.
    """
    names: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        names.setdefault(reason, []).append(name)
    lines = [f"- {', '.join(which)}: {reason}" for reason, which in names.items()]
    return ["## Left out", "\n".join(lines)] if lines else []


def difference_rows(
    differences: pd.DataFrame, keys: Sequence[str], quantities: Sequence[str]
) -> pd.DataFrame:
    """Cells of paired differences: one row per value of ``keys``, one column per quantity.

    Where a cell has several rows, of several seeds, it is their mean ± standard deviation.
    """
    lines = []
    for labels, group in differences.groupby(list(keys), sort=False):
        line = dict(zip(keys, labels, strict=True))
        for quantity in quantities:
            rows = group[group["quantity"] == quantity]
            found = rows["difference"]
            several = f"{found.mean():+.1f} ± {found.std():.1f}"
            single = difference_cell(rows.iloc[0])
            line[quantity_label(quantity)] = several if len(rows) > 1 else single
        lines.append(line)
    return pd.DataFrame(lines)
