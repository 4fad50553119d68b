"""Run an ablation table: every row untrained and trained, measured and kept, then summarized."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robust_lpips.studies import cluster, pool
from robust_lpips.studies.folder import claim
from robust_lpips.studies.rows import Row
from robust_lpips.studies.study import Study
from robust_lpips.studies.tasks import ReferenceTask, RowTask, StudyTask, references

# What runs tasks: processes of this machine, or a Ray cluster.
ENGINES = {"local": pool.run_tasks, "ray": cluster.run_tasks}


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a run, for arrays of jobs that share an output folder.

    ``index`` counts modulo ``count``: numbers from 0 to count - 1 make the whole, and so do those
    from 1 to count.

    Raises:
        ValueError: ``count`` below 1, or ``index`` not in 0 .. count.

    Example:
        >>> [Shard(i, 3).of("abcdefg") for i in (1, 2, 3)]
        ['be', 'cf', 'adg']
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index <= self.count:
            raise ValueError(
                f"shard must be i/n, with n from 1 and i from 0 to n; got {self.index}/{self.count}"
            )

    def of(self, tasks: Sequence) -> Sequence:
        """Its own among all tasks: every ``count``-th, so that alike rows are dealt out evenly."""
        return tasks[self.index % self.count :: self.count]


WHOLE = Shard()


def run(
    study: Study,
    rows: Sequence[str] | None = None,
    seeds: Iterable[int] | None = None,
    jobs: int | None = None,
    *,
    shard: Shard = WHOLE,
    engine: str = "local",
) -> list[RowTask]:
    """Do what is left to do of ``study``, or of one shard of it.

    Args:
        study: what to run.
        rows: names of rows; None: all.
        seeds: each row is run with each; None: those of the preset.
        jobs: rows at a time, which share the CPU's cores evenly; None: one a core, or one where a
            GPU computes. The last digits of numbers depend on how many cores a row has.
        shard: which part; several may run at once, each one once, on one output folder.
        engine: ``"local"``, processes of this machine, or ``"ray"``, a Ray cluster, see
            :func:`robust_lpips.studies.cluster.run_tasks`.

    Returns:
        The rows of all shards, finished or not: :func:`unfinished` tells.

    Raises:
        ValueError: unknown rows, or an output folder that holds results of other settings.
        ModuleNotFoundError: the engine's package is not installed.
    """
    chosen = chosen_rows(study, rows)
    seeds = study.preset.seeds if seeds is None else tuple(seeds)
    row_tasks = [RowTask(study, row, seed) for row in chosen for seed in seeds]
    own = shard.of(_with_references(study, row_tasks))
    claim(study.output, study.settings)
    study.prepare()
    # By the shard's size, not by what is left of it: a run that goes on computes as before.
    jobs = jobs or (max(1, min(pool.available_cores(), len(own))) if study.on_cpu else 1)
    if todo := [task for task in own if not task.finished]:
        ENGINES[engine](todo, jobs, f"{study.table} ablation", "MAC")
    return row_tasks


def unfinished(study: Study, row_tasks: Sequence[RowTask]) -> list[str]:
    """Names of the rows and references that the report of ``study`` waits for."""
    return [task.name for task in _with_references(study, row_tasks) if not task.finished]


def _with_references(study: Study, row_tasks: Sequence[RowTask]) -> list[StudyTask]:
    return [*row_tasks, *(ReferenceTask(study, name) for name in references(study))]


def chosen_rows(study: Study, names: Sequence[str] | None) -> list[Row]:
    """The rows of those names; None: all.

    Raises:
        ValueError: unknown names.
    """
    known = {row.name: row for row in study.rows}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"rows must be among {', '.join(known)}; got {', '.join(unknown)}")
    return study.rows if names is None else [known[name] for name in names]
