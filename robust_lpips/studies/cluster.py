"""Tasks of a study on a Ray cluster, whose nodes need not share a disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch

from robust_lpips.studies.folder import read_files, write_files
from robust_lpips.studies.pool import cores_a_task, progress_bar
from robust_lpips.studies.tasks import RECORD_FILE, StudyTask


def import_ray() -> ModuleType:
    """The package ``ray``.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'engine "ray" needs the package ray: pip install "robust-lpips[ray]"'
        ) from error
    return ray


def run_tasks(tasks: Sequence[StudyTask], jobs: int, description: str = "", unit: str = "") -> None:
    """Do all tasks on the cluster of ``RAY_ADDRESS``, or on one that is started here.

    Each is one Ray task, which asks for one GPU where the study's device is one, else for as many
    cores as ``jobs`` tasks at a time would leave each of this machine. It works in a temporary
    folder that begins with the files that there are of it; after each stage new and changed files
    come back and are written into the output folder; a training that is cut off begins again. The
    nodes need this package. The sample set
    is built on each at first use; BAPPS and given checkpoints have to be at the same path on all.

    Raises:
        ModuleNotFoundError: ray is not installed.
        RuntimeError: a task failed; the others are cancelled.
    """
    ray = import_ray()
    if not ray.is_initialized():
        ray.init()
    cores = cores_a_task(jobs)
    with progress_bar(tasks, description, unit) as (tasks, bar):
        running = {_submit(ray, task, cores): task for task in tasks}
        try:
            while running:
                (stages, *_), _ = ray.wait(list(running))
                task = running[stages]
                before = task.work
                if not _collect(ray, stages, task):
                    del running[stages]
                bar.update(before - task.work)
        finally:
            for stages in running:
                ray.cancel(stages)


def _submit(ray: ModuleType, task: StudyTask, cores: int) -> Iterator:
    """Begin with ``task``; the generator of what its stages leave."""
    resources = {"num_cpus": cores} | ({} if task.study.on_cpu else {"num_gpus": 1})
    remote = ray.remote(**resources)(_stages).options(name=task.name)
    return remote.remote(task, read_files(task.study.output, task.files), cores)


def _collect(ray: ModuleType, stages: Iterator, task: StudyTask) -> bool:
    """Write what the next stage left; False: there was none."""
    try:
        files = ray.get(next(stages))
    except StopIteration:
        return False
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise RuntimeError(f"{task.name} failed on Ray: {type(cause).__name__}: {cause}") from error
    write_files(task.study.output, files)
    return True


def _stages(task: StudyTask, files: Mapping[str, bytes], cores: int) -> Iterator[dict[str, bytes]]:
    """On a node: do ``task``, and give after each stage the files that are new or changed."""
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        write_files(output, files)
        # Ray shows a task its own GPU only, as the first one.
        task = task.moved(output, torch.device(task.study.device).type)
        known = _states(output)
        while not task.finished:
            task.advance(lambda _: None)
            states = _states(output)
            changed = [path for path, state in states.items() if known.get(path) != state]
            # The record last: it says that the others are there.
            changed.sort(key=lambda path: path.name == RECORD_FILE)
            yield read_files(output, changed)
            known = states


def _states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Time of change and size of every file."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }
