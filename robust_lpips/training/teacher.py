"""The teacher's distances, put beside each triplet that a network is trained on."""

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


def with_teacher(
    dataset: Dataset,
    teacher: str,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
) -> WithTeacher:
    """``dataset`` with the distances of a teacher, measured at most once.

    The sample set brings those of its judge; others are measured, unless ``path`` has them.

    Args:
        dataset: items as :class:`robust_lpips.data.TwoAFCDataset`.
        teacher: a name of :func:`robust_lpips.comparison.metric_names`.
        path: a ``.csv.gz`` file that keeps what was measured. It does not say whose distances
            they are: one file a teacher and dataset.
        device: where to measure.
        num_workers: processes that load images meanwhile.

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
