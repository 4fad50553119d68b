"""Settings of the ablation tables, and presets of how large a run is."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import ShiftViews
from robust_lpips.published.rows import Row, table_rows
from robust_lpips.studies.base import Part, option, source_of
from robust_lpips.studies.base.training import TrainedSettings
from robust_lpips.training import Recipe

# Triplets at a time: what fits a CPU's cache, and what fills a GPU.
_BATCH_CPU, _BATCH_GPU = 16, 200


class Preset(NamedTuple):
    """How large a run is.

    Attributes:
        recipe: how each row is trained.
        n_train: training triplets; None: all of BAPPS.
        n: validation triplets; None: all of BAPPS.
        seeds: seeds of initial weights and order; each row is trained with every one.
        checkpoint_every: steps of training that an interruption may cost.
    """

    recipe: Recipe
    n_train: int | None
    n: int | None
    seeds: tuple[int, ...] = (0,)
    checkpoint_every: int = 200


def _distilled(epochs: int, decay_epochs: int, batch_size: int) -> Recipe:
    return Recipe("teacher", epochs, decay_epochs, 5e-4, batch_size, dropout=0.0)


PRESETS = {
    "quick": Preset(_distilled(1, 0, batch_size=10), 500, 600, checkpoint_every=10),
    "standard": Preset(_distilled(10, 4, batch_size=50), 4000, 2000, seeds=(0, 1, 2)),
    "paper": Preset(Recipe(), None, None),
}
# VGG-16 costs about thirty times as much as AlexNet.
_QUICK_VGG = PRESETS["quick"]._replace(n_train=400, n=240)


def row_and_path(text: str) -> tuple[str, Path]:
    """``ROW=PATH`` of an existing file, for ``type=`` of an argument."""
    row, _, path = text.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"must be ROW=PATH of a checkpoint; got {text!r}")
    return row, Path(path).resolve()


@dataclass(frozen=True)
class AblationSettings(TrainedSettings):
    """Settings of an ablation table.

    Attributes:
        table: name of the table, one of :data:`robust_lpips.published.rows.TABLES`.
        seed: seed of the references with random weights and of the intervals.

    Raises:
        ValueError: if rows are unknown, a value is out of range, or the preset needs BAPPS.
    """

    n: int | None = option(None, "validation triplets (default: the preset's)", least=1)
    n_train: int | None = option(None, "training triplets (default: the preset's)", least=1)
    preset: str = option("quick", "how large the run is", choices=PRESETS)
    rows: tuple[str, ...] = option((), "only these rows (all)", claimed=False, metavar="ROW")
    seeds: tuple[int, ...] = option(
        (), "seeds, with each of which every row is trained (the preset's)", least=0, claimed=False
    )
    weights: tuple[tuple[str, Path], ...] = option(
        (),
        "measure these checkpoints instead of training those rows",
        metavar="ROW=PATH",
        parse=row_and_path,
    )

    table: ClassVar[str]
    presets: ClassVar[dict[str, Preset]] = PRESETS
    seed: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [row.name for row in table_rows(self.table)]
        for name, given in (("rows", self.rows), ("weights", [row for row, _ in self.weights])):
            if unknown := [row for row in given if row not in known]:
                raise ValueError(f"{name} must be of {', '.join(known)}; got {', '.join(unknown)}")
        if self.data_root is None and self.recipe.target == "judge":
            raise ValueError(
                f"data_root must be given with preset {self.preset!r}, which learns people's "
                "judgments: the folder of BAPPS"
            )

    def claim(self) -> dict[str, Any]:
        return {"table": self.table, **super().claim()}

    def record(self) -> dict[str, Any]:
        return {"table": self.table, **super().record()}

    def count(self, split: str) -> int | None:
        given, size = super().count(split), self.size
        return given or (size.n_train if split == "train" else size.n)

    @property
    def size(self) -> Preset:
        """The chosen preset, as it is for this table."""
        return self.presets[self.preset]

    @property
    def recipe(self) -> Recipe:
        """How rows are trained."""
        return self.size.recipe

    @property
    def teacher(self) -> str | None:
        return JUDGE if self.recipe.target == "teacher" else None

    @property
    def checkpoint_every(self) -> int:
        return self.size.checkpoint_every

    @property
    def chosen_rows(self) -> list[Row]:
        """The rows to run, in the paper's order."""
        return [row for row in table_rows(self.table) if not self.rows or row.name in self.rows]

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        """The seeds to run each row with."""
        return tuple(dict.fromkeys(self.seeds or self.size.seeds))


class AlexNetSettings(AblationSettings):
    table = "alexnet"


class BlurPlacementSettings(AblationSettings):
    table = "blur-placement"


class BackbonesSettings(AblationSettings):
    table, presets = "backbones", PRESETS | {"quick": _QUICK_VGG}


class SkipSettings(AblationSettings):
    table, presets = "skip", PRESETS | {"quick": _QUICK_VGG}


def parts(settings: AblationSettings) -> dict[str, Part]:
    """The validation triplets, the only part."""
    views = ShiftViews(settings.max_shift)
    return {"": Part(source_of(settings).dataset, views, _BATCH_CPU, _BATCH_GPU)}
