"""Pairs that alignment may get wrong or hide, before and after alignment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from robust_lpips.comparison import Metric
from robust_lpips.data.alignment import RADIUS, WIDE_RADIUS, hard_pairs
from robust_lpips.data.windows import as_input
from robust_lpips.evaluation.translations import case_means
from robust_lpips.registered import Registered
from robust_lpips.studies.base import Tables, Tick
from robust_lpips.studies.registration.settings import Measured, RegistrationSettings
from robust_lpips.tables import to_markdown

_DISTANCES = ["unregistered", "registered", "human"]


@torch.no_grad()
def measure(settings: RegistrationSettings, metric: Metric, device: str, tick: Tick) -> Measured:
    """Table ``failures``, and the first pair of each case, uint8 ``pairs`` (C, 2, H, W, 3).

    One row per case and pair: ``case, radius, pair``; the true shift ``true_rows, true_columns``
    (NaN: none) and the estimate ``rows, columns`` in pixels; and in the metric's own unit
    ``unregistered, registered`` and ``human``, registered with that penalty.
    """
    size, seed = settings.image_size, settings.seed
    cases, parts = list(hard_pairs(settings.split, settings.examples, size, seed)), []
    variants = {
        radius: (Registered(metric, radius), Registered(metric, radius, "human").to(device))
        for radius in (RADIUS, WIDE_RADIUS)
    }
    for case in cases:
        pair = as_input(case.first, device), as_input(case.second, device)
        registered, human = variants[case.radius]
        estimates = registered.translation(*pair).cpu()
        columns = {
            "case": case.name,
            "radius": case.radius,
            "pair": range(len(case.first)),
            "true_rows": case.shift[0],
            "true_columns": case.shift[1],
            "rows": estimates[:, 0],
            "columns": estimates[:, 1],
            "unregistered": metric(*pair).cpu(),
            "registered": registered(*pair).cpu(),
            "human": human(*pair).cpu(),
        }
        parts.append(pd.DataFrame(columns))
        tick(1 / len(cases))
    pairs = np.stack([(case.first[0], case.second[0]) for case in cases])
    return {"failures": pd.concat(parts, ignore_index=True)}, {"pairs": pairs}


def page_values(settings: RegistrationSettings, tables: Tables) -> dict[str, Any]:
    """Values of the page's section."""
    means = case_means(tables["failures"], _DISTANCES)
    for name, axes in {"true": "true_{}", "first estimate": "{}"}.items():
        pairs = zip(*(means.pop(axes.format(axis)) for axis in ("rows", "columns")), strict=True)
        means.insert(means.columns.get_loc("stayed"), name, [_cell(*pair) for pair in pairs])
    formats = {"stayed": ".0f", "right": ".0f", **dict.fromkeys(_DISTANCES, ".4f")}
    return {"means": to_markdown(means, formats)}


def _cell(rows: float, columns: float) -> str | None:
    return None if math.isnan(rows) else f"({rows:g}, {columns:g})"
