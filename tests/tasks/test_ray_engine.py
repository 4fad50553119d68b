"""The engine ``ray``."""

import os
import sys

import pytest

from robust_lpips.studies.base.runner import Execution, finish
from robust_lpips.tasks.machine import available_cores
from robust_lpips.tasks.ray_engine import import_ray, run_on_ray
from robust_lpips.tasks.task import advance, failure, next_stage
from tests.studies.base.test_runner import csv
from tests.studies.base.tiny import STUDY, Steps


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "robust-lpips\[ray\]"'):
        import_ray()


@pytest.fixture
def ray(monkeypatch):
    """Ray, which starts a cluster of its own on this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Workers import the metrics and this module.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_gives_the_table_of_one_process(work, ray):
    """One that fails there is left out; what was begun resumes; an error is raised."""
    plan = work.plan(".first", ".broken", "l2")
    quiet = finish(STUDY, plan, work.root / "quiet")
    # With one job per core each task has one thread, as in the run to compare with.
    jobs = available_cores()
    remote = finish(STUDY, plan, work.root / "remote", Execution(jobs, engine="ray"))
    assert csv(remote) == csv(quiet)
    assert remote.left_out == quiet.left_out
    assert work.processes("first")[-1] != os.getpid()
    for task in STUDY.planned(plan):
        left_out = quiet.left_out.get(task.name)
        assert failure(task, work.root / "remote") == left_out  # for shards that wait for it

    output, begun = work.root / "steps", Steps("cpu", "a")
    advance(begun, output, lambda _: None)
    assert run_on_ray([begun, Steps("cpu", "b")], output, jobs, "tiny") == {}
    assert begun.processes(output, "begin") == [os.getpid()]
    assert os.getpid() not in begun.processes(output, "end")
    broken = Steps("cpu", "c", "raise")
    with pytest.raises(RuntimeError, match="c failed on Ray: ValueError: this task is broken"):
        run_on_ray([broken], output, jobs, "tiny")
    assert next_stage(broken, output) == "end"
