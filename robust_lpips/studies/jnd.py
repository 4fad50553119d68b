"""Just noticeable differences: are distances small for what people do not see?

Pairs are sorted by a metric's distance, and the score is the average precision with which that
finds the pairs that people took for the same image (Zhang et al., CVPR 2018, section 2.2). The
pairs are those of BAPPS, those of the study of small shifts (Ghildyal and Liu, ECCV 2022), or,
with nothing downloaded, photographs shifted here under the answers that this study reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data import JNDDataset, ShiftedPhotographs, UserStudyPairs
from robust_lpips.data.user_study import SIDE
from robust_lpips.evaluation import jnd_map, jnd_table
from robust_lpips.published import published, published_scores, published_shares
from robust_lpips.studies import base
from robust_lpips.studies.base.defaults import QUICK_METRICS
from robust_lpips.tables import to_markdown, with_interval

_PUBLISHED = "mAP, published (BAPPS JND)"
_JUDGED_BY = "People judged these pairs: same is the share of {} for one image."
_NOT_JUDGED = (
    "same is the share that the paper's user study reports for a shift of that size (published), "
    "not judgments of these patches: the score says how well a metric orders shifts as people did."
)
_BIAS = (
    " Distances of one shift differ between photographs, of which a resample holds fewer: the "
    "intervals lie somewhat high."
)


@dataclass(frozen=True)
class JNDSettings(base.Settings):
    """Settings of the study of just noticeable differences.

    Raises:
        ValueError: if two data sets are named, or stimuli without answers or the reverse.
    """

    data_root: Path | None = base.option(None, "folder of BAPPS, which holds jnd")
    user_study: Path | None = base.option(
        None, "folder of the stimuli of the study of small shifts"
    )
    responses: Path | None = base.option(None, "file with people's answers to these stimuli (JSON)")
    image_size: int = base.option(
        64, "side of the patches in pixels; the stimuli stay 256", least=1
    )
    crops: int = base.option(8, "places in each photograph that is shifted here", least=1)
    seed: int = base.option(0, "seed of crops, of random weights and of the intervals", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_root is not None and self.user_study is not None:
            raise ValueError("data_root and user_study are two data sets: give one of them")
        if (self.user_study is None) != (self.responses is None):
            raise ValueError("user_study and responses go together: give both or neither")

    @property
    def side(self) -> int:
        """Side of the compared images in pixels."""
        return self.image_size if self.user_study is None else SIDE

    def source(self) -> base.Source:
        """The pairs."""
        size = f"{self.side}x{self.side} px"
        if self.data_root is not None:
            judged_by = _JUDGED_BY.format("them who took a pair")
            dataset = base.packed_or_read(JNDDataset(self.data_root, image_size=self.image_size))
            return base.Source("BAPPS JND val", judged_by, "mAP", "", size, dataset)
        if self.user_study is not None:
            judged_by = _JUDGED_BY.format("answers that took a pair")
            dataset = UserStudyPairs(self.user_study, self.responses)
            return base.Source("study of small shifts", judged_by, "mAP", "image", size, dataset)
        dataset = ShiftedPhotographs(published_shares(), self.image_size, self.crops, self.seed)
        return base.Source("shifted photographs", _NOT_JUDGED, "mAP", "photograph", size, dataset)


def parts(settings: JNDSettings) -> dict[str, base.Part]:
    """The pairs, the only part; of larger ones fewer at a time, so that memory stays the same."""
    batch_size = max(1, 50 * 64**2 // settings.side**2)
    return {"": base.Part(base.source_of(settings).dataset, batch_size=batch_size)}


def tables(results: base.Results[JNDSettings]) -> dict[str, pd.DataFrame]:
    """``jnd``: average precision of each metric on each subset, and the mean over subsets.

    Columns: ``metric, dataset, subset, n, image_size, seed``; ``jnd_map, low, high`` in [0, 1],
    the bounds of 95 % intervals; ``published_jnd_map``, on the rows ``mean`` and of BAPPS whatever
    the data here; and ``judged_by``, whose answers ``same`` is.
    """
    settings, source, parts = results.settings, results.source, []
    for metric, distances in results.distances().items():
        scores = jnd_table(distances, seed=settings.seed)
        known = published_scores("jnd", [metric], "jnd_map")[0]
        columns = {
            "metric": metric,
            "dataset": source.name,
            "subset": scores["subset"],
            "n": scores["n"],
            "image_size": settings.side,
            "seed": settings.seed,
            "jnd_map": scores["jnd"] / 100,
            "low": scores["jnd_low"] / 100,
            "high": scores["jnd_high"] / 100,
            "published_jnd_map": np.where(scores["subset"] == "mean", known, np.nan),
            "judged_by": source.judged_by,
        }
        parts.append(pd.DataFrame(columns))
    return {"jnd": pd.concat(parts, ignore_index=True)}


def bounds(distances: pd.DataFrame) -> tuple[float, float]:
    """Average precision, in [0, 1], of pairs that no metric tells apart, and of the best order.

    Means over subsets, from the shares ``same`` of the table alone. In the best order nobody took
    a pair for the same more often than an earlier one.
    """
    shares = [rows["same"].to_numpy() for _, rows in distances.groupby("subset")]
    floor = np.mean([jnd_map(np.zeros(len(same)), same) for same in shares])
    return float(floor), float(np.mean([jnd_map(-same, same) for same in shares]))


def page(results: base.Results[JNDSettings], tables: base.Tables) -> list[str]:
    """Means, subsets, and what is published."""
    source, table = results.source, tables["jnd"]
    numbers = table[["jnd_map", "low", "high"]].to_numpy()
    cells = table.assign(cell=[with_interval(*row, 3) for row in numbers])
    floor, best = bounds(next(iter(results.distances().values())))
    shown = {"metric": "metric", "cell": "mAP, measured", "published_jnd_map": _PUBLISHED}
    blocks = [
        "# Just noticeable differences",
        f"{_conditions(results, table)}. {source.judged_by}",
        "mAP is the average precision, in [0, 1], with which small distances find the pairs that "
        f"people took for the same, with 95 % bootstrap intervals{source.clustered}. A "
        f"metric that tells no pair from another gets {floor:.3f}, the best order of these pairs "
        f"{best:.3f}.{_BIAS if source.judged_by == _NOT_JUDGED else ''}",
        "## Measured",
        to_markdown(_means(cells)[list(shown)].rename(columns=shown), {_PUBLISHED: ".3f"}),
    ]
    subsets = cells[cells["subset"] != "mean"]
    if subsets["subset"].nunique() > 1:
        by_subset = base.pivot_in_order(subsets, "metric", "subset", "cell")
        blocks += ["## Measured, by subset", to_markdown(by_subset)]
    return [
        *blocks,
        "## Published",
        "Ghildyal and Liu, ECCV 2022, on the JND pairs of BAPPS.",
        to_markdown(published("jnd").rename(columns={"jnd_map": "mAP"}), {"mAP": ".3f"}),
    ]


def figures(results: base.Results[JNDSettings], tables: base.Tables) -> dict[str, Figure]:
    """``jnd``: one line per metric, its score with its interval, and hollow what is published."""
    names = {"jnd_map": "value", "published_jnd_map": "published"}
    scores = _means(tables["jnd"]).rename(columns=names)
    conditions = f"{_conditions(results, scores)}; published: BAPPS JND"
    title = base.figure_title("Just noticeable differences", conditions, results.source.judged_by)
    return {"jnd": plotting.score_figure(scores, title, "mAP, higher is better")}


def records(results: base.Results[JNDSettings], tables: base.Tables) -> Iterator[base.Record]:
    """The mean over subsets of each metric."""
    for row in _means(tables["jnd"]).to_dict("records"):
        scores = {"jnd_map": (row["jnd_map"], row["low"], row["high"])}
        yield base.Record(row["metric"], row["n"], scores, results.weights[row["metric"]])


STUDY = base.Study(
    "jnd", JNDSettings, tables, page, figures, records, metrics=QUICK_METRICS, parts=parts
)


def _means(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["subset"] == "mean"].reset_index(drop=True)


def _conditions(results: base.Results[JNDSettings], table: pd.DataFrame) -> str:
    n, seed = _means(table)["n"].iloc[0], results.settings.seed
    return base.conditions(results.source, n, unit="pairs", seed=seed)
