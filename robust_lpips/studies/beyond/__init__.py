"""Designs beyond the paper: what each gains on the network that it starts from, and what it costs.

Nothing is trained. Next to r_rf (Ghildyal and Liu, ECCV 2022) and accuracy stands what tolerance
can cost: verdicts that change although nothing is shifted, local warps that are no longer seen,
and time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import (
    FULL,
    max_shift_of,
    paired_difference,
    photograph,
    summarize,
    view_name,
)
from robust_lpips.evaluation.bootstrap import bootstrap_weights, cluster_codes, generator, interval
from robust_lpips.studies.base import (
    Record,
    Results,
    Study,
    Tables,
    conditions,
    interval_cells,
    quantity_label,
    rank_flip_columns,
    with_bounds,
)
from robust_lpips.studies.beyond.figure import pareto_figure
from robust_lpips.studies.beyond.measuring import (
    BATCH,
    DIRECTIONS,
    HORIZONTAL,
    PARTS,
    ROUNDS,
    SEVERITY,
    WARP,
    BeyondSettings,
    TimeTask,
    parts,
    tasks,
)
from robust_lpips.studies.beyond.rows import Row, chosen
from robust_lpips.tables import to_markdown

_N_BOOT = 1000
_ENDS = ["value", "low", "high"]
_COLUMNS = ["quantity", *_ENDS, "n"]
_DIGITS = {"warp_over_noise": 3, "evaluations": 0, "relative_time": 2}

Scored = tuple[float, float, float, int]


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
    found = []
    for part, columns in names.items():
        scores = summarize(own[part], _N_BOOT, seed).iloc[-1]
        found += [(name, *_ends(scores, column), scores["n"]) for column, name in columns.items()]
        if base is not None:
            differences = paired_difference(own[part], base[part], _N_BOOT, seed)
            differences = differences.set_index("quantity")[["difference", "low", "high"]]
            found += [
                (f"{name}_difference", *differences.loc[column], scores["n"])
                for column, name in columns.items()
            ]
    if base is not None:
        found.append(("verdicts_kept", *_verdicts_kept(own[HORIZONTAL], base[HORIZONTAL], seed)))
    found.append(("warp_over_noise", *_warp_over_noise(own[WARP], seed)))
    return pd.DataFrame(found, columns=_COLUMNS).astype({"n": int})


def page(results: Results[BeyondSettings], tables: Tables) -> Iterator[str]:
    """Accuracy, shifts and cost of each row, with the terms explained."""
    settings, source, rows = results.settings, results.source, _complete(results)
    counts = tables["summary"].drop_duplicates("quantity").set_index("quantity")["n"]
    cells = _wide(tables["summary"], rows)
    yield "# Designs beyond the paper"
    yield (
        f"{_conditions(results, tables)}. {source.judged_by} In brackets: 95 % bootstrap "
        f"intervals{source.clustered}."
    )
    designs = dict.fromkeys(row.design for row in rows)
    yield "\n".join(f"- {design.title}: {design.meaning}" for design in designs)
    if any("untrained" in row.base for row in rows):
        yield (
            "The untrained AlexNet has random weights: it shows the effect of a design where "
            "nothing was learnt."
        )
    if not source.by_people and any(row.base == JUDGE for row in rows):
        yield (
            f"{JUDGE} is the judge itself: unchanged, its agreement is 100 % by construction, and "
            "its designs can only lose."
        )
    shown = {row.name for row in rows} | set(results.left_out)
    if alone := [row.name for row in chosen(settings.rows) if row.name not in shown]:
        yield f"Not shown, because their networks are left out: {', '.join(alone)}."
    yield "## Accuracy, horizontal shifts and cost"
    yield (
        f"Accuracy is {source.accuracy}, in percent, on the uncropped patches. difference: to the "
        "unchanged network, paired over the same triplets, in percentage points. verdicts kept: "
        "share of triplets that are ranked as the unchanged network ranks them, unshifted, in "
        "percent. r_rf n: share of triplets whose ranking a shift of n pixels flips, in percent, "
        f"on windows of {settings.image_size}x{settings.image_size - settings.max_shift} pixels. "
        "evaluations: images that go through the network for one pair, by construction. time of a "
        "pair: in units of the unchanged network's, measured here, the median of "
        f"{ROUNDS} rounds in which the two take turns with {BATCH} unshifted pairs."
    )
    flips = {f"rrf_{n}": quantity_label(f"rrf_{n}") for n in range(1, settings.max_shift + 1)}
    yield _markdown(
        cells,
        {
            "two_afc": source.accuracy_label,
            "two_afc_difference": "difference",
            "verdicts_kept": "verdicts kept",
            **flips,
            "rrf_1_difference": "r_rf 1, difference",
            "evaluations": "evaluations",
            "relative_time": "time of a pair",
        },
    )
    yield "## Other shifts, and warps"
    # At severity 1 the warp moves points by a twentieth of the side.
    yield (
        f"r_rf on {counts['rrf_0.5']} evenly spaced triplets at a largest shift of 1 pixel, so "
        "that windows are larger than above. Shifts by half a pixel are bicubic, which itself "
        "blurs. warp / noise: the median over their references of d(ref, warped) / d(ref, noisy). "
        f"The warp (`cubic_warp`) moves 5 by 5 points of the patch by "
        f"{SEVERITY * settings.image_size / 20:g} px, each in its own direction; the noise "
        f"(`gaussian_white_noise`) is visible; both have severity {SEVERITY:g}. Where the ratio "
        "falls far below the unchanged network's, the design no longer sees small local changes."
    )
    yield _markdown(
        cells,
        {
            "rrf_1_vertical": "r_rf 1, vertical",
            "rrf_1_diagonal": "r_rf 1, diagonal",
            "rrf_0.5": "r_rf 0.5",
            "warp_over_noise": "warp / noise",
        },
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
        scores = with_bounds(row, ["two_afc", *rank_flip_columns(wide)])
        yield Record(row["row"], n[row["row"]], scores, results.weights[row["row"]])


def folder(settings: BeyondSettings) -> str:
    """Name of the default output folder."""
    data = "sample" if settings.data_root is None else "bapps"
    return f"ablation-beyond-{data}-{settings.image_size}px"


STUDY = Study(
    name="beyond",
    settings=BeyondSettings,
    parts=parts,
    tasks=tasks,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    folder=folder,
    page_name="summary",
)


def _complete(results: Results[BeyondSettings]) -> list[Row]:
    """Rows of which everything is measured, the base included."""
    done = set.intersection(*(set(results.distances(part)) for part in PARTS))
    timed = {task.metric for task in results.of(TimeTask)}
    rows = [row for row in chosen(results.settings.rows) if {row.name, row.base} <= done]
    return [row for row in rows if row.is_base or row.name in timed]


def _verdicts_kept(own: pd.DataFrame, base: pd.DataFrame, seed: int) -> Scored:
    """Percentage of triplets that both rank alike unshifted, its interval, number of triplets."""
    # The other metric takes the place of a shift in r_rf.
    own, base = (table[table["view"] == FULL] for table in (own, base))
    views = [base, base.assign(view=view_name(0)), own.assign(view=view_name(1))]
    scores = summarize(pd.concat(views), _N_BOOT, seed).iloc[-1]
    value, low, high = _ends(scores, "rrf_1")
    return 100 - value, 100 - high, 100 - low, scores["n"]


def _warp_over_noise(table: pd.DataFrame, seed: int) -> Scored:
    """Median of d0 / d1, its interval, number of patches."""
    ratios = (table["d0"] / table["d1"]).to_numpy()
    codes = cluster_codes(list(table["sample"]), photograph)
    low = high = math.nan
    if codes.max() > 0:
        weights = chain.from_iterable(bootstrap_weights(codes, _N_BOOT, generator(seed, WARP)))
        low, high = interval(np.array([np.median(np.repeat(ratios, each)) for each in weights]))
    return float(np.median(ratios)), float(low), float(high), len(ratios)


def _ends(scores: pd.Series, column: str) -> tuple[float, float, float]:
    return scores[column], scores[f"{column}_low"], scores[f"{column}_high"]


def _wide(summary: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """One row per design: ``row, network, design, base``, and the quantities with their bounds."""
    table = summary.pivot(index="row", columns="quantity", values=_ENDS)
    table.columns = [name if end == "value" else f"{name}_{end}" for end, name in table.columns]
    names = [(row.name, row.title, row.design.title, row.is_base) for row in rows]
    named = pd.DataFrame(names, columns=["row", "network", "design", "base"])
    return named.join(table, on="row")


def _markdown(cells: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """The quantities of ``columns`` that there are, under their labels."""
    table = cells[["network", "design"]].assign(
        **{
            label: interval_cells(cells, name, _DIGITS.get(name, 1))
            for name, label in columns.items()
            if name in cells
        }
    )
    return to_markdown(table)


def _conditions(results: Results[BeyondSettings], tables: Tables) -> str:
    settings, summary = results.settings, tables["summary"]
    n = summary.loc[summary["quantity"] == "two_afc", "n"].iloc[0]
    return conditions(results.source, n, max_shift=settings.max_shift, seed=settings.seed)
