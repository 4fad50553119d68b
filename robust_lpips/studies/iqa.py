"""Image quality: how well do distances agree with scores of distorted images?

The scores of a published data set are people's. With nothing downloaded, photographs are distorted
in known ways at growing severities. The question is then whether a metric's distance grows with the
severity of one type of distortion, whatever the photograph; nobody's opinion is in it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data import IQA_DATASETS, GradedSeverities, IQADataset
from robust_lpips.evaluation import STATISTICS, correlation_table
from robust_lpips.published import published
from robust_lpips.studies import base
from robust_lpips.studies.base.defaults import QUICK_METRICS
from robust_lpips.tables import to_markdown

GRADED = "graded"
SCORES = ("higher-is-better", "higher-is-worse")
SEVERITY_NOTE = "score is the severity of a known distortion, not people's opinion"
# Subset that sums up a metric. Severities of different types of distortion are not comparable.
_SUMMARIES = {"all": "over all pairs", "mean": "mean over types of distortion"}
_TYPE = {"ls": "none", "marker": "o", "color": plotting.SKY, "alpha": 0.45, "ms": 4, "mew": 0}


@dataclass(frozen=True)
class IQASettings(base.Settings):
    """Settings of the study of image quality.

    Raises:
        ValueError: if a value is out of range, or an option does not fit ``dataset``.
    """

    dataset: str = base.option(GRADED, "data set", choices=(GRADED, *IQA_DATASETS, "csv"))
    data_root: Path | None = base.option(None, "folder of the data set, or the CSV")
    scores: str | None = base.option(None, "meaning of the scores of a CSV", choices=SCORES)
    image_size: int = base.option(96, "side of crops in pixels, for graded severities", least=1)
    crops: int = base.option(1, "crops of each photograph, for graded severities", least=1)
    seed: int = base.option(0, "seed of crops, distortions, weights and intervals", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, wanted in (("data_root", not self.graded), ("scores", self.dataset == "csv")):
            if (given := getattr(self, name) is not None) != wanted:
                must = "must not" if given else "must"
                raise ValueError(f"{name} {must} be given where dataset is {self.dataset}")

    @property
    def graded(self) -> bool:
        """True where scores are severities."""
        return self.dataset == GRADED

    def source(self) -> base.Source:
        """The pairs."""
        if self.graded:
            dataset = GradedSeverities(self.image_size, self.crops, self.seed)
        elif self.dataset == "csv":
            dataset = IQADataset.from_csv(self.data_root, self.scores == SCORES[0])
        else:
            dataset = IQA_DATASETS[self.dataset](self.data_root)
        note = SEVERITY_NOTE if self.graded else "score is people's opinion, as published"
        return base.Source(dataset.name, note, cluster="reference", dataset=dataset)


def parts(settings: IQASettings) -> dict[str, base.Part]:
    """The pairs, the only part; a few at a time, because published images are large."""
    return {"": base.Part(base.source_of(settings).dataset, batch_size=8)}


def tables(results: base.Results[IQASettings]) -> dict[str, pd.DataFrame]:
    """``iqa``: correlations of each metric on each type of distortion, their mean, and all pairs.

    Columns: ``metric, dataset, subset, n``; ``srcc, plcc, krcc`` in [-1, 1], positive where
    distances agree with scores, each with ``_low`` and ``_high``, the bounds of its 95 % interval;
    and ``judged_by``. Graded severities have no row ``all``. Source:
    :func:`robust_lpips.evaluation.correlation_table`.

    Raises:
        ValueError: if no metric has a correlation.
    """
    found, without = _correlations(results)
    if not found:
        raise ValueError(f"no metric has a correlation: {'; '.join(without)}")
    return {"iqa": pd.concat(found, ignore_index=True)}


def page(results: base.Results[IQASettings], tables: base.Tables) -> list[str]:
    """Correlations, SRCC by type of distortion, and what is published."""
    rows, types, over, conditions = _summary(results, tables)
    side, source, without = results.settings.image_size, results.source, _correlations(results)[1]
    blocks = ["# Image quality", f"{conditions}. **The {source.judged_by}.**"]
    if results.settings.graded:
        blocks.append(
            f"Crops of {side}x{side} px of the validation photographs, each distorted in every way "
            "at severities 0.2 to 1. Severities of different types are not comparable: "
            "correlations are taken within each type, over all photographs, and their mean sums "
            "up; there is none over all pairs."
        )
    cells = {name.upper(): base.interval_cells(rows, name, 3) for name in STATISTICS}
    by_type = base.pivot_in_order(types, "subset", "metric", "srcc")
    by_type = by_type[["subset", *rows["metric"]]].rename(columns={"subset": "type"})
    blocks += [
        f"## Agreement, {over}",
        "Spearman's, Pearson's (after a logistic fit) and Kendall's correlation of distances with "
        "scores; positive is agreement. In brackets 95 % bootstrap intervals over references; for "
        "PLCC the fitted curve is held. With few references the intervals lie high: pairs of a "
        "reference that is drawn twice agree with each other.",
        to_markdown(pd.DataFrame({"metric": rows["metric"]} | cells)),
        "## SRCC by type of distortion",
        to_markdown(by_type, dict.fromkeys(rows["metric"], ".3f")),
    ]
    if without:
        blocks += ["## Measured, without correlation", "\n".join(f"- {why}" for why in without)]
    return [*blocks, *_published(source.name)]


def figures(results: base.Results[IQASettings], tables: base.Tables) -> dict[str, Figure]:
    """``iqa``: SRCC, PLCC and KRCC of each metric, and faintly the SRCC of each type."""
    rows, types, over, conditions = _summary(results, tables)
    heading = f"Agreement of metrics with scores: {results.source.name}"
    title = base.figure_title(heading, conditions, results.source.judged_by)
    left, top = plotting.names_width(rows), plotting.title_height(title)
    height, places = (
        0.35 + 0.42 * len(rows),
        dict(zip(rows["metric"], range(len(rows)), strict=True)),
    )
    with plotting.figure((max(left + 5.6, 8.0), top + height + 0.95), title) as fig:
        (axes,) = plotting.panels(fig, 1, left=left, right=0.25, top=top, height=height, gap=0)
        heights = types["metric"].map(places) - 0.2  # those of SRCC
        plotting.draw_dots(axes, rows, {name: name.upper() for name in STATISTICS})
        axes.plot(types["srcc"], heights, **_TYPE, zorder=1, label="SRCC of each type")
        axes.plot([], [], color=plotting.GREY, lw=1.2, label="95 % interval")
        axes.set_yticks(range(len(rows)), rows["metric"])
        axes.set(ylim=(len(rows) - 0.45, -0.55), xlabel=f"correlation, {over} (1: full agreement)")
        axes.set_xlim(right=1.01)
        fig.legend(*axes.get_legend_handles_labels(), loc="lower left", ncols=5, **plotting.KEY)
    return {"iqa": fig}


def records(results: base.Results[IQASettings], tables: base.Tables) -> Iterator[base.Record]:
    """The correlations that sum up each metric."""
    rows, _, over, _ = _summary(results, tables)
    unused = {} if results.settings.graded else {"image_size": None, "crops": None}
    for row in rows.sort_index().to_dict("records"):
        weights, scores = results.weights[row["metric"]], base.with_bounds(row, STATISTICS)
        yield base.Record(row["metric"], row["n"], scores, weights, {"over": over} | unused)


STUDY = base.Study(
    name="iqa",
    settings=IQASettings,
    metrics=(*QUICK_METRICS, "vif"),
    parts=parts,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    folder=lambda settings: f"iqa-{settings.dataset}",
)


@functools.lru_cache(maxsize=1)
def _correlations(results: base.Results[IQASettings]) -> tuple[list[pd.DataFrame], list[str]]:
    """Correlations of each metric, and why metrics have none."""
    source, found, without = results.source, [], []
    options = {"seed": results.settings.seed, "cluster": source.dataset.reference_of}
    for metric, distances in results.distances().items():
        try:
            table = correlation_table(distances, source.dataset.higher_is_better, **options)
        except ValueError as error:  # a metric blind to colour is constant where colours change
            without.append(f"{metric}: {error}")
            continue
        table.insert(0, "metric", metric)
        table.insert(1, "dataset", source.name)
        kept = table[table["subset"] != "all"] if results.settings.graded else table
        found.append(kept.assign(judged_by=source.judged_by))
    return found, without


def _summary(
    results: base.Results[IQASettings], tables: base.Tables
) -> tuple[pd.DataFrame, pd.DataFrame, str, str]:
    """Rows that sum up, the largest SRCC first; rows of types; what the former are; conditions."""
    table, subset = tables["iqa"], "mean" if results.settings.graded else "all"
    rows = table[table["subset"] == subset].sort_values("srcc", ascending=False, kind="stable")
    n, seed = table["n"].max(), results.settings.seed
    conditions = base.conditions(results.source, n, unit="pairs", seed=seed)
    return rows, table[~table["subset"].isin(_SUMMARIES)], _SUMMARIES[subset], conditions


def _published(name: str) -> list[str]:
    """Published correlations of LPIPS on a data set and its splits."""
    rows = published("iqa_lpips")
    rows = rows[rows["dataset"].str.partition(" (")[0] == name]
    note = (
        "Results of LPIPS that a public leaderboard collects; not measured here. A split that is "
        "not all of the set is in brackets. The leaderboard's own names of Spearman's correlation "
        'are "SRC", "SROCC" and "Mean SRCC"; our copy has "SRCC" for all three, so that a mean '
        "over parts of a set cannot be told from one correlation over all of it."
    )
    return [] if rows.empty else ["## Published", note, to_markdown(rows, {"value": ".3f"})]
