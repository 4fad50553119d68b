"""Small shifts: who still says "the same", and at what distance?

People saw an image next to itself, shifted by 0 to 9 pixels, and said whether the two are the same
(Ghildyal and Liu, ECCV 2022, section 3). Metrics measure photographs at the same shifts. Their
images are not the people's, so the two curves are compared by shape alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data import ShiftedPhotographs, read_responses
from robust_lpips.evaluation.people import PEOPLE_COLUMNS, agreement, metric_curves, people
from robust_lpips.published import published_answers
from robust_lpips.studies import base
from robust_lpips.tables import to_markdown

_RELATIVE = "relative_distance"
_JUDGED_BY = {
    "measured": 'People: the answers given, each of which is "the same" or "one appears shifted".',
    "published": 'People: the published shares of "the same" (Ghildyal and Liu, ECCV 2022).',
}


@dataclass(frozen=True)
class UserStudySettings(base.Settings):
    """Settings of the study of small shifts."""

    # Not claimed: distances depend on the shifts of the answers alone, which are in their keys.
    responses: Path | None = base.option(
        None, "file with people's answers (JSON; default: the published table)", claimed=False
    )
    # Pairs are numbered with six digits.
    n: int = base.option(64, "crops of photographs, shown at every shift", least=1, most=10**5)
    image_size: int = base.option(64, "side of the compared windows in pixels", least=1)
    seed: int = base.option(0, "seed of crops, of random weights and of the intervals", least=0)

    @property
    def answers(self) -> str:
        """Source of people's answers: ``"measured"`` where they are given, or ``"published"``."""
        return "published" if self.responses is None else "measured"

    def source(self) -> base.Source:
        """Windows of photographs at the shifts that people saw, which must begin at 0."""
        measured = self.responses is not None
        answers = read_responses(self.responses) if measured else published_answers()
        shifts = sorted(answers["shift"].unique().tolist())
        if shifts[0] != 0 or len(shifts) < 2:
            raise ValueError(f"responses must be about shift 0 and larger ones; got {shifts}")
        values = {shift: float(shift) for shift in shifts}
        crops = {"image_size": self.image_size, "n": self.n, "seed": self.seed}
        dataset = ShiftedPhotographs(values, **crops, label="score")
        name, size = "shifted photographs", f"{self.image_size}x{self.image_size} px"
        return base.Source(name, _JUDGED_BY[self.answers], "", "photograph", size, dataset)


def tables(results: base.Results[UserStudySettings]) -> dict[str, pd.DataFrame]:
    """People's answers, distances of metrics, and how the two agree.

    ``user_study`` has ``source``, ``"measured"`` or ``"published"``, and the columns of
    :func:`~robust_lpips.evaluation.people.people`, of which published answers lack stimuli and
    intervals; ``curves`` and ``agreement`` are tables of the functions ``metric_curves`` and
    ``agreement`` of that module.
    """
    settings, parts = results.settings, [published_answers().assign(source="published")]
    if settings.responses is not None:
        counted = people(read_responses(settings.responses), seed=settings.seed)
        parts.insert(0, counted.assign(source="measured"))
    columns = ["source", *PEOPLE_COLUMNS]
    answers = pd.concat([part.reindex(columns=columns) for part in parts], ignore_index=True)
    answers = answers.astype({"stimuli": "Int64"})
    curves = metric_curves(results.distances(), seed=settings.seed)
    scores = agreement(curves, answers[answers["source"] == settings.answers])
    return {"user_study": answers, "curves": curves, "agreement": scores}


def page(results: base.Results[UserStudySettings], tables: base.Tables) -> list[str]:
    """People's answers, measured and published, and curves of metrics as text."""
    settings, answers = results.settings, tables["user_study"]
    measured = answers[answers["source"] == "measured"]
    curves = base.pivot_in_order(_relative(settings, tables), "metric", "shift", _RELATIVE)
    curves = curves.rename(columns={n: f"{n} px" for n in curves.columns[1:]})
    formats = dict.fromkeys(curves.columns[1:], ".2f") | {"spearman": ".3f"}
    return base.filled(
        "user_study",
        source=results.source,
        settings=settings,
        measured=None if measured.empty else _people_table(measured),
        given=None if measured.empty else measured[["stimuli", "answers"]].sum(),
        published=_people_table(answers[answers["source"] == "published"]),
        largest=tables["curves"]["shift"].max(),
        shifts=tables["curves"]["shift"].nunique(),
        curves=to_markdown(curves.merge(tables["agreement"], how="left"), formats),
    )


