"""The comparison table: 2AFC and r_rf of many metrics on the same triplets, and what differs."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.comparison import entry, metric_names
from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import (
    ceilings_table,
    compare_pairs,
    group_differences,
    group_scores,
    max_shift_of,
    photograph,
    read_any_distances,
    summarize,
)
from robust_lpips.plots import plot_comparison
from robust_lpips.studies import records
from robust_lpips.studies.folder import claim
from robust_lpips.studies.measured import Measured, measure_all
from robust_lpips.studies.published import PUBLISHED_NAMES, published, published_of
from robust_lpips.studies.report import ACCURACY_LABELS, JUDGE_NOTES
from robust_lpips.studies.triplets import triplets
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

# Triplets of the sample set: the default metrics take some minutes of two CPU cores.
DEFAULT_N = 240
# Sizes of BAPPS's validation subsets: files of distances do not say what they are of.
_BAPPS_VAL = {
    "traditional": 4720,
    "cnn": 4720,
    "superres": 10856,
    "deblur": 9440,
    "color": 4720,
    "frameinterp": 1888,
}
# Of so many metrics every pair is printed in full; of more, a matrix.
_FEW = 3
_GIVEN_NOTE = "Accuracy is 2AFC against the column judge of the files."


@dataclass(frozen=True)
class Settings:
    """What is measured on.

    Attributes:
        data_root: folder of BAPPS; None: the sample set.
        n: triplets of the sample set, or evenly spaced ones of BAPPS; None: all of BAPPS.
        image_size: side of the patches in pixels.
        max_shift: largest shift in pixels, which decides the crop.
        seed: of random weights and of the intervals.
    """

    data_root: str | None = None
    n: int | None = DEFAULT_N
    image_size: int = 64
    max_shift: int = 3
    seed: int = 0

    def dataset(self) -> Dataset:
        """The validation triplets."""
        return triplets(self.data_root, "val", self.n, self.image_size)


@dataclass(frozen=True)
class Data:
    """What the compared distances are of, in words.

    Attributes:
        name: as tables name it.
        judge: whose verdicts accuracy is against, a sentence.
        accuracy: what accuracy is called.
        size: of the patches, as text; None where the files do not tell.
    """

    name: str
    judge: str
    accuracy: str
    size: str | None


def run(
    settings: Settings,
    output: Path,
    metrics: Sequence[str],
    files: Sequence[Path] = (),
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure ``metrics``, join what ``files`` hold, write every table, and return the page.

    Args:
        settings: what to measure on.
        output: a folder; where metrics are measured, new or of a run under the same settings.
        metrics: as :func:`robust_lpips.comparison.load_metric` takes them; may be empty.
        files: distances computed elsewhere, see
            :func:`robust_lpips.evaluation.read_any_distances`.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Raises:
        ValueError: neither metrics nor files; tables of different triplets, judgments or shifts;
            two of one name; or ``output`` holds results of other settings.
    """
    if not metrics and not files:
        raise ValueError("metrics: give at least one, or files of distances")
    given = [read_any_distances(path) for path in files]
    tables = dict(given)
    if len(tables) < len(given) or tables.keys() & set(metrics):
        names = ", ".join([*metrics, *(label for label, _ in given)])
        raise ValueError(f"files: every table must have a name of its own; got {names}")
    measured = Measured()
    if metrics:
        dataset = settings.dataset()
        claim(output, asdict(settings))
        measured = measure_all(
            metrics,
            dataset,
            output,
            device=device,
            seed=settings.seed,
            max_shift=settings.max_shift,
        )
    tables = measured.tables | tables
    data = _data(settings, tables, measured=bool(metrics))
    subsets = _scored(tables, "subset", data, settings.seed)
    groups = _scored(tables, "group", data, settings.seed, known=measured.tables)
    differences = compare_pairs(tables, seed=settings.seed) if len(tables) > 1 else None
    write_csv(subsets, output / "comparison.csv")
    write_csv(groups, output / "groups.csv")
    if differences is not None:
        write_csv(differences, output / "differences.csv")
    by_group = _differences_by_group(tables, groups, settings.seed)
    if by_group is not None:
        write_csv(by_group, output / "group_differences.csv")
    overall = groups[groups["group"] == "all"]
    conditions = _conditions(data, tables)
    plot_comparison(
        overall.assign(two_afc_label=f"{data.accuracy} (%)"),
        output / "comparison.png",
        f"Metrics compared\n{conditions}",
    )
    for row in overall.to_dict("records"):
        names = [name for name in row if name == "two_afc" or name in _shifts(overall)]
        records.append(
            output,
            benchmark="2AFC and rank flips",
            metric=row["metric"],
            dataset=data.name,
            judged_by=data.judge,
            n=row["n"],
            # What accuracy is, judged_by says: of the sample set it is not 2AFC against people.
            scores={
                name.replace("two_afc", "accuracy"): (
                    row[name],
                    row[f"{name}_low"],
                    row[f"{name}_high"],
                )
                for name in names
            },
            weights=measured.weights.get(row["metric"]),
            command=command,
            image_size=data.size,
            max_shift=max_shift_of(next(iter(tables.values()))),
            seed=settings.seed,
        )
    page = _page(
        data, conditions, tables, groups, (differences, by_group), measured.left_out, command
    )
    write_text(output / "comparison.md", page)
    return page


