"""Numbers that the papers report, as data, to be printed next to measured ones.

From Ghildyal and Liu, ECCV 2022 (arXiv 2207.13686); ``iqa_lpips`` are results of LPIPS (Zhang et
al., CVPR 2018) that a public leaderboard collects. Units: percent, except ``jnd_map`` (in [0, 1])
and distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib import resources

import pandas as pd

TABLES = (
    "comparison_bapps",
    "comparison_clic",
    "iqa_lpips",
    "jnd",
    "shift_examples",
    "user_study",
)

# Names in the papers of metrics of robust_lpips.comparison. Rows of their tables that name another
# training than the released weights' are not ours and keep their own line; so does E-LPIPS, of
# which ours has another network inside.
PUBLISHED_NAMES = {
    "l2": "L2",
    "ssim": "SSIM",
    "cw-ssim": "CW-SSIM",
    "ms-ssim": "MS-SSIM",
    "pieapp-sparse": "PieAPP sparse",
    "pieapp-dense": "PieAPP dense",
    "pim-1": "PIM-1",
    "pim-5": "PIM-5",
    "gti-cnn": "GTI-CNN",
    "dists": "DISTS",
    "alexnet": "LPIPS (Alex)",
    "vgg16": "LPIPS (VGG)",
    "alexnet-vanilla": "LPIPS (Alex) retrained",
    "vgg16-vanilla": "LPIPS (VGG) retrained",
    "alexnet-shift-tolerant": "ST-LPIPS (Alex)",
    "vgg16-shift-tolerant": "ST-LPIPS (VGG)",
}
# Names of one table alone. That of CLIC does not say how PieAPP samples its patches, while that of
# BAPPS has both ways; sparse sampling is the default of its authors' released script.
_NAMES_IN_TABLE = {"comparison_clic": {"pieapp-sparse": "PieAPP"}}


def published(table: str) -> pd.DataFrame:
    """A table of published numbers.

    Raises:
        ValueError: if there is no such table.
    """
    if table not in TABLES:
        raise ValueError(f"table must be one of {', '.join(TABLES)}; got {table!r}")
    path = resources.files(__package__) / f"{table}.csv"
    with path.open("r", encoding="utf-8") as file:
        return pd.read_csv(file)


def published_of(table: str, metric: str) -> dict[str, float]:
    """The published numbers of one of our metrics; empty where the table has none.

    Raises:
        ValueError: if there is no such table, or it has no column ``metric``.
    """
    rows = published(table)
    if "metric" not in rows:
        raise ValueError(f"table must have a column metric; {table!r} has none")
    names = PUBLISHED_NAMES | _NAMES_IN_TABLE.get(table, {})
    row = rows[rows["metric"] == names.get(metric)]
    return {} if row.empty else row.select_dtypes("number").iloc[0].to_dict()


def published_scores(table: str, metrics: Iterable[str], score: str) -> list[float]:
    """One published number of each of our metrics, column ``score``; NaN where there is none.

    Raises:
        ValueError: if there is no such table, or it has no column ``metric``.
    """
    return [published_of(table, metric).get(score, math.nan) for metric in metrics]


def published_shares() -> dict[int, float]:
    """Shift in pixels -> share of answers, in [0, 1], that took the images for the same.

    Source: Ghildyal and Liu, ECCV 2022, the user study.
    """
    table = published("user_study")
    shares = table["percent_same"].to_numpy() / 100
    return dict(zip(table["shift"].tolist(), shares.tolist(), strict=True))


def published_answers() -> pd.DataFrame:
    """People's answers at each shift, with the columns of the user study's table that it reports.

    Columns: ``shift`` (pixels), ``answers``, ``said_same``, ``percent_same``, ``std_mean`` and
    ``std_std``, see :func:`robust_lpips.evaluation.people.people`.

    Source: Ghildyal and Liu, ECCV 2022, the user study.
    """
    table = published("user_study")
    answers = table["said_same"] + table.pop("said_shifted")
    return table.assign(answers=answers)
