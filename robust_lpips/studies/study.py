"""One run of one ablation table as data: how large it is, what it measures on and where."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import measure
from robust_lpips.studies.rows import Row, table_rows
from robust_lpips.studies.triplets import count, triplets
from robust_lpips.training import Recipe, with_teacher

# Triplets at a time: what fits a CPU's cache, and what fills a GPU.
_MEASURE_BATCH_CPU, _MEASURE_BATCH_GPU = 16, 200


@dataclass(frozen=True)
class Preset:
    """How large a run is.

    Attributes:
        name: as printed.
        recipe: how each row is trained.
        train_triplets: how many to train on; None: all.
        val_triplets: how many to measure on; None: all.
        seeds: of initial weights and order; each is trained on its own.
        checkpoint_every: steps of training that an interruption may cost.
        needs_bapps: whether the sample set cannot serve.
    """

    name: str
    recipe: Recipe
    train_triplets: int | None
    val_triplets: int | None
    seeds: tuple[int, ...] = (0,)
    checkpoint_every: int = 200
    needs_bapps: bool = False


def _distilled(epochs: int, decay_epochs: int, batch_size: int) -> Recipe:
    return Recipe("teacher", epochs, decay_epochs, 5e-4, batch_size, dropout=0.0)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("quick", _distilled(1, 0, batch_size=10), 500, 600, checkpoint_every=10),
        Preset("standard", _distilled(10, 4, batch_size=50), 4000, 2000, seeds=(0, 1, 2)),
        Preset("paper", Recipe(), None, None, needs_bapps=True),
    )
}

# Where a preset takes other numbers: VGG-16 costs about thirty times as much as AlexNet.
_FEWER = {"train_triplets": 400, "val_triplets": 240}
TRIPLETS = {("quick", "backbones"): _FEWER, ("quick", "skip"): _FEWER}


def preset_for(table: str, name: str) -> Preset:
    """The preset of that name, with as many triplets as it takes for ``table``.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return replace(PRESETS[name], **TRIPLETS.get((name, table), {}))


@dataclass(frozen=True)
class Study:
    """One run of one table; everything that its numbers depend on.

    Attributes:
        table: a name of :data:`robust_lpips.studies.rows.TABLES`.
        preset: how large; see :func:`preset_for`.
        output: folder of its files.
        data_root: BAPPS, or None for the embedded sample set.
        image_size: side of the patches in pixels.
        max_shift: largest shift in pixels, which decides the crop.
        weights: row name to a checkpoint that is evaluated instead of training.
        device: where to compute.
        metrics: metrics of the user's, as :func:`robust_lpips.comparison.load_metric` takes them,
            to be shown beside the trained rows; each is measured once a folder.

    Raises:
        ValueError: no such table, ``weights`` of a row that it has not, or no ``data_root`` where
            the preset needs one.
    """

    table: str
    preset: Preset
    output: Path
    data_root: Path | None = None
    image_size: int = 64
    max_shift: int = 3
    weights: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.preset.needs_bapps and self.data_root is None:
            raise ValueError(
                f"data_root must be given with preset {self.preset.name!r}: BAPPS's folder"
            )
        known = [row.name for row in self.rows]
        unknown = [name for name in self.weights if name not in known]
        if unknown:
            raise ValueError(f"weights must name rows of {', '.join(known)}; got {unknown[0]!r}")

    @property
    def rows(self) -> list[Row]:
        """Every row of the table."""
        return table_rows(self.table)

    @property
    def dataset_name(self) -> str:
        """``"sample"`` or ``"bapps"``."""
        return "sample" if self.data_root is None else "bapps"

    @property
    def settings(self) -> dict[str, Any]:
        """What is kept beside the results, so that other settings are not mixed in."""
        return {
            "table": self.table,
            "preset": self.preset.name,
            "recipe": asdict(self.preset.recipe),
            "train_triplets": self.preset.train_triplets,
            "val_triplets": self.preset.val_triplets,
            "data_root": None if self.data_root is None else str(self.data_root),
            "image_size": self.image_size,
            "max_shift": self.max_shift,
            "weights": {name: str(path) for name, path in sorted(self.weights.items())},
        }

    def prepare(self) -> None:
        """Make what every row needs: the sample set, and the teacher's distances on BAPPS."""
        self.dataset("val")
        if any(row.name not in self.weights for row in self.rows):
            self.training_data()

    def dataset(self, split: str) -> Dataset:
        """Triplets to train on or to measure on."""
        n = self.preset.train_triplets if split == "train" else self.preset.val_triplets
        return triplets(self.data_root, split, n, self.image_size)

    def count(self, split: str) -> int:
        """How many triplets there are to train on or to measure on."""
        n = self.preset.train_triplets if split == "train" else self.preset.val_triplets
        return count(self.data_root, split, n, self.image_size)

    def training_data(self) -> Dataset:
        """The triplets to train on, with what the recipe's target needs."""
        dataset = self.dataset("train")
        if self.preset.recipe.target == "judge":
            return dataset
        return with_teacher(
            dataset, JUDGE, self.teacher_path, device=self.device, num_workers=self.num_workers
        )

    @property
    def teacher_path(self) -> Path:
        """Where the teacher's distances are kept, unless the sample set has them."""
        return self.output / "teacher.csv.gz"

    def measure(self, metric: Callable, tick: Callable[[int], None]) -> pd.DataFrame:
        """All views of the validation triplets."""
        return measure(
            metric,
            self.dataset("val"),
            self.max_shift,
            batch_size=_MEASURE_BATCH_CPU if self.on_cpu else _MEASURE_BATCH_GPU,
            device=self.device,
            num_workers=self.num_workers,
            progress=tick,
        )

    @property
    def num_workers(self) -> int:
        """Processes that load images: a GPU waits for them, a CPU has none to spare."""
        # Processes of a run with several jobs may not start others.
        return 0 if self.on_cpu or multiprocessing.current_process().daemon else 8

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU computes."""
        return torch.device(self.device).type == "cpu"

    @property
    def images_per_triplet(self) -> int:
        """Network evaluations to measure one triplet: the reference twice, p0 and p1 each view."""
        return 2 + 2 * (2 + self.max_shift)
