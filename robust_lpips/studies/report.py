"""What an ablation run gave: the tidy summary, the differences, and a page that shows both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from robust_lpips.evaluation import (
    ceilings_table,
    flip_details,
    group_scores,
    paired_difference,
    read_distances,
    summarize,
)
from robust_lpips.plots import plot_ablation
from robust_lpips.studies.rows import PUBLISHED_QUANTITIES
from robust_lpips.studies.study import Study
from robust_lpips.studies.tasks import (
    ReferenceTask,
    RowTask,
    multiply_accumulates,
    parameters,
    references,
)
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

STATES = ("untrained", "trained")

_PUBLISHED_LABELS = {
    name: "2AFC" if name == "two_afc" else name.replace("rrf_", "r_rf ")
    for name in PUBLISHED_QUANTITIES
}

JUDGE_NOTES = {
    "sample": (
        "Nobody judged these patches: accuracy is agreement with the released VGG-16 metric, "
        "not with people. Rank-flip rates need no judge."
    ),
    "bapps": "Accuracy is 2AFC against people's judgments.",
}
ACCURACY_LABELS = {"sample": "agreement with the released VGG-16 metric", "bapps": "2AFC"}


def summary_table(study: Study, tasks: Sequence[RowTask]) -> pd.DataFrame:
    """A row for each row, seed and state, and for each reference; scores in percent.

    Columns: ``table, row, dataset, image_size, max_shift, train_triplets, val_triplets, seed``,
    then ``two_afc`` and ``rrf_n`` with ``_low`` and ``_high``, then ``state`` (untrained, trained,
    or reference), what the row is, what it costs, and what is published of it.
    """
    rows = [
        _identity(study, task.row.name, task.seed)
        | _scores(task.distances_path(state))
        | {"state": state}
        | _cost(task, state)
        | _configuration(task)
        | _published(task)
        for task in tasks
        for state in STATES
    ]
    for name in references(study):
        scores = _scores(ReferenceTask(study, name).path)
        rows.append(_identity(study, name, None) | scores | {"state": "reference"})
    table = pd.DataFrame(rows)
    table["seed"] = table["seed"].astype("Int64")
    return table


def difference_table(tasks: Sequence[RowTask]) -> pd.DataFrame:
    """Paired differences, in percentage points, with 95 % intervals.

    Each row trained against itself untrained, and each row against each of its baselines in both
    states: ``row, seed, comparison, quantity, a, b, difference, low, high``.
    """
    by_name = {(task.row.name, task.seed): task for task in tasks}
    rows = []
    for task in tasks:
        a, b = (read_distances(task.distances_path(state)) for state in reversed(STATES))
        rows.append(_labelled(paired_difference(a, b), task, "trained - untrained"))
        baselines = [by_name.get((name, task.seed)) for name in task.row.baselines]
        for baseline, state in product(filter(None, baselines), STATES):
            a, b = (read_distances(t.distances_path(state)) for t in (task, baseline))
            comparison = f"{state}: row - {baseline.row.name}"
            rows.append(_labelled(paired_difference(a, b), task, comparison))
    return pd.concat(rows, ignore_index=True)


def write_report(study: Study, tasks: Sequence[RowTask], command: str) -> str:
    """Write every table and the plot of a finished run; return the page as Markdown."""
    summary = summary_table(study, tasks)
    differences = difference_table(tasks)
    write_csv(summary, study.output / "summary.csv")
    write_csv(differences, study.output / "differences.csv")
    for name, score in (("flip_details", flip_details), ("groups", group_scores)):
        write_csv(_of_each(tasks, score), study.output / f"{name}.csv")
    plot_ablation(
        summary.assign(two_afc_label=f"{ACCURACY_LABELS[study.dataset_name]} (%)"),
        study.output / "summary.png",
        f"Ablation: {study.table}\n{_conditions(study, summary)}",
    )
    page = _page(study, summary, differences, tasks, command)
    write_text(study.output / "summary.md", page)
    return page


def _identity(study: Study, row: str, seed: int | None) -> dict[str, Any]:
    return {
        "table": study.table,
        "row": row,
        "dataset": study.dataset_name,
        "image_size": study.image_size,
        "max_shift": study.max_shift,
        "train_triplets": study.count("train") if seed is not None else None,
        "val_triplets": study.count("val"),
        "seed": seed,
    }


def _scores(path: Path) -> dict[str, float]:
    mean = summarize(read_distances(path)).iloc[-1]
    return mean.drop(["subset", "n"]).to_dict()


def _cost(task: RowTask, state: str) -> dict[str, float]:
    record = task.record
    return {
        "parameters": parameters(task.row.config),
        "macs": multiply_accumulates(task.row.config, task.study.image_size),
        "train_seconds": record.get("training", {}).get("seconds") if state == "trained" else None,
        "eval_seconds": record[state]["seconds"],
    }


def _configuration(task: RowTask) -> dict[str, Any]:
    config = task.row.config
    return {
        "arch": config.arch,
        "anti_alias": config.anti_alias,
        "reflection_pad": config.reflection_pad,
        "conv1_stride": config.stride1,
        "blur_placement": config.blur_placement,
        "full_conv": config.full_conv,
        "skip": config.skip,
    }


def _published(task: RowTask) -> dict[str, Any]:
    published = task.row.published
    numbers = {f"published_{name}": published.get(name, math.nan) for name in PUBLISHED_QUANTITIES}
    return numbers | {"published_note": task.row.note}


def _labelled(differences: pd.DataFrame, task: RowTask, comparison: str) -> pd.DataFrame:
    differences.insert(0, "row", task.row.name)
    differences.insert(1, "seed", task.seed)
    differences.insert(2, "comparison", comparison)
    return differences


def _of_each(
    tasks: Sequence[RowTask], score: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    parts = []
    for task in tasks:
        for state in STATES:
            part = score(read_distances(task.distances_path(state)))
            part.insert(0, "row", task.row.name)
            part.insert(1, "seed", task.seed)
            part.insert(2, "state", state)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _conditions(study: Study, summary: pd.DataFrame) -> str:
    trained = summary[summary["state"] == "trained"].iloc[0]
    seeds = sorted(summary["seed"].dropna().unique())
    return (
        f"{study.dataset_name} {study.image_size}x{study.image_size}, "
        f"{trained['train_triplets']:.0f} training and {trained['val_triplets']} validation "
        f"triplets, largest shift {study.max_shift} px, "
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    )


def _page(
    study: Study,
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    tasks: Sequence[RowTask],
    command: str,
) -> str:
    accuracy = ACCURACY_LABELS[study.dataset_name]
    several = summary["seed"].nunique() > 1
    spread = "mean ± standard deviation over seeds" if several else "95 % interval"
    ceilings = ceilings_table(read_distances(tasks[0].distances_path(STATES[0]))).iloc[-1]
    parts = [
        f"# Ablation: {study.table}",
        f"Measured on {_conditions(study, summary)}. {JUDGE_NOTES[study.dataset_name]} "
        f"Bracketed or after ±: {spread}. Made by `{command}` on {_machines(tasks)}.",
        f"{_training_note(study)} Accuracy that the judgments allow: an oracle "
        f"{ceilings['oracle']:.2f} %, one more person {ceilings['one_more_person']:.2f} %.",
        f"## Measured\n\naccuracy: {accuracy}, in percent; r_rf n: share of triplets whose ranking "
        "a shift of n pixels flips, in percent; MMAC: million multiply-accumulates an image.",
        to_markdown(_measured(summary, references(study))),
        *_published_section(summary),
        "## Differences\n\nPaired over the same triplets, in percentage points.",
        to_markdown(_difference_rows(differences)),
    ]
    return "\n\n".join(parts) + "\n"


def _training_note(study: Study) -> str:
    recipe = study.preset.recipe
    how = (
        f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}, batch {recipe.batch_size}, "
        f"Adam at {recipe.learning_rate:g}"
    )
    if recipe.target == "teacher":
        return (
            "Trained from random weights by distillation: the logarithms of the released VGG-16 "
            f"shift-tolerant metric's distances ({how})."
        )
    return f"Trained from random weights on judgments with the ranking loss ({how})."


def _machines(tasks: Sequence[RowTask]) -> str:
    """Where the rows were computed."""
    found = [stage["machine"] for task in tasks for stage in task.record.values()]
    return "; ".join(dict.fromkeys(found))


def _measured(summary: pd.DataFrame, beside: Mapping[str, str]) -> pd.DataFrame:
    """One line a row: both states beside each other; below, references in the state they name."""
    shifts = [c for c in summary if c.startswith("rrf_") and not c.endswith(("_low", "_high"))]
    lines = []
    for name, of_row in summary.groupby("row", sort=False):
        line: dict[str, Any] = {"row": name}
        for state in STATES:
            part = of_row[of_row["state"] == state]
            if beside.get(name) == state:
                part = of_row
            line[f"accuracy, {state}"] = _cell(part, "two_afc")
            for shift in shifts:
                label = f"r_rf {shift.removeprefix('rrf_')}, {state}"
                line[label] = _cell(part, shift)
        first = of_row.iloc[-1]
        line["parameters (M)"] = _number(first["parameters"], 1e-6, 2)
        line["MMAC"] = _number(first["macs"], 1e-6, 0)
        line["training (s)"] = _number(first["train_seconds"], 1, 0)
        line["measuring (s)"] = _number(first["eval_seconds"], 1, 0)
        lines.append(line)
    return pd.DataFrame(lines)


def _cell(part: pd.DataFrame, quantity: str) -> str:
    if part.empty:
        return ""
    values = part[quantity]
    if len(values) > 1:
        return f"{values.mean():.1f} ± {values.std():.1f}"
    row = part.iloc[0]
    return with_interval(row[quantity], row[f"{quantity}_low"], row[f"{quantity}_high"])


def _number(value: float, scale: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value * scale:.{digits}f}"


def _published_section(summary: pd.DataFrame) -> list[str]:
    """What the paper reports of the rows; where it reports nothing, the notes on them alone."""
    rows = summary[summary["state"] == "trained"].drop_duplicates("row")
    notes = {"row": "row", "published_note": "note"}
    numbers = {f"published_{name}": label for name, label in _PUBLISHED_LABELS.items()}
    if rows[list(numbers)].notna().any(axis=None):
        columns = {"row": "row"} | numbers | notes
        return [
            "## Published\n\nGhildyal and Liu, ECCV 2022: BAPPS validation set, trained on "
            "people's judgments. The last column says what is our reading of a page that lost its "
            "marks, and what the released code does otherwise.",
            to_markdown(
                rows[list(columns)].rename(columns=columns), dict.fromkeys(numbers.values(), ".2f")
            ),
        ]
    noted = rows[rows["published_note"] != ""]
    if noted.empty:
        return []
    return ["## Notes", to_markdown(noted[list(notes)].rename(columns=notes))]


def _difference_rows(differences: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(_difference_lines(differences))


def _difference_lines(differences: pd.DataFrame) -> Iterator[dict[str, str]]:
    labels = {"two_afc": "accuracy"}
    shown = differences[differences["quantity"].isin(["two_afc", "rrf_1"])]
    for (row, comparison), part in shown.groupby(["row", "comparison"], sort=False):
        line = {"row": row, "comparison": comparison}
        for quantity, values in part.groupby("quantity", sort=False):
            label = labels.get(quantity, quantity.replace("rrf_", "r_rf "))
            if len(values) > 1:
                text = f"{values['difference'].mean():+.1f} ± {values['difference'].std():.1f}"
            else:
                first = values.iloc[0]
                text = f"{first['difference']:+.1f} [{first['low']:+.1f}, {first['high']:+.1f}]"
            line[label] = text
        yield line
