"""Studies as data: what a study is, and what it is given to make tables, a page and figures of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from robust_lpips.evaluation import ShiftViews
from robust_lpips.records import Record, with_bounds
from robust_lpips.studies.base.measuring import MetricTask, Part, cached_parts
from robust_lpips.studies.base.settings import Settings
from robust_lpips.studies.base.source import Source, source_of
from robust_lpips.tasks.task import Task, record_of

S = TypeVar("S", bound=Settings)
AnyTask = TypeVar("AnyTask", bound=Task)
Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Plan(Generic[S]):
    """Which results a run is asked for.

    Attributes:
        settings: settings of the study.
        metrics: names of metrics, as :func:`robust_lpips.comparison.load_metric` takes them.
        device: device that computes.
    """

    settings: S
    metrics: tuple[str, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Results(Generic[S]):
    """Finished tasks of a run, from which tables are made.

    Attributes:
        plan: what was asked for.
        source: the data set in words.
        output: folder of the run.
        tasks: the tasks that are finished, in the order of the plan.
        left_out: names of what is unavailable -> why.
    """

    plan: Plan[S]
    source: Source
    output: Path
    tasks: Sequence[Task]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> S:
        """Settings of the study."""
        return self.plan.settings

    def of(self, kind: type[AnyTask]) -> list[AnyTask]:
        """The finished tasks of that class."""
        return [task for task in self.tasks if isinstance(task, kind)]

    @functools.cache  # noqa: B019, results live as long as the run
    def distances(self, part: str = "") -> dict[str, pd.DataFrame]:
        """Tables of :func:`robust_lpips.evaluation.measure` of one part, by metric."""
        tasks = [task for task in self.of(MetricTask) if task.part == part]
        return {task.metric: task.distances(self.output) for task in tasks}

    def record(self, task: Task) -> dict[str, dict[str, Any]]:
        """Record of a task, see :func:`robust_lpips.tasks.task.record_of`."""
        return record_of(task, self.output)

    def distances_on(self, *parts: str) -> dict[str, tuple[pd.DataFrame, ...]]:
        """Tables of several parts, by metric, of the metrics that were measured on all of them.

        Raises:
            ValueError: if there is no such metric.
        """
        tables = [self.distances(part) for part in parts]
        metrics = [name for name in tables[0] if all(name in part for part in tables)]
        if not metrics:
            raise ValueError(f"no metric can be measured on all of {', '.join(parts)}")
        return {name: tuple(part[name] for part in tables) for name in metrics}

    @property
    def weights(self) -> dict[str, str | None]:
        """Digest of the weights of each measured metric; None where it has none."""
        keys = {task.metric: self.record(task)["results"]["key"] for task in self.of(MetricTask)}
        return {metric: key["weights"] for metric, key in keys.items()}

    def records(self, table: pd.DataFrame, names: Sequence[str], **settings: Any) -> list[Record]:
        """One record per row of a table with one row per metric.

        Args:
            table: ``metric, n``; the scores, each with its bounds in ``_low`` and ``_high`` where
                it has any. Rows of something other than one metric are given as :class:`Record`.
            names: columns of the scores.
            settings: see :class:`Record`.
        """
        return [
            Record(r["metric"], r["n"], with_bounds(r, names), self.weights[r["metric"]], settings)
            for r in table.to_dict("records")
        ]

    @property
    def machines(self) -> str:
        """Machines that computed the results, in words."""
        return "; ".join(self._recorded("machine"))

    @property
    def commits(self) -> list[str]:
        """Commits of the code that computed the results, where they are known."""
        return list(filter(None, self._recorded("commit")))

    def _recorded(self, name: str) -> dict[str, None]:
        entries = (entry for task in self.tasks for entry in self.record(task).values())
        return dict.fromkeys(entry[name] for entry in entries)


def single_part(settings: Any) -> Mapping[str, Part]:
    """The data set of the settings' source as the only part, at shifts up to ``max_shift``."""
    source, views = source_of(settings), ShiftViews(getattr(settings, "max_shift", 0))
    return {"": Part(source.dataset, views, source.batch_size)}


@dataclass(frozen=True)
class Study(Generic[S]):
    """One study: what it asks for, and how its results become tables, a page and figures.

    Attributes:
        name: what folders and records call it, as ``"jnd"``.
        settings: class of its settings; it has a method ``source()``, or ``source`` is given.
        tables: makes the tables, by name of their CSV file, from results.
        page: makes the page, its title first and one Markdown block each, from results and tables.
        figures: makes the figures, by name of their files, from results and tables.
        records: gives the scores that leaderboards show.
        metrics: metrics that are measured where none are named; empty: the study takes none.
        metrics_for: gives these metrics from settings, where they depend on them.
        parts: gives the data sets that metrics are measured on, by name, from settings.
        tasks: gives the tasks of a plan. Default: every metric on every part.
        source: gives the data set in words, from settings.
        check: raises ValueError for an output folder that does not suit the settings, before
            anything is written.
        prepare: makes what all tasks need, from a plan and the output folder.
        folder: gives the name of the default output folder under ``runs``, from settings.
        page_name: name of the page's file without suffix. Default: ``name``.
        photographs: names of figures that show photographs, which a page names and does not show.
        parallel: several tasks run at a time by default, one per CPU core.
    """

    name: str
    settings: type[S]
    tables: Callable[[Results[S]], Tables]
    page: Callable[[Results[S], Tables], Sequence[str]]
    figures: Callable[[Results[S], Tables], Mapping[str, Figure]]
    records: Callable[[Results[S], Tables], Iterable[Record]] = lambda results, tables: ()
    metrics: tuple[str, ...] = ()
    metrics_for: Callable[[S], tuple[str, ...]] | None = None
    parts: Callable[[S], Mapping[str, Part]] = single_part
    tasks: Callable[[Study[S], Plan[S]], Sequence[Task]] | None = None
    source: Callable[[S], Source] = source_of
    check: Callable[[S, Path], None] | None = None
    prepare: Callable[[Plan[S], Path], None] | None = None
    folder: Callable[[S], str] | None = None
    page_name: str = ""
    photographs: tuple[str, ...] = ()
    parallel: bool = False

    def output_folder(self, settings: S) -> Path:
        """Default output folder."""
        return Path("runs") / (self.folder(settings) if self.folder else self.name)

    def default_metrics(self, settings: S) -> tuple[str, ...]:
        """Metrics that are measured where none are named."""
        return self.metrics_for(settings) if self.metrics_for else self.metrics

    def planned(self, plan: Plan[S]) -> Sequence[Task]:
        """The tasks of a plan."""
        return (self.tasks or metric_tasks)(self, plan)


def metric_tasks(study: Study[S], plan: Plan[S]) -> list[MetricTask]:
    """A task for every metric of the plan and every part of the study, metric by metric."""
    parts = cached_parts(study.parts, plan.settings)
    return [
        MetricTask(plan.device, study.parts, plan.settings, metric, part)
        for metric in plan.metrics
        for part in parts
    ]
