"""Image quality: how well do distances agree with scores of distorted images?

The scores of a published data set are people's. With nothing downloaded, photographs are distorted
in known ways at growing severities. The question is then whether a metric's distance grows with the
severity of one type of distortion, whatever the photograph; nobody's opinion is in it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data import IQA_DATASETS, GradedSeverities, IQADataset
from robust_lpips.evaluation import STATISTICS, correlation_table
from robust_lpips.published import published
from robust_lpips.studies import base
from robust_lpips.tables import to_markdown

GRADED = "graded"
SCORES = ("higher-is-better", "higher-is-worse")
SEVERITY_NOTE = "score is the severity of a known distortion, not people's opinion"
# Subset that sums up a metric. Severities of different types of distortion are not comparable.
_SUMMARIES = {"all": "over all pairs", "mean": "mean over types of distortion"}


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
        # Published images are large.
        return base.Source(dataset.name, note, cluster="reference", dataset=dataset, batch_size=8)


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
    settings, source = results.settings, results.source
    rows, types, over = _summary(results, tables)
    cells = {name.upper(): base.interval_cells(rows, name, 3) for name in STATISTICS}
    by_type = base.pivot_in_order(types, "subset", "metric", "srcc")
    by_type = by_type[["subset", *rows["metric"]]].rename(columns={"subset": "type"})
    reported = published("iqa_lpips")
    # A split is named in brackets after the set.
    reported = reported[reported["dataset"].str.partition(" (")[0] == source.name]
    return base.filled(
        "iqa",
        conditions=base.run_conditions(results, "pairs"),
        source=source,
        side=settings.image_size if settings.graded else None,
        over=over,
        agreement=to_markdown(pd.DataFrame({"metric": rows["metric"]} | cells)),
        by_type=to_markdown(by_type, dict.fromkeys(rows["metric"], ".3f")),
        without="\n".join(f"- {why}" for why in _correlations(results)[1]) or None,
        entries=len(reported) or None,
        published=None if reported.empty else to_markdown(reported, {"value": ".3f"}),
    )


def figures(results: base.Results[IQASettings], tables: base.Tables) -> dict[str, Figure]:
    """``iqa``: SRCC, PLCC and KRCC of each metric, and faintly the SRCC of each type."""
    rows, types, over = _summary(results, tables)
    heading = f"Agreement of metrics with scores: {results.source.name}"
    conditions = base.run_conditions(results, "pairs")
    title = base.figure_title(heading, conditions, results.source.judged_by)
    left, top = plotting.names_width(rows), plotting.title_height(title)
    height = 0.35 + 0.42 * len(rows)
    with plotting.figure((max(left + 5.6, 8.0), top + height + 0.95), title) as fig:
        (axes,) = plotting.panels(fig, 1, left=left, right=0.25, top=top, height=height, gap=0)
        places = {metric: i - 0.2 for i, metric in enumerate(rows["metric"])}  # those of SRCC
        plotting.draw_dots(axes, rows, {name: name.upper() for name in STATISTICS})
        dots = {"marker": "o", "color": plotting.SKY, "alpha": 0.45, "ms": 4, "mew": 0, "zorder": 1}
        heights = types["metric"].map(places)
        axes.plot(types["srcc"], heights, ls="none", **dots, label="SRCC of each type")
        axes.plot([], [], color=plotting.GREY, lw=1.2, label="95 % interval")
        axes.set_yticks(range(len(rows)), rows["metric"])
        axes.set(ylim=(len(rows) - 0.45, -0.55), xlabel=f"correlation, {over} (1: full agreement)")
        axes.set_xlim(right=1.01)
        fig.legend(*axes.get_legend_handles_labels(), loc="lower left", ncols=5, **plotting.KEY)
    return {"iqa": fig}


def records(results: base.Results[IQASettings], tables: base.Tables) -> list[base.Record]:
    """The correlations that sum up each metric."""
    rows, _, over = _summary(results, tables)
    unused = {} if results.settings.graded else {"image_size": None, "crops": None}
    return results.records(rows.sort_index(), STATISTICS, over=over, **unused)


STUDY = base.Study(
    "iqa",
    *(IQASettings, tables, page, figures, records),
    metrics=(*base.QUICK_METRICS, "vif"),
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
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Rows that sum up, the largest SRCC first; rows of types; what the former are over."""
    table, subset = tables["iqa"], "mean" if results.settings.graded else "all"
    rows = table[table["subset"] == subset].sort_values("srcc", ascending=False, kind="stable")
    return rows, table[~table["subset"].isin(_SUMMARIES)], _SUMMARIES[subset]
