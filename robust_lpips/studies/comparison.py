"""The comparison table: 2AFC and r_rf of many metrics on the same triplets, and their differences.

Accuracy is 2AFC (Zhang et al., CVPR 2018), r_rf the rank-flip rate under shifts (Ghildyal and Liu,
ECCV 2022). Tables of distances that were measured elsewhere are compared in the same way.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.comparison import entry, metric_names
from robust_lpips.data.bapps import VAL_TRIPLETS
from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import FULL, compare_pairs, group_scores, max_shift_of, summarize
from robust_lpips.evaluation.bootstrap import photograph
from robust_lpips.evaluation.released_tables import read_named_distances
from robust_lpips.evaluation.scores import group_ceilings
from robust_lpips.evaluation.significance import compare_groups, signs
from robust_lpips.published import PUBLISHED_NAMES, published, published_of
from robust_lpips.studies import base
from robust_lpips.studies.base.source import PEOPLE
from robust_lpips.tables import to_markdown

METRICS = (
    *("l2", "l1", "psnr", "ssim", "ms-ssim", "cw-ssim", "fsim", "vsi", "gmsd", "nlpd", "vif"),
    *("dists", "pieapp-sparse", "pieapp-dense", "pim-1", "pim-5", "e-lpips"),
    *("alexnet", "vgg16", "squeezenet1_1", "alexnet-vanilla", "vgg16-vanilla"),
    *("alexnet-cosine", "alexnet-untrained", "alexnet-shift-tolerant", "vgg16-shift-tolerant"),
)
_JUDGED_BY = "Accuracy is 2AFC against the column judge of the files."
_GIVEN = base.Source("distances from files", _JUDGED_BY, "2AFC")
# Of so many metrics every pair is printed in full; of more, a matrix.
_FEW = 3


@dataclass(frozen=True)
class ComparisonSettings(base.TripletSettings):
    """Settings of the comparison of metrics."""

    distances: tuple[Path, ...] = base.option(
        (), "tables of distances measured elsewhere; alone, nothing is measured", claimed=False
    )


Results = base.Results[ComparisonSettings]


# Read once: tasks, tables, page and figure ask for them.
tables_given = functools.lru_cache(maxsize=2)(read_named_distances)


def tasks(study: base.Study, plan: base.Plan[ComparisonSettings]) -> Sequence[base.Task]:
    """Every named metric on the triplets; nothing where only files are compared.

    Raises:
        ValueError: if a file's table is named as a measured metric is.
    """
    if both := tables_given(plan.settings.distances).keys() & set(plan.metrics):
        raise ValueError(f"distances: names of measured metrics are taken; got {', '.join(both)}")
    return base.metric_tasks(study, plan) if plan.metrics else ()


def compared(results: Results) -> dict[str, pd.DataFrame]:
    """Distances by metric, the measured ones first."""
    return results.distances() | tables_given(results.settings.distances)


def data_of(results: Results) -> base.Source:
    """The triplets in words; those of files are known by their subsets and samples alone."""
    if results.of(base.MetricTask):
        return base.source_of(results.settings)
    full = _first(results).query("view == @FULL")
    if full["subset"].value_counts().to_dict() == VAL_TRIPLETS:
        return base.Source("all of BAPPS val", PEOPLE, "2AFC")
    clustered = full["sample"].map(photograph).ne(full["sample"]).any()
    return replace(_GIVEN, cluster="photograph" if clustered else "")


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """Scores in percent with 95 % intervals, and differences in percentage points.

    ``comparison`` and ``groups``: ``metric, dataset``, columns of :func:`summarize` (by subset) or
    :func:`group_scores`, and ``max_shift`` in pixels; groups also ``published_two_afc`` and
    ``published_rrf_n``, on BAPPS whatever the data here, of measured metrics. ``differences``:
    :func:`compare_pairs`; of a few metrics on several groups also ``group_differences``.
    """
    found, seed, name = compared(results), results.settings.seed, data_of(results).name
    made = {}
    for title, score in (("comparison", summarize), ("groups", group_scores)):
        rows = {
            (metric, name): score(table, seed=seed).assign(max_shift=max_shift_of(table))
            for metric, table in found.items()
        }
        made[title] = base.stacked(rows, ["metric", "dataset"])
    groups = made["groups"]
    # A file may be named as a metric is.
    known = groups["metric"].isin(list(results.distances())) & groups["group"].eq("all")
    measured = groups["metric"].where(known)
    for quantity in ("two_afc", *base.rank_flip_columns(groups)):
        numbers = [published_of("comparison_bapps", name).get(quantity) for name in measured]
        groups[f"published_{quantity}"] = np.array(numbers, float)
    if len(found) > 1:
        made["differences"] = compare_pairs(found, seed=seed)
    if 1 < len(found) <= _FEW and groups["subsets"].nunique() > 1:
        by_group = compare_groups(found, seed=seed)
        made["group_differences"] = by_group.query("group != 'all'")
    return made


def page(results: Results, tables: base.Tables) -> list[str]:
    """Scores overall and by group, which differences hold, and what is published."""
    source, groups, measured = data_of(results), tables["groups"], results.distances()
    optional = ("by_group", "group_differences", "differences", "many", "signs_two_afc")
    shown, count = dict.fromkeys([*optional, "signs_rrf_1"]), len(compared(results))
    if groups["subsets"].nunique() > 1:
        shown["by_group"] = _score_table(groups.query("group != 'all'"), "group", "metric")
    if count > _FEW:
        by_quantity = tables["differences"].groupby("quantity")
        shown |= {f"signs_{quantity}": _sign_table(rows) for quantity, rows in by_quantity}
        shown["many"] = count
    else:
        given = {name: table for name, table in tables.items() if name.endswith("differences")}
        shown |= {name: _difference_table(table) for name, table in given.items()}
    ours = {PUBLISHED_NAMES[name]: name for name in measured if name in PUBLISHED_NAMES}
    known = published("comparison_bapps")
    known.insert(1, "measured here", known["metric"].map(ours))
    # Of the groups of the same subsets the last is "all".
    ceilings = group_ceilings(_first(results)).drop_duplicates("subsets", keep="last")
    ceiling = "{group}: an oracle {oracle:.2f} %, one more person {one_more_person:.2f} %"
    return base.filled(
        "comparison",
        conditions=_conditions(results),
        source=source,
        ceilings="; ".join(map(ceiling.format_map, ceilings.to_dict("records"))),
        overall=_score_table(groups.query("group == 'all'"), "metric"),
        judge=JUDGE if JUDGE in measured and not source.by_people else None,
        pairs=math.comb(count, 2) or None,
        published=to_markdown(known, dict.fromkeys(known.select_dtypes("number"), ".2f")),
        **shown,
    )


def figures(results: Results, tables: base.Tables) -> Mapping[str, Figure]:
    """``comparison``: accuracy and r_rf with intervals, metrics that flip least on top."""
    scores = tables["groups"].query("group == 'all'")
    shifts = base.rank_flip_columns(scores)
    scores = scores.sort_values(shifts or ["two_afc"], ascending=bool(shifts), kind="stable")
    names = 0.35 + 0.075 * scores["metric"].str.len().max()
    height, panels = 0.35 + 0.24 * len(scores), 2 if shifts else 1
    title = f"Metrics compared\n{_conditions(results)}"
    with plotting.figure((names + 4.1 * panels, height + 1.75), title) as fig:
        axes = plotting.panels(
            fig, panels, left=names, right=0.2, top=1.05, height=height, gap=0.35
        )
        plotting.draw_dots(axes[0], scores, {"two_afc": ""})
        axes[0].set_xlabel(data_of(results).accuracy_label)
        if shifts:
            plotting.draw_dots(axes[1], scores, {name: f"{name[4:]} px" for name in shifts})
            axes[1].set(xlabel=plotting.RRF, xlim=(0, None))
            place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": len(shifts)}
            axes[1].legend(**place, **plotting.KEY)
        for each in axes:
            each.set_yticks(range(len(scores)), scores["metric"] if each is axes[0] else [])
            each.set_ylim(len(scores) - 0.4, -0.6)
    return {"comparison": fig}


def records(results: Results, tables: base.Tables) -> Iterator[base.Record]:
    """Accuracy and r_rf of each metric over all subsets."""
    source, weights = data_of(results), results.weights
    # Files do not tell the size of their patches.
    size = results.settings.image_size if source.size else None
    settings = {"max_shift": max_shift_of(_first(results)), "image_size": size}
    given = (settings, source.name, source.judged_by)
    for row in tables["groups"].query("group == 'all'").to_dict("records"):
        # Not always 2AFC against people: judged_by tells.
        scores = {"accuracy": base.with_bounds(row, ["two_afc"])["two_afc"]}
        scores |= base.with_bounds(row, base.rank_flip_columns(row))
        yield base.Record(row["metric"], row["n"], scores, weights.get(row["metric"]), *given)


STUDY = base.Study(
    "comparison",
    *(ComparisonSettings, tables, page, figures, records),
    metrics=METRICS,
    metrics_for=lambda settings: () if settings.distances else METRICS,
    tasks=tasks,
    # Files of distances need no triplets, see data_of.
    source=lambda settings: _GIVEN if settings.distances else base.source_of(settings),
    folder=lambda settings: (
        "comparison-"
        + ("files" if settings.distances else "bapps" if settings.data_root else "sample")
    ),
)


def _first(results: Results) -> pd.DataFrame:
    """Distances of the first metric: all are of the same triplets and shifts."""
    return next(iter(compared(results).values()))


def _conditions(results: Results) -> str:
    first, seed = _first(results), results.settings.seed
    n = int((first["view"] == FULL).sum())
    return base.conditions(data_of(results), n, max_shift=max_shift_of(first), seed=seed)


def _score_table(scores: pd.DataFrame, *labels: str) -> str:
    """Each score with its interval as one cell, and metrics with titles that say more."""
    titles = {name: entry(name).title for name in metric_names()}
    titles = {name: f"{name} ({t})" for name, t in titles.items() if t.lower() != name.lower()}
    cells = scores[list(labels)].replace({"metric": titles})
    for name in ("two_afc", *base.rank_flip_columns(scores)):
        cells[base.quantity_label(name)] = base.interval_cells(scores, name, 2)
    return to_markdown(cells)


def _difference_table(differences: pd.DataFrame) -> str:
    """Differences in full."""
    rows = differences.assign(
        quantity=differences["quantity"].map(base.quantity_label),
        difference=differences.apply(base.difference_cell, axis=1, digits=2),
        holds=differences["holds"].map({True: "yes", False: "no"}),
    ).drop(columns=["low", "high"])
    names = ("value_a", "value_b", "only_a", "only_b", "p_value")
    numbers = dict(zip(names, (".2f", ".2f", ".0f", ".0f", ".2g"), strict=True))
    return to_markdown(rows, {name: spec for name, spec in numbers.items() if name in rows})


def _sign_table(differences: pd.DataFrame) -> str:
    """One row and one column per metric; columns by number, because names are long."""
    marks = signs(differences)
    names = list(marks)
    marks = marks.replace({0: ".", 1: "+", -1: "-"}).mask(np.eye(len(names), dtype=bool), "")
    marks.columns = [str(i) for i in range(1, len(names) + 1)]
    marks.insert(0, "metric", [f"{i} {name}" for i, name in enumerate(names, start=1)])
    return to_markdown(marks)
