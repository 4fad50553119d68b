"""The runner: one way from a study to its results, for every study.

Settings are compared with those of the folder, what is not yet measured is measured, and tables,
page, figures, records and the command are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robust_lpips._files import read_json, write_json
from robust_lpips._settings import differences
from robust_lpips.comparison import check_names
from robust_lpips.evaluation.precision import computing_in
from robust_lpips.plotting import save
from robust_lpips.studies.base import engines, ray_engine, records
from robust_lpips.studies.base.engines import WHOLE, Shard
from robust_lpips.studies.base.machine import available_cores, is_first_process
from robust_lpips.studies.base.study import Plan, Results, Study, Tables
from robust_lpips.studies.base.tasks import LeftOut, Task, failure, next_stage, staleness
from robust_lpips.tables import write_csv, write_text

SETTINGS_FILE = "settings.json"
ENGINES: dict[str, engines.Engine] = {
    "local": engines.run_locally,
    "ray": ray_engine.run_on_ray,
}


@dataclass(frozen=True)
class Execution:
    """How the tasks of a run are done; results do not depend on it.

    Attributes:
        jobs: tasks at a time, which share the CPU's cores evenly; None: the study's own choice. The
            last digits of numbers depend on how many cores a task has.
        shard: part of the tasks to do; several may run at once, each one once, on one folder.
        engine: ``"local"``, processes of this machine, or ``"ray"``, a Ray cluster.
    """

    jobs: int | None = None
    shard: Shard = WHOLE
    engine: str = "local"


def run(
    study: Study,
    plan: Plan,
    output: str | Path,
    *,
    command: str | None = None,
    execution: Execution = Execution(),
) -> str | None:
    """Do the tasks that are not finished; if none is left, write the report.

    Into ``output`` go ``settings.json``, the folders of the tasks, and what
    :func:`write_report` writes. Of several processes that ``torchrun`` started, the first one does
    all of this, and the others join in its tasks.

    Args:
        study: study to run.
        plan: settings, metrics and device.
        output: folder, new or of an earlier run with the same settings.
        command: command line of the run, to be printed with the results.
        execution: how tasks are done.

    Returns:
        The page; None where tasks are left to other shards: :func:`unfinished` names them. None in
        other processes than the first.

    Raises:
        ValueError: if metrics are unknown or repeated, nothing can be measured, or ``output``
            holds results of different settings.
        FileNotFoundError: if data are missing.
    """
    output = Path(output)
    if study.metrics and plan.metrics:
        check_names(plan.metrics)
    if not is_first_process():
        _join(study.planned(plan), output)
        return None
    source = study.source(plan.settings)
    claim(output, plan.settings.claim())
    if study.prepare is not None:
        study.prepare(plan, output)
    tasks = list(study.planned(plan))
    own = list(execution.shard.of(tasks))
    left_out, pending = _pending(own, output)
    if pending:
        left_out |= ENGINES[execution.engine](
            pending, output, _jobs(study, plan, execution, len(own)), study.name
        )
    others = {task.name: failure(task, output) for task in tasks if task not in own}
    left_out |= {name: reason for name, reason in others.items() if reason}
    finished = [task for task in tasks if task.name not in left_out]
    if any(map(_is_pending, finished, [output] * len(finished))):
        return None
    if tasks and not finished:
        raise ValueError(f"nothing can be measured: {_reasons(left_out)}")
    results = Results(plan, source, output, finished, _by_metric(left_out, tasks))
    return write_report(study, results, command)


def unfinished(study: Study, plan: Plan, output: str | Path) -> list[str]:
    """Names of the tasks that the report waits for."""
    tasks = study.planned(plan)
    return [
        task.name
        for task in tasks
        if failure(task, Path(output)) is None and _is_pending(task, Path(output))
    ]


def write_report(study: Study, results: Results, command: str | None) -> str:
    """Write tables (CSV), page (Markdown), figures (PNG and PDF) and records; return the page."""
    output = results.output
    tables = study.tables(results)
    for name, table in tables.items():
        write_csv(table, output / f"{name}.csv")
    figures = study.figures(results, tables)
    for name, figure in figures.items():
        save(figure, output / name)
    page = _page(study, results, tables, list(figures), command)
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
    if unlike := differences(read_json(path), wanted):
        raise ValueError(
            f"output: {output} holds results of different settings ({unlike}): choose another "
            "folder"
        )


def _join(tasks: Sequence[Task], output: Path) -> None:
    for task in tasks:
        with computing_in("float32", torch.device(task.device)):
            task.join(output)


def _jobs(study: Study, plan: Plan, execution: Execution, count: int) -> int:
    # By the size of the shard, not by what is left of it: a resumed run computes as before.
    if execution.jobs is not None:
        return execution.jobs
    on_cpu = str(plan.device) == "cpu"
    return max(1, min(available_cores(), count)) if study.parallel and on_cpu else 1


def _pending(tasks: Sequence[Task], output: Path) -> tuple[dict[str, str], list[Task]]:
    """Tasks that cannot be done, by name with the reason; and those that are not finished."""
    left_out, pending = {}, []
    for task in tasks:
        try:
            if next_stage(task, output) is None:
                continue
            if unlike := staleness(task, output):
                print(f"{task.name}: measured again, because {unlike}")
        except LeftOut as reason:
            left_out[task.name] = str(reason)
            continue
        pending.append(task)
    return left_out, pending


def _is_pending(task: Task, output: Path) -> bool:
    try:
        return next_stage(task, output) is not None
    except LeftOut:
        return False


def _by_metric(left_out: Mapping[str, str], tasks: Sequence[Task]) -> dict[str, str]:
    """Reasons by what pages call it: a metric once, though it has several parts."""
    titles = {task.name: getattr(task, "metric", task.name) for task in tasks}
    return {titles[name]: reason for name, reason in left_out.items()}


def _reasons(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {reason}" for name, reason in left_out.items())


def _page(
    study: Study, results: Results, tables: Tables, figures: Sequence[str], command: str | None
) -> str:
    """The study's own blocks, then figures, what is left out, and what made the page."""
    blocks = list(study.page(results, tables))
    blocks += [
        f"![{name}]({name}.png)"
        if name not in study.photographs
        else f"`{name}.png` shows photographs."
        for name in figures
    ]
    if results.left_out:
        # Names with the same reason share a line.
        names: dict[str, list[str]] = {}
        for name, reason in results.left_out.items():
            names.setdefault(reason, []).append(name)
        lines = [f"- {', '.join(which)}: {reason}" for reason, which in names.items()]
        blocks += ["## Left out", "\n".join(lines)]
    made = [f"On {results.machines}." if results.tasks else ""]
    if results.commits:
        made.append(f"Measured by commit {', '.join(map(_short, results.commits))}.")
    blocks += ["## Made by", *([f"```\n{command}\n```"] if command else []), " ".join(made).strip()]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _short(commit: str) -> str:
    """A commit's first digits, and whether there were changes."""
    digits, _, dirty = commit.partition("-")
    return digits[:12] + (" with changes" if dirty else "")
