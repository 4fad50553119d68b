"""Engines: shards, and tasks in one process and in several."""

import os
from pathlib import Path

import pytest

from robust_lpips.tasks.engines import WHOLE, Shard, run_locally
from robust_lpips.tasks.task import next_stage
from tests.studies.base.tiny import Steps


@pytest.mark.parametrize("first", [0, 1])
def test_shards_make_the_whole(first):
    tasks = list(range(11))
    shards = [Shard(first + i, 4).of(tasks) for i in range(4)]
    assert sorted(task for shard in shards for task in shard) == tasks
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert WHOLE.of(tasks) == tasks


@pytest.mark.parametrize(("index", "count"), [(5, 4), (-1, 4), (0, 0)])
def test_shards_that_cannot_be(index, count):
    with pytest.raises(ValueError, match=f"shard must be i/n.*got {index}/{count}"):
        Shard(index, count)


class Heavy(Steps):
    """As much work as its title says."""

    def work(self, stage):
        return float(self.title)


def test_most_work_first_each_in_this_process(tmp_path):
    tasks = [Heavy("cpu", title) for title in ("1", "3", "2")]
    done = []
    for task in tasks:
        object.__setattr__(task, "meet", lambda task=task: done.append(task.name))
    assert run_locally(tasks, tmp_path, 1, "tiny") == {}
    assert done == ["3", "2", "1"]
    assert {p for task in tasks for p in task.processes(tmp_path, "end")} == {os.getpid()}


def test_an_error_stops_the_rest(tmp_path):
    tasks = [Steps("cpu", "broken", "raise"), Steps("cpu", "next")]
    with pytest.raises(ValueError, match="this task is broken"):
        run_locally(tasks, tmp_path, 1, "tiny")
    assert next_stage(tasks[1], tmp_path) == "begin"


def test_an_error_in_a_worker_stops_the_rest(tmp_path):
    """Also tasks that have begun, which would take two minutes."""
    tasks = [Steps("cpu", "a", "raise"), Steps("cpu", "b", "sleep"), Steps("cpu", "c", "sleep")]
    with pytest.raises(ValueError, match="this task is broken"):
        run_locally(tasks, tmp_path, 2, "tiny")
    for task in tasks[1:]:
        assert next_stage(task, tmp_path) is not None
        assert not any(map(is_alive, task.processes(tmp_path, "end")))


def test_a_killed_worker_is_an_error(tmp_path):
    """After which the run resumes."""
    task = Steps("cpu", "a", "kill")
    with pytest.raises(RuntimeError, match="a worker process was killed"):
        run_locally([task], tmp_path, 2, "tiny")
    (killed,) = task.processes(tmp_path, "end")
    assert killed != os.getpid()
    (tmp_path / "mended").touch()
    assert run_locally([task], tmp_path, 1, "tiny") == {}
    assert task.processes(tmp_path, "begin") == [killed]
    assert task.processes(tmp_path, "end") == [killed, os.getpid()]


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet collected by whoever adopted it
