"""Images optimised towards a target that lies two pixels away, with and without registration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import trange

from robust_lpips.comparison import load_metric
from robust_lpips.distortions import Composition
from robust_lpips.plots import plot_descent
from robust_lpips.registered import Registered
from robust_lpips.registration import estimate_translation
from robust_lpips.studies.registration.settings import RADIUS, Settings
from robust_lpips.studies.registration.windows import Pairs, as_input, cut_pairs, windows
from robust_lpips.tables import to_markdown, write_csv

START, UNREGISTERED, REGISTERED = "start", "unregistered", "registered"

# Columns that the target lies off.
OFFSET = 2
START_DISTORTION = (("gaussian_blur", 0.4), ("gaussian_white_noise", 0.3))
LEARNING_RATE = 0.01

_SHOWN = 3


def run(settings: Settings, output: Path, metric: str, device: torch.device | str) -> str:
    """Optimise, write ``descent*.csv`` and ``descent.png``, and return the section."""
    distance = load_metric(metric, device, settings.seed)
    losses = {UNREGISTERED: distance, REGISTERED: Registered(distance, RADIUS)}
    pairs = make_pairs(settings)
    first, target = (as_input(images, device) for images in (pairs.first, pairs.second))
    start = as_input(_starts(settings, pairs), device)
    images, curves = {START: start}, []
    for name, loss in losses.items():
        images[name], curve = descend(loss, start, target, settings.steps)
        curves.append(curve.assign(loss=name))
    curves = pd.concat(curves, ignore_index=True)
    results = pd.concat(
        [score(distance, image, target).assign(image=name) for name, image in images.items()],
        ignore_index=True,
    )
    write_csv(curves, output / "descent.csv")
    write_csv(results, output / "descent_results.csv")
    shown = {"target": target, "sought": first, **images}
    plot_descent(
        curves,
        {name: _pixels(batch[:_SHOWN]) for name, batch in shown.items()},
        output / "descent.png",
        f"Descent to a target {OFFSET} px away\n"
        f"{metric}, Adam at {LEARNING_RATE:g}, {settings.examples} {settings.note}\n"
        "images: the first windows; sought: the target, unshifted; then the start and its ends",
    )
    return _section(settings, metric, curves, results)


def make_pairs(settings: Settings) -> Pairs:
    """What is sought, and the target, which shows it :data:`OFFSET` columns to the left."""
    side = settings.image_size + 2 * OFFSET
    around = windows(settings.split, settings.examples, side, side, settings.seed)
    shifts = np.tile([0, -OFFSET], (settings.examples, 1))
    return cut_pairs(around, shifts, settings.image_size)


def descend(
    loss: Callable[[Tensor, Tensor], Tensor], start: Tensor, target: Tensor, steps: int
) -> tuple[Tensor, pd.DataFrame]:
    """Minimise ``loss(images, target)`` over the images by Adam.

    Args:
        loss: differentiable, of two (N, 3, H, W) in [-1, 1], gives (N,).
        start: where the images start.
        target: what the loss compares them with.
        steps: of Adam; after each, values are clipped to [-1, 1].

    Returns:
        The images (N, 3, H, W), and a row a step and image: ``step, window, value``, the loss
        before the step; ``finite``, whether its gradient is; and ``aligned``, whether its estimated
        shift is the true one.
    """
    images = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=LEARNING_RATE)
    true = torch.tensor([0.0, -OFFSET], device=start.device)
    rows = []
    for step in trange(steps, desc="descent", unit="step"):
        optimizer.zero_grad()
        values = loss(images, target)
        values.sum().backward()
        finite = images.grad.isfinite().flatten(1).all(dim=1)
        estimates = estimate_translation(images.detach(), target, RADIUS)
        aligned = (estimates == true).all(dim=1)
        cells = (each.tolist() for each in (values.detach(), finite, aligned))
        rows += [(step, i, *row) for i, row in enumerate(zip(*cells, strict=True))]
        optimizer.step()
        with torch.no_grad():
            images.clamp_(-1.0, 1.0)
    columns = ["step", "window", "value", "finite", "aligned"]
    return images.detach(), pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def score(
    distance: Callable[[Tensor, Tensor], Tensor], images: Tensor, target: Tensor
) -> pd.DataFrame:
    """What became of images: how like the target, where they started and where it lies.

    Returns:
        A row an image: ``window``; ``distance_aligned, psnr_aligned``, of what both show where the
        image started, :data:`OFFSET` columns from the target; and ``distance_in_place,
        psnr_in_place``, of the same columns of both. PSNR in dB.
    """
    width = images.shape[-1] - OFFSET
    places = {
        "aligned": (images[..., OFFSET:], target[..., :width]),
        "in_place": (images[..., :width], target[..., :width]),
    }
    table = {"window": range(len(images))}
    for name, pair in places.items():
        error = (pair[0] - pair[1]).square().mean(dim=(1, 2, 3)) / 4
        table[f"distance_{name}"] = distance(*pair).tolist()
        table[f"psnr_{name}"] = (-10 * error.log10()).tolist()
    return pd.DataFrame(table)


def _starts(settings: Settings, pairs: Pairs) -> list[np.ndarray]:
    """What is sought, blurred and with noise."""
    return [
        Composition(START_DISTORTION, seed=settings.seed + i)(window)
        for i, window in enumerate(pairs.first)
    ]


def _pixels(images: Tensor) -> list[np.ndarray]:
    values = ((images + 1) * 127.5).round().to(torch.uint8)
    return list(values.permute(0, 2, 3, 1).cpu().numpy())


def _section(settings: Settings, metric: str, curves: pd.DataFrame, results: pd.DataFrame) -> str:
    start = " and ".join(f"{name} at severity {severity}" for name, severity in START_DISTORTION)
    return "\n\n".join(
        [
            "## Descent",
            f"{settings.examples} windows under {start} are optimised for {settings.steps} steps "
            f"of Adam at {LEARNING_RATE:g} towards themselves undistorted, but {OFFSET} columns "
            f"to the left, by {metric} as it is and registered at radius {RADIUS}; "
            f"{settings.note}. "
            "aligned: of what both images show, the target read where the start lies; in place: of "
            "the same columns of both. An unregistered loss can only be content where the target "
            "lies: it has to move the image, which in place shows. Where a distance falls and PSNR "
            "hardly grows, the metric is content with other pixels. Means over windows.",
            to_markdown(_outcomes(results)),
            "finite: gradients, of all steps and windows; aligned: the estimated shift was the "
            "true one.",
            to_markdown(_courses(curves)),
            "Losses and images are shown in `descent.png`.",
        ]
    )


def _outcomes(results: pd.DataFrame) -> pd.DataFrame:
    table = results.drop(columns="window").groupby("image", sort=False).mean().reset_index()
    for name in ("distance_aligned", "distance_in_place"):
        table[name] = table[name].map("{:.4f}".format)
    for name in ("psnr_aligned", "psnr_in_place"):
        table[name] = table[name].map("{:.2f} dB".format)
    return table.rename(columns=lambda name: name.replace("_", " "))


def _courses(curves: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name, curve in curves.groupby("loss", sort=False):
        by_step = curve.groupby("step")["value"].mean()
        rows.append(
            {
                "loss": name,
                "first": f"{by_step.iloc[0]:.4f}",
                "last": f"{by_step.iloc[-1]:.4f}",
                "finite": f"{curve['finite'].sum()} of {len(curve)}",
                "aligned": f"{100 * curve['aligned'].mean():.1f} %",
            }
        )
    return pd.DataFrame(rows)
