"""Images optimised towards a target that lies two pixels away, with and without registration."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from robust_lpips.comparison import Metric
from robust_lpips.data.alignment import RADIUS
from robust_lpips.data.windows import as_images, as_input, cut_pairs, random_windows
from robust_lpips.distortions import Composition
from robust_lpips.evaluation.descent import descend, likeness
from robust_lpips.registered import Registered
from robust_lpips.studies.base import Tables, Tick
from robust_lpips.studies.registration.settings import Measured, RegistrationSettings
from robust_lpips.tables import to_markdown

# Columns between the target and what it shows.
OFFSET = 2
LEARNING_RATE = 0.01
START_DISTORTION = (("gaussian_blur", 0.4), ("gaussian_white_noise", 0.3))
_SHOWN = 3


def measure(settings: RegistrationSettings, metric: Metric, device: str, tick: Tick) -> Measured:
    """Tables ``descent`` and ``descent_results``, with ``loss`` or ``image``, and images.

    The tables are those of :func:`~robust_lpips.evaluation.descent.descend` and
    :func:`~robust_lpips.evaluation.descent.likeness`; the images the first uint8 (3, H, W, 3) of
    ``target``, ``sought`` (the target, unshifted), ``start`` and what each loss made of it.
    """
    size, seed = settings.image_size, settings.seed
    around = random_windows(settings.split, settings.examples, size + 2 * OFFSET, seed)
    pairs = cut_pairs(around, (0, -OFFSET), size)
    distorted = [
        Composition(START_DISTORTION, seed=seed + i)(window) for i, window in enumerate(pairs.first)
    ]
    sought, target, start = (
        as_input(images, device) for images in (pairs.first, pairs.second, distorted)
    )
    losses = {"unregistered": metric, "registered": Registered(metric, RADIUS)}
    made, curves = {"start": start}, []
    for name, loss in losses.items():
        made[name], curve = descend(
            loss,
            start,
            target,
            (0, -OFFSET),
            steps=settings.steps,
            learning_rate=LEARNING_RATE,
            radius=RADIUS,
            done=partial(tick, 1 / (len(losses) * settings.steps)),
        )
        curves.append(curve.assign(loss=name))
    results = [
        likeness(metric, images, target, OFFSET).assign(image=name) for name, images in made.items()
    ]
    tables = {"descent": curves, "descent_results": results}
    shown = {"target": target, "sought": sought, **made}
    return (
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        {name: as_images(images[:_SHOWN]) for name, images in shown.items()},
    )


def page_values(settings: RegistrationSettings, tables: Tables) -> dict[str, Any]:
    """Values of the page's section."""
    means = tables["descent_results"].drop(columns="window").groupby("image", sort=False).mean()
    means.columns = [name.replace("psnr", "PSNR (dB)").replace("_", " ") for name in means]
    formats = {name: ".4f" if name.startswith("distance") else ".2f" for name in means}
    rows = []
    for name, curve in tables["descent"].groupby("loss", sort=False):
        by_step = curve.groupby("step")["value"].mean()
        finite = f"{curve['finite'].sum()} of {len(curve)}"
        aligned = f"{100 * curve['aligned'].mean():.1f} %"
        rows.append((name, by_step.iloc[0], by_step.iloc[-1], finite, aligned))
    courses = pd.DataFrame(rows, columns=["loss", "first", "last", "finite", "aligned"])
    return {
        "start": " and ".join(f"{name} at severity {level}" for name, level in START_DISTORTION),
        "rate": LEARNING_RATE,
        "offset": OFFSET,
        "means": to_markdown(means.reset_index(), formats),
        "courses": to_markdown(courses, {"first": ".4f", "last": ".4f"}),
    }
