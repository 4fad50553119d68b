"""The page of an ablation: what was measured, what is published, and differences."""

from __future__ import annotations

from typing import Any

import pandas as pd

from robust_lpips.published.rows import PUBLISHED_QUANTITIES
from robust_lpips.studies.ablation.rows_task import STATES, UNTRAINED_REFERENCES
from robust_lpips.studies.ablation.settings import AblationSettings
from robust_lpips.studies.ablation.tables import AblationResults, measured
from robust_lpips.studies.base import (
    Tables,
    interval_cells,
    quantity_label,
    rank_flip_columns,
)
from robust_lpips.studies.base.training import in_one_line
from robust_lpips.studies.base.words import (
    ceilings_note,
    difference_rows,
    quantities_note,
    recipe_note,
)
from robust_lpips.tables import to_markdown

_PUBLISHED = {
    f"published_{name}": "2AFC" if name == "two_afc" else quantity_label(name)
    for name in PUBLISHED_QUANTITIES
}
_NOTES = {"row": "row", "published_note": "note"}


def page(results: AblationResults, tables: Tables) -> list[str]:
    """Scores of all states next to each other, the paper's numbers, and differences."""
    summary, source = tables["summary"], results.source
    several, distances = summary["seed"].nunique() > 1, next(iter(measured(results).values()))
    spread = "mean ± standard deviation over seeds" if several else "95 % interval"
    return [
        f"# Ablation: {results.settings.table}",
        f"Measured on {in_one_line(results)}. {source.judged_by} In brackets, or after ±: "
        f"{spread}.",
        f"{_training_note(results.settings)} {ceilings_note(distances)}",
        f"## Measured\n\n{quantities_note(source)}; MMAC: million multiply-accumulates per image.",
        to_markdown(_measured(summary)),
        *_published(summary),
        "## Differences\n\nPaired over the same triplets, in percentage points.",
        to_markdown(
            difference_rows(tables["differences"], ["row", "comparison"], ["two_afc", "rrf_1"])
        ),
    ]


def _training_note(settings: AblationSettings) -> str:
    how = recipe_note(settings.recipe)
    if settings.teacher is None:
        return f"Trained from random weights on judgments with the ranking loss ({how})."
    return (
        "Trained from random weights by distillation: the logarithms of the released VGG-16 "
        f"shift-tolerant metric's distances ({how})."
    )


def _measured(summary: pd.DataFrame) -> pd.DataFrame:
    """One line per row with its states next to each other; references below."""
    lines, quantities = [], ["two_afc", *rank_flip_columns(summary)]
    for name, of_row in summary.groupby("row", sort=False):
        line: dict[str, Any] = {"row": name}
        # A reference stands in a column of states to which it compares.
        like = STATES[0 if name in UNTRAINED_REFERENCES else -1].name
        states = of_row["state"].replace("reference", like)
        for state in STATES:
            part = of_row[states == state.name]
            line |= {f"{quantity_label(q)}, {state.name}": _cell(part, q) for q in quantities}
        last = of_row.iloc[-1]
        line["parameters (M)"] = _number(last["parameters"] * 1e-6, 2)
        line["MMAC"] = _number(last["macs"] * 1e-6, 0)
        line["training (s)"] = _number(last["train_seconds"], 0)
        line["measuring (s)"] = _number(last["eval_seconds"], 0)
        lines.append(line)
    return pd.DataFrame(lines)


def _cell(part: pd.DataFrame, quantity: str) -> str:
    if len(part) > 1:
        return f"{part[quantity].mean():.1f} ± {part[quantity].std():.1f}"
    return "".join(interval_cells(part, quantity))


def _number(value: float, digits: int) -> str:
    return "" if pd.isna(value) else f"{value:.{digits}f}"


def _published(summary: pd.DataFrame) -> list[str]:
    """What the paper reports of the rows; where it reports nothing, the notes on them alone."""
    rows = summary[summary["state"] != "reference"].drop_duplicates("row")
    if rows[list(_PUBLISHED)].notna().any(axis=None):
        names = {"row": "row"} | _PUBLISHED | _NOTES
        return [
            "## Published\n\nGhildyal and Liu, ECCV 2022: BAPPS validation set, trained on "
            "people's judgments. The last column tells our reading of a page that lost its marks, "
            "and where the released code differs.",
            to_markdown(
                rows[list(names)].rename(columns=names), dict.fromkeys(_PUBLISHED.values(), ".2f")
            ),
        ]
    noted = rows.loc[rows["published_note"] != "", list(_NOTES)]
    return [] if noted.empty else ["## Notes", to_markdown(noted.rename(columns=_NOTES))]
