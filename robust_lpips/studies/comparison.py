"""The comparison table: 2AFC and r_rf of many metrics on the same triplets, and their differences.

Accuracy is 2AFC (Zhang et al., CVPR 2018), r_rf the rank-flip rate under shifts (Ghildyal and Liu,
ECCV 2022). Tables of distances that were measured elsewhere are compared in the same way.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.comparison import entry, metric_names
from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import (
    FULL,
    GROUPS,
    ceilings_table,
    compare_pairs,
    group_differences,
    group_scores,
    max_shift_of,
    photograph,
    read_any_distances,
    summarize,
)
from robust_lpips.published import PUBLISHED_NAMES, published, published_of
from robust_lpips.studies.base import (
    MetricTask,
    Plan,
    Record,
    Results,
    Source,
    Study,
    Tables,
    Task,
    TripletSettings,
    conditions,
    difference_cell,
    interval_cells,
    metric_tasks,
    option,
    quantity_label,
    rank_flip_columns,
    source_of,
    with_bounds,
)
from robust_lpips.studies.base.source import PEOPLE
from robust_lpips.tables import to_markdown

METRICS = (
    *("l2", "l1", "psnr", "ssim", "ms-ssim", "cw-ssim", "fsim", "vsi", "gmsd", "nlpd", "vif"),
    *("dists", "pieapp-sparse", "pieapp-dense", "pim-1", "pim-5", "e-lpips"),
    *("alexnet", "vgg16", "squeezenet1_1", "alexnet-vanilla", "vgg16-vanilla"),
    *("alexnet-cosine", "alexnet-untrained", "alexnet-shift-tolerant", "vgg16-shift-tolerant"),
)
# Sizes of BAPPS's validation subsets: files of distances do not name their data set.
_SUBSETS = itertools.chain(*GROUPS.values())
_BAPPS_VAL = dict(zip(_SUBSETS, (4720, 4720, 10856, 9440, 4720, 1888), strict=True))
_JUDGED_BY = "Accuracy is 2AFC against the column judge of the files."
_GIVEN = Source("distances from files", _JUDGED_BY, "2AFC")
_VALUES = {"a": "value_a", "b": "value_b"}
# Of so many metrics every pair is printed in full; of more, a matrix.
_FEW = 3


@dataclass(frozen=True)
class ComparisonSettings(TripletSettings):
    """Settings of the comparison of metrics."""

    distances: tuple[Path, ...] = option(
        (), "tables of distances measured elsewhere; alone, nothing is measured", claimed=False
    )


@functools.lru_cache(maxsize=2)
def tables_given(paths: tuple[Path, ...]) -> dict[str, pd.DataFrame]:
    """Tables of distances in files, by name, see :func:`read_any_distances`.

    Raises:
        ValueError: if two tables have the same name, or a file holds no distances.
    """
    tables = [read_any_distances(path) for path in paths]
    if len(found := dict(tables)) < len(tables):
        names = ", ".join(name for name, _ in tables)
        raise ValueError(f"distances: every table must have a name of its own; got {names}")
    return found


def tasks(study: Study[ComparisonSettings], plan: Plan[ComparisonSettings]) -> Sequence[Task]:
    """Every named metric on the triplets; nothing where only files are compared.

    Raises:
        ValueError: if a file's table is named as a measured metric is.
    """
    given = tables_given(plan.settings.distances)
    if both := given.keys() & set(plan.metrics):
        raise ValueError(f"distances: names of measured metrics are taken; got {', '.join(both)}")
    return metric_tasks(study, plan) if plan.metrics else ()


def source(settings: ComparisonSettings) -> Source:
    """The triplets; files of distances need none, see :func:`data_of`."""
    return _GIVEN if settings.distances else source_of(settings)


def compared(results: Results[ComparisonSettings]) -> dict[str, pd.DataFrame]:
    """Distances by metric, the measured ones first."""
    return results.distances() | tables_given(results.settings.distances)


def data_of(results: Results[ComparisonSettings]) -> Source:
    """The triplets in words; those of files are known by their subsets and samples alone."""
    if results.of(MetricTask):
        return source_of(results.settings)
    full = _first(results).query("view == @FULL")
    if full["subset"].value_counts().to_dict() == _BAPPS_VAL:
        return Source("all of BAPPS val", PEOPLE, "2AFC")
    clustered = full["sample"].map(photograph).ne(full["sample"]).any()
    return replace(_GIVEN, cluster="photograph" if clustered else "")


def tables(results: Results[ComparisonSettings]) -> dict[str, pd.DataFrame]:
    """Scores in percent with 95 % intervals, and differences in percentage points.

    ``comparison`` and ``groups``: ``metric, dataset``, columns of :func:`summarize` (by subset) or
    :func:`group_scores`, and ``max_shift`` in pixels; groups also ``published_two_afc`` and
    ``published_rrf_n``, on BAPPS whatever the data here, of measured metrics. ``differences``:
    :func:`compare_pairs`; of a few metrics on several groups also ``group_differences``.
    """
    found, seed, name = compared(results), results.settings.seed, data_of(results).name
    groups = _scored(found, group_scores, name, seed)
    # A file may be named as a metric is.
    known = groups["metric"].isin(list(results.distances())) & groups["group"].eq("all")
    measured = groups["metric"].where(known)
    for quantity in ("two_afc", *rank_flip_columns(groups)):
        numbers = [published_of("comparison_bapps", name).get(quantity) for name in measured]
        groups[f"published_{quantity}"] = np.array(numbers, float)
    made = {"comparison": _scored(found, summarize, name, seed), "groups": groups}
    if len(found) > 1:
        made["differences"] = compare_pairs(found, seed=seed)
    if 1 < len(found) <= _FEW and groups["subsets"].nunique() > 1:
        pairs = itertools.combinations(found, 2)
        rows = {(a, b): group_differences(found[a], found[b], seed=seed) for a, b in pairs}
        rows = {pair: table.rename(columns=_VALUES) for pair, table in rows.items()}
        made["group_differences"] = _joined(rows, ["a", "b"]).query("group != 'all'")
    return made


def page(results: Results[ComparisonSettings], tables: Tables) -> list[str]:
    """Scores overall and by group, which differences hold, and what is published."""
    source, groups = data_of(results), tables["groups"]
    blocks = [
        "# Metrics compared",
        f"Measured on {_conditions(results)}. {source.judged_by} accuracy: {source.accuracy}, in "
        "percent, the mean over subsets; r_rf n: share of triplets whose ranking a shift of n "
        "pixels reverses, in percent. In brackets: 95 % bootstrap intervals"
        f"{source.clustered and ',' + source.clustered}.",
        _ceilings(_first(results), groups),
        _score_table(groups[groups["group"] == "all"], ["metric"]),
    ]
    if groups["subsets"].nunique() > 1:
        rest = groups[groups["group"] != "all"]
        blocks += ["## By group", _score_table(rest, ["group", "metric"])]
    if JUDGE in results.distances() and not source.by_people:
        blocks.append(f"{JUDGE} is the judge itself: its accuracy is 100 % by construction.")
    if "differences" in tables:
        blocks += _differences(tables["differences"])
    if "group_differences" in tables:
        blocks += ["By group:", _difference_table(tables["group_differences"])]
    ours = {PUBLISHED_NAMES[name]: name for name in results.distances() if name in PUBLISHED_NAMES}
    rows = published("comparison_bapps")
    rows.insert(1, "measured here", rows["metric"].map(ours))
    return [
        *blocks,
        "## Published",
        "BAPPS val at 256x256, people's judgments (Ghildyal and Liu, ECCV 2022), in percent; not "
        "measured here.",
        to_markdown(rows, dict.fromkeys(rows.select_dtypes("number"), ".2f")),
    ]


def figures(results: Results[ComparisonSettings], tables: Tables) -> Mapping[str, Figure]:
    """``comparison``: accuracy and r_rf with intervals, metrics that flip least on top."""
    scores = tables["groups"].query("group == 'all'")
    shifts = rank_flip_columns(scores)
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
            axes[1].set_xlabel(plotting.RRF)
            axes[1].set_xlim(left=0)
            place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": len(shifts)}
            axes[1].legend(**place, **plotting.KEY)
        for each in axes:
            each.set_yticks(range(len(scores)), scores["metric"] if each is axes[0] else [])
            each.set_ylim(len(scores) - 0.4, -0.6)
    return {"comparison": fig}


def records(results: Results[ComparisonSettings], tables: Tables) -> Iterator[Record]:
    """Accuracy and r_rf of each metric over all subsets."""
    source, weights = data_of(results), results.weights
    # Files do not tell the size of their patches.
    size = results.settings.image_size if source.size else None
    settings = {"max_shift": max_shift_of(_first(results)), "image_size": size}
    given = (settings, source.name, source.judged_by)
    for row in tables["groups"].query("group == 'all'").to_dict("records"):
        scores = with_bounds(row, ["two_afc", *rank_flip_columns(row)])
        # Not always 2AFC against people: judged_by tells.
        scores = {"accuracy": scores.pop("two_afc")} | scores
        yield Record(row["metric"], row["n"], scores, weights.get(row["metric"]), *given)


STUDY = Study(
    name="comparison",
    settings=ComparisonSettings,
    metrics=METRICS,
    metrics_for=lambda settings: () if settings.distances else METRICS,
    tasks=tasks,
    source=source,
    tables=tables,
    page=page,
    figures=figures,
    records=records,
    folder=lambda settings: (
        "comparison-"
        + ("files" if settings.distances else "bapps" if settings.data_root else "sample")
    ),
)


def _first(results: Results[ComparisonSettings]) -> pd.DataFrame:
    """Distances of the first metric: all are of the same triplets and shifts."""
    return next(iter(compared(results).values()))


def _scored(
    found: Mapping[str, pd.DataFrame], score: Callable[..., pd.DataFrame], name: str, seed: int
) -> pd.DataFrame:
    """Scores of every table, one below the other."""
    rows = {
        (metric, name): score(table, seed=seed).assign(max_shift=max_shift_of(table))
        for metric, table in found.items()
    }
    return _joined(rows, ["metric", "dataset"])


def _joined(tables: Mapping[tuple[str, ...], pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """Tables one below the other, with their keys as first columns."""
    return pd.concat(tables, names=names).reset_index(names).reset_index(drop=True)


def _conditions(results: Results[ComparisonSettings]) -> str:
    first, seed = _first(results), results.settings.seed
    n = int((first["view"] == FULL).sum())
    return conditions(data_of(results), n, max_shift=max_shift_of(first), seed=seed)


def _ceilings(distances: pd.DataFrame, groups: pd.DataFrame) -> str:
    """Accuracy that the judgments allow: overall, and by group where there are several."""
    by_subset, texts = ceilings_table(distances).set_index("subset"), []
    # The last of those of the same subsets is "all".
    distinct = groups.drop_duplicates("subsets", keep="last")
    for group, members in distinct[["group", "subsets"]].to_numpy():
        mean = by_subset.loc[members.split(", "), ["oracle", "one_more_person"]].mean()
        ceilings = "an oracle {oracle:.2f} %, one more person {one_more_person:.2f} %"
        texts.append(f"{group}: {ceilings.format_map(mean)}")
    return f"Accuracy that the judgments allow: {'; '.join(texts)}."


def _score_table(scores: pd.DataFrame, labels: list[str]) -> str:
    """Each score with its interval as one cell, and metrics with their titles."""
    cells = scores[labels].assign(metric=scores["metric"].map(_title))
    for name in ("two_afc", *rank_flip_columns(scores)):
        cells[quantity_label(name)] = interval_cells(scores, name, 2)
    return to_markdown(cells)


def _title(metric: str) -> str:
    """The metric's name, and its title in tables where that says more."""
    title = entry(metric).title if metric in metric_names() else metric
    return metric if title.lower() == metric.lower() else f"{metric} ({title})"


