"""Small shifts: who still says "the same", and at what distance?

People saw an image next to itself, shifted by 0 to 9 pixels, and said whether the two are the same
(Ghildyal and Liu, ECCV 2022, section 3). Metrics measure photographs at the same shifts. Their
images are not the people's, so the two curves are compared by shape alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from robust_lpips.studies.base.defaults import QUICK_METRICS
from robust_lpips.tables import to_markdown

_HEADING = "Small shifts: people and metrics"
_JUDGED_BY = {
    "measured": 'People: the answers given, each of which is "the same" or "one appears shifted".',
    "published": 'People: the published shares of "the same" (Ghildyal and Liu, ECCV 2022).',
}
_PEOPLE_NOTES = {
    "measured": (
        "From the answers given: {stimuli} stimuli, {answers} answers. % same: of all answers at a "
        "shift, with a 95 % bootstrap interval over stimuli. std: standard deviation of a "
        "stimulus' answers (1: the same, 0: not), mean and standard deviation over stimuli."
    ),
    "published": "Ghildyal and Liu, ECCV 2022: the whole study; not measured here. Same columns.",
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
    settings, shifts = results.settings, tables["curves"]["shift"]
    blocks = [
        f"# {_HEADING}",
        "People saw an image next to itself, shifted, and said whether the two are the same "
        "(Ghildyal and Liu, ECCV 2022, section 3). Metrics measured the distance between windows "
        f"of {results.source.size} that lie as many pixels apart in {settings.n} crops of "
        f"scikit-image's validation photographs, seed {settings.seed}; nothing is padded. The "
        "metrics' images are not the people's: shapes of curves can be compared, levels cannot.",
    ]
    for source, rows in tables["user_study"].groupby("source", sort=False):
        cells = {
            "shift (px)": rows["shift"],
            "stimuli": rows["stimuli"],
            "answers": rows["answers"],
            "said same": rows["said_same"],
            "% same": base.interval_cells(rows, "percent_same"),
            "std, mean": rows["std_mean"],
            "std, std": rows["std_std"],
        }
        shown = pd.DataFrame(cells).dropna(axis="columns", how="all")
        blocks += [
            f"## People, {source}",
            _PEOPLE_NOTES[source].format(**rows[["stimuli", "answers"]].sum()),
            to_markdown(shown, dict.fromkeys(("std, mean", "std, std"), ".2f")),
        ]
    wide = base.pivot_in_order(_relative(settings, tables), "metric", "shift", "relative_distance")
    wide = wide.rename(columns={shift: f"{shift} px" for shift in shifts})
    formats = dict.fromkeys(wide.columns[1:], ".2f") | {"spearman": ".3f"}
    return [
        *blocks,
        "## Metrics, measured: distance relative to that at the largest shift",
        f"Mean distance, from 0 at the smallest shift to 1 at {shifts.max()} px; people: the share "
        f'who do not say "the same" ({settings.answers}), over theirs at {shifts.max()} px. '
        f"spearman: rank correlation, over the {shifts.nunique()} shifts, of a metric's mean "
        "distance and that share; a dash where one of the two is the same at every shift. It asks "
        "for the order of shifts alone: all metrics whose distance only grows have the same value, "
        "however it grows; what tells metrics apart is how early their curve rises.",
        to_markdown(wide.merge(tables["agreement"], how="left"), formats),
        "The distances themselves, in each metric's own unit with 95 % bootstrap intervals "
        "clustered by photograph, are in curves.csv.",
    ]


def figures(results: base.Results[UserStudySettings], tables: base.Tables) -> dict[str, Figure]:
    """``user_study``: people's answers, and relative curves of people and metrics."""
    settings, answers, curves = results.settings, tables["user_study"], tables["curves"]
    count = answers.loc[answers["source"] == settings.answers, "answers"].sum()
    title = (
        f"{_HEADING}\npeople: {count} answers, {settings.answers}; metrics: {settings.n} crops of "
        f"validation photographs, windows of {results.source.size}, seed {settings.seed}"
    )
    # The key stands to the right of the panels, because all lines end in one point.
    key = 0.75 + 0.07 * max(12, curves["metric"].str.len().max())
    with plotting.figure((9.4 + key, 4.9), title) as fig:
        left, right = plotting.panels(fig, 2, left=0.7, right=key, top=1.05, height=3.25, gap=0.85)
        _draw_people(left, answers)
        _draw_relative(right, _relative(settings, tables), settings.answers)
    return {"user_study": fig}


def records(results: base.Results[UserStudySettings], tables: base.Tables) -> Iterator[base.Record]:
    """Agreement of each metric with people, where it is defined."""
    shifts = {"shifts": f"0 to {tables['curves']['shift'].max()} px"}
    for metric, rho in tables["agreement"].dropna().itertuples(index=False):
        scores, weights = {"spearman": (rho, math.nan, math.nan)}, results.weights[metric]
        yield base.Record(metric, results.settings.n, scores, weights, shifts)


STUDY = base.Study(
    name="user-study",
    page_name="user_study",
    settings=UserStudySettings,
    metrics=QUICK_METRICS,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
)


def _relative(settings: UserStudySettings, tables: base.Tables) -> pd.DataFrame:
    """Curves of people and metrics, all 1 at the largest shift, people's first."""
    answers = tables["user_study"]
    curve = answers[answers["source"] == settings.answers]
    gone = 100 - curve["percent_same"]
    curve = curve.assign(metric="people", relative_distance=gone / (gone.iloc[-1] or math.nan))
    return pd.concat([curve, tables["curves"]])[["metric", "shift", "relative_distance"]]


def _draw_people(axes: Axes, answers: pd.DataFrame) -> None:
    """Shares of "the same": a band and filled dots where measured, hollow dots where published."""
    for source, rows in answers.groupby("source", sort=False):
        x, y = rows["shift"], rows["percent_same"]
        if source == "measured":
            bounds = rows["percent_same_low"], rows["percent_same_high"]
            axes.fill_between(x, *bounds, color=plotting.INK, alpha=0.13, lw=0)
            style = {"color": plotting.INK, "marker": "o", "ms": 5, "mec": "white", "mew": 0.5}
            axes.plot(x, y, lw=1.8, **style, label="measured (band: 95 % interval)")
        else:
            # Nothing inside, so that a measured dot shows through.
            hollow = plotting.marker(plotting.INK, "D", filled=False) | {"markerfacecolor": "none"}
            axes.plot(x, y, **hollow, label="published")
    axes.set(title="People", ylim=(0, 100), ylabel='answers "the same" (%)')
    axes.legend(loc="upper right")
    plotting.shift_axis(axes, answers)


def _draw_relative(axes: Axes, curves: pd.DataFrame, source: str) -> None:
    """One line per metric, and a broad one of people; the key to the right of the panel."""
    people, metrics = (rows for _, rows in curves.groupby(curves["metric"] != "people"))
    for i, (metric, rows) in enumerate(metrics.groupby("metric", sort=False)):
        axes.plot(rows["shift"], rows["relative_distance"], **plotting.line_style(i), label=metric)
    broad = {"color": plotting.INK, "lw": 3.0, "alpha": 0.75, "zorder": 2.5}
    axes.plot(people["shift"], people["relative_distance"], **broad, label=f"people\n({source})")
    axes.set(title="Metrics and people, relative to the largest shift")
    axes.set_ylabel('distance, or answers not "the same"')
    axes.set_ylim(bottom=0)
    # In the order in which lines lie above each other.
    lines = sorted(axes.get_lines(), key=lambda line: -np.nansum(line.get_ydata()))
    axes.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
    plotting.shift_axis(axes, curves)