def figures(results: base.Results[UserStudySettings], tables: base.Tables) -> dict[str, Figure]:
    """``user_study``: people's answers, and relative curves of people and metrics."""
    settings, answers = results.settings, tables["user_study"]
    count = answers.loc[answers["source"] == settings.answers, "answers"].sum()
    title = (
        "Small shifts: people and metrics\n"
        f"people: {count} answers, {settings.answers}; metrics: {settings.n} crops of "
        f"validation photographs, windows of {results.source.size}, seed {settings.seed}"
    )
    curves = _relative(settings, tables)
    # The key stands to the right of the panels, because all lines end in one point.
    key = 0.45 + plotting.names_width(curves)
    with plotting.figure((9.4 + key, 4.9), title) as fig:
        left, right = plotting.panels(fig, 2, left=0.7, right=key, top=1.05, height=3.25, gap=0.85)
        _draw_people(left, answers)
        _draw_relative(right, curves)
    return {"user_study": fig}


def records(results: base.Results[UserStudySettings], tables: base.Tables) -> list[base.Record]:
    """Agreement of each metric with people, where it is defined; without intervals."""
    unbounded = {"spearman_low": math.nan, "spearman_high": math.nan}
    scores = tables["agreement"].dropna().assign(n=results.settings.n, **unbounded)
    shifts = f"0 to {tables['curves']['shift'].max()} px"
    return results.records(scores, ["spearman"], shifts=shifts)


STUDY = base.Study(
    "user-study",
    *(UserStudySettings, tables, page, figures, records),
    metrics=base.QUICK_METRICS,
    page_name="user_study",
)


def _people_table(answers: pd.DataFrame) -> str:
    """Answers at each shift, without the columns that nobody reports."""
    names = {"shift": "shift (px)", "stimuli": "stimuli", "answers": "answers"}
    names |= {"said_same": "said same", "cell": "% same"}
    names |= {"std_mean": "std, mean", "std_std": "std, std"}
    answers = answers.assign(cell=base.interval_cells(answers, "percent_same"))[list(names)]
    shown = answers.rename(columns=names).dropna(axis="columns", how="all")
    return to_markdown(shown, {"std, mean": ".2f", "std, std": ".2f"})


def _relative(settings: UserStudySettings, tables: base.Tables) -> pd.DataFrame:
    """Curves of people and metrics, all 1 at the largest shift, people's first."""
    answers = tables["user_study"]
    people = answers[answers["source"] == settings.answers]
    shifted = 100 - people["percent_same"]
    relative = shifted / (shifted.iloc[-1] or math.nan)
    people = people.assign(metric=f"people, {settings.answers}", **{_RELATIVE: relative})
    return pd.concat([people, tables["curves"]])[["metric", "shift", _RELATIVE]]


def _draw_people(axes: Axes, answers: pd.DataFrame) -> None:
    """Shares of "the same": a band and filled dots where measured, hollow dots where published."""
    for source, rows in answers.groupby("source", sort=False):
        if source == "measured":
            bounds = rows["percent_same_low"], rows["percent_same_high"]
            axes.fill_between(rows["shift"], *bounds, color=plotting.INK, alpha=0.13, lw=0)
            style = {"color": plotting.INK, "marker": "o", "ms": 5, "mec": "white", "mew": 0.5}
            label = "measured (band: 95 % interval)"
        else:
            # Nothing inside, so that a measured dot shows through.
            style = plotting.marker(plotting.INK, "D", filled=False) | {"markerfacecolor": "none"}
            label = "published"
        axes.plot(rows["shift"], rows["percent_same"], **style, label=label)
    axes.set(title="People", ylim=(0, 100), ylabel='answers "the same" (%)')
    axes.legend(loc="upper right")
    plotting.shift_axis(axes, answers)


def _draw_relative(axes: Axes, curves: pd.DataFrame) -> None:
    """A broad line of people and one line per metric; the key to the right of the panel."""
    broad = {"color": plotting.INK, "lw": 3.0, "alpha": 0.75, "zorder": 2.5}
    for i, (name, rows) in enumerate(curves.groupby("metric", sort=False)):
        style = plotting.line_style(i - 1) if i else broad
        axes.plot(rows["shift"], rows[_RELATIVE], **style, label=name)
    axes.set(title="Metrics and people, relative to the largest shift")
    axes.set_ylabel('distance, or answers not "the same"')
    axes.set_ylim(bottom=0)
    # In the order in which lines lie above each other.
    lines = sorted(axes.get_lines(), key=lambda line: -np.nansum(line.get_ydata()))
    axes.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
    plotting.shift_axis(axes, curves)
