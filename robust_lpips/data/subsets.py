"""Choices of items of a data set."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset, Subset


def evenly_spaced(dataset: Dataset, n: int | None) -> Dataset:
    """``n`` items from the first to the last; all where ``n`` is None or there are not more.

    Raises:
        ValueError: if ``n`` is below 1.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    if n is None or n >= len(dataset):
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, n).round().astype(int).tolist())
