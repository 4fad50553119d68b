"""The runner: from a study to its files, whatever way and however often its tasks are done."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

from robust_lpips import records
from robust_lpips.studies.base.runner import Execution, claim, finish, run, unfinished
from robust_lpips.tables import write_csv
from robust_lpips.tasks.engines import Shard
from tests.studies.base.tiny import SIZE, STUDY
from tests.tasks.test_engines import is_alive


def csv(results) -> bytes:
    """The table of a run, as a file."""
    path = results.output / "again.csv"
    write_csv(STUDY.tables(results)["tiny"], path)
    return path.read_bytes()


def test_everything_is_written(work):
    output = work.root / "run"
    page = run(STUDY, work.plan("l2", "gti-cnn", "ssim"), output, command="python x.py --n 5")
    names = ["records.jsonl", "settings.json"]
    names += [f"{name}.{suffix}" for name in ("photographs", "tiny") for suffix in ("pdf", "png")]
    files = [path.name for path in output.iterdir() if path.is_file()]
    assert sorted(files) == sorted([*names, "tiny.csv", "tiny.md"])
    assert page == (output / "tiny.md").read_text(encoding="utf-8")
    assert "python x.py --n 5" in page
    # A photograph is named, not shown.
    assert re.findall(r"!\[.*\]\((.*)\)", page) == ["tiny.png"]
    assert "`photographs.png`" in page
    (reason,) = re.findall(r"^- gti-cnn: (.*)$", page, re.MULTILINE)
    assert "gti-cnn" not in reason
    assert list(pd.read_csv(output / "tiny.csv")["metric"]) == ["l2", "ssim"]
    found = records.read(output)
    assert [record["metric"] for record in found] == ["l2", "ssim"]
    assert found[0]["settings"] == {
        "data_root": "bapps",
        "image_size": SIZE,
        "max_shift": 3,
        "seed": 0,
    }
    assert found[0]["command"] == "python x.py --n 5"
    assert (output / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_figures_that_are_not_drawn_are_not_shown(work):
    study = replace(STUDY, figures=lambda results, tables: {})
    assert "![" not in run(study, work.plan("l2"), work.root / "run")


class TestClaim:
    def test_folder_of_different_settings_is_refused_by_name(self, work):
        output = work.root / "run"
        finish(STUDY, work.plan("l2"), output)
        with pytest.raises(ValueError, match="max_shift 3 there, 2 here") as caught:
            finish(STUDY, work.plan("l2", max_shift=2, label="a"), output)
        assert "label" not in str(caught.value)
        finish(STUDY, work.plan("l2", "ssim", label="a"), output)

    def test_files_are_claimed_by_content(self, work):
        output, notes = work.root / "run", work.root / "notes.txt"
        notes.write_text("a")
        finish(STUDY, work.plan("l2", notes=notes), output)
        moved = notes.rename(work.root / "moved.txt")
        finish(STUDY, work.plan("l2", notes=moved), output)
        moved.write_text("b")
        with pytest.raises(ValueError, match="notes"):
            finish(STUDY, work.plan("l2", notes=moved), output)

    def test_settings_that_cannot_be_read_are_named(self, tmp_path):
        (tmp_path / "settings.json").write_text("")
        with pytest.raises(ValueError, match=r"settings\.json cannot be read"):
            claim(tmp_path, {"n": 1})

    def test_tuples_are_what_is_read_again(self, tmp_path):
        for _ in range(2):
            claim(tmp_path, {"sizes": (1, 2), "none": None})
        with pytest.raises(ValueError, match=r"sizes \[1, 2\] there, \[1\] here"):
            claim(tmp_path, {"sizes": (1,), "none": None})

    def test_missing_data_leave_no_folder(self, work):
        with pytest.raises(FileNotFoundError):
            finish(STUDY, work.plan("l2", data_root=work.root / "nothing"), work.root / "run")
        assert not (work.root / "run").exists()

    def test_output_that_cannot_be_written_is_refused_before_data_are_read(self, work):
        (work.root / "file").touch()
        plan = work.plan("l2", data_root=work.root / "nothing")
        for folder in ("/proc/x", work.root / "file", work.root / "file" / "x"):
            with pytest.raises(ValueError, match="output: cannot write to"):
                finish(STUDY, plan, folder)


def test_nothing_left_names_each_reason(work):
    plan = work.plan("gti-cnn", ".broken")
    with pytest.raises(ValueError, match=r"gti-cnn: needs .*; .*:broken: failed with Assertion"):
        finish(STUDY, plan, work.root / "run")


@pytest.mark.parametrize("metrics", [("l3",), ("l2", "l2")])
def test_unknown_and_repeated_metrics(work, metrics):
    with pytest.raises(ValueError, match="metrics must be different names"):
        finish(STUDY, work.plan(*metrics), work.root / "run")


def test_failing_metric_is_tried_again(work):
    plan, output = work.plan("l2", ".broken"), work.root / "run"
    assert list(finish(STUDY, plan, output).left_out) == [work.name("broken")]
    work.forget()
    mended = "def broken():\n    return lambda a, b: (a - b).abs().mean((1, 2, 3))\n"
    work.source.write_text(mended)
    results = finish(STUDY, plan, output)
    assert not results.left_out
    assert list(results.distances()) == ["l2", work.name("broken")]


def test_interrupted_run_resumes(work):
    """What was finished is not measured again, and the end is that of a quiet run."""
    plan, output = work.plan(".first", ".interrupted", ".second"), work.root / "run"
    quiet = csv(finish(STUDY, plan, work.root / "quiet"))
    before = {name: work.calls(name) for name in ("first", "interrupted", "second")}
    fate = work.source.with_name("fate")
    fate.touch()
    with pytest.raises(KeyboardInterrupt):
        finish(STUDY, plan, output)
    fate.unlink()
    results = finish(STUDY, plan, output)
    assert csv(results) == quiet
    assert work.calls("first") == 2 * before["first"]
    assert work.calls("second") == 2 * before["second"]
    assert work.calls("interrupted") == 2 * before["interrupted"] + 3


class TestShards:
    METRICS = ("l2", ".broken", "ssim", "gti-cnn", ".first", "psnr", "l1")

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
    def test_in_any_order_they_give_the_page_of_one_process(self, work, order):
        plan = work.plan(*self.METRICS)
        whole = run(STUDY, plan, work.root / "whole", command="x")
        quiet = (work.root / "whole" / "tiny.csv").read_bytes()
        output = work.root / "run"
        for index in order:
            execution = Execution(shard=Shard(index, 3))
            waiting = [task.name for task in STUDY.planned(plan)]
            page = run(STUDY, plan, output, command="x", execution=execution)
            if index == order[-1]:
                break
            assert page is None
            own = [name for name in waiting if name in set(execution.shard.of(waiting))]
            assert not set(own) & set(unfinished(STUDY, plan, output))
            assert not (output / "tiny.md").exists()
        assert unfinished(STUDY, plan, output) == []
        assert page == whole
        assert (output / "tiny.csv").read_bytes() == quiet

    def test_stale_failure_of_another_shard_is_waited_for(self, work):
        plan, output = work.plan("l2", ".broken"), work.root / "run"
        finish(STUDY, plan, output)
        work.forget()
        work.source.write_text(work.source.read_text() + "\n# Mended.\n")
        assert finish(STUDY, plan, output, Execution(shard=Shard(2, 2))) is None
        assert unfinished(STUDY, plan, output) == [work.name("broken")]


def test_two_processes_give_the_bytes_of_one(work):
    plan = work.plan("ssim", ".first", ".broken", "l2")
    one = finish(STUDY, plan, work.root / "one", Execution(jobs=1))
    calls = work.calls()
    two = finish(STUDY, plan, work.root / "two", Execution(jobs=2))
    assert csv(two) == csv(one)
    assert two.left_out == one.left_out
    processes = work.processes("first")
    assert set(processes[:calls]) == {os.getpid()}
    assert os.getpid() not in processes[calls:]
    assert len(processes) == 2 * calls


KILLED = """
import sys
from tests.studies.base import tiny
from robust_lpips.studies.base.runner import Execution, finish
from robust_lpips.studies.base.study import Plan

