"""Tables of an ablation: scores of every state, and differences between states and rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from robust_lpips.backbones.cost import multiply_accumulates, parameters
from robust_lpips.evaluation import flip_details, group_scores, paired_difference, summarize
from robust_lpips.published.rows import PUBLISHED_QUANTITIES
from robust_lpips.studies.ablation.rows_task import STATES, RowTask
from robust_lpips.studies.ablation.settings import AblationSettings
from robust_lpips.studies.base import Record, Results, Tables
from robust_lpips.studies.base.training import state_scores

AblationResults = Results[AblationSettings]
# Distances by name of row, seed and name of state.
Measured = dict[tuple[str, int, str], pd.DataFrame]


@functools.lru_cache(maxsize=1)
def measured(results: AblationResults) -> Measured:
    """The distances of every row, seed and state."""
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
        "flip_details": _of_each(results, flip_details),
        "groups": _of_each(results, group_scores),
    }


def records(results: AblationResults, tables: Tables) -> Iterator[Record]:
    """Scores of every row, seed and state, and of the references."""
    entries = {(task.row_name, task.seed): results.record(task) for task in results.of(RowTask)}
    for row in tables["summary"].to_dict("records"):
        name, state, seed = row["row"], row["state"], row["seed"]
        scores = state_scores(row)
        if state == "reference":
            yield Record(name, row["val_triplets"], scores, results.weights[name])
        else:
            weights = entries[name, seed][state]["weights"]
            title = f"{name}, {state}, seed {seed}"
            yield Record(title, row["val_triplets"], scores, weights)


def _summary(results: AblationResults) -> pd.DataFrame:
    rows = [
        _identity(results, task.row_name, task)
        | _scores(measured(results)[task.row_name, task.seed, state.name])
        | {"state": state.name}
        | _cost(results, task, state.name, state.training)
        | _configuration(task)
        | _published(task)
        for task in results.of(RowTask)
        for state in STATES
    ]
    rows += [
        _identity(results, name, None) | _scores(table) | {"state": "reference"}
        for name, table in results.distances().items()
    ]
    table = pd.DataFrame(rows)
    table["seed"] = table["seed"].astype("Int64")
    return table


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
        for comparison, state, other, other_state in pairs:
            part = paired_difference(found[name, seed, state], found[other, seed, other_state])
            yield _labelled(part, row=name, seed=seed, comparison=comparison)


def _of_each(
    results: AblationResults, score: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    parts = [
        _labelled(score(table), row=row, seed=seed, state=state)
        for (row, seed, state), table in measured(results).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _labelled(table: pd.DataFrame, **labels: Any) -> pd.DataFrame:
    """``table`` with labels as its first columns."""
    for place, (name, value) in enumerate(labels.items()):
        table.insert(place, name, value)
    return table


def _identity(results: AblationResults, row: str, task: RowTask | None) -> dict[str, Any]:
    settings = results.settings
    entries = results.record(task).values() if task else ()
    return {
        "table": settings.table,
        "row": row,
        "dataset": results.source.name,
        "image_size": settings.image_size,
        "max_shift": settings.max_shift,
        "train_triplets": next((e["triplets"] for e in entries if "triplets" in e), None),
        "val_triplets": len(results.source.dataset),
        "seed": task.seed if task else None,
    }


def _scores(distances: pd.DataFrame) -> dict[str, float]:
    return summarize(distances).iloc[-1].drop(["subset", "n"]).to_dict()


def _cost(
    results: AblationResults, task: RowTask, state: str, training: str | None
) -> dict[str, float | None]:
    record = results.record(task)
    return {
        "parameters": parameters(task.config),
        "macs": multiply_accumulates(task.config, task.settings.image_size),
        "train_seconds": record.get(training, {}).get("seconds"),
        "eval_seconds": record[state]["seconds"],
    }


def _configuration(task: RowTask) -> dict[str, Any]:
    names = (
        "arch",
        "anti_alias",
        "reflection_pad",
        "stride1",
        "blur_placement",
        "full_conv",
        "skip",
    )
    values = {name: getattr(task.config, name) for name in names}
    return {name.replace("stride1", "conv1_stride"): value for name, value in values.items()}


def _published(task: RowTask) -> dict[str, Any]:
    published = task.row.published
    numbers = {f"published_{name}": published.get(name, math.nan) for name in PUBLISHED_QUANTITIES}
    return numbers | {"published_note": task.row.note}