def _differences(differences: pd.DataFrame) -> list[str]:
    names = list(dict.fromkeys([*differences["a"], *differences["b"]]))
    blocks = [
        "## Which differences hold",
        "Paired bootstrap over the same triplets. A difference holds if its 95 % interval does not "
        "contain 0; nothing is corrected for the number of comparisons. McNemar's exact test on "
        "flips (p_value, with the triplets that only a and only b flips) takes triplets for "
        "independent, which patches of one photograph are not. Every pair is in differences.csv.",
    ]
    if len(names) <= _FEW:
        return [*blocks, _difference_table(differences)]
    for quantity, rows in differences.groupby("quantity", sort=False):
        if quantity in ("two_afc", "rrf_1"):
            blocks += [
                f"{quantity_label(quantity)}: `+` where the row's is higher than the column's and "
                "the difference holds, `-` where it is lower, `.` where none holds.",
                to_markdown(_matrix(rows, names)),
            ]
    return blocks


def _difference_table(differences: pd.DataFrame) -> str:
    rows = differences.assign(
        quantity=differences["quantity"].map(quantity_label),
        difference=differences.apply(difference_cell, axis=1, digits=2),
        holds=differences["holds"].map({True: "yes", False: "no"}),
    ).drop(columns=["low", "high"])
    formats = {"value": ".2f", "only": ".0f", "p": ".2g"}
    kinds = {name: name.partition("_")[0] for name in rows}
    return to_markdown(rows, {n: formats[kind] for n, kind in kinds.items() if kind in formats})


def _matrix(differences: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """One row and one column per metric; columns by number, because names are long."""
    signs = np.sign(differences["difference"]).where(differences["holds"], 0)
    wide = differences.assign(sign=signs).pivot(index="a", columns="b", values="sign")
    wide = wide.reindex(index=names, columns=names).fillna(0)
    marks = (wide - wide.T).replace({0: ".", 1: "+", -1: "-"})
    marks = marks.mask(np.eye(len(names), dtype=bool), "")
    marks.columns = [f"{i}" for i, _ in enumerate(names, start=1)]
    marks.insert(0, "metric", [f"{i} {name}" for i, name in enumerate(names, start=1)])
    return marks