if __name__ == "__main__":
    settings = tiny.TinySettings(data_root=sys.argv[1], image_size=tiny.SIZE)
    finish(tiny.STUDY, Plan(settings, tuple(sys.argv[3:])), sys.argv[2], Execution(jobs=2))
"""


def test_killed_run_resumes_and_its_workers_end(work):
    """A run started again must not meet workers of the killed one at its files."""
    plan, output = work.plan(".first", ".sleepy"), work.root / "run"
    quiet = csv(finish(STUDY, plan, work.root / "quiet"))
    before = work.calls("first"), work.calls("sleepy")
    work.source.with_name("fate").touch()
    script = work.root / "run.py"
    script.write_text(KILLED)
    parent = subprocess.Popen(
        [sys.executable, script, plan.settings.data_root, output, *plan.metrics],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    first, _ = STUDY.planned(plan)
    record = output / first.folder / "record.json"

    def half_way():
        assert parent.poll() is None
        done = record.exists() and json.loads(record.read_text())["results"].get("finished")
        return done and work.calls("sleepy") == before[1] + 3

    wait_until(half_way, 90)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = {*work.processes("first"), *work.processes("sleepy")} - {os.getpid()}
    wait_until(lambda: not any(map(is_alive, workers)), 30)
    work.source.with_name("fate").unlink()
    assert csv(finish(STUDY, plan, output)) == quiet
    assert work.calls("first") == 2 * before[0]
    assert work.calls("sleepy") == 2 * before[1] + 3


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_data_that_changed_between_two_runs_of_a_process_are_read_again(work):
    plan = work.plan("l2")
    first = csv(finish(STUDY, plan, work.root / "run"))
    folder = work.root / "bapps" / "2afc" / "val" / "cnn"
    shutil.copy(folder / "p1" / "0.png", folder / "p0" / "1.png")
    with pytest.warns(UserWarning, match="pack"):
        second = csv(finish(STUDY, plan, work.root / "run"))
    assert first != second
