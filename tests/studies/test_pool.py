"""Tasks in one process and in several: all done, errors raised, nobody left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from robust_lpips.studies.pool import run_tasks


@dataclass(frozen=True)
class Touch:
    """Leaves a file that holds the process's number."""

    path: Path
    work: float = 1.0

    @property
    def name(self):
        return self.path.name

    def __call__(self, tick):
        if self.name == "broken":
            raise ValueError("this task is broken")
        with self.path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        tick(self.work)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_once(tmp_path, jobs):
    tasks = [Touch(tmp_path / str(i), work=i) for i in range(1, 6)]
    run_tasks(tasks, jobs)
    processes = [task.path.read_text().split() for task in tasks]
    assert [len(lines) for lines in processes] == [1] * 5
    assert (processes[0] == [str(os.getpid())]) == (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_are_raised(tmp_path, jobs):
    tasks = [Touch(tmp_path / "broken"), Touch(tmp_path / "whole")]
    with pytest.raises(ValueError, match="this task is broken"):
        run_tasks(tasks, jobs)


SLEEPERS = """
import time
from dataclasses import dataclass
from pathlib import Path
from robust_lpips.studies.pool import run_tasks

@dataclass(frozen=True)
class Sleep:
    name: str
    work: float = 1.0
    def __call__(self, tick):
        import os
        Path(self.name).write_text(str(os.getpid()))
        time.sleep(120)

if __name__ == "__main__":
    run_tasks([Sleep("a"), Sleep("b")], 2)
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    """A run started anew must not meet workers of the killed one at its files."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    parent = subprocess.Popen([sys.executable, script], cwd=tmp_path, stderr=subprocess.DEVNULL)
    started = [tmp_path / "a", tmp_path / "b"]
    _wait_until(lambda: all(path.is_file() and path.read_text() for path in started), 60)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = [int(path.read_text()) for path in started]
    _wait_until(lambda: not any(_is_alive(worker) for worker in workers), 10)


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet collected by whoever adopted it


def _wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
