"""Distances of windows some columns apart, and how many people notice such a shift."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from robust_lpips.comparison import Metric
from robust_lpips.data.alignment import WIDE_RADIUS
from robust_lpips.data.user_study import read_responses
from robust_lpips.data.windows import as_input, cut_pairs, random_windows
from robust_lpips.evaluation.noticed import agreement, noticed_shares, split_half
from robust_lpips.registered import Registered
from robust_lpips.studies.base import Tables, Tick, interval_cells
from robust_lpips.studies.registration.settings import Measured, RegistrationSettings
from robust_lpips.tables import to_markdown

UNREGISTERED, FREE, HUMAN = "unregistered", "registered", "registered, human"
SHIFTS = range(WIDE_RADIUS + 1)


@torch.no_grad()
def measure(settings: RegistrationSettings, metric: Metric, device: str, tick: Tick) -> Measured:
    """Table ``human_curves``, mean distances between windows some columns apart.

    One row per variant and shift: ``variant, shift`` (pixels), ``n``, and ``distance`` in the
    metric's own unit.
    """
    size = settings.image_size
    around = random_windows(settings.split, settings.n, size + 2 * SHIFTS[-1], settings.seed)
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


def scored(settings: RegistrationSettings, curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables of people, and of the curves' agreement with them.

    ``human_people`` (:func:`~robust_lpips.evaluation.noticed.noticed_shares`), ``human_scores``
    (:func:`~robust_lpips.evaluation.noticed.agreement`), and with a file of answers
    ``human_halves`` (:func:`~robust_lpips.evaluation.noticed.split_half`), without the curves that
    the answers calibrated.
    """
    responses = None if settings.responses is None else read_responses(settings.responses)
    people = noticed_shares(responses, settings.seed)
    tables = {
        "human_people": people,
        "human_scores": agreement(curves, people["noticed"].to_numpy()),
    }
    if responses is not None:
        own = curves[curves["variant"] != HUMAN]
        tables["human_halves"] = split_half(responses, own, settings.splits, settings.seed)
    return tables


def who(settings: RegistrationSettings, people: pd.DataFrame) -> str:
    """Origin of people's answers and kind of their interval, for captions."""
    kind = "as if answers were independent" if settings.responses is None else "over stimuli"
    return f"people: {people['answers'].sum()} answers, band: 95 % interval {kind}"


def page_values(settings: RegistrationSettings, tables: Tables) -> dict[str, Any]:
    """Values of the page's section."""
    people, curves, halves = (
        tables.get(f"human_{name}") for name in ("people", "curves", "halves")
    )
    shares = people[["shift", "answers", "said_same"]]
    keys, cells = ["metric", "variant"], curves["distance"].map("{:.3g}".format)
    wide = curves.assign(shift=curves["shift"].map("{} px".format), distance=cells)
    wide = wide.pivot(index=keys, columns="shift", values="distance")
    wide = wide.loc[list(curves[keys].drop_duplicates().itertuples(index=False, name=None))]
    numbers = {"spearman": ".3f", "factor": ".3g", "mse": ".4f", "mse_monotone": ".4f"}
    return {
        "farthest": SHIFTS[-1],
        "who": who(settings, people),
        "people": to_markdown(shares.assign(noticed=interval_cells(people, "noticed", 2))),
        "distances": to_markdown(wide.reset_index()),
        "scores": to_markdown(tables["human_scores"], numbers),
        "splits": None if halves is None else settings.splits,
        "halves": None
        if halves is None
        else to_markdown(halves, {"mse": ".4f", "spearman": ".3f"}),
    }
