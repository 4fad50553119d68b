"""Just noticeable differences: are distances small for what people do not see?

Pairs are sorted by a metric's distance, and the score is the average precision with which that
finds the pairs that people took for the same image (Zhang et al., CVPR 2018, section 2.2). The
pairs are those of BAPPS, those of the study of small shifts (Ghildyal and Liu, ECCV 2022), or,
with nothing downloaded, photographs shifted here under the answers that this study reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robust_lpips import plotting
from robust_lpips.data import JNDDataset, ShiftedPhotographs, UserStudyPairs
from robust_lpips.data.user_study import SIDE
from robust_lpips.evaluation import jnd_bounds, jnd_table
from robust_lpips.published import published, published_scores, published_shares
from robust_lpips.studies import base
from robust_lpips.tables import to_markdown, with_interval

_JUDGED_BY = "People judged these pairs: same is the share of {} took a pair for one image."
_NOT_JUDGED = (
    "same is the share that the paper's user study reports for a shift of that size (published), "
    "not judgments of these patches: the score says how well a metric orders shifts as people did."
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
        """The pairs; of larger ones fewer are loaded at a time, so that memory stays the same."""
        if self.data_root is not None:
            name, cluster, answers = "BAPPS JND val", "", "them who"
            dataset = base.packed_or_read(JNDDataset(self.data_root, image_size=self.image_size))
        elif self.user_study is not None:
            name, cluster, answers = "study of small shifts", "image", "answers that"
            dataset = UserStudyPairs(self.user_study, self.responses)
        else:
            name, cluster, answers = "shifted photographs", "photograph", ""
            dataset = ShiftedPhotographs(published_shares(), self.image_size, self.crops, self.seed)
        judged_by = _JUDGED_BY.format(answers) if answers else _NOT_JUDGED
        size, batch_size = f"{self.side}x{self.side} px", max(1, 50 * 64**2 // self.side**2)
        return base.Source(name, judged_by, "mAP", cluster, size, dataset, batch_size)


def tables(results: base.Results[JNDSettings]) -> dict[str, pd.DataFrame]:
    """``jnd``: average precision of each metric on each subset, and the mean over subsets.

    Columns: ``metric, dataset, subset, n, image_size, seed``; ``jnd_map, low, high`` in [0, 1],
    the bounds of 95 % intervals; ``published_jnd_map``, on the rows ``mean`` and of BAPPS whatever
    the data here; and ``judged_by``, whose answers ``same`` is.
    """
    settings, source = results.settings, results.source
    scores = {
        name: jnd_table(each, seed=settings.seed) for name, each in results.distances().items()
    }
    table = pd.concat(scores, names=["metric"]).reset_index("metric").reset_index(drop=True)
    known = published_scores("jnd", table["metric"], "jnd_map")
    columns = {
        "metric": table["metric"],
        "dataset": source.name,
        "subset": table["subset"],
        "n": table["n"],
        "image_size": settings.side,
        "seed": settings.seed,
        "jnd_map": table["jnd"] / 100,
        "low": table["jnd_low"] / 100,
        "high": table["jnd_high"] / 100,
        "published_jnd_map": np.where(table["subset"] == "mean", known, np.nan),
        "judged_by": source.judged_by,
    }
    return {"jnd": pd.DataFrame(columns)}


def page(results: base.Results[JNDSettings], tables: base.Tables) -> list[str]:
    """Means, subsets, and what is published."""
    source, table = results.source, tables["jnd"]
    numbers = table[["jnd_map", "low", "high"]].to_numpy()
    table = table.assign(cell=[with_interval(*row, 3) for row in numbers])
    names = {"cell": "mAP, measured", "published_jnd_map": "mAP, published (BAPPS JND)"}
    means = _means(table)[["metric", *names]].rename(columns=names)
    subsets = base.pivot_in_order(table[table["subset"] != "mean"], "metric", "subset", "cell")
    floor, best = jnd_bounds(next(iter(results.distances().values())))
    return base.filled(
        "jnd",
        conditions=base.run_conditions(results, "pairs"),
        source=source,
        floor=floor,
        best=best,
        shifts=len(published_shares()) if source.judged_by == _NOT_JUDGED else None,
        means=to_markdown(means, {names["published_jnd_map"]: ".3f"}),
        subsets=to_markdown(subsets) if len(subsets.columns) > 2 else None,
        published=to_markdown(published("jnd").rename(columns={"jnd_map": "mAP"}), {"mAP": ".3f"}),
    )


def figures(results: base.Results[JNDSettings], tables: base.Tables) -> dict[str, Figure]:
    """``jnd``: one line per metric, its score with its interval, and hollow what is published."""
    names = {"jnd_map": "value", "published_jnd_map": "published"}
    conditions = f"{base.run_conditions(results, 'pairs')}; published: BAPPS JND"
    title = base.figure_title("Just noticeable differences", conditions, results.source.judged_by)
    scores = _means(tables["jnd"]).rename(columns=names)
    return {"jnd": plotting.score_figure(scores, title, "mAP, higher is better")}


def records(results: base.Results[JNDSettings], tables: base.Tables) -> list[base.Record]:
    """The mean over subsets of each metric."""
    bounds = {"low": "jnd_map_low", "high": "jnd_map_high"}
    return results.records(_means(tables["jnd"]).rename(columns=bounds), ["jnd_map"])


STUDY = base.Study("jnd", JNDSettings, tables, page, figures, records, base.QUICK_METRICS)


def _means(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["subset"] == "mean"].reset_index(drop=True)
