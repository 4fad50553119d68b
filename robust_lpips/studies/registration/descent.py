"""Images optimised towards a target that lies two pixels away, with and without registration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robust_lpips.comparison import Metric
from robust_lpips.distortions import Composition
from robust_lpips.registered import Registered
from robust_lpips.registration import estimate_translation
from robust_lpips.studies.base import Tick
from robust_lpips.studies.registration.settings import RADIUS, Measured, RegistrationSettings
from robust_lpips.studies.registration.windows import Pairs, as_input, cut_pairs, windows

START, UNREGISTERED, REGISTERED = "start", "unregistered", "registered"
# Columns between the target and what it shows.
OFFSET = 2
START_DISTORTION = (("gaussian_blur", 0.4), ("gaussian_white_noise", 0.3))
LEARNING_RATE = 0.01
_SHOWN = 3

Loss = Callable[[Tensor, Tensor], Tensor]


def measure(settings: RegistrationSettings, metric: Metric, device: str, tick: Tick) -> Measured:
    """Tables ``descent`` (:func:`descend`) and ``descent_results`` (:func:`score`), and images.

    The first uint8 (3, H, W, 3) of ``target``, ``sought`` (the target, unshifted), ``start`` and
    what each loss made of it.
    """
    losses = {UNREGISTERED: metric, REGISTERED: Registered(metric, RADIUS)}
    pairs = make_pairs(settings)
    sought, target = (as_input(images, device) for images in (pairs.first, pairs.second))
    start = as_input(
        [
            Composition(START_DISTORTION, seed=settings.seed + i)(window)
            for i, window in enumerate(pairs.first)
        ],
        device,
    )
    images, curves = {START: start}, []
    done = partial(tick, 1 / (len(losses) * settings.steps))
    for name, loss in losses.items():
        images[name], curve = descend(loss, start, target, settings.steps, done)
        curves.append(curve.assign(loss=name))
    results = [score(metric, image, target).assign(image=name) for name, image in images.items()]
    tables = {"descent": curves, "descent_results": results}
    shown = {"target": target, "sought": sought, **images}
    return (
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        {name: _pixels(batch[:_SHOWN]) for name, batch in shown.items()},
    )


def make_pairs(settings: RegistrationSettings) -> Pairs:
    """Windows, and targets that show them :data:`OFFSET` columns to the left."""
    side = settings.image_size + 2 * OFFSET
    around = windows(settings.split, settings.examples, side, settings.seed)
    return cut_pairs(around, (0, -OFFSET), settings.image_size)


def descend(
    loss: Loss, start: Tensor, target: Tensor, steps: int, done: Callable[[], object]
) -> tuple[Tensor, pd.DataFrame]:
    """Minimise ``loss(images, target)`` over the images by Adam.

    Args:
        loss: differentiable, of two (N, 3, H, W) in [-1, 1], gives (N,).
        start: first images.
        target: images that the loss compares them with.
        steps: number of steps; after each, values are clipped to [-1, 1].
        done: called after each step.

    Returns:
        The images (N, 3, H, W), and one row per step and image: ``step, window, value``, the loss
        before the step; ``finite``, True if its gradient is; and ``aligned``, True if its
        estimated shift is the true one.
    """
    images = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=LEARNING_RATE)
    true = torch.tensor([0.0, -OFFSET], device=start.device)
    rows = []
    for step in range(steps):
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
        done()
    columns = ["step", "window", "value", "finite", "aligned"]
    return images.detach(), pd.DataFrame(rows, columns=columns)


@torch.no_grad()
def score(distance: Loss, images: Tensor, target: Tensor) -> pd.DataFrame:
    """Likeness of images to the target, where they started and where the target lies.

    Returns:
        One row per image: ``window``; ``distance_aligned, psnr_aligned``, between what both show
        where the image started, :data:`OFFSET` columns from the target; and ``distance_in_place,
        psnr_in_place``, between the same columns of both. PSNR in dB.
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


def _pixels(images: Tensor) -> np.ndarray:
    values = ((images + 1) * 127.5).round().to(torch.uint8)
    return values.permute(0, 2, 3, 1).cpu().numpy()
