"""Registration: how right its estimates are, what people say, what it does to gradients, and where
it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.data.user_study import read_responses
from robust_lpips.studies.base import Record, Results, Source, Study, Tables
from robust_lpips.studies.registration.figure import PHOTOGRAPHIC, human_figure
from robust_lpips.studies.registration.human import HUMAN
from robust_lpips.studies.registration.parts import PartTask, tasks
from robust_lpips.studies.registration.scores import (
    counted,
    exact,
    halves,
    human_scores,
    people_table,
    scaled,
    split_half,
)
from robust_lpips.studies.registration.sections import page
from robust_lpips.studies.registration.settings import RegistrationSettings

_PEOPLE = "Scores are against people's answers to shifted images (Ghildyal and Liu, ECCV 2022)."
_CALIBRATED = "The penalty is calibrated from these answers: agreement with them predicts nothing."
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


def figures(results: Results[RegistrationSettings], tables: Tables) -> Mapping[str, Figure]:
    """``human``, ``descent`` and ``failures``, of the parts that are measured."""
    settings, found = results.settings, {}
    if "human_curves" in tables:
        curves = scaled(tables["human_curves"], tables["human_scores"])
        found["human"] = human_figure(settings, tables["human_people"], curves)
    for task in results.of(PartTask):
        if task.part in PHOTOGRAPHIC:
            images = task.images(results.output)
            draw = PHOTOGRAPHIC[task.part]
            found[task.part] = draw(settings, task.metric, tables[task.part], images)
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
            people = f"{_PEOPLE} {_CALIBRATED}" if row["variant"] == HUMAN else _PEOPLE
            yield Record(name, results.settings.n, scores, weights, judged_by=people)
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
    photographs=tuple(PHOTOGRAPHIC),
)
