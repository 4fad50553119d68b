"""Ablation tables of the shift-tolerant LPIPS paper: every row untrained and trained, measured.

Each row is a configuration of Ghildyal and Liu, ECCV 2022. It is measured in several states
(:data:`robust_lpips.studies.ablation.task.STATES`), next to the published numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.backbones.cost import multiply_accumulates, parameters
from robust_lpips.evaluation import (
    ceilings_table,
    flip_details,
    group_scores,
    paired_difference,
    summarize,
)
from robust_lpips.published.rows import PUBLISHED_QUANTITIES
from robust_lpips.studies import base
from robust_lpips.studies.ablation.figure import ablation_figure
from robust_lpips.studies.ablation.task import (
    REFERENCES,
    STATES,
    UNTRAINED_REFERENCES,
    AblationSettings,
    AlexNetSettings,
    BackbonesSettings,
    BlurPlacementSettings,
    RowTask,
    SkipSettings,
    prepare,
    tasks,
)
from robust_lpips.studies.base.training import in_one_line, state_scores, validation_parts
from robust_lpips.studies.base.words import difference_rows
from robust_lpips.tables import to_markdown

AblationResults = base.Results[AblationSettings]

_NOTES = {"row": "row", "published_note": "note"}


@functools.lru_cache(maxsize=1)
def measured(results: AblationResults) -> dict[tuple[str, int, str], pd.DataFrame]:
    """The distances by name of row, seed and name of state."""
    return {
        (task.row_name, task.seed, state.name): task.distances(state.name, results.output)
        for task in results.of(RowTask)
        for state in STATES
    }


def tables(results: AblationResults) -> dict[str, pd.DataFrame]:
    """Tables of a finished run, all scores in percent.

    ``summary``: one row per row, seed and state, and one per reference. Columns: ``table, row,
    dataset, image_size, max_shift, train_triplets, val_triplets, seed``; ``two_afc`` and ``rrf_n``
    with ``_low`` and ``_high``, 95 % intervals; ``state``, or ``reference``; the cost; the
    configuration; and what is published.

    ``differences``: paired, in percentage points, of each trained state from the one before its
    training, and of each row from its baselines in every state: ``row, seed, comparison,
    quantity, a, b, difference, low, high``.

    ``flip_details`` and ``groups``: tables of :func:`robust_lpips.evaluation.flip_details` and
    :func:`robust_lpips.evaluation.group_scores`, with ``row, seed, state``.
    """
    return {
        "summary": _summary(results),
        "differences": pd.concat(_differences(results), ignore_index=True),
        "flip_details": _of_each_state(results, flip_details),
        "groups": _of_each_state(results, group_scores),
    }


def page(results: AblationResults, tables: base.Tables) -> list[str]:
    """Scores of all states next to each other, the paper's numbers, and differences."""
    summary, settings = tables["summary"], results.settings
    several, keys = summary["seed"].nunique() > 1, ["row", "comparison"]
    differences = difference_rows(tables["differences"], keys, ["two_afc", "rrf_1"])
    return base.filled(
        "ablation",
        settings=settings,
        conditions=in_one_line(results),
        source=results.source,
        spread="mean ± standard deviation over seeds" if several else "95 % interval",
        judged=None if settings.teacher else settings.recipe,
        distilled=settings.recipe if settings.teacher else None,
        ceilings=ceilings_table(next(iter(measured(results).values()))).iloc[-1],
        measured=to_markdown(_cells(summary)),
        differences=to_markdown(differences),
        **_published_blocks(summary),
    )


def figures(results: AblationResults, tables: base.Tables) -> dict[str, Figure]:
    """``summary``: accuracy against r_rf of all rows."""
    title = f"Ablation: {results.settings.table}\n{in_one_line(results)}"
    return {"summary": ablation_figure(tables["summary"], title, results.source.accuracy_label)}


def records(results: AblationResults, tables: base.Tables) -> Iterator[base.Record]:
    """Scores of every row, seed and state, and of the references."""
    entries = {(task.row_name, task.seed): results.record(task) for task in results.of(RowTask)}
    for row in tables["summary"].to_dict("records"):
        name, state, seed = row["row"], row["state"], row["seed"]
        if state == "reference":
            title, weights = name, results.weights[name]
        else:
            title = f"{name}, {state}, seed {seed}"
            weights = entries[name, seed][state]["weights"]
        yield base.Record(title, row["val_triplets"], state_scores(row), weights)


