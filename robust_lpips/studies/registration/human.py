"""Distances of windows some columns apart, by a metric unregistered and registered."""

from __future__ import annotations

import pandas as pd
import torch

from robust_lpips.comparison import Metric
from robust_lpips.registered import Registered
from robust_lpips.studies.base import Tick
from robust_lpips.studies.registration.settings import WIDE_RADIUS, Measured, RegistrationSettings
from robust_lpips.studies.registration.windows import as_input, cut_pairs, windows

UNREGISTERED, FREE, HUMAN = "unregistered", "registered", "registered, human"
SHIFTS = range(WIDE_RADIUS + 1)


@torch.no_grad()
def measure(settings: RegistrationSettings, metric: Metric, device: str, tick: Tick) -> Measured:
    """Table ``human_curves``, mean distances between windows some columns apart.

    One row per variant and shift: ``variant, shift`` (pixels), ``n``, and ``distance`` in the
    metric's own unit.
    """
    size = settings.image_size
    around = windows(settings.split, settings.n, size + 2 * SHIFTS[-1], settings.seed)
    variants = {
        UNREGISTERED: metric,
        FREE: Registered(metric, WIDE_RADIUS),
        HUMAN: Registered(metric, WIDE_RADIUS, "human").to(device),
    }
    rows = []
    for variant, distance in variants.items():
        for shift in SHIFTS:
            first, second, _ = cut_pairs(around, (0, -shift), size)
            mean = float(distance(as_input(first, device), as_input(second, device)).mean())
            rows.append((variant, shift, settings.n, mean))
            tick(1 / (len(variants) * len(SHIFTS)))
    return {"human_curves": pd.DataFrame(rows, columns=["variant", "shift", "n", "distance"])}, {}