def _data(settings: Settings, tables: Mapping[str, pd.DataFrame], *, measured: bool) -> Data:
    if measured:
        kind = "sample" if settings.data_root is None else "bapps"
        name = {"sample": "sample set val", "bapps": "BAPPS val"}[kind]
        size = f"{settings.image_size}x{settings.image_size}"
        return Data(name, JUDGE_NOTES[kind], ACCURACY_LABELS[kind], size)
    first = next(iter(tables.values()))
    counts = first[first["view"] == "full"]["subset"].value_counts().to_dict()
    if counts == _BAPPS_VAL:
        return Data("all of BAPPS val", JUDGE_NOTES["bapps"], ACCURACY_LABELS["bapps"], None)
    return Data("distances from files", _GIVEN_NOTE, "2AFC", None)


def _scored(
    tables: Mapping[str, pd.DataFrame],
    by: str,
    data: Data,
    seed: int,
    known: Collection[str] = (),
) -> pd.DataFrame:
    """:func:`summarize` (by subset) or :func:`group_scores` of every table, one below the other.

    What is published stands beside those of ``known``: a file may be called as a metric is.
    """
    score = {"subset": summarize, "group": group_scores}[by]
    parts = []
    for metric, table in tables.items():
        part = score(table, seed=seed)
        part.insert(0, "metric", metric)
        part.insert(1, "dataset", data.name)
        part["max_shift"] = max_shift_of(table)
        if by == "group":
            published = published_of("comparison_bapps", metric) if metric in known else {}
            for name in ("two_afc", *_shifts(part)):
                part[f"published_{name}"] = float(published.get(name, "nan"))
                part.loc[part["group"] != "all", f"published_{name}"] = float("nan")
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _shifts(scores: pd.DataFrame) -> list[str]:
    """The columns of r_rf, without their bounds."""
    return [name for name in scores if name.startswith("rrf_") and name.count("_") == 1]


def _conditions(data: Data, tables: Mapping[str, pd.DataFrame]) -> str:
    first = next(iter(tables.values()))
    n = len(first[first["view"] == "full"])
    size = f" of {data.size} px" if data.size else ""
    return f"{data.name}, {n} triplets{size}, largest shift {max_shift_of(first)} px"


def _page(
    data: Data,
    conditions: str,
    tables: Mapping[str, pd.DataFrame],
    groups: pd.DataFrame,
    differences: tuple[pd.DataFrame | None, pd.DataFrame | None],
    left_out: Mapping[str, str],
    command: str | None,
) -> str:
    first = next(iter(tables.values()))
    ceilings = ceilings_table(first)
    clustered = first["sample"].map(photograph).ne(first["sample"]).any()
    made = f" Made by `{command}`." if command else ""
    parts = [
        "# Metrics compared",
        f"Measured on {conditions}. {data.judge} accuracy: {data.accuracy}, in percent, the mean "
        "over subsets; r_rf n: share of triplets whose ranking a shift of n pixels flips, in "
        f"percent. In brackets 95 % bootstrap intervals"
        f"{', clustered by photograph' if clustered else ''}.{made}",
        _ceilings_text(ceilings, groups),
        to_markdown(_cells(groups[groups["group"] == "all"], ["metric"])),
    ]
    if groups["subsets"].nunique() > 1:
        rest = groups[groups["group"] != "all"]
        parts += ["## By group", to_markdown(_cells(rest, ["group", "metric"]))]
    if JUDGE in tables and data.judge == JUDGE_NOTES["sample"]:
        parts.append(f"{JUDGE} is the judge itself: its accuracy is 100 % by construction.")
    if left_out:
        names = "\n".join(f"- {name}: {reason}" for name, reason in left_out.items())
        parts += ["## Left out", names]
    overall, by_group = differences
    if overall is not None:
        parts += _differences_section(overall)
    if by_group is not None:
        parts += ["By group:", to_markdown(*_difference_rows(by_group))]
    parts += _published_section(tables)
    return "\n\n".join(parts) + "\n"


