"""Registration: how right its estimates are, what people say, what it does to gradients, and where
it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.data.user_study import read_responses
from robust_lpips.studies.base import Record, Results, Source, Study, Tables
from robust_lpips.studies.registration.descent import LEARNING_RATE, OFFSET
from robust_lpips.studies.registration.figure import (
    descent_figure,
    failures_figure,
    human_figure,
)
from robust_lpips.studies.registration.human import FREE, UNREGISTERED
from robust_lpips.studies.registration.page import (
    descent_section,
    estimates_section,
    failures_section,
    human_section,
    who,
)
from robust_lpips.studies.registration.scores import (
    counted,
    exact,
    halves,
    human_scores,
    people_table,
    scaled,
    split_half,
)
from robust_lpips.studies.registration.settings import RegistrationSettings
from robust_lpips.studies.registration.tasks import PartTask, tasks

_PEOPLE = "Scores are against people's answers to shifted images (Ghildyal and Liu, ECCV 2022)."
_TRUTH = "The true shift is known: windows are cut from photographs."


def source(settings: RegistrationSettings) -> Source:
    """The photographs.

    Raises:
        ValueError: if the file of answers cannot be used.
    """
    if settings.responses is not None:
        responses = read_responses(settings.responses)
        people_table(responses, settings.seed)
        next(halves(responses, 1))
    return Source(f"photographs {settings.split}", _PEOPLE)


def tables(results: Results[RegistrationSettings]) -> dict[str, pd.DataFrame]:
    """Tables of the parts, see the ``measure`` of each, and scores of distances.

    With the part ``human``: ``human_people``, ``human_curves``, ``human_scores``, and with a file
    of answers ``human_halves``.
    """
    settings, found = results.settings, {}
    for task in results.of(PartTask):
        for name, table in task.tables(results.output).items():
            if task.part == "human":
                table.insert(0, "metric", task.metric)
            found.setdefault(name, []).append(table)
    found = {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}
    if "human_curves" in found:
        responses = None if settings.responses is None else read_responses(settings.responses)
        people, curves = people_table(responses, settings.seed), found["human_curves"]
        found["human_people"] = people
        found["human_scores"] = human_scores(curves, people["noticed"].to_numpy())
        if responses is not None:
            halved = split_half(responses, curves, settings.splits, settings.seed)
            found["human_halves"] = halved
    return found


def page(results: Results[RegistrationSettings], tables: Tables) -> Iterator[str]:
    """One section per part."""
    settings = results.settings
    yield "# Registration: does alignment do what it says?"
    yield (
        "Measured here; nothing is taken from papers but people's answers (Ghildyal and Liu, "
        "ECCV 2022)."
    )
    if "estimates" in tables:
        yield from estimates_section(settings, tables)
    if "human_curves" in tables:
        yield from human_section(settings, tables)
    if "descent" in tables:
        yield from descent_section(settings, tables, results.plan.metrics[0])
    if "failures" in tables:
        yield from failures_section(settings, tables, results.plan.metrics[0])


def figures(results: Results[RegistrationSettings], tables: Tables) -> Mapping[str, Figure]:
    """``human``, ``descent`` and ``failures``, of the parts that are measured."""
    settings, found = results.settings, {}
    images = {
        task.part: task.images(results.output)
        for task in results.of(PartTask)
        if task.part in ("descent", "failures")
    }
    if "human_curves" in tables:
        people = tables["human_people"]
        found["human"] = human_figure(
            people,
            scaled(tables["human_curves"], tables["human_scores"]),
            f"Distances of shifted images, and who notices the shift\n{who(settings, people)}\n"
            f"metrics: {settings.n} {settings.note}; times the factor that fits people best, "
            f"{FREE} times that of {UNREGISTERED}",
        )
    if "descent" in images:
        found["descent"] = descent_figure(
            tables["descent"],
            images["descent"],
            f"Descent to a target {OFFSET} px away\n{results.plan.metrics[0]}, Adam at "
            f"{LEARNING_RATE:g}, {settings.examples} {settings.note}\n"
            "images: the first windows; sought: the target, unshifted; then the start and the ends",
        )
    if "failures" in images:
        table = tables["failures"]
        found["failures"] = failures_figure(
            table[table["pair"] == 0],
            images["failures"]["pairs"],
            "What alignment does to pairs that are hard for it\n"
            f"the first pair of each case; {results.plan.metrics[0]}: distance unregistered → "
            f"registered, and registered with penalty human\n{settings.note}",
        )
    return found


def records(results: Results[RegistrationSettings], tables: Tables) -> Iterator[Record]:
    """Agreement with people of each metric and variant, and percentage of exact estimates."""
    keys = {task.metric: results.record(task)["results"]["key"] for task in results.of(PartTask)}
    if "human_scores" in tables:
        for row in tables["human_scores"].to_dict("records"):
            names = ("spearman", "mse", "mse_monotone")
            scores = {name: (row[name], math.nan, math.nan) for name in names}
            weights = keys[row["metric"]]["metric"]["weights"]
            name = f"{row['metric']}, {row['variant']}"
            yield Record(name, results.settings.n, scores, weights)
    if "estimates" in tables:
        for test in ("in place", "shifted"):
            right = exact(counted(tables["estimates"], test))
            scores = {"exact": (100 * right.mean(), math.nan, math.nan)}
            kind = {"estimates": test}
            yield Record(
                "estimate_translation", len(right), scores, settings=kind, judged_by=_TRUTH
            )


STUDY = Study(
    name="registration",
    settings=RegistrationSettings,
    source=source,
    metrics=("alexnet-shift-tolerant", "vgg16-shift-tolerant"),
    tasks=tasks,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    page_name="summary",
    photographs=("descent", "failures"),
)
