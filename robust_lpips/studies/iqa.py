"""Image quality: how well metrics' distances agree with scores of distorted images.

On a published set the scores are people's. With nothing downloaded, photographs are distorted in
known ways at growing severities: what is asked then is whether a metric's distance grows with the
severity of one type of distortion, whatever the photograph, and no one's opinion is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from robust_lpips.data import IQA_DATASETS, GradedSeverities, IQADataset
from robust_lpips.evaluation import STATISTICS, correlation_table
from robust_lpips.plots import plot_correlations
from robust_lpips.studies import records
from robust_lpips.studies.folder import claim
from robust_lpips.studies.measured import measure_all
from robust_lpips.studies.published import published
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

DEFAULT_METRICS = (
    "l2",
    "psnr",
    "ssim",
    "ms-ssim",
    "fsim",
    "gmsd",
    "vif",
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
    "alexnet-untrained",
)
GRADED = "graded"
DATASETS = (GRADED, *IQA_DATASETS, "csv")
SEVERITY_NOTE = "score is the severity of a known distortion, not people's opinion"

# Pairs at a time: published images are some hundred pixels wide.
_BATCH = 8


@dataclass(frozen=True)
class Settings:
    """What is measured on, whatever the metric.

    Attributes:
        dataset: one of ``DATASETS``.
        data_root: folder of a published set, or the CSV; None for graded severities.
        higher_is_better: whether a higher score is a better image; for a CSV alone, where it has
            to be said.
        image_size: side of the crops of graded severities in pixels.
        crops: of each photograph, for graded severities.
        seed: of crops and distortions, of random weights and of the intervals.
    """

    dataset: str = GRADED
    data_root: str | None = None
    higher_is_better: bool | None = None
    image_size: int = 96
    crops: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"dataset must be one of {', '.join(DATASETS)}; got {self.dataset!r}")
        if (self.data_root is None) != (self.dataset == GRADED):
            wanted = "None for" if self.dataset == GRADED else "the path of"
            raise ValueError(f"data_root must be {wanted} {self.dataset}; got {self.data_root!r}")
        if (self.higher_is_better is None) == (self.dataset == "csv"):
            raise ValueError(
                "higher_is_better must be given for csv, and only for it; "
                f"got {self.higher_is_better!r} for {self.dataset}"
            )

    def load(self) -> IQADataset | GradedSeverities:
        """The pairs."""
        if self.dataset == GRADED:
            return GradedSeverities(self.image_size, self.crops, self.seed)
        if self.dataset == "csv":
            return IQADataset.from_csv(self.data_root, self.higher_is_better)
        return IQA_DATASETS[self.dataset](self.data_root)

    @property
    def headline(self) -> str:
        """The row that sums up: severities of different types are not comparable."""
        return "mean" if self.dataset == GRADED else "all"

    @property
    def judged_by(self) -> str:
        """Whose verdicts the scores are."""
        return (
            SEVERITY_NOTE if self.dataset == GRADED else "score is people's opinion, as published"
        )


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure what is not yet measured, write table, plot, page and records, and return the page.

    Into ``output`` go the distances of each metric, which are read and not measured again where
    they are there already, ``settings.json``, ``records.jsonl``, and ``iqa`` as ``.csv``
    (:func:`correlations`), ``.md`` and ``.png``.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run under the same settings.
        metrics: as :func:`robust_lpips.comparison.load_metric` takes them. Those that cannot be
            measured are left out, and the page says why.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: unknown or repeated metrics, none that can be scored, or ``output`` holds
            results of other settings.
    """
    output = Path(output)
    dataset = settings.load()
    claim(output, asdict(settings))
    measured = measure_all(
        metrics, dataset, output, device=device, seed=settings.seed, batch_size=_BATCH
    )
    table, unscored = correlations(measured.tables, dataset, settings)
    left_out = measured.left_out | unscored
    if table.empty:
        raise ValueError(f"no metric can be scored: {'; '.join(left_out.values())}")
    write_csv(table, output / "iqa.csv")
    plot_correlations(
        table,
        output / "iqa.png",
        f"Agreement of metrics with {_scores(settings)}\n{_subtitle(table, settings)};\n"
        f"{settings.judged_by}",
        settings.headline,
    )
    page = report(table, settings, left_out, command)
    write_text(output / "iqa.md", page)
    for row in table[table["subset"] == settings.headline].to_dict("records"):
        graded = settings.dataset == GRADED
        records.append(
            output,
            benchmark="image quality",
            metric=row["metric"],
            dataset=dataset.name,
            judged_by=f"{settings.judged_by[0].upper()}{settings.judged_by[1:]}.",
            n=row["n"],
            scores={
                name: (row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in STATISTICS
            },
            weights=measured.weights[row["metric"]],
            command=command,
            image_size=f"{settings.image_size}x{settings.image_size}" if graded else None,
            crops=settings.crops if graded else None,
            over=_over(settings),
            seed=settings.seed,
        )
    return page


def correlations(
    distances: Mapping[str, pd.DataFrame],
    dataset: IQADataset | GradedSeverities,
    settings: Settings,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of correlations, and by name why metrics have none.

    Returns:
        ``metric, dataset`` and the columns of
        :func:`~robust_lpips.evaluation.correlation_table`; of graded severities without the row
        ``all``, because severities of different types are not comparable; and ``judged_by``,
        which says whose scores they are.
    """
    parts, unscored = [], {}
    for metric, table in distances.items():
        try:
            part = correlation_table(
                table, dataset.higher_is_better, seed=settings.seed, cluster=dataset.reference_of
            )
        except ValueError as error:
            # A metric that is blind to colour finds every change of colour alike.
            unscored[metric] = f"{metric} has no correlation: {error}"
            continue
        if settings.dataset == GRADED:
            part = part[part["subset"] != "all"]
        part.insert(0, "metric", metric)
        part.insert(1, "dataset", dataset.name)
        parts.append(part.assign(judged_by=settings.judged_by))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), unscored


def report(
    table: pd.DataFrame,
    settings: Settings,
    left_out: Mapping[str, str],
    command: str | None = None,
) -> str:
    """The Markdown page of :func:`correlations`: the headline, and SRCC a type of distortion."""
    summary = table[table["subset"] == settings.headline].sort_values(
        "srcc", ascending=False, kind="stable"
    )
    metrics = list(summary["metric"])
    headline = pd.DataFrame(
        {"metric": metrics}
        | {
            name.upper(): [
                with_interval(*row, digits=3)
                for row in summary[[name, f"{name}_low", f"{name}_high"]].to_numpy()
            ]
            for name in STATISTICS
        }
    )
    by_type = table[~table["subset"].isin(["all", "mean"])]
    types = list(by_type["subset"].unique())
    by_type = by_type.pivot(index="subset", columns="metric", values="srcc").loc[types, metrics]
    by_type = by_type.rename_axis(index="type", columns=None).reset_index()
    parts = [
        "# Image quality",
        f"{_subtitle(table, settings)}. **The {settings.judged_by}.**",
        *_graded_notes(settings),
        f"## Agreement, {_over(settings)}",
        "Spearman's, Pearson's (after a logistic fit) and Kendall's correlation of distances with "
        "scores; positive is agreement. In brackets 95 % bootstrap intervals over references; for "
        "PLCC the fitted curve is held. With few references the intervals lie high: pairs of one "
        "that is drawn twice agree with each other.",
        to_markdown(headline),
        "## SRCC by type of distortion",
        to_markdown(by_type, dict.fromkeys(metrics, ".3f")),
        *_published_rows(table["dataset"].iloc[0]),
    ]
    if left_out:
        parts += ["## Left out", "\n".join(f"- {reason}" for reason in left_out.values())]
    if command is not None:
        parts += ["## Made by", f"```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def _graded_notes(settings: Settings) -> list[str]:
    if settings.dataset != GRADED:
        return []
    return [
        f"Crops of {settings.image_size}x{settings.image_size} px of the photographs for "
        "validation, each distorted in every way at severities 0.2 to 1. Severities of different "
        "types are not comparable, so that correlations are taken within each type, over all "
        "photographs, and their mean sums up; there is none over all pairs."
    ]


def _published_rows(name: str) -> list[str]:
    """What is published of LPIPS on the set; other splits of it are named in brackets."""
    rows = published("iqa_lpips")
    rows = rows[rows["dataset"].str.partition(" (")[0] == name]
    if rows.empty:
        return []
    return [
        "## Published",
        "Of LPIPS, as a public leaderboard collects them; not measured here. A split that is not "
        "all of the set is in brackets.",
        to_markdown(rows, {"value": ".3f"}),
    ]


def _subtitle(table: pd.DataFrame, settings: Settings) -> str:
    """What the numbers are of, in one line."""
    return f"{table['dataset'].iloc[0]}, {table['n'].max()} pairs, seed {settings.seed}"


def _scores(settings: Settings) -> str:
    return "graded severities" if settings.dataset == GRADED else "people's scores"


def _over(settings: Settings) -> str:
    return "mean over types of distortion" if settings.dataset == GRADED else "over all pairs"
