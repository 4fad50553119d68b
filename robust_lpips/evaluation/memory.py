"""Memory of a process while some work is done."""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

_POLL_SECONDS = 0.01
_STATUS = Path("/proc/self/status")


class Footprint(NamedTuple):
    """Anonymous memory of a process in MiB, before some work and at its peak meanwhile."""

    start: float
    peak: float


def anonymous_memory() -> float:
    """Anonymous memory (``RssAnon``) of this process in MiB.

    Raises:
        NotImplementedError: if the system does not tell a process its memory, as Linux does.
    """
    status = _STATUS.read_text() if _STATUS.is_file() else ""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise NotImplementedError(
            f"reads RssAnon in {_STATUS}, which Linux has; this is {sys.platform}"
        )
    return int(found[1]) / 1024


def peak_of(work: Callable[[], object]) -> Footprint:
    """Memory of this process before and during ``work()``, looked at every 10 ms.

    Raises:
        NotImplementedError: see :func:`anonymous_memory`.
    """
    found, done = [anonymous_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(_POLL_SECONDS):
            found.append(anonymous_memory())

    with ThreadPoolExecutor(1) as watcher:
        watcher.submit(watch)
        try:
            work()
            found.append(anonymous_memory())
        finally:
            done.set()
    return Footprint(found[0], max(found))


def in_fresh_process(function: Callable[..., Any], *arguments: object) -> Any:
    """``function(*arguments)``, called in a process of its own; both must be picklable."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()
