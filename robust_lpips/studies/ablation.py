"""Run an ablation table: every row untrained and trained, measured and kept, then summarized."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset, Subset
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips.backbones import BackboneConfig, build_backbone
from robust_lpips.comparison import load_metric
from robust_lpips.data import TwoAFCDataset, sample_dataset
from robust_lpips.data.sample import JUDGE, judge_distances
from robust_lpips.evaluation import measure, read_distances, write_distances
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.folder import claim, read_json, write_json
from robust_lpips.studies.pool import Tick, run_tasks
from robust_lpips.studies.rows import Row, table_rows
from robust_lpips.training import Recipe, WithTeacher, fit
from robust_lpips.weights import save_checkpoint

# Shown in every table for orientation: names of robust_lpips.comparison, and whether to stand
# with the untrained rows or with the trained ones.
REFERENCES = {
    "l2": "untrained",
    "alexnet-untrained": "untrained",
    "alexnet-shift-tolerant": "trained",
}

# Training costs about three passes: forward, and backward to the features and to the weights.
_TRAINING_PASSES = 3

# Triplets at a time: what fits a CPU's cache, and what fills a GPU.
_MEASURE_BATCH_CPU, _MEASURE_BATCH_GPU = 16, 200


@dataclass(frozen=True)
class Preset:
    """How large a run is.

    Attributes:
        recipe: how each row is trained.
        train_triplets: how many to train on; None: all.
        val_triplets: how many to measure on; None: all.
        seeds: of initial weights and order; each is trained on its own.
        needs_bapps: whether the sample set cannot serve.
    """

    recipe: Recipe
    train_triplets: int | None
    val_triplets: int | None
    seeds: tuple[int, ...] = (0,)
    needs_bapps: bool = False


def _distilled(epochs: int, decay_epochs: int, batch_size: int) -> Recipe:
    return Recipe("teacher", epochs, decay_epochs, 5e-4, batch_size, dropout=0.0)


PRESETS = {
    "quick": Preset(_distilled(1, 0, batch_size=10), train_triplets=500, val_triplets=600),
    "standard": Preset(
        _distilled(10, 4, batch_size=50), train_triplets=4000, val_triplets=2000, seeds=(0, 1, 2)
    ),
    "paper": Preset(Recipe(), train_triplets=None, val_triplets=None, needs_bapps=True),
}


@dataclass(frozen=True)
class Study:
    """One run of one table; everything that its numbers depend on.

    Attributes:
        table: a name of :data:`robust_lpips.studies.rows.TABLES`.
        preset: a name of :data:`PRESETS`.
        output: folder of its files.
        data_root: BAPPS, or None for the embedded sample set.
        image_size: side of the patches in pixels.
        max_shift: largest shift in pixels, which decides the crop.
        weights: row name to a checkpoint that is evaluated instead of training.
        device: where to compute.
    """

    table: str
    preset: str
    output: Path
    data_root: Path | None = None
    image_size: int = 64
    max_shift: int = 3
    weights: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {self.preset!r}")
        if self.size.needs_bapps and self.data_root is None:
            raise ValueError(f"data_root must be given with preset {self.preset!r}: BAPPS's folder")
        known = [row.name for row in self.rows]
        unknown = [name for name in self.weights if name not in known]
        if unknown:
            raise ValueError(f"weights must name rows of {', '.join(known)}; got {unknown[0]!r}")

    @property
    def size(self) -> Preset:
        """The preset itself."""
        return PRESETS[self.preset]

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
            "preset": self.preset,
            "recipe": asdict(self.size.recipe),
            "train_triplets": self.size.train_triplets,
            "val_triplets": self.size.val_triplets,
            "data_root": None if self.data_root is None else str(self.data_root),
            "image_size": self.image_size,
            "max_shift": self.max_shift,
            "weights": {name: str(path) for name, path in sorted(self.weights.items())},
        }

    def dataset(self, split: str) -> Dataset:
        """Triplets to train on or to measure on."""
        preset = self.size
        n = preset.train_triplets if split == "train" else preset.val_triplets
        if self.data_root is None:
            return sample_dataset(split=split, n=n, image_size=self.image_size)
        whole = TwoAFCDataset(self.data_root, split, image_size=self.image_size)
        if n is None or n >= len(whole):
            return whole
        # Evenly spaced, so that every subset is in it.
        return Subset(whole, np.linspace(0, len(whole) - 1, n).round().astype(int).tolist())

    def training_data(self) -> Dataset:
        """The triplets to train on, with what the recipe's target needs."""
        dataset = self.dataset("train")
        if self.size.recipe.target == "judge":
            return dataset
        distances = judge_distances(dataset) if isinstance(dataset, TwoAFCDataset) else None
        if distances is None:
            distances = read_distances(self.teacher_path)
        return WithTeacher(dataset, distances)

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
        return 0 if self.on_cpu else 8

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU computes."""
        return torch.device(self.device).type == "cpu"

    @property
    def images_per_triplet(self) -> int:
        """Network evaluations to measure one triplet: the reference twice, p0 and p1 each view."""
        return 2 + 2 * (2 + self.max_shift)


@dataclass(frozen=True)
class RowTask:
    """Measure one row untrained, train it, measure it again. Stages that are done are skipped."""

    study: Study
    row: Row
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where its distances, checkpoint and record are."""
        return self.study.output / "rows" / f"{self.row.name}-seed{self.seed}"

    @property
    def record(self) -> dict[str, Any]:
        """The finished stages, by name, with what they took."""
        return read_json(self._record_path) if self._record_path.is_file() else {}

    @property
    def _record_path(self) -> Path:
        return self.folder / "record.json"

    @property
    def checkpoint(self) -> Path:
        """The trained weights: given, or to be trained."""
        return self.study.weights.get(self.row.name, self.folder / "checkpoint.pt")

    def distances_path(self, state: str) -> Path:
        """The distances of state ``"untrained"`` or ``"trained"``."""
        return self.folder / f"{state}.csv.gz"

    @property
    def _stages(self) -> dict[str, tuple[float, Callable[[Tick], dict[str, Any]]]]:
        """Name to work, in multiply-accumulates, and what does it."""
        study = self.study
        macs = multiply_accumulates(self.row.config, study.image_size)
        measuring = macs * study.images_per_triplet * len(study.dataset("val"))
        stages: dict[str, tuple[float, Callable]] = {
            "untrained": (measuring, lambda tick: self._measure("untrained", tick)),
        }
        if self.row.name not in study.weights:
            recipe = study.size.recipe
            images = 3 * len(study.dataset("train")) * recipe.epochs
            stages["training"] = (macs * images * _TRAINING_PASSES, self._train)
        stages["trained"] = (measuring, lambda tick: self._measure("trained", tick))
        return stages

    @property
    def work(self) -> float:
        record = self.record
        return sum(work for name, (work, _) in self._stages.items() if name not in record)

    def __call__(self, tick: Tick) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, (work, do) in self._stages.items():
            record = self.record
            if name in record:
                continue
            start = time.perf_counter()
            result = do(lambda share, work=work: tick(share * work))
            seconds = round(time.perf_counter() - start, 2)
            write_json(self._record_path, record | {name: {"seconds": seconds, **result}})

    def untrained(self, *, linear: bool) -> RobustLPIPS:
        """The network before training: the same for the same seed."""
        torch.manual_seed(self.seed)
        metric = RobustLPIPS(self.row.config, weights=None, linear=linear)
        return metric.to(self.study.device)

    def _measure(self, state: str, tick: Tick) -> dict[str, Any]:
        if state == "untrained":
            metric: nn.Module = self.untrained(linear=False)
        else:
            metric = RobustLPIPS(self.row.config, self.checkpoint)
        total = len(self.study.dataset("val"))
        table = self.study.measure(metric, lambda n: tick(n / total))
        write_distances(table, self.distances_path(state))
        return {}

    def _train(self, tick: Tick) -> dict[str, Any]:
        recipe = self.study.size.recipe
        data = self.study.training_data()
        steps = recipe.epochs * -(-len(data) // recipe.batch_size)
        metric = self.untrained(linear=True)
        losses = fit(
            metric,
            data,
            recipe,
            seed=self.seed,
            num_workers=self.study.num_workers,
            on_step=lambda _: tick(1 / steps),
        )
        provenance = {"row": self.row.name, "seed": self.seed, "losses": losses}
        save_checkpoint(metric, self.checkpoint, provenance | self.study.settings)
        return {"losses": losses}


@dataclass(frozen=True)
class ReferenceTask:
    """Measure a metric that is shown for orientation."""

    study: Study
    name: str

    @property
    def path(self) -> Path:
        """Its distances."""
        return self.study.output / "references" / f"{self.name}.csv.gz"

    @property
    def work(self) -> float:
        if self.path.is_file():
            return 0.0
        config = getattr(load_metric(self.name), "config", None)
        macs = multiply_accumulates(config, self.study.image_size) if config else 0.0
        return macs * self.study.images_per_triplet * len(self.study.dataset("val"))

    def __call__(self, tick: Tick) -> None:
        if self.path.is_file():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        share = self.work / len(self.study.dataset("val"))
        table = self.study.measure(load_metric(self.name), lambda n: tick(n * share))
        write_distances(table, self.path)


@dataclass(frozen=True)
class DataTask:
    """Make the sample set of one split, or find BAPPS's; its work is not counted."""

    study: Study
    split: str
    work: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.split} data"

    def __call__(self, tick: Tick) -> None:
        self.study.dataset(self.split)


