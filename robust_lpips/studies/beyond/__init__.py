"""Designs beyond the paper: what each gains on the network that it starts from, and what it costs.

Nothing is trained. Next to r_rf (Ghildyal and Liu, ECCV 2022) and accuracy stands what tolerance
can cost: verdicts that change although nothing is shifted, local warps that are no longer seen,
and time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.comparison.designs import Variant, chosen_variants
from robust_lpips.data.sample import JUDGE
from robust_lpips.data.warped import SEVERITY
from robust_lpips.evaluation import max_shift_of
from robust_lpips.evaluation.bootstrap import generator
from robust_lpips.evaluation.variants import median_ratio, scores_and_differences, verdicts_kept
from robust_lpips.studies.base import Record, Results, Study, Tables, filled, with_bounds, words
from robust_lpips.studies.beyond.figure import pareto_figure
from robust_lpips.studies.beyond.measuring import (
    BATCH,
    DIRECTIONS,
    HORIZONTAL,
    PARTS,
    ROUNDS,
    WARP,
    BeyondSettings,
    TimeTask,
    parts,
    tasks,
)
from robust_lpips.tables import to_markdown

_N_BOOT = 1000
_ENDS = ["value", "low", "high"]
_COLUMNS = ["quantity", *_ENDS, "n"]
_DIGITS = {"warp_over_noise": 3, "evaluations": 0, "relative_time": 2}


def tables(results: Results[BeyondSettings]) -> dict[str, pd.DataFrame]:
    """``summary``: all quantities of each row, see :func:`row_scores`, and what the row costs.

    Columns: ``row, quantity, value, low, high, n``, the bounds those of 95 % intervals. Costs:
    ``evaluations``, images that go through the network for one pair, and ``relative_time``, in
    units of the unchanged network's; ``n`` is the number of rounds there.
    """
    ratios = {
        task.metric: results.record(task)["results"]["ratio"] for task in results.of(TimeTask)
    }
    measured = {part: results.distances(part) for part in PARTS}
    rows, found = _complete(results), []
    if not rows:
        raise ValueError(f"no row is complete; left out: {', '.join(results.left_out)}")
    for row in rows:
        own, base = (
            {part: by_row[name] for part, by_row in measured.items()}
            for name in (row.name, row.base)
        )
        scores = row_scores(own, None if row.is_base else base, results.settings.seed)
        costs = [
            ("evaluations", row.design.evaluations, math.nan, math.nan, 1),
            ("relative_time", ratios.get(row.name, 1.0), math.nan, math.nan, ROUNDS),
        ]
        found.append(pd.concat([scores, pd.DataFrame(costs, columns=_COLUMNS)]))
        found[-1].insert(0, "row", row.name)
    return {"summary": pd.concat(found, ignore_index=True)}


def row_scores(own: Tables, base: Tables | None = None, seed: int = 0) -> pd.DataFrame:
    """Scores of one row, and their differences from its base.

    Args:
        own: table of :func:`~robust_lpips.evaluation.measure` by part: ``horizontal, vertical,
            diagonal, half-pixel, warp``.
        base: the same of the row that it is compared with.
        seed: seed of the intervals.

    Returns:
        ``quantity, value, low, high, n`` with 95 % intervals. In percent: ``two_afc``, ``rrf_1``
        ... ``rrf_S``, ``rrf_1_vertical``, ``rrf_1_diagonal``, ``rrf_0.5``, and with a base
        ``verdicts_kept``, the share of triplets that both rank alike, unshifted. With a base in
        percentage points: each but the last with ``_difference``. ``warp_over_noise``: the median
        over patches of d(ref, warped) / d(ref, noisy).
    """
    shifts = [f"rrf_{n}" for n in range(1, max_shift_of(own[HORIZONTAL]) + 1)]
    names = {HORIZONTAL: {name: name for name in ("two_afc", *shifts)}}
    names |= {part: {column: name} for part, (_, column, name) in DIRECTIONS.items()}
    found = [
        scores_and_differences(own[part], (base or {}).get(part), columns, _N_BOOT, seed)
        for part, columns in names.items()
    ]
    more = [("warp_over_noise", *median_ratio(own[WARP], _N_BOOT, generator(seed, WARP)))]
    if base is not None:
        kept = verdicts_kept(own[HORIZONTAL], base[HORIZONTAL], _N_BOOT, seed)
        more.insert(0, ("verdicts_kept", *kept))
    found.append(pd.DataFrame(more, columns=_COLUMNS))
    return pd.concat(found, ignore_index=True).astype({"n": int})


def page(results: Results[BeyondSettings], tables: Tables) -> list[str]:
    """Accuracy, shifts and cost of each row, with the terms explained."""
    settings, source = results.settings, results.source
    rows, summary = _complete(results), tables["summary"]
    cells = _wide(summary, rows)
    designs = [f"- {row.design.title}: {row.design.meaning}" for row in rows]
    shown = {row.name for row in rows} | set(results.left_out)
    alone = [row.name for row in chosen_variants(settings.rows) if row.name not in shown]
    judged = not source.by_people and any(row.base == JUDGE for row in rows)
    flips = {f"rrf_{n}": words.quantity_label(f"rrf_{n}") for n in range(1, settings.max_shift + 1)}
    accuracy = {
        "two_afc": source.accuracy_label,
        "two_afc_difference": "difference",
        "verdicts_kept": "verdicts kept",
        **flips,
        "rrf_1_difference": "r_rf 1, difference",
        "evaluations": "evaluations",
        "relative_time": "time of a pair",
    }
    others = {
        "rrf_1_vertical": "r_rf 1, vertical",
        "rrf_1_diagonal": "r_rf 1, diagonal",
        "rrf_0.5": "r_rf 0.5",
        "warp_over_noise": "warp / noise",
    }
    return filled(
        "beyond",
        source=source,
        conditions=_conditions(results, tables),
        designs="\n".join(dict.fromkeys(designs)),
        untrained="untrained AlexNet" if any("untrained" in row.base for row in rows) else None,
        judge=JUDGE if judged else None,
        alone=", ".join(alone) or None,
        window=f"{settings.image_size}x{settings.image_size - settings.max_shift} pixels",
        rounds=ROUNDS,
        batch=BATCH,
        accuracy=_markdown(cells, accuracy),
        n_more=summary.loc[summary["quantity"] == "rrf_0.5", "n"].iloc[0],
        # At severity 1 the warp moves points by a twentieth of the side.
        moved=SEVERITY * settings.image_size / 20,
        severity=SEVERITY,
        others=_markdown(cells, others),
    )


def figures(results: Results[BeyondSettings], tables: Tables) -> Mapping[str, Figure]:
    """``pareto``: accuracy against r_rf at 1 px."""
    title = (
        f"Designs beyond the paper\n{_conditions(results, tables)}\n"
        "In the labels: time of a pair, in units of the unchanged network's"
    )
    points = _wide(tables["summary"], _complete(results))
    return {"pareto": pareto_figure(points, title, results.source.accuracy_label)}


def records(results: Results[BeyondSettings], tables: Tables) -> Iterator[Record]:
    """Accuracy and r_rf of each row."""
    wide = _wide(tables["summary"], _complete(results))
    n = tables["summary"].query("quantity == 'two_afc'").set_index("row")["n"]
    for row in wide.to_dict("records"):
        scores = with_bounds(row, ["two_afc", *words.rank_flip_columns(wide)])
        yield Record(row["row"], n[row["row"]], scores, results.weights[row["row"]])


def folder(settings: BeyondSettings) -> str:
    """Name of the default output folder."""
    data = "sample" if settings.data_root is None else "bapps"
    return f"ablation-beyond-{data}-{settings.image_size}px"


STUDY = Study(
    "beyond",
    *(BeyondSettings, tables, page, figures, records),
    parts=parts,
    tasks=tasks,
    folder=folder,
    page_name="summary",
)


def _complete(results: Results[BeyondSettings]) -> list[Variant]:
    """Rows of which everything is measured, the base included."""
    done = set.intersection(*(set(results.distances(part)) for part in PARTS))
    timed = {task.metric for task in results.of(TimeTask)}
    rows = [row for row in chosen_variants(results.settings.rows) if {row.name, row.base} <= done]
    return [row for row in rows if row.is_base or row.name in timed]


def _wide(summary: pd.DataFrame, rows: Sequence[Variant]) -> pd.DataFrame:
    """One row per design: ``row, network, design, base``, and the quantities with their bounds."""
    table = summary.pivot(index="row", columns="quantity", values=_ENDS)
    table.columns = [name if end == "value" else f"{name}_{end}" for end, name in table.columns]
    names = [(row.name, row.title, row.design.title, row.is_base) for row in rows]
    named = pd.DataFrame(names, columns=["row", "network", "design", "base"])
    return named.join(table, on="row")


def _markdown(cells: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """The quantities of ``columns`` that there are, under their labels."""
    found = {
        label: words.interval_cells(cells, name, _DIGITS.get(name, 1))
        for name, label in columns.items()
        if name in cells
    }
    return to_markdown(cells[["network", "design"]].assign(**found))


def _conditions(results: Results[BeyondSettings], tables: Tables) -> str:
    settings, summary = results.settings, tables["summary"]
    n = summary.loc[summary["quantity"] == "two_afc", "n"].iloc[0]
    return words.conditions(results.source, n, max_shift=settings.max_shift, seed=settings.seed)
