"""Engines: what does the tasks of a run, in this process, in several, or in shards of a run."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from robust_lpips.tasks.machine import cores_per_task
from robust_lpips.tasks.task import LeftOut, Task, Tick, advance, next_stage, remaining_work

# Gives, by the name of each task that was left out, why.
Engine = Callable[[Sequence[Task], Path, int, str], dict[str, str]]


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a run, for arrays of jobs that share an output folder.

    ``index`` counts modulo ``count``: numbers from 0 to count - 1 make the whole, and so do those
    from 1 to count.

    Raises:
        ValueError: if ``count`` is below 1, or ``index`` not in 0 .. count.

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

    def of(self, tasks: Sequence[Any]) -> Sequence[Any]:
        """Its share of the tasks: every ``count``-th, so that similar ones are dealt out evenly."""
        return tasks[self.index % self.count :: self.count]


WHOLE = Shard()


def do_task(task: Task, output: Path, tick: Tick) -> None:
    """Do every stage of a task that is not finished.

    Raises:
        LeftOut: if the task cannot be done here.
    """
    while next_stage(task, output) is not None:
        advance(task, output, tick)


@contextmanager
def progress_bar(
    tasks: Sequence[Task], output: Path, description: str
) -> Iterator[tuple[list[Task], tqdm]]:
    """The tasks, those with the most work first, and a bar over their work."""
    work = {task: remaining_work(task, output) for task in tasks}
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    # A little more than the sum, which shares of work may exceed by a rounding error.
    total = sum(work.values()) * (1 + 1e-9)
    with tqdm(total=total, desc=description, bar_format=layout) as bar:
        yield sorted(tasks, key=work.__getitem__, reverse=True), bar


def run_locally(tasks: Sequence[Task], output: Path, jobs: int, description: str) -> dict[str, str]:
    """Do all tasks on this machine, those with the most work first, ``jobs`` at a time.

    With one job they run in this process; with several in worker processes, and each task has its
    share of the cores, however many tasks there are. The first error stops all and is raised.

    Returns:
        Names of the tasks that were left out -> why.
    """
    with progress_bar(tasks, output, description) as (order, bar):
        if jobs > 1:
            return _run_in_processes(order, output, jobs, bar)
        left_out = {}
        for task in order:
            bar.set_postfix_str(task.name)
            try:
                do_task(task, output, bar.update)
            except LeftOut as reason:
                left_out[task.name] = str(reason)
        return left_out


def _run_in_processes(tasks: Sequence[Task], output: Path, jobs: int, bar: tqdm) -> dict[str, str]:
    # Forking a process that has used threads is not safe, and a GPU could not be shared so.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    done = context.Value("d", 0.0)
    given = done, cores_per_task(jobs)
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), context, _start_worker, given)
    left_out: dict[str, str] = {}
    try:
        running: dict[Future, Task] = {pool.submit(_work, task, output): task for task in tasks}
        while running:
            finished, _ = wait(running, 0.5, FIRST_COMPLETED)
            bar.update(done.value - bar.n)
            for future in finished:
                task = running.pop(future)
                try:
                    future.result()
                except LeftOut as reason:
                    left_out[task.name] = str(reason)
            bar.set_postfix_str(f"{len(tasks) - len(running)} of {len(tasks)} done", refresh=False)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        workers = set(multiprocessing.active_children()) - others
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        if isinstance(error, BrokenProcessPool):
            raise RuntimeError(
                "a worker process was killed, perhaps because memory ran out: start the run again, "
                "with fewer jobs; finished tasks are kept"
            ) from error
        raise
    pool.shutdown()
    return left_out


_done: Synchronized | None = None


def _start_worker(done: Synchronized, threads: int) -> None:
    global _done
    _done = done
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _work(task: Task, output: Path) -> None:
    def tick(work: float) -> None:
        with _done.get_lock():
            _done.value += work

    do_task(task, output, tick)


def _end_with_parent() -> None:
    """End when the parent was killed: a run that is started again would find us at its files."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
