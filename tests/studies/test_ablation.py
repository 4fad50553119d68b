"""An ablation run, from rows to report, on a few triplets of the sample set."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.evaluation import paired_difference, read_distances, summarize
from robust_lpips.studies import ablation
from robust_lpips.studies.ablation import Preset, RowTask, Study, multiply_accumulates, run
from robust_lpips.studies.report import write_report
from robust_lpips.training import Recipe

TINY = Preset(
    Recipe("teacher", 1, 0, 5e-4, batch_size=4, dropout=0.0), train_triplets=8, val_triplets=16
)
ROWS = ["vanilla", "blurpool-pad1-s2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the sample sets of this module."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(folder))
        patch.setitem(ablation.PRESETS, "tiny", TINY)
        yield folder


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A finished run, its tasks and its page."""
    study = Study("alexnet", "tiny", tmp_path_factory.mktemp("runs") / "tiny")
    tasks = run(study, ROWS, seeds=(0,), jobs=1)
    return study, tasks, write_report(study, tasks, "python experiments/run_ablation.py")


def test_summary(finished):
    study, tasks, _ = finished
    summary = pd.read_csv(study.output / "summary.csv")
    first = "table row dataset image_size max_shift train_triplets val_triplets seed"
    assert list(summary.columns[:8]) == first.split()
    assert list(summary.columns[8:11]) == ["two_afc", "two_afc_low", "two_afc_high"]
    assert list(summary["row"]) == [row for row in ROWS for _ in range(2)] + list(
        ablation.REFERENCES
    )
    assert set(summary["dataset"]) == {"sample"}
    for task in tasks:
        for state in ("untrained", "trained"):
            mean = summarize(read_distances(task.distances_path(state))).iloc[-1]
            row = summary[(summary["row"] == task.row.name) & (summary["state"] == state)].iloc[0]
            assert row["two_afc"] == pytest.approx(mean["two_afc"])
            assert row["rrf_3_high"] == pytest.approx(mean["rrf_3_high"])


def test_untrained_distances_are_those_of_the_seeded_network(finished):
    study, tasks, _ = finished
    torch.manual_seed(0)
    metric = RobustLPIPS(tasks[0].row.config, weights=None)
    item = study.dataset("val")[0]
    expected = metric(item["ref"], item["p0"]).item()
    table = read_distances(tasks[0].distances_path("untrained"))
    assert table["d0"][0] == pytest.approx(expected, rel=1e-5)


def test_trained_distances_are_those_of_the_checkpoint(finished):
    study, tasks, _ = finished
    metric = RobustLPIPS(weights=tasks[1].checkpoint)
    assert metric.config == tasks[1].row.config
    item = study.dataset("val")[0]
    table = read_distances(tasks[1].distances_path("trained"))
    assert table["d0"][0] == pytest.approx(metric(item["ref"], item["p0"]).item(), rel=1e-5)


def test_differences(finished):
    study, tasks, _ = finished
    differences = pd.read_csv(study.output / "differences.csv")
    part = differences[differences["comparison"] == "trained: row - vanilla"]
    assert set(part["row"]) == {"blurpool-pad1-s2"}
    a, b = (read_distances(task.distances_path("trained")) for task in reversed(tasks))
    expected = paired_difference(a, b).set_index("quantity")["difference"]
    assert part.set_index("quantity")["difference"].to_dict() == pytest.approx(expected.to_dict())


