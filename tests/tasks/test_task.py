"""Tasks: what was finished under a key is kept, what was not is done again."""

import pytest
import torch

from robust_lpips.tasks.engines import do_task
from robust_lpips.tasks.task import (
    LeftOut,
    advance,
    failure,
    next_stage,
    record_of,
    remaining_work,
    staleness,
)
from tests.studies.base.tiny import Steps


def ignore(work):
    pass


def test_stages_in_order_each_once(tmp_path):
    task, ticked = Steps("cpu", "a"), []
    assert (next_stage(task, tmp_path), remaining_work(task, tmp_path)) == ("begin", 2.0)
    advance(task, tmp_path, ticked.append)
    assert (next_stage(task, tmp_path), remaining_work(task, tmp_path)) == ("end", 1.0)
    advance(task, tmp_path, ticked.append)
    assert (next_stage(task, tmp_path), remaining_work(task, tmp_path)) == (None, 0.0)
    assert ticked == [1.0, 1.0]
    do_task(task, tmp_path, pytest.fail)
    entry = record_of(task, tmp_path)["end"]
    assert entry["finished"]
    assert entry["machine"]
    assert entry["seconds"] >= 0


@pytest.mark.parametrize(
    ("fate", "error"), [("raise", ValueError), ("interrupt", KeyboardInterrupt)]
)
def test_interruption_keeps_finished_stages(tmp_path, fate, error):
    task = Steps("cpu", "a", fate)
    with pytest.raises(error):
        do_task(task, tmp_path, ignore)
    assert next_stage(task, tmp_path) == "end"
    (tmp_path / "mended").touch()
    do_task(task, tmp_path, ignore)
    # The files of an interrupted stage are there for it to resume from.
    assert [len(task.processes(tmp_path, stage)) for stage in task.stages] == [1, 2]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_files_are_made_again(tmp_path, damage):
    task = Steps("cpu", "a")
    do_task(task, tmp_path, ignore)
    path = tmp_path / "a" / "end" / "process"
    path.unlink() if damage == "missing" else path.write_text("")
    assert next_stage(task, tmp_path) == "end"
    assert staleness(task, tmp_path) == "files are missing or damaged"
    do_task(task, tmp_path, ignore)
    assert [len(task.processes(tmp_path, stage)) for stage in task.stages] == [1, 1]


@pytest.mark.parametrize("text", ["", '{"begin": {'])
def test_record_that_cannot_be_read_counts_as_none(tmp_path, text):
    task = Steps("cpu", "a")
    do_task(task, tmp_path, ignore)
    (tmp_path / "a" / "record.json").write_text(text)
    assert next_stage(task, tmp_path) == "begin"
    do_task(task, tmp_path, ignore)
    assert [len(task.processes(tmp_path, stage)) for stage in task.stages] == [1, 1]


def test_another_key_removes_what_that_stage_left(tmp_path):
    do_task(Steps("cpu", "a"), tmp_path, ignore)
    task = Steps("cpu", "a", version=1)
    assert next_stage(task, tmp_path) == "end"
    assert staleness(task, tmp_path) == "version changed"
    do_task(task, tmp_path, ignore)
    assert [len(task.processes(tmp_path, stage)) for stage in task.stages] == [1, 1]
    assert staleness(task, tmp_path) is None


def test_half_written_stage_of_another_key_is_removed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        do_task(Steps("cpu", "a", "interrupt"), tmp_path, ignore)
    task = Steps("cpu", "a", version=1)
    do_task(task, tmp_path, ignore)
    assert len(task.processes(tmp_path, "end")) == 1


def test_files_that_no_record_knows_are_removed(tmp_path):
    """As they are left by a process that was killed while it removed stale results."""
    task = Steps("cpu", "a")
    stray = task.stage_folder("begin", tmp_path) / "process"
    stray.parent.mkdir(parents=True)
    stray.write_text("0\n")
    do_task(task, tmp_path, ignore)
    assert len(task.processes(tmp_path, "begin")) == 1


class Hopeless(Steps):
    def meet(self):
        raise LeftOut("needs patience")


def test_failure_counts_under_its_own_key_only(tmp_path):
    task = Hopeless("cpu", "a")
    assert failure(task, tmp_path) is None
    with pytest.raises(LeftOut):
        do_task(task, tmp_path, ignore)
    assert failure(task, tmp_path) == "needs patience"
    assert failure(Hopeless("cpu", "a", version=1), tmp_path) is None
    (tmp_path / "mended").touch()
    do_task(task, tmp_path, ignore)
    assert failure(task, tmp_path) is None


def test_files_leave_out_what_a_killed_process_left(tmp_path):
    task = Steps("cpu", "a")
    do_task(task, tmp_path, ignore)
    (tmp_path / "a" / "end" / ".half-written").touch()
    names = {path.relative_to(tmp_path / "a").as_posix() for path in task.files(tmp_path)}
    assert names == {"record.json", "begin/process", "end/process"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_precision_is_strict_inside_a_task(tmp_path, device, monkeypatch):
    if device == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no GPU")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    task = Steps(device, "a")
    with torch.autocast(device, dtype=torch.bfloat16):
        do_task(task, tmp_path, ignore)
        assert torch.is_autocast_enabled(device)
    for entry in record_of(task, tmp_path).values():
        assert not any(entry["precision"].values())
