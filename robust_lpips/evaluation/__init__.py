"""Evaluation of metrics on judged images: distances are measured once, then scored."""

from robust_lpips.evaluation.bootstrap import photograph
from robust_lpips.evaluation.correlation import (
    STATISTICS,
    correlation_table,
    fit_logistic,
    krcc,
    logistic,
    plcc,
    srcc,
)
from robust_lpips.evaluation.distances import max_shift_of, read_distances, write_distances
from robust_lpips.evaluation.measure import FeatureMetric, measure
from robust_lpips.evaluation.released_tables import read_any_distances
from robust_lpips.evaluation.scores import (
    GROUPS,
    Ceilings,
    ceilings,
    ceilings_table,
    flip_details,
    group_scores,
    jnd_bounds,
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
from robust_lpips.evaluation.significance import McNemar, compare_pairs, group_differences, mcnemar

__all__ = [
    "FULL",
    "GROUPS",
    "STATISTICS",
    "Ceilings",
    "FeatureMetric",
    "McNemar",
    "ShiftViews",
    "ceilings",
    "ceilings_table",
    "compare_pairs",
    "correlation_table",
    "fit_logistic",
    "flip_details",
    "group_differences",
    "group_scores",
    "jnd_bounds",
    "jnd_map",
    "jnd_table",
    "krcc",
    "logistic",
    "max_shift_of",
    "mcnemar",
    "measure",
    "paired_difference",
    "parse_view",
    "photograph",
    "plcc",
    "rank_flip_rate",
    "rank_flips",
    "read_any_distances",
    "read_distances",
    "srcc",
    "summarize",
    "triplet_outcomes",
    "two_afc_score",
    "view_name",
    "write_distances",
]