def test_page_says_what_its_numbers_are(finished):
    study, _, page = finished
    assert page == (study.output / "summary.md").read_text(encoding="utf-8")
    assert "agreement with the released VGG-16 metric, not with people" in page
    assert "sample 64x64, 8 training and 16 validation triplets, largest shift 3 px" in page
    assert "| 70.65 |" in page  # published
    for name in (*ROWS, *ablation.REFERENCES):
        assert f"| {name} " in page
    assert (study.output / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_finished_rows_are_not_computed_again(finished, monkeypatch):
    study, tasks, page = finished
    monkeypatch.setattr(Study, "measure", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(ablation, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert run(study, ROWS, (0,), jobs=1) == tasks
    assert write_report(study, tasks, "python experiments/run_ablation.py") == page


def test_given_weights_are_measured_instead_of_training(finished, tmp_path):
    study, tasks, _ = finished
    given = dataclasses.replace(
        study, output=tmp_path / "given", weights={"vanilla": tasks[0].checkpoint}
    )
    (task,) = run(given, ["vanilla"], (0,), jobs=1)
    assert "training" not in task.record
    pd.testing.assert_frame_equal(
        read_distances(task.distances_path("trained")),
        read_distances(tasks[0].distances_path("trained")),
    )


@pytest.mark.parametrize("target", ["teacher", "judge"])
def test_data_in_the_layout_of_bapps(finished, tmp_path, monkeypatch, target):
    """With a folder of BAPPS the teacher is measured on it, or its judgments are learnt."""
    study, *_ = finished
    for split in ("train", "val"):
        (source,) = study.dataset(split).roots
        shutil.copytree(source / "2afc" / split, tmp_path / "bapps" / "2afc" / split)
    recipe = dataclasses.replace(TINY.recipe, target=target)
    preset = dataclasses.replace(TINY, recipe=recipe, val_triplets=10)
    monkeypatch.setitem(ablation.PRESETS, "tiny", preset)
    on_bapps = Study("alexnet", "tiny", tmp_path / "run", data_root=tmp_path / "bapps")
    (task,) = run(on_bapps, ["vanilla"], (0,), jobs=1)
    assert on_bapps.teacher_path.is_file() == (target == "teacher")
    assert read_distances(task.distances_path("trained"))["sample"].nunique() == 10
    page = write_report(on_bapps, [task], "command")
    assert "Accuracy is 2AFC against people's judgments." in page


def test_other_settings_do_not_mix(finished):
    study, *_ = finished
    other = dataclasses.replace(study, max_shift=2)
    with pytest.raises(ValueError, match="max_shift 3 there, 2 here"):
        run(other, ROWS, (0,), jobs=1)


def test_bad_arguments(cache, tmp_path):
    with pytest.raises(ValueError, match="preset must be one of quick"):
        Study("alexnet", "huge", tmp_path)
    with pytest.raises(ValueError, match="data_root must be given"):
        Study("alexnet", "paper", tmp_path)
    with pytest.raises(ValueError, match="weights must name rows"):
        Study("alexnet", "tiny", tmp_path, weights={"resnet": tmp_path})
    with pytest.raises(ValueError, match="rows must be among vanilla"):
        run(Study("alexnet", "tiny", tmp_path), ["resnet"], (0,), jobs=1)


def test_multiply_accumulates_of_plain_alexnet():
    # Height x width x kernel area x channels in and out, layer by layer, at 64x64.
    expected = (
        15**2 * 11**2 * 3 * 64
        + 7**2 * 5**2 * 64 * 192
        + 3**2 * 9 * (192 * 384 + 384 * 256 + 256 * 256)
    )
    assert multiply_accumulates(BackboneConfig(), 64) == expected


KILLED = """
import sys
from pathlib import Path
from robust_lpips.studies import ablation
from robust_lpips.training import Recipe

recipe = Recipe("teacher", 1, 0, 5e-4, batch_size=4, dropout=0.0)
ablation.PRESETS["tiny"] = ablation.Preset(recipe, train_triplets=8, val_triplets=16)

if __name__ == "__main__":
    study = ablation.Study("alexnet", "tiny", Path(sys.argv[1]))
    ablation.run(study, {rows}, (0,), jobs=1)
"""


def test_killed_run_goes_on_where_it_stopped(finished, tmp_path):
    """The rows that were finished stay as they are, and the end is that of a run in one go."""
    study, tasks, _ = finished
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(rows=ROWS))
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "run"], stderr=subprocess.DEVNULL, env=os.environ
    )
    resumed = dataclasses.replace(study, output=tmp_path / "run")
    killed = [RowTask(resumed, task.row, 0) for task in tasks]
    deadline = time.monotonic() + 120
    while not any(task.record for task in killed):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    states = ("untrained", "trained")
    done = [task.distances_path(s) for task in killed for s in states if s in task.record]
    written = [path.stat().st_mtime_ns for path in done]
    assert 0 < len(done) < 2 * len(states)
    run(resumed, ROWS, (0,), jobs=1)
    assert [path.stat().st_mtime_ns for path in done] == written
    for old, new in zip(tasks, killed, strict=True):
        for state in states:
            assert old.distances_path(state).read_bytes() == new.distances_path(state).read_bytes()
