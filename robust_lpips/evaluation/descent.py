"""Images optimised by a distance towards a target that lies elsewhere, and how near they come."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from robust_lpips.registration import estimate_translation

Loss = Callable[[Tensor, Tensor], Tensor]


def descend(
    loss: Loss,
    start: Tensor,
    target: Tensor,
    shift: tuple[int, int],
    *,
    steps: int,
    learning_rate: float,
    radius: int,
    done: Callable[[], object],
) -> tuple[Tensor, pd.DataFrame]:
    """Minimise ``loss(images, target)`` over the images by Adam.

    Args:
        loss: differentiable, of two (N, 3, H, W) in [-1, 1], gives (N,).
        start: first images.
        target: images that the loss compares them with.
        shift: true shift (rows, columns) between both in pixels.
        steps: number of steps; after each, values are clipped to [-1, 1].
        learning_rate: Adam's.
        radius: radius of the search for the shift in pixels.
        done: called after each step.

    Returns:
        The images (N, 3, H, W), and one row per step and image: ``step, window, value``, the loss
        before the step; ``finite``, True if its gradient is; and ``aligned``, True if its
        estimated shift is the true one.
    """
    images = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=learning_rate)
    true = torch.tensor(shift, device=start.device, dtype=torch.float32)
    rows = []
    for step in range(steps):
        optimizer.zero_grad()
        values = loss(images, target)
        values.sum().backward()
        finite = images.grad.isfinite().flatten(1).all(dim=1)
        estimates = estimate_translation(images.detach(), target, radius)
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
def likeness(distance: Loss, images: Tensor, target: Tensor, offset: int) -> pd.DataFrame:
    """Likeness of images to the target, where they started and where the target lies.

    Args:
        distance: gives (N,) of two (N, 3, H, W) in [-1, 1].
        images: images that started ``offset`` columns to the right of what the target shows.
        target: the same shape.
        offset: number of columns, at least 1.

    Returns:
        One row per image: ``window``; ``distance_aligned, psnr_aligned``, between what both show
        where the image started; and ``distance_in_place, psnr_in_place``, between the same columns
        of both. PSNR in dB.
    """
    width = images.shape[-1] - offset
    places = {
        "aligned": (images[..., offset:], target[..., :width]),
        "in_place": (images[..., :width], target[..., :width]),
    }
    table = {"window": range(len(images))}
    for name, pair in places.items():
        error = (pair[0] - pair[1]).square().mean(dim=(1, 2, 3)) / 4
        table[f"distance_{name}"] = distance(*pair).tolist()
        table[f"psnr_{name}"] = (-10 * error.log10()).tolist()
    return pd.DataFrame(table)
