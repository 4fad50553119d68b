"""Metrics for comparisons, by name: callables of two batches of images."""

from robust_lpips.comparison.elpips import ELPIPS
from robust_lpips.comparison.pixels import l1, l2, psnr
from robust_lpips.comparison.registry import (
    Entry,
    Metric,
    MetricUnavailable,
    check_names,
    entry,
    load_metric,
    load_metrics,
    metric_names,
)
from robust_lpips.comparison.structure import ssim

__all__ = [
    "ELPIPS",
    "Entry",
    "Metric",
    "MetricUnavailable",
    "check_names",
    "entry",
    "l1",
    "l2",
    "load_metric",
    "load_metrics",
    "metric_names",
    "psnr",
    "ssim",
]
