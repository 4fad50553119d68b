"""Registration: how right its estimates are, what people say, what it does to gradients, and where
it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.data.alignment import RADIUS, WIDE_RADIUS
from robust_lpips.data.user_study import read_responses
from robust_lpips.evaluation.noticed import halves, noticed_shares
from robust_lpips.evaluation.translations import exact
from robust_lpips.studies.base import Record, Results, Source, Study, Tables, filled
from robust_lpips.studies.registration.estimates import counted
from robust_lpips.studies.registration.figures import PHOTOGRAPHIC, human_figure
from robust_lpips.studies.registration.human import HUMAN, scored
from robust_lpips.studies.registration.parts import MODULES, PartTask, tasks
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
        noticed_shares(responses, settings.seed)
        next(halves(responses, 1))
    return Source(f"photographs {settings.split}", _PEOPLE)


def tables(results: Results[RegistrationSettings]) -> dict[str, pd.DataFrame]:
    """Tables of the parts, see the ``measure`` of each, and those of :func:`~.human.scored`."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for task in results.of(PartTask):
        for name, table in task.tables(results.output).items():
            if task.part == "human":
                table.insert(0, "metric", task.metric)
            parts.setdefault(name, []).append(table)
    found = {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
    if "human_curves" in found:
        found |= scored(results.settings, found["human_curves"])
    return found


def page(results: Results[RegistrationSettings], tables: Tables) -> Iterator[str]:
    """One section per part that is measured."""
    given = {"settings": results.settings, "metric": results.plan.metrics[0]}
    given |= {"radius": RADIUS, "wide_radius": WIDE_RADIUS}
    measured = {task.part for task in results.of(PartTask)}
    yield from filled("registration")
    for part in (part for part in MODULES if part in measured):
        values = MODULES[part].page_values(results.settings, tables)
        yield from filled(f"registration-{part}", **given, **values)


def figures(results: Results[RegistrationSettings], tables: Tables) -> Mapping[str, Figure]:
    """``human``, ``descent`` and ``failures``, of the parts that are measured."""
    settings, found = results.settings, {}
    if "human_curves" in tables:
        found["human"] = human_figure(settings, tables)
    for task in results.of(PartTask):
        if draw := PHOTOGRAPHIC.get(task.part):
            images = task.images(results.output)
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
    for test in ("in place", "shifted") if "estimates" in tables else ():
        right = exact(counted(tables["estimates"], test))
        scores, kind = {"exact": (100 * right.mean(), math.nan, math.nan)}, {"estimates": test}
        yield Record("estimate_translation", len(right), scores, settings=kind, judged_by=_TRUTH)


STUDY = Study(
    "registration",
    *(RegistrationSettings, tables, page, figures, records),
    source=source,
    metrics=("alexnet-shift-tolerant", "vgg16-shift-tolerant"),
    tasks=tasks,
    page_name="summary",
    photographs=tuple(PHOTOGRAPHIC),
)
