"""The skeleton of every study: settings, sources of data, tasks, one runner, records."""

from robust_lpips import records
from robust_lpips.data import evenly_spaced, packed_or_read
from robust_lpips.records import Record, with_bounds
from robust_lpips.studies.base.defaults import QUICK_METRICS
from robust_lpips.studies.base.measuring import MetricTask, Part, file_stem
from robust_lpips.studies.base.page import filled
from robust_lpips.studies.base.settings import Settings, TripletSettings, option
from robust_lpips.studies.base.source import Source, source_of, triplets
from robust_lpips.studies.base.study import Plan, Results, Study, Tables, metric_tasks
from robust_lpips.studies.base.words import (
    conditions,
    difference_cell,
    figure_title,
    interval_cells,
    pivot_in_order,
    quantity_label,
    rank_flip_columns,
    run_conditions,
    stacked,
)
from robust_lpips.tasks.task import LeftOut, Task, Tick

__all__ = [
    "QUICK_METRICS",
    "LeftOut",
    "MetricTask",
    "Part",
    "Plan",
    "Record",
    "Results",
    "Settings",
    "Source",
    "Study",
    "Tables",
    "Task",
    "Tick",
    "TripletSettings",
    "conditions",
    "difference_cell",
    "evenly_spaced",
    "figure_title",
    "file_stem",
    "filled",
    "interval_cells",
    "metric_tasks",
    "option",
    "packed_or_read",
    "pivot_in_order",
    "quantity_label",
    "rank_flip_columns",
    "records",
    "run_conditions",
    "source_of",
    "stacked",
    "triplets",
    "with_bounds",
]