def _summary(results: AblationResults) -> pd.DataFrame:
    settings, found, rows = results.settings, measured(results), []
    for task in results.of(RowTask):
        record, config, published = results.record(task), task.config, task.row.published
        trained_on = [entry["triplets"] for entry in record.values() if "triplets" in entry]
        configuration = asdict(config) | {"conv1_stride": config.stride1}
        del configuration["blur_size"]
        rows += [
            {"row": task.row_name, "train_triplets": next(iter(trained_on), None)}
            | {"seed": task.seed, **_scores(found[task.row_name, task.seed, state.name])}
            | {
                "state": state.name,
                "parameters": parameters(config),
                "macs": multiply_accumulates(config, settings.image_size),
                "train_seconds": record.get(state.training, {}).get("seconds"),
                "eval_seconds": record[state.name]["seconds"],
                **configuration,
            }
            | {f"published_{q}": published.get(q, math.nan) for q in PUBLISHED_QUANTITIES}
            | {"published_note": task.row.note}
            for state in STATES
        ]
    rows += [
        {"row": name, "state": "reference", **_scores(table)}
        for name, table in results.distances().items()
    ]
    table = pd.DataFrame(rows).astype({"seed": "Int64"})
    first = {
        "table": settings.table,
        "row": table.pop("row"),
        "dataset": results.source.name,
        "image_size": settings.image_size,
        "max_shift": settings.max_shift,
        "train_triplets": table.pop("train_triplets"),
        "val_triplets": len(results.source.dataset),
    }
    return pd.DataFrame(first | dict(table))


def _scores(distances: pd.DataFrame) -> dict[str, float]:
    return summarize(distances).iloc[-1].drop(["subset", "n"]).to_dict()


def _differences(results: AblationResults) -> Iterator[pd.DataFrame]:
    found = measured(results)
    for task in results.of(RowTask):
        name, seed = task.row_name, task.seed
        pairs = [
            (f"{state.name} - {state.before.name}", state.name, name, state.before.name)
            for state in STATES
            if state.before
        ]
        pairs += [
            (f"{state.name}: row - {baseline}", state.name, baseline, state.name)
            for baseline in task.row.baselines
            for state in STATES
            if (baseline, seed, state.name) in found
        ]
        for comparison, state, other, before in pairs:
            part = paired_difference(found[name, seed, state], found[other, seed, before])
            labels = {"row": name, "seed": seed, "comparison": comparison}
            yield pd.DataFrame(labels | dict(part))


def _of_each_state(
    results: AblationResults, score: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"row": row, "seed": seed, "state": state} | dict(score(table)))
        for (row, seed, state), table in measured(results).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _cells(summary: pd.DataFrame) -> pd.DataFrame:
    """One line per row with its states next to each other; references below."""
    lines, quantities = [], ["two_afc", *base.rank_flip_columns(summary)]
    for name, of_row in summary.groupby("row", sort=False):
        # A reference stands in a column of states to which it compares.
        like = STATES[0 if name in UNTRAINED_REFERENCES else -1].name
        states, last = of_row["state"].replace("reference", like), of_row.iloc[-1]
        scores = {
            f"{base.quantity_label(q)}, {state.name}": _cell(of_row[states == state.name], q)
            for state in STATES
            for q in quantities
        }
        costs = {
            "parameters (M)": _number(last["parameters"] * 1e-6, 2),
            "MMAC": _number(last["macs"] * 1e-6, 0),
            "training (s)": _number(last["train_seconds"], 0),
            "measuring (s)": _number(last["eval_seconds"], 0),
        }
        lines.append({"row": name} | scores | costs)
    return pd.DataFrame(lines)


def _cell(part: pd.DataFrame, quantity: str) -> str:
    if len(part) > 1:
        return f"{part[quantity].mean():.1f} ± {part[quantity].std():.1f}"
    return "".join(base.interval_cells(part, quantity))


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _published_blocks(summary: pd.DataFrame) -> dict[str, str | None]:
    """The paper's numbers of the rows; where there are none, the notes on them alone."""
    rows = summary[summary["state"] != "reference"].drop_duplicates("row")
    numbers = {f"published_{q}": base.quantity_label(q) for q in PUBLISHED_QUANTITIES}
    numbers["published_two_afc"] = "2AFC"
    if rows[list(numbers)].notna().any(axis=None):
        names = {"row": "row"} | numbers | _NOTES
        table = rows[list(names)].rename(columns=names)
        shown = to_markdown(table, dict.fromkeys(numbers.values(), ".2f"))
        return {"paper": "Ghildyal and Liu, ECCV 2022", "published": shown, "notes": None}
    noted = rows.loc[rows["published_note"] != "", list(_NOTES)].rename(columns=_NOTES)
    notes = None if noted.empty else to_markdown(noted)
    return {"paper": None, "published": None, "notes": notes}


def _study(settings: type[AblationSettings]) -> base.Study:
    name = f"ablation-{settings.table}"
    return base.Study(
        name,
        *(settings, tables, page, figures, records),
        metrics=REFERENCES,
        parts=validation_parts,
        tasks=tasks,
        prepare=prepare,
        folder=lambda chosen: chosen.folder(f"{name}-{chosen.preset}"),
        page_name="summary",
        parallel=True,
    )


STUDIES = {
    settings.table: _study(settings)
    for settings in (AlexNetSettings, BlurPlacementSettings, BackbonesSettings, SkipSettings)
}