@dataclass(frozen=True)
class TeacherTask:
    """Measure the teacher on triplets that do not bring its distances."""

    study: Study
    name: str = "teacher"
    work: float = 0.0

    def __call__(self, tick: Tick) -> None:
        path = self.study.teacher_path
        if self.study.data_root is None or self.study.size.recipe.target == "judge":
            return
        if not path.is_file():
            table = measure(
                load_metric(JUDGE),
                self.study.dataset("train"),
                max_shift=0,
                device=self.study.device,
                num_workers=self.study.num_workers,
            )
            write_distances(table, path)


def run(study: Study, rows: Sequence[str] | None, seeds: Iterable[int], jobs: int) -> list[RowTask]:
    """Do what is left to do of ``study`` and return its rows, all finished.

    Args:
        study: what to run.
        rows: names of rows; None: all.
        seeds: each row is run with each.
        jobs: rows at a time.

    Raises:
        ValueError: unknown rows, or an output folder that holds results of other settings.
    """
    chosen = _chosen(study.rows, rows)
    claim(study.output, study.settings)
    run_tasks([DataTask(study, split) for split in ("train", "val")], jobs)
    run_tasks([TeacherTask(study)], 1)
    tasks = [RowTask(study, row, seed) for row in chosen for seed in seeds]
    references = [ReferenceTask(study, name) for name in REFERENCES]
    run_tasks([*tasks, *references], jobs, f"{study.table} ablation", "MAC")
    return tasks


def multiply_accumulates(config: BackboneConfig, image_size: int) -> int:
    """Of one image through the backbone, blurs included."""
    with torch.device("meta"):
        backbone = build_backbone(config).eval()
        with FlopCounterMode(display=False) as counter:
            backbone(torch.zeros(1, 3, image_size, image_size))
    return counter.get_total_flops() // 2


def parameters(config: BackboneConfig) -> int:
    """Weights of the trunk and of the 1x1 layers."""
    with torch.device("meta"):
        backbone = build_backbone(config)
    return sum(p.numel() for p in backbone.parameters()) + sum(backbone.taps.values())


def _chosen(rows: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    known = {row.name: row for row in rows}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"rows must be among {', '.join(known)}; got {', '.join(unknown)}")
    return list(rows) if names is None else [known[name] for name in names]
