"""References of triplets, next to themselves slightly warped and noisy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from robust_lpips import distortions

# Severity of the warp and of the noise that it is compared with.
SEVERITY = 0.25
DISTORTIONS = {"p0": "cubic_warp", "p1": "gaussian_white_noise"}


class WarpedAndNoisy(Dataset):
    """References of triplets, each next to itself: slightly warped as p0, noisy as p1.

    Args:
        dataset: triplets.
        seed: seed of warps and noise.
    """

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        image = item["ref"].permute(1, 2, 0).numpy()
        for i, (part, name) in enumerate(DISTORTIONS.items()):
            rng = np.random.default_rng([self.seed, index, i])
            pixels = distortions.apply(name, image, SEVERITY, rng)
            item = item | {part: torch.from_numpy(pixels).permute(2, 0, 1).contiguous()}
        return item
