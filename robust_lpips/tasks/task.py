"""Tasks: pieces of work whose results are files, done in stages that survive an interruption."""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robust_lpips._files import read_json, write_json
from robust_lpips.evaluation.precision import computing_in
from robust_lpips.provenance import commit
from robust_lpips.tasks.machine import machine

# Called with the work done since the last call.
Tick = Callable[[float], None]

RECORD_FILE = "record.json"


class LeftOut(Exception):
    """A task that cannot be done here; the message is one line that says why, without its name."""


@dataclass(frozen=True)
class Task(ABC):
    """A piece of work of a study; picklable, so that any process can do it.

    Its results are files in a folder of its own. Each stage has a key, which holds everything that
    its results depend on; a stage is finished where ``record.json`` says so under the same key.

    Attributes:
        device: device that computes.
    """

    device: str

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in messages, different from those of the other tasks of a run."""

    @property
    @abstractmethod
    def folder(self) -> str:
        """Path of its folder in the output folder."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return ("results",)

    @abstractmethod
    def key(self, stage: str, output: Path) -> Mapping[str, Any]:
        """Everything that the results of a stage depend on, as JSON holds it.

        A key may depend on results of earlier stages.

        Raises:
            LeftOut: if the task cannot be done here.
        """

    @abstractmethod
    def do(self, stage: str, output: Path, tick: Tick) -> Mapping[str, Any] | None:
        """Do a stage, and return what ``record.json`` is to keep of it, as JSON holds it.

        Raises:
            LeftOut: if the task cannot be done here.
        """

    def join(self, output: Path) -> None:
        """Share the work of the first process of ``torchrun``, in the others.

        Raises:
            ValueError: if the task is done by one process.
        """
        raise ValueError(f"{self.name} is done by one process: start it without torchrun")

    def work(self, stage: str) -> float:
        """Work of a stage in the unit that it ticks; by convention multiply-accumulates."""
        return 1.0

    def stage_folder(self, stage: str, output: Path) -> Path:
        """Folder of a stage's files: the task's own where it has a single stage."""
        folder = output / self.folder
        return folder if len(self.stages) == 1 else folder / stage

    def results(self, stage: str, output: Path) -> list[Path]:
        """Files that a finished stage has written."""
        found = self.stage_folder(stage, output).rglob("[!.]*")
        return sorted(path for path in found if path.is_file() and path.name != RECORD_FILE)

    def discard(self, stage: str, output: Path) -> None:
        """Remove the files of a stage: they are damaged, or of another key or of none."""
        if (folder := self.stage_folder(stage, output)).is_dir():
            shutil.rmtree(folder)

    def files(self, output: Path) -> Iterator[Path]:
        """Files that another machine needs to continue the task."""
        # Names that begin with a dot are left half-written by a killed process.
        yield from (path for path in (output / self.folder).rglob("[!.]*") if path.is_file())

    def on_device(self, device: str) -> Task:
        """The same task on another device."""
        return replace(self, device=device)


def record_of(task: Task, output: Path) -> dict[str, dict[str, Any]]:
    """Record of a task by stage: ``key``, whether it is ``finished``, and what it returned.

    A record that cannot be read counts as none.
    """
    path = output / task.folder / RECORD_FILE
    try:
        return read_json(path) if path.is_file() else {}
    except ValueError:
        return {}


def next_stage(task: Task, output: Path) -> str | None:
    """First stage that is not finished under its present key; None: all are.

    Raises:
        LeftOut: if the task cannot be done here.
    """
    return _next(task, output)[0]


def remaining_work(task: Task, output: Path) -> float:
    """Work of the stages from the next one on."""
    stage = next_stage(task, output)
    return 0.0 if stage is None else sum(map(task.work, task.stages[task.stages.index(stage) :]))


def staleness(task: Task, output: Path) -> str | None:
    """Reason why results of the next stage no longer count, in words; None: there are none."""
    _, key, entry = _next(task, output)
    if not entry:
        return None
    # Their values are digests, which tell a reader nothing.
    changed = [name for name in key if entry["key"].get(name) != key[name]]
    if changed:
        return f"{', '.join(changed)} changed"
    return "files are missing or damaged" if entry.get("finished") else None


def failure(task: Task, output: Path) -> str | None:
    """Reason why the next stage, under its present key, could not be done; None: there is none."""
    _, key, entry = _next(task, output)
    return entry.get("left_out") if entry and entry["key"] == key else None


def advance(task: Task, output: Path, tick: Tick) -> None:
    """Do the next stage and record it; files that are damaged, or of another key, go first.

    Raises:
        LeftOut: if the task cannot be done here; the record keeps the reason.
    """
    stage, key, found = _next(task, output)
    record = record_of(task, output)
    if found.get("key") != key or found.get("finished"):
        task.discard(stage, output)

    def write(**entry: Any) -> None:
        entries = record | {stage: {"key": key, **entry}}
        ordered = {name: entries[name] for name in task.stages if name in entries}
        write_json(output / task.folder / RECORD_FILE, ordered)

    write()
    begin = time.perf_counter()
    try:
        # Strict on every device: by itself torch lets convolutions on GPUs round to TF32.
        with computing_in("float32", torch.device(task.device)):
            result = task.do(stage, output, tick)
    except LeftOut as reason:
        write(left_out=str(reason))
        raise
    done = {
        "finished": True,
        "seconds": round(time.perf_counter() - begin, 2),
        "machine": machine(task.device),
        "commit": commit(),
        "files": _sizes(task, stage, output),
    }
    write(**(done | dict(result or {})))


def _next(task: Task, output: Path) -> tuple[str | None, Any, dict[str, Any]]:
    """The first stage that is not finished, its present key, and its entry in the record."""
    record = record_of(task, output)
    for stage in task.stages:
        # Always computed: it is what finds out that a task cannot be done here. As it is read
        # from JSON: tuples become lists.
        key = json.loads(json.dumps(task.key(stage, output)))
        entry = record.get(stage, {})
        finished = entry.get("finished") and entry["key"] == key
        if not finished or entry["files"] != _sizes(task, stage, output):
            return stage, key, entry
    return None, None, {}


def _sizes(task: Task, stage: str, output: Path) -> dict[str, int]:
    """Sizes in bytes of the files of a stage, by their paths in the output folder."""
    paths = task.results(stage, output)
    return {path.relative_to(output).as_posix(): path.stat().st_size for path in paths}
