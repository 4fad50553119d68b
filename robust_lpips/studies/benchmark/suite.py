"""Suites as studies: one task that is measured anew by every run, and its table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from robust_lpips.studies.base import (
    LeftOut,
    Plan,
    Record,
    Results,
    Settings,
    Source,
    Study,
    Tables,
    Task,
    Tick,
    interval_cells,
    quantity_label,
)
from robust_lpips.studies.base.words import left_out_blocks
from robust_lpips.studies.benchmark.capability import Peaks
from robust_lpips.studies.benchmark.verdicts import SCORES
from robust_lpips.tables import to_markdown

_RATIO = (
    "ratio: how many times as fast as the released package ours is. In brackets the lowest and the "
    "highest ratio of a round, not an interval."
)
# What tells the rows of a table apart, next to the case.
_LABELS = ("mode", "image_size", "batch", "peer")
# Columns of the pages in their order, of those that a table has: titles, and formats of numbers.
_COLUMNS = {
    "case": ("case", ""),
    "mode": ("mode", ""),
    "peer": ("released package", ""),
    "triplets": ("triplets", ""),
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


# From settings and a device.
Measure = Callable[[Any, str], Measured]


def _this_run() -> str:
    return f"{datetime.now(timezone.utc).isoformat()}, process {os.getpid()}"


@dataclass(frozen=True)
class SuiteTask(Task):
    """Measure a suite. Times belong to one run, so the key holds when and where the run began.

    Attributes:
        suite: name of the suite.
        settings: settings of the suite.
        measure: function that measures.
        started: time and process that made the task.
    """

    suite: str
    settings: Settings
    measure: Measure
    started: str = field(default_factory=_this_run)

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
        if found.table.empty:
            reasons = "; ".join(f"{name}: {why}" for name, why in found.unavailable.items())
            raise LeftOut(f"has nothing to compare with ({reasons})")
        tick(self.work(stage))
        cells = found.table.astype(object)
        return {
            "rows": cells.where(cells.notna(), None).to_dict("records"),
            "unavailable": dict(found.unavailable),
            "peaks": str(found.peaks or ""),
            "threads": torch.get_num_threads(),
        }


def suite(
    name: str,
    settings: type[Settings],
    measure: Measure,
    text: str,
    data: str,
    cells: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
) -> Study:
    """Study of one suite; its table goes to ``benchmark.csv``, its page to ``benchmark.md``.

    Args:
        name: name of the suite.
        settings: class of its settings.
        measure: function that measures, from settings and a device.
        text: method and meaning of the columns; a format string for the fields of the settings.
        data: name of the data, for records.
        cells: makes the table of the page from the one that was measured.
    """

    def page(results: Results, tables: Tables) -> list[str]:
        record = _record(results)
        return [
            f"# Benchmark: {name}",
            text.format(**asdict(results.settings)),
            record["peaks"],
            _markdown(cells(tables["benchmark"])),
            f"Threads: {record['threads']}. Float32 is strict: on GPUs without TF32.",
            *left_out_blocks(record["unavailable"]),
        ]

    def tasks(study: Study, plan: Plan) -> list[SuiteTask]:
        return [SuiteTask(plan.device, name, plan.settings, measure)]

    return Study(
        name=f"benchmark-{name}",
        settings=settings,
        tables=_tables,
        page=page,
        figures=lambda results, tables: {},
        records=_records,
        tasks=tasks,
        source=lambda settings: Source(data, _RATIO),
        page_name="benchmark",
    )


def _tables(results: Results) -> dict[str, pd.DataFrame]:
    rows = _record(results)["rows"]
    # Of types that have missing values, so that counts stay whole numbers where a row has none.
    return {
        "benchmark": pd.DataFrame({name: pd.array([row[name] for row in rows]) for name in rows[0]})
    }


def _records(results: Results, tables: Tables) -> Iterator[Record]:
    """The ratio of each row; of suites that compare rates with those of a released package."""
    table = tables["benchmark"]
    for row in table.to_dict("records") if "released" in table else ():
        labels = [f"{name} {row[name]}" for name in _LABELS if name in row]
        ratio = (row["ratio"], row["ratio_low"], row["ratio_high"])
        yield Record(
            metric=", ".join([row["case"], *labels]),
            n=results.settings.rounds,
            scores={"ratio": ratio},
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
