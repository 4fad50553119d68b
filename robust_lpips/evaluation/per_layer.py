"""Distances of each layer of a network on judged triplets, at every shift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from robust_lpips.evaluation.precision import computing_in
from robust_lpips.evaluation.shifts import ShiftViews
from robust_lpips.metric import RobustLPIPS


@torch.inference_mode()
def measure_layers(
    metric: RobustLPIPS,
    dataset: Dataset | Sequence[Mapping[str, Any]],
    max_shift: int = 3,
    *,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Share of each layer in the distances of ``metric``, at shifts 0 .. S = ``max_shift``.

    Args:
        metric: network with L layers; it is moved to ``device``.
        dataset: N triplets, as :func:`~robust_lpips.evaluation.measure` takes them.
        max_shift: largest shift S in pixels, from 1; it decides the crop.
        batch_size: triplets at a time.
        device: device that computes, strictly in float32.
        num_workers: processes that load images.
        progress: called after each batch with its number of triplets.

    Returns:
        (S + 1, 2, N, L) float64: by shift, of the reference to p0 and to p1, by triplet and layer.
        Their sums over layers are the distances of the views ``shift-0`` .. ``shift-S``.

    Raises:
        ValueError: if images are not larger than ``max_shift``, or too small for the network.
    """
    views, device = ShiftViews(max_shift), torch.device(device)
    metric.to(device)
    batches = []
    with computing_in("float32", device):
        for batch in DataLoader(dataset, batch_size=batch_size, num_workers=num_workers):
            ref, *distorted = (batch[name].to(device) for name in ("ref", "p0", "p1"))
            reference = metric.features(views.reference(ref))
            found = [
                metric.layer_distances(reference, metric.features(views.distorted(image, shift)))
                for shift in views.shifts
                for image in distorted
            ]
            # (2 (S + 1), n, L); a GPU is waited for once per batch.
            batches.append(torch.stack(found).double().cpu().numpy())
            if progress is not None:
                progress(len(ref))
    return np.concatenate(batches, axis=1).reshape(len(views.shifts), 2, -1, batches[0].shape[-1])
