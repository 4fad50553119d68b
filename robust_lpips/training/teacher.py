"""Triplets with the distances of a teacher, for distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.comparison import load_metric
from robust_lpips.data.sample import JUDGE, judge_distances
from robust_lpips.evaluation import measure, read_distances, write_distances


class WithTeacher(Dataset):
    """Data set of triplets with an added field ``teacher``, a (2,) tensor: the teacher's d0, d1.

    Args:
        dataset: items with ``subset`` and ``sample``, as
            :class:`robust_lpips.data.TwoAFCDataset`.
        distances: table of :func:`robust_lpips.evaluation.measure` of the teacher, with the view
            ``full`` of each item.

    Raises:
        ValueError: on access, if ``distances`` lacks the sample.
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


def with_teacher(
    dataset: Dataset,
    teacher: str,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
) -> WithTeacher:
    """Add the distances of a teacher to ``dataset``, measured at most once.

    The sample set contains the distances of its judge; all others are measured, unless ``path``
    exists.

    Args:
        dataset: items as :class:`robust_lpips.data.TwoAFCDataset`.
        teacher: a name of :func:`robust_lpips.comparison.metric_names`.
        path: a ``.csv.gz`` file that stores the measured distances. It does not state the teacher
            or the data set: use one file for each combination.
        device: where to measure.
        num_workers: number of processes that load images.

    Raises:
        ValueError: unknown teacher.
    """
    distances = judge_distances(dataset) if teacher == JUDGE else None
    if distances is None:
        if not path.is_file():
            metric = load_metric(teacher, device)
            table = measure(metric, dataset, max_shift=0, device=device, num_workers=num_workers)
            write_distances(table, path)
        distances = read_distances(path)
    return WithTeacher(dataset, distances)
