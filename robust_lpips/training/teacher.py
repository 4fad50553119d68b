"""The teacher's distances, put beside each triplet that a network is trained on."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset


class WithTeacher(Dataset):
    """Triplets whose items also hold ``teacher``, a (2,) tensor: the teacher's d0 and d1.

    Args:
        dataset: items with ``subset`` and ``sample``, as
            :class:`robust_lpips.data.TwoAFCDataset`.
        distances: the table of :func:`robust_lpips.evaluation.measure` of the teacher, which has
            the view ``full`` of each of them.

    Raises:
        ValueError: on access, where ``distances`` lacks the sample.
    """

    def __init__(self, dataset: Dataset, distances: pd.DataFrame) -> None:
        self.dataset = dataset
        full = distances[distances["view"] == "full"]
        keys = zip(full["subset"], full["sample"], strict=True)
        values = torch.tensor(full[["d0", "d1"]].to_numpy(), dtype=torch.float32)
        self.teacher = dict(zip(keys, values, strict=True))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        key = (item["subset"], item["sample"])
        if key not in self.teacher:
            raise ValueError(f"distances lack the sample {'/'.join(key)}")
        return item | {"teacher": self.teacher[key]}