def _ceilings_text(ceilings: pd.DataFrame, groups: pd.DataFrame) -> str:
    """What accuracy the judgments allow: overall, and by group where there is more than one."""
    by_subset = ceilings.set_index("subset")
    texts = []
    # The last of those of the same subsets is "all".
    distinct = groups.drop_duplicates("subsets", keep="last")
    for group, members in distinct[["group", "subsets"]].to_numpy():
        mean = by_subset.loc[members.split(", "), ["oracle", "one_more_person"]].mean()
        texts.append(
            f"{group}: an oracle {mean['oracle']:.2f} %, "
            f"one more person {mean['one_more_person']:.2f} %"
        )
    return "Accuracy that the judgments allow: " + "; ".join(texts) + "."


def _cells(scores: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Each score with its interval as one cell."""
    cells = scores[labels].copy()
    cells["metric"] = [_title(name) for name in scores["metric"]]
    for name in ("two_afc", *_shifts(scores)):
        columns = scores[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        label = "accuracy" if name == "two_afc" else name.replace("rrf_", "r_rf ")
        cells[label] = [with_interval(*row, digits=2) for row in columns]
    return cells


def _title(metric: str) -> str:
    """The metric's name, and what tables call it where that says more."""
    title = entry(metric).title if metric in metric_names() else metric
    return metric if title.lower() == metric.lower() else f"{metric} ({title})"


def _differences_section(differences: pd.DataFrame) -> list[str]:
    names = list(dict.fromkeys([*differences["a"], *differences["b"]]))
    parts = [
        "## Which differences hold",
        "Paired bootstrap over the same triplets. A difference holds where its 95 % interval "
        "leaves out 0; nothing is corrected for the number of comparisons. McNemar's exact test "
        "on flips (p, with the triplets that only a and only b flips) takes triplets for "
        "independent, which patches of one photograph are not. Every pair is in differences.csv.",
    ]
    if len(names) <= _FEW:
        return [*parts, to_markdown(*_difference_rows(differences))]
    for quantity in [name for name in ("two_afc", "rrf_1") if name in set(differences["quantity"])]:
        parts += [
            f"{_label(quantity)}: `+` where the row's is higher than the column's and the "
            "difference holds, `-` where it is lower, `.` where none holds.",
            to_markdown(_matrix(differences[differences["quantity"] == quantity], names)),
        ]
    return parts


def _differences_by_group(
    tables: Mapping[str, pd.DataFrame], groups: pd.DataFrame, seed: int
) -> pd.DataFrame | None:
    """Every pair of a few metrics by group of BAPPS; None of many, or of a single group."""
    if not 1 < len(tables) <= _FEW or groups["subsets"].nunique() == 1:
        return None
    parts = []
    for a, b in itertools.combinations(tables, 2):
        part = group_differences(tables[a], tables[b], seed=seed)
        part = part.rename(columns={"a": "value_a", "b": "value_b"})
        part.insert(0, "a", a)
        part.insert(1, "b", b)
        parts.append(part[part["group"] != "all"])
    return pd.concat(parts, ignore_index=True)


def _difference_rows(differences: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """As a table is printed, and the formats of its numbers."""
    bounds = differences[["difference", "low", "high"]].to_numpy()
    rows = differences.assign(
        quantity=differences["quantity"].map(_label),
        difference=[with_interval(*row, digits=2) for row in bounds],
        holds=differences["holds"].map({True: "yes", False: "no"}),
    ).drop(columns=["low", "high"])
    formats = {"value_a": ".2f", "value_b": ".2f", "p_value": ".2g", "only_a": ".0f"}
    formats["only_b"] = ".0f"
    return rows, {name: spec for name, spec in formats.items() if name in rows}


def _label(quantity: str) -> str:
    return "accuracy" if quantity == "two_afc" else quantity.replace("rrf_", "r_rf ")


def _matrix(differences: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A row and a column a metric; columns by number, because names are long."""
    signs = {}
    for row in differences.to_dict("records"):
        sign = 0 if not row["holds"] else 1 if row["difference"] > 0 else -1
        signs[row["a"], row["b"]], signs[row["b"], row["a"]] = sign, -sign
    marks = {0: ".", 1: "+", -1: "-"}
    rows = []
    for i, a in enumerate(names, start=1):
        others = {
            str(j): marks[signs[a, b]] if a != b else "" for j, b in enumerate(names, start=1)
        }
        rows.append({"metric": f"{i} {a}"} | others)
    return pd.DataFrame(rows)


def _published_section(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """What the paper reports, all of it: on other patches and people's judgments."""
    ours = {title: name for name, title in PUBLISHED_NAMES.items() if name in tables}
    rows = published("comparison_bapps")
    rows.insert(1, "measured here", [ours.get(title) for title in rows["metric"]])
    formats = dict.fromkeys(("two_afc", "rrf_1", "rrf_2", "rrf_3"), ".2f")
    return [
        "## Published",
        "BAPPS val at 256x256, people's judgments (Ghildyal and Liu, ECCV 2022), in percent; not "
        "measured here.",
        to_markdown(rows, formats),
    ]
