"""Suites as studies: one task that is measured anew by every run, and its table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from robust_lpips.evaluation import summarize
from robust_lpips.evaluation.capability import Peaks
from robust_lpips.studies.base import (
    LeftOut,
    Record,
    Results,
    Settings,
    Source,
    Study,
    Tables,
    Task,
    Tick,
    filled,
    interval_cells,
    quantity_label,
)
from robust_lpips.studies.base.source import METRIC
from robust_lpips.studies.base.words import left_out_blocks
from robust_lpips.tables import to_markdown

# Side of images in pixels, triplets or pairs per batch, and largest shift of most suites.
IMAGE_SIZE, BATCH, MAX_SHIFT = 64, 50, 3
SCORES = ("two_afc", *(f"rrf_{shift}" for shift in range(1, MAX_SHIFT + 1)))

_WORDS = {"image_size": IMAGE_SIZE, "batch": BATCH, "max_shift": MAX_SHIFT, "judged_by": METRIC}
_RATIO = (
    "ratio: how many times as fast as the released package ours is. In brackets the lowest and the "
    "highest ratio of a round, not an interval."
)
# Columns of the pages in their order, of those that a table has: titles, and formats of numbers.
_COLUMNS = {
    **{name: (name, "") for name in ("case", "mode", "triplets")},
    "peer": ("released package", ""),
    "start": ("start (MiB)", ".0f"),
    "peak": ("peak (MiB)", ".0f"),
    "increase": ("increase (%)", "+.1f"),
    "ours": ("ours", ".1f"),
    "released": ("released", ".1f"),
    "seconds": ("seconds", ".2f"),
    "released_seconds": ("released, seconds", ".2f"),
    **{name: (name, "") for name in ("ratio", "compiled", "bfloat16", "bfloat16 compiled")},
    "ours_share": ("ours (%)", ".0f"),
    "released_share": ("released (%)", ".0f"),
    **{name: (quantity_label(name), ".2f") for name in SCORES},
    "difference": ("difference", ".1e"),
    "verdicts_differ": ("verdicts that differ", ""),
}


@dataclass(frozen=True)
class Measured:
    """Measurements of a suite.

    Attributes:
        table: one row per case, in full precision.
        unavailable: names of what could not be measured -> why.
        peaks: rates that the shares in ``table`` refer to.
    """

    table: pd.DataFrame
    unavailable: Mapping[str, str] = field(default_factory=dict)
    peaks: Peaks | None = None


@dataclass(frozen=True)
class SuiteTask(Task):
    """Measure a suite. Times belong to one run, so the key holds when and where the run began.

    Attributes:
        suite: name of the suite.
        settings: settings of the suite.
        measure: function that measures, from settings and a device.
        started: time and process that made the task.
    """

    suite: str
    settings: Settings
    measure: Callable[[Any, str], Measured]
    started: str = field(
        default_factory=lambda: f"{datetime.now(timezone.utc).isoformat()}, process {os.getpid()}"
    )

    @property
    def name(self) -> str:
        return self.suite

    @property
    def folder(self) -> str:
        return "measured"

    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        return {"suite": self.suite, "started": self.started}

    def do(self, stage: str, output: Path, tick: Tick) -> Mapping[str, Any]:
        try:
            found = self.measure(self.settings, self.device)
        except ImportError as error:
            raise LeftOut(f"needs a package that is missing: {error}") from error
        except NotImplementedError as error:
            raise LeftOut(str(error)) from error
        if found.table.empty:
            reasons = "; ".join(f"{name}: {why}" for name, why in found.unavailable.items())
            raise LeftOut(f"has nothing to compare with ({reasons})")
        tick(self.work(stage))
        cells = found.table.astype(object)
        return {
            "rows": cells.where(cells.notna(), None).to_dict("records"),
            "unavailable": dict(found.unavailable),
            "peaks": str(found.peaks) if found.peaks else None,
            "threads": torch.get_num_threads(),
        }


def suite(
    name: str,
    settings: type[Settings],
    measure: Callable[[Any, str], Measured],
    data: str,
    cells: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
    **words: Any,
) -> Study:
    """Study of one suite; its table goes to ``benchmark.csv``, its page to ``benchmark.md``.

    Args:
        name: name of the suite; ``pages/benchmark-<name>.md`` says what the columns mean.
        settings: class of its settings.
        measure: function that measures, from settings and a device.
        data: name of the data, for records.
        cells: makes the table of the page from the one that was measured.
        words: fields of that page, next to the settings and to what suites share.
    """

    def page(results: Results, tables: Tables) -> list[str]:
        record = _record(results)
        text = filled(f"benchmark-{name}", settings=results.settings, **_WORDS, **words)
        blocks = filled(
            "benchmark",
            name=name,
            text="\n\n".join(text),
            peaks=record["peaks"],
            table=_markdown(cells(tables["benchmark"])),
            threads=record["threads"],
        )
        return [*blocks, *left_out_blocks(record["unavailable"])]

    return Study(
        name=f"benchmark-{name}",
        settings=settings,
        tables=_tables,
        page=page,
        figures=lambda results, tables: {},
        records=_records,
        tasks=lambda study, plan: [SuiteTask(plan.device, name, plan.settings, measure)],
        source=lambda settings: Source(data, _RATIO),
        page_name="benchmark",
    )


def mean_scores(table: pd.DataFrame) -> pd.Series:
    """Accuracy and rank-flip rates of a table of distances, in percent, means over subsets."""
    return summarize(table, n_boot=0).iloc[-1][list(SCORES)].astype(float)


def _tables(results: Results) -> dict[str, pd.DataFrame]:
    rows = _record(results)["rows"]
    # Of types that have missing values, so that counts stay whole numbers where a row has none.
    columns = {name: pd.array([row[name] for row in rows]) for name in rows[0]}
    return {"benchmark": pd.DataFrame(columns)}


def _records(results: Results, tables: Tables) -> Iterator[Record]:
    """The ratio of each row; of suites that compare rates with those of a released package."""
    table = tables["benchmark"]
    # Columns that tell rows apart, next to the case.
    labels = [name for name in ("mode", "image_size", "batch", "peer") if name in table]
    for row in table.to_dict("records") if "released" in table else ():
        yield Record(
            metric=", ".join([row["case"], *(f"{name} {row[name]}" for name in labels)]),
            n=results.settings.rounds,
            scores={"ratio": (row["ratio"], row["ratio_low"], row["ratio_high"])},
            settings={"machine": results.machines, "threads": _record(results)["threads"]},
        )


def _record(results: Results) -> dict[str, Any]:
    (task,) = results.tasks
    return results.record(task)["results"]


def _markdown(table: pd.DataFrame) -> str:
    """The columns that pages show; those with bounds, ``x_low`` and ``x_high``, together."""
    columns = [name for name in _COLUMNS if name in table]
    bounded = [name for name in columns if f"{name}_low" in table]
    table = table.assign(**{name: interval_cells(table, name, digits=2) for name in bounded})
    numbers = table.select_dtypes("number")
    titles = {name: _COLUMNS[name][0] for name in columns}
    formats = {titles[name]: _COLUMNS[name][1] for name in columns if name in numbers}
    return to_markdown(table[columns].rename(columns=titles), formats)
