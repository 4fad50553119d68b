"""The runner: one way from a study to its results, for every study."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robust_lpips import records
from robust_lpips._files import read_json, write_json
from robust_lpips._settings import differences
from robust_lpips.comparison import check_names
from robust_lpips.evaluation.precision import computing_in
from robust_lpips.plotting import save
from robust_lpips.studies.base.measuring import cached_parts
from robust_lpips.studies.base.source import source_of
from robust_lpips.studies.base.study import Plan, Results, Study, Tables
from robust_lpips.studies.base.words import left_out_blocks
from robust_lpips.tables import write_csv, write_text
from robust_lpips.tasks.engines import WHOLE, Engine, Shard, run_locally
from robust_lpips.tasks.machine import available_cores, is_first_process
from robust_lpips.tasks.ray_engine import run_on_ray
from robust_lpips.tasks.task import LeftOut, Task, failure, next_stage, staleness

SETTINGS_FILE = "settings.json"
ENGINES: dict[str, Engine] = {"local": run_locally, "ray": run_on_ray}


@dataclass(frozen=True)
class Execution:
    """How the tasks of a run are done; results do not depend on it.

    Attributes:
        jobs: tasks at a time, which share the CPU's cores evenly; None: the study's own choice. The
            last digits of numbers depend on how many cores a task has.
        shard: part of the tasks to do; several may run at once, each one once, on one folder.
        engine: ``"local"``, processes of this machine, or ``"ray"``, a Ray cluster.

    Raises:
        ValueError: if ``jobs`` is below 1.
    """

    jobs: int | None = None
    shard: Shard = WHOLE
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs must be at least 1; got {self.jobs}")


def run(
    study: Study,
    plan: Plan,
    output: str | Path,
    *,
    command: str | None = None,
    execution: Execution = Execution(),
) -> str | None:
    """Do the tasks that are not finished, :func:`finish`; if none is left, :func:`write_report`.

    Args:
        study: study to run.
        plan: settings, metrics and device.
        output: folder, new or of an earlier run with the same settings.
        command: command line of the run, to be printed with the results.
        execution: how tasks are done.

    Returns:
        The page; None where tasks are left to other shards or processes.
    """
    results = finish(study, plan, output, execution)
    return None if results is None else write_report(study, results, command)


def finish(
    study: Study, plan: Plan, output: str | Path, execution: Execution = Execution()
) -> Results | None:
    """Do the tasks of a plan that are not finished.

    Into ``output`` go ``settings.json`` and the folders of the tasks. Of several processes that
    ``torchrun`` started, the first one does all of this, and the others join in its tasks.

    Returns:
        Results for :func:`write_report`; None where tasks are left to other shards, which
        :func:`unfinished` names, and in other processes than the first.

    Raises:
        ValueError: if metrics are unknown or repeated, nothing can be measured, or ``output``
            holds results of different settings.
        FileNotFoundError: if data are missing.
    """
    output = Path(output)
    if plan.metrics or study.default_metrics(plan.settings):
        check_names(plan.metrics)
    if not is_first_process():
        for task in study.planned(plan):
            with computing_in("float32", torch.device(task.device)):
                task.join(output)
        return None
    check_writable(output)
    if study.check is not None:
        study.check(plan.settings, output)
    # Data may have changed since an earlier run of this process.
    source_of.cache_clear()
    cached_parts.cache_clear()
    source = study.source(plan.settings)
    claim(output, plan.settings.claim())
    if study.prepare is not None:
        study.prepare(plan, output)
    tasks = list(study.planned(plan))
    left_out, pending = _pending(tasks, output)
    shard = execution.shard.of(tasks)
    own = [task for task in pending if task in shard]
    for task in own:
        if unlike := staleness(task, output):
            print(f"{task.name}: measured again, because {unlike}")
    if own:
        # By the size of the shard, not by what is left of it: a resumed run computes as before.
        several = study.parallel and str(plan.device) == "cpu"
        jobs = execution.jobs or (min(available_cores(), len(shard)) if several else 1)
        left_out |= ENGINES[execution.engine](own, output, jobs, study.name)
    others = {task.name: failure(task, output) for task in pending if task not in own}
    left_out |= {name: reason for name, reason in others.items() if reason}
    finished = [task for task in tasks if task.name not in left_out]
    if any(next_stage(task, output) for task in finished):
        return None
    # In the order of the plan; of a metric once, though it has several parts.
    reasons = {
        getattr(task, "metric", task.name): left_out[task.name]
        for task in tasks
        if task.name in left_out
    }
    if tasks and not finished:
        said = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise ValueError(f"nothing can be measured: {said}")
    return Results(plan, source, output, finished, reasons)


def unfinished(study: Study, plan: Plan, output: str | Path) -> list[str]:
    """Names of the tasks that the report waits for."""
    _, pending = _pending(study.planned(plan), Path(output))
    return [task.name for task in pending if failure(task, Path(output)) is None]


def write_report(study: Study, results: Results, command: str | None) -> str:
    """Write tables (CSV), page (Markdown), figures (PNG and PDF) and records; return the page."""
    output = results.output
    tables = study.tables(results)
    for name, table in tables.items():
        write_csv(table, output / f"{name}.csv")
    figures = study.figures(results, tables)
    for name, figure in figures.items():
        save(figure, output / name)
    page = _page(study, results, tables, figures, command)
    write_text(output / f"{study.page_name or study.name}.md", page)
    records.append(
        output,
        study.records(results, tables),
        benchmark=study.name,
        dataset=results.source.name,
        judged_by=results.source.judged_by,
        command=command,
        commits=results.commits,
        settings=results.settings.record(),
    )
    return page


def check_writable(folder: Path) -> None:
    """Raise ValueError unless files can be written to ``folder``, which need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError as error:
        raise ValueError(f"output: cannot write to {folder} ({error.strerror})") from error


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a run into ``output``, or check that they are those found there.

    Raises:
        ValueError: if the folder holds results of different settings; the message names them.
    """
    path = output / SETTINGS_FILE
    if not path.is_file():
        write_json(path, settings)
        return
    wanted = json.loads(json.dumps(settings))  # as it would be read: tuples become lists
    try:
        found = read_json(path)
    except ValueError as error:
        raise ValueError(
            f"output: {path} cannot be read ({error}): remove it, or choose another folder"
        ) from error
    if unlike := differences(found, wanted):
        raise ValueError(
            f"output: {output} holds results of different settings ({unlike}): choose another "
            "folder"
        )


def _pending(tasks: Sequence[Task], output: Path) -> tuple[dict[str, str], list[Task]]:
    """Tasks that cannot be done, by name with the reason; and those that are not finished."""
    left_out, pending = {}, []
    for task in tasks:
        try:
            if next_stage(task, output) is None:
                continue
        except LeftOut as reason:
            left_out[task.name] = str(reason)
            continue
        pending.append(task)
    return left_out, pending


def _page(
    study: Study, results: Results, tables: Tables, figures: Iterable[str], command: str | None
) -> str:
    """The study's own blocks, then figures, what is left out, and what made the page."""
    shown = [
        f"`{name}.png`, written next to this page, shows photographs and stays out of repositories."
        if name in study.photographs
        else f"![{name}]({name}.png)"
        for name in figures
    ]
    made = [f"On {results.machines}."] if results.tasks else []
    if commits := [each.partition("-") for each in results.commits]:
        short = (digits[:12] + (" with changes" if dirty else "") for digits, _, dirty in commits)
        made.append(f"Measured by commit {', '.join(short)}.")
    blocks = [*study.page(results, tables), *shown, *left_out_blocks(results.left_out)]
    blocks += ["## Made by", f"```\n{command}\n```" if command else "", " ".join(made)]
    return "\n\n".join(filter(None, blocks)) + "\n"
