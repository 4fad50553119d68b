"""Sources: data sets with the words that describe them, asked by every study."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from robust_lpips.data import TwoAFCDataset, evenly_spaced, packed_or_read, sample_dataset

PEOPLE = "Accuracy is 2AFC against people's judgments."
METRIC = (
    "Nobody judged these patches: accuracy is agreement with the released VGG-16 metric, not with "
    "people. Rank-flip rates need no judge."
)
AGREEMENT = "agreement with the released VGG-16 metric"


@dataclass(frozen=True)
class Source:
    """A data set, and what pages, tables and records say of it.

    Attributes:
        name: name of the data set, as ``"sample set val"``.
        judged_by: whose verdicts scores are against, one sentence.
        accuracy: term for accuracy on it.
        cluster: unit that intervals are clustered by, as ``"photograph"``; empty: items count as
            independent.
        size: size of the images in words.
        dataset: the items; None where a study makes its own.
        batch_size: items that are loaded at a time; 1 for images of several sizes.
    """

    name: str
    judged_by: str
    accuracy: str = ""
    cluster: str = ""
    size: str = ""
    dataset: Dataset | None = None
    batch_size: int = 50

    @property
    def by_people(self) -> bool:
        """True where people judged the data."""
        return self.judged_by == PEOPLE

    @property
    def clustered(self) -> str:
        """Words for captions of intervals: `` clustered by photograph``, or nothing."""
        return f" clustered by {self.cluster}" if self.cluster else ""

    @property
    def accuracy_label(self) -> str:
        """The term for accuracy with its unit, for axes."""
        return f"{self.accuracy} (%)"


@functools.lru_cache(maxsize=8)
def source_of(settings: Any) -> Source:
    """``settings.source()``, called once per process for each settings."""
    return settings.source()


def triplets(data_root: Path | None, split: str, n: int | None, image_size: int) -> Source:
    """2AFC triplets of BAPPS or of the sample set, decoded once for all runs.

    Args:
        data_root: folder of BAPPS; None: the sample set of seed 0, built where it is missing.
        split: ``"train"`` or ``"val"``; of BAPPS every subset that is present.
        n: number of triplets; of BAPPS evenly spaced ones, so that subsets are in proportion.
            None: all of BAPPS.
        image_size: side of the patches in pixels.

    Raises:
        ValueError: if ``n`` is below 1, or None for the sample set, which has no end.
        FileNotFoundError: if there is no BAPPS in the folder.
    """
    size = f"{image_size}x{image_size} px"
    if data_root is None:
        dataset = sample_dataset(split=split, n=n, image_size=image_size)
        name = f"sample set {split}"
        return Source(name, METRIC, AGREEMENT, "photograph", size, packed_or_read(dataset))
    dataset = evenly_spaced(TwoAFCDataset(data_root, split, image_size=image_size), n)
    return Source(f"BAPPS {split}", PEOPLE, "2AFC", "", size, packed_or_read(dataset))
