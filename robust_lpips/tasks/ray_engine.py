"""The engine ``ray``: tasks on a Ray cluster, whose nodes need not share a disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch

from robust_lpips._files import atomic_path
from robust_lpips.tasks.engines import progress_bar
from robust_lpips.tasks.machine import cores_per_task
from robust_lpips.tasks.task import (
    RECORD_FILE,
    LeftOut,
    Task,
    advance,
    next_stage,
    remaining_work,
)


def import_ray() -> ModuleType:
    """The package ``ray``.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says how to install it.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'engine "ray" needs the package ray: pip install "robust-lpips[ray]"'
        ) from error
    return ray


def run_on_ray(tasks: Sequence[Task], output: Path, jobs: int, description: str) -> dict[str, str]:
    """Do all tasks on the cluster of ``RAY_ADDRESS``, or on one that is started here.

    Each is one Ray task, which asks for one GPU where its device is one, else for as many cores as
    ``jobs`` tasks at a time would leave each of this machine. It works in a temporary folder that
    begins with the files that there are of it. After each stage, new and changed files come back
    into the output folder; a stage that is cut off begins again. The nodes need this package. The
    sample set is built on each at first use; other data and given checkpoints have to be at the
    same path on all.

    Returns:
        Names of the tasks that were left out -> why.

    Raises:
        ModuleNotFoundError: if ray is not installed.
        RuntimeError: if a task fails; the others are cancelled.
    """
    ray = import_ray()
    if not ray.is_initialized():
        ray.init()
    cores, left_out = cores_per_task(jobs), {}
    with progress_bar(tasks, output, description) as (order, bar):
        running = {_submit(ray, task, output, cores): task for task in order}
        try:
            while running:
                (stages, *_), _ = ray.wait(list(running))
                task = running[stages]
                before = remaining_work(task, output)
                try:
                    _write_files(output, ray.get(next(stages)))
                    bar.update(before - remaining_work(task, output))
                    continue
                except StopIteration:
                    pass
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", None) or error
                    if not isinstance(cause, LeftOut):
                        said = f"{type(cause).__name__}: {cause}"
                        raise RuntimeError(f"{task.name} failed on Ray: {said}") from error
                    left_out[task.name] = str(cause)
                bar.update(before)
                del running[stages]
        finally:
            for stages in running:
                ray.cancel(stages)
    return left_out


def _submit(ray: ModuleType, task: Task, output: Path, cores: int) -> Iterator:
    """Begin with ``task``; the generator of what its stages leave."""
    on_cpu = torch.device(task.device).type == "cpu"
    resources = {"num_cpus": cores} | ({} if on_cpu else {"num_gpus": 1})
    remote = ray.remote(**resources)(_stages).options(name=task.name)
    return remote.remote(task, _read_files(output, task.files(output)), cores)


def _stages(task: Task, files: Mapping[str, bytes], cores: int) -> Iterator[dict[str, bytes]]:
    """On a node: do ``task``, and give after each stage the files that are new or changed."""
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        _write_files(output, files)
        # Ray shows a task its own GPU only, as the first one.
        task = task.on_device(torch.device(task.device).type)
        known, left_out = _states(output), None
        while left_out is None and next_stage(task, output) is not None:
            try:
                advance(task, output, lambda _: None)
            except LeftOut as reason:  # which the record keeps, so that other shards do not wait
                left_out = reason
            states = _states(output)
            changed = [path for path, state in states.items() if known.get(path) != state]
            # The record last: it says that the others are there.
            changed.sort(key=lambda path: path.name == RECORD_FILE)
            yield _read_files(output, changed)
            known = states
        if left_out is not None:
            raise left_out


def _states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Time of change and size of every file."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _read_files(folder: Path, paths: Iterable[Path]) -> dict[str, bytes]:
    """Files by their path in ``folder``, with forward slashes, in the order given."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
