"""From a metric and judged images to numbers: distances are measured once, then scored."""

from robust_lpips.evaluation.bootstrap import photograph
from robust_lpips.evaluation.distances import max_shift_of, read_distances, write_distances
from robust_lpips.evaluation.measure import FeatureMetric, measure
from robust_lpips.evaluation.scores import (
    GROUPS,
    Ceilings,
    ceilings,
    ceilings_table,
    flip_details,
    group_scores,
    jnd_map,
    jnd_table,
    paired_difference,
    rank_flip_rate,
    rank_flips,
    summarize,
    triplet_outcomes,
    two_afc_score,
)
from robust_lpips.evaluation.shifts import FULL, ShiftViews, parse_view, view_name

__all__ = [
    "FULL",
    "GROUPS",
    "Ceilings",
    "FeatureMetric",
    "ShiftViews",
    "ceilings",
    "ceilings_table",
    "flip_details",
    "group_scores",
    "jnd_map",
    "jnd_table",
    "max_shift_of",
    "measure",
    "paired_difference",
    "parse_view",
    "photograph",
    "rank_flip_rate",
    "rank_flips",
    "read_distances",
    "summarize",
    "triplet_outcomes",
    "two_afc_score",
    "view_name",
    "write_distances",
]
