"""Independent tasks of a study, in this process or spread over several, with one progress bar."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from typing import NamedTuple, Protocol, TypeVar

import torch
from tqdm.auto import tqdm

# Called with the work done since the last call.
Tick = Callable[[float], None]

_POLL_SECONDS = 0.5


class Task(Protocol):
    """Something to be done, picklable; its result goes to files."""

    @property
    def name(self) -> str:
        """What the progress bar calls it."""

    @property
    def work(self) -> float:
        """How much there is to do, in the unit that it ticks."""

    def __call__(self, tick: Tick) -> None:
        """Do it."""


AnyTask = TypeVar("AnyTask", bound=Task)


def available_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_a_task(jobs: int) -> int:
    """Cores of this machine that each of ``jobs`` tasks at a time has to itself."""
    return max(1, available_cores() // jobs)


def machine(device: str) -> str:
    """What computes, in words."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{available_cores()} CPU cores ({capability}), torch {torch.__version__}"


@contextmanager
def progress_bar(
    tasks: Sequence[AnyTask], description: str, unit: str
) -> Iterator[tuple[list[AnyTask], tqdm]]:
    """The tasks, the longest first, and a bar over their work; none where they count none."""
    tasks = sorted(tasks, key=lambda task: task.work, reverse=True)
    total = sum(task.work for task in tasks)
    with tqdm(total=total, desc=description, unit=unit, unit_scale=True, disable=not total) as bar:
        yield tasks, bar


def run_tasks(tasks: Sequence[Task], jobs: int, description: str = "", unit: str = "") -> None:
    """Do all tasks, the longest first, ``jobs`` at a time.

    With one job they run here; with several, in processes, and each task has its share of the
    cores, however many tasks there are. The first error stops what has not begun and is raised.
    """
    with progress_bar(tasks, description, unit) as (tasks, bar):
        if jobs == 1:
            for task in tasks:
                bar.set_postfix_str(task.name)
                task(bar.update)
        else:
            _run_in_processes(tasks, jobs, bar)


def _run_in_processes(tasks: Sequence[Task], jobs: int, bar: tqdm) -> None:
    # Forking a process that has used threads is not safe; and a GPU could not be shared so.
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.Value("i", 0), context.Value("d", 0.0), context.SimpleQueue())
    workers = [
        context.Process(target=_worker, args=(tasks, shared, cores_a_task(jobs)), daemon=True)
        for _ in range(min(jobs, len(tasks)))
    ]
    for worker in workers:
        worker.start()
    try:
        running = {worker.sentinel: worker for worker in workers}
        while running:
            for sentinel in wait(list(running), _POLL_SECONDS):
                worker = running.pop(sentinel)
                worker.join()
                if not shared.errors.empty():
                    raise shared.errors.get()
                if worker.exitcode != 0:
                    raise RuntimeError(f"a process of this run ended with {worker.exitcode}")
            begun = min(shared.begun.value, len(tasks))
            bar.set_postfix_str(f"{begun}/{len(tasks)} tasks begun", refresh=False)
            bar.update(shared.done.value - bar.n)
    finally:
        for worker in workers:
            worker.terminate()


class _Shared(NamedTuple):
    """What the processes of a run have in common."""

    begun: Synchronized  # tasks taken so far
    done: Synchronized  # work ticked so far
    errors: SimpleQueue


def _worker(tasks: Sequence[Task], shared: _Shared, threads: int) -> None:
    """Take tasks, in order, until none is left."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)

    def tick(work: float) -> None:
        with shared.done.get_lock():
            shared.done.value += work

    while True:
        with shared.begun.get_lock():
            index = shared.begun.value
            shared.begun.value += 1
        if index >= len(tasks):
            return
        try:
            tasks[index](tick)
        except BaseException as error:
            shared.errors.put(error)
            raise


def _end_with_parent() -> None:
    """Do not outlive a parent that was killed: a run started anew would find us at its files."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
