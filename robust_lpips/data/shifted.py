"""Pairs of a photograph and the same photograph shifted by some pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.sample import BLANK_CROP_STD, REDRAWS

LABELS = ("same", "score")


class ShiftedPhotographs(Dataset):
    """Pairs of windows of one photograph, the second one some pixels to the right of the first.

    The photographs are scikit-image's, of the validation split. Both windows lie inside the
    photograph: nothing is padded or resampled. Windows that are almost blank are drawn again, as
    in the sample set.

    An item is a dict of ``p0`` and ``p1``, uint8 tensors (3, image_size, image_size); the value of
    its shift, under the name ``label``; ``subset``, always ``"shifts"``; and ``sample``,
    ``<photograph>-<number>``.

    Args:
        values: label of every item by its shift, a whole number of pixels from 0. **The labels
            are given: nobody judged these pairs.**
        image_size: side of the windows in pixels.
        crops: number of windows per photograph; each is paired at every shift.
        seed: of the windows' positions. Those in one photograph do not depend on the other
            photographs, and fewer crops are the first ones of more.
        n: number of windows in total, distributed over the photographs; replaces ``crops``.
        label: ``"same"`` (the share of people, in [0, 1], who judge such a pair to be the same) or
            ``"score"`` (any number).

    Raises:
        ValueError: another label, or every photograph is smaller than a window plus its largest
            shift.
    """

    def __init__(
        self,
        values: Mapping[int, float],
        image_size: int = 64,
        crops: int = 8,
        seed: int = 0,
        *,
        n: int | None = None,
        label: str = "same",
    ) -> None:
        if label not in LABELS:
            raise ValueError(f"label must be one of {', '.join(map(repr, LABELS))}; got {label!r}")
        self.values = dict(values)
        self.image_size = image_size
        self.label = label
        width = image_size + max(self.values)
        photographs = load_photographs("val", smallest_side=width)
        self.windows = []
        for i, (name, photograph) in enumerate(photographs.items()):
            rng = np.random.default_rng([seed, *name.encode()])
            count = crops if n is None else len(range(i, n, len(photographs)))
            self.windows += [
                (name, random_window(rng, photograph, image_size, width)) for _ in range(count)
            ]

    def __len__(self) -> int:
        return len(self.windows) * len(self.values)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in 0 .. {len(self) - 1}; got {index}")
        place, number = divmod(index, len(self.values))
        name, window = self.windows[place]
        shift = list(self.values)[number]
        p0, p1 = (
            torch.from_numpy(window[:, left : left + self.image_size].copy()).permute(2, 0, 1)
            for left in (0, shift)
        )
        return {
            "p0": p0.contiguous(),
            "p1": p1.contiguous(),
            self.label: self.values[shift],
            "subset": "shifts",
            "sample": f"{name}-{index:06d}",
        }


class References(Dataset):
    """References of 2AFC triplets as their own p0 and p1, so that only a shift tells them apart.

    Args:
        dataset: triplets, as :class:`~robust_lpips.data.TwoAFCDataset` gives them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        return item | {"p0": item["ref"], "p1": item["ref"]}


def random_window(
    rng: np.random.Generator, photograph: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Draw a window of ``photograph`` (H, W, 3); if all draws are blank, the least blank one."""
    best, spread = None, -1.0
    for _ in range(REDRAWS):
        top = int(rng.integers(photograph.shape[0] - height, endpoint=True))
        left = int(rng.integers(photograph.shape[1] - width, endpoint=True))
        window = photograph[top : top + height, left : left + width]
        if (contrast := float(window.mean(axis=2).std())) > spread:
            best, spread = window, contrast
        if spread >= BLANK_CROP_STD:
            break
    return best
