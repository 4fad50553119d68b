"""Measurements of the table ``beyond``: distances on five parts, and the time of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import default_collate

from robust_lpips.comparison.designs import VARIANTS, chosen_variants, load_variant
from robust_lpips.data.warped import WarpedAndNoisy
from robust_lpips.evaluation import ShiftViews
from robust_lpips.evaluation.timing import WARM_UP, in_turns, seconds_of
from robust_lpips.studies.base import MetricTask, Part, Plan, Study, Task, Tick
from robust_lpips.studies.base.measuring import cached_parts, identity_of, load_or_leave_out
from robust_lpips.studies.base.settings import TripletSettings, option
from robust_lpips.studies.base.source import Source, evenly_spaced, source_of, triplets

HORIZONTAL, WARP = "horizontal", "warp"
# Parts in other directions: their only shift, and what columns and tables call r_rf there.
DIRECTIONS = {
    "vertical": (ShiftViews(1, (0, 1)), "rrf_1", "rrf_1_vertical"),
    "diagonal": (ShiftViews(1, (1, 1)), "rrf_1", "rrf_1_diagonal"),
    "half-pixel": (ShiftViews(1, step=0.5), "rrf_0.5", "rrf_0.5"),
}
PARTS = (HORIZONTAL, *DIRECTIONS, WARP)
# Pairs that are timed at once, and how often.
BATCH, ROUNDS = 50, 5


@dataclass(frozen=True)
class BeyondSettings(TripletSettings):
    """Settings of the table of designs beyond the paper.

    Raises:
        ValueError: if a value is out of range, or rows are unknown.
    """

    n: int | None = option(
        None,
        "validation triplets for accuracy and horizontal shifts, evenly spaced ones of BAPPS "
        "(default: SAMPLE_N)",
        least=1,
    )
    n_more: int = option(100, "how many of these for everything else, evenly spaced", least=1)
    rows: tuple[str, ...] = option(
        (),
        "only these rows, and the networks that they start from (default: all); "
        + ", ".join(VARIANTS),
        choices=VARIANTS,
        claimed=False,
        alone=True,
        metavar="ROW",
    )

    sample_n: ClassVar[int] = 300

    def source(self) -> Source:
        """The validation triplets; the sample set is built where it is missing."""
        return triplets(self.data_root, "val", self.n or self.sample_n, self.image_size)


def parts(settings: BeyondSettings) -> dict[str, Part]:
    """Every data set that a row is measured on, with its shifts."""
    dataset = source_of(settings).dataset
    fewer = evenly_spaced(dataset, settings.n_more)
    return (
        {HORIZONTAL: Part(dataset, ShiftViews(settings.max_shift))}
        | {name: Part(fewer, views) for name, (views, *_) in DIRECTIONS.items()}
        | {WARP: Part(WarpedAndNoisy(fewer, settings.seed))}
    )


@dataclass(frozen=True)
class TimeTask(Task):
    """Measure how many times as long as its unchanged network a design takes.

    ``record.json`` keeps ``ratio``: the median over rounds in which the two take turns.

    Attributes:
        settings: settings of the study.
        metric: name of a row that is not a base.
    """

    settings: BeyondSettings
    metric: str

    @property
    def name(self) -> str:
        return f"{self.metric}, time"

    @property
    def folder(self) -> str:
        return f"time/{self.metric}"

    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        sides = {
            side: identity_of(load_variant, name, self.settings.seed).key
            for side, name in self._sides.items()
        }
        return {**sides, "timing": [BATCH, ROUNDS, WARM_UP], **self._part.key()}

    @torch.inference_mode()
    def do(self, stage: str, output: Path, tick: Tick) -> Mapping[str, Any]:
        # The data set may be smaller than a batch.
        count = len(self._part.dataset)
        batch = default_collate([self._part.dataset[i % count] for i in range(BATCH)])
        pair = [batch[name].to(self.device).float() / 127.5 - 1 for name in ("ref", "p0")]
        turns, seed = {}, self.settings.seed
        for side, name in self._sides.items():
            call = partial(load_or_leave_out(load_variant, name, self.device, seed), *pair)
            for _ in range(WARM_UP):
                call()
            turns[side] = partial(seconds_of, call, self.device)
        seconds = in_turns(turns, ROUNDS, self.name)
        tick(self.work(stage))
        return {"ratio": float(np.median(seconds["row"] / seconds["base"]))}

    @property
    def _sides(self) -> dict[str, str]:
        return {"base": VARIANTS[self.metric].base, "row": self.metric}

    @property
    def _part(self) -> Part:
        return cached_parts(parts, self.settings)[HORIZONTAL]


def tasks(study: Study[BeyondSettings], plan: Plan[BeyondSettings]) -> list[Task]:
    """Every chosen row and its base on every part, and the time of each design."""
    settings, rows = plan.settings, chosen_variants(plan.settings.rows)
    distances = [
        MetricTask(plan.device, parts, settings, row.name, part, load_variant)
        for row in rows
        for part in cached_parts(parts, settings)
    ]
    return distances + [
        TimeTask(plan.device, settings, row.name) for row in rows if not row.is_base
    ]
