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
from robust_lpips.studies.rows import TABLES

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.evaluation import paired_difference, read_distances, summarize
from robust_lpips.studies import tasks as tasks_module
from robust_lpips.studies.ablation import Shard, run, unfinished
from robust_lpips.studies.pool import available_cores
from robust_lpips.studies.report import write_report
from robust_lpips.studies.study import PRESETS, Preset, Study, preset_for
from robust_lpips.studies.tasks import REFERENCES, RowTask, multiply_accumulates
from robust_lpips.training import Recipe
from robust_lpips.weights import read_checkpoint

TINY = Preset(
    "tiny",
    Recipe("teacher", 1, 0, 5e-4, batch_size=4, dropout=0.0),
    train_triplets=8,
    val_triplets=16,
    checkpoint_every=1,
)
ROWS = ["vanilla", "blurpool-pad1-s2"]
STATES = ("untrained", "trained")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the sample sets of this module, and one thread, on which sums depend."""
    folder = tmp_path_factory.mktemp("cache")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(folder))
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A finished run, its tasks and its page."""
    study = Study("alexnet", TINY, tmp_path_factory.mktemp("runs") / "tiny")
    tasks = run(study, ROWS, seeds=(0,), jobs=1)
    return study, tasks, write_report(study, tasks, "python experiments/run_ablation.py")


def test_summary(finished):
    study, tasks, _ = finished
    summary = pd.read_csv(study.output / "summary.csv")
    first = "table row dataset image_size max_shift train_triplets val_triplets seed"
    assert list(summary.columns[:8]) == first.split()
    assert list(summary.columns[8:11]) == ["two_afc", "two_afc_low", "two_afc_high"]
    assert list(summary["row"]) == [row for row in ROWS for _ in range(2)] + list(REFERENCES)
    assert set(summary["arch"].dropna()) == {"alexnet"}
    assert set(summary["skip"].dropna()) == {"none"}
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
    for name in (*ROWS, *REFERENCES):
        assert f"| {name} " in page
    assert (study.output / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_finished_rows_are_not_computed_again(finished, monkeypatch):
    study, tasks, page = finished
    monkeypatch.setattr(Study, "measure", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(tasks_module, "fit", lambda *_, **__: pytest.fail("trained again"))
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
def test_data_in_the_layout_of_bapps(finished, tmp_path, target):
    """With a folder of BAPPS the teacher is measured on it, or its judgments are learnt."""
    study, *_ = finished
    for split in ("train", "val"):
        (source,) = study.dataset(split).roots
        shutil.copytree(source / "2afc" / split, tmp_path / "bapps" / "2afc" / split)
    recipe = dataclasses.replace(TINY.recipe, target=target)
    preset = dataclasses.replace(TINY, recipe=recipe, val_triplets=10)
    on_bapps = Study("alexnet", preset, tmp_path / "run", data_root=tmp_path / "bapps")
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
    with pytest.raises(ValueError, match=r"preset must be one of quick.*got 'huge'"):
        preset_for("alexnet", "huge")
    with pytest.raises(ValueError, match="data_root must be given with preset 'paper'"):
        Study("alexnet", PRESETS["paper"], tmp_path)
    with pytest.raises(ValueError, match="weights must name rows"):
        Study("alexnet", TINY, tmp_path, weights={"resnet": tmp_path})
    with pytest.raises(ValueError, match="rows must be among vanilla"):
        run(Study("alexnet", TINY, tmp_path), ["resnet"], (0,), jobs=1)


@pytest.mark.parametrize("table", ["backbones", "skip"])
def test_report_of_other_tables(finished, tmp_path, table):
    """Several baselines, several architectures, rows without published numbers."""
    study, tasks, _ = finished
    other = dataclasses.replace(study, table=table, output=tmp_path)
    rows = [RowTask(other, row, 0) for row in other.rows[:5]]
    for i, row in enumerate(rows):  # with the distances of other networks
        shutil.copytree(tasks[i % 2].folder, row.folder)
    shutil.copytree(study.output / "references", tmp_path / "references")
    page = write_report(other, rows, "command")
    summary = pd.read_csv(tmp_path / "summary.csv")
    differences = pd.read_csv(tmp_path / "differences.csv")
    for row in (task.row for task in rows):
        part = summary[summary["row"] == row.name]
        assert set(part["arch"]) == {row.config.arch}
        assert set(part["skip"]) == {row.config.skip}
        assert part["published_rrf_1"].isna().all() == (table == "skip")
        compared = differences[differences["row"] == row.name]["comparison"].unique()
        assert list(compared) == ["trained - untrained"] + [
            f"{state}: row - {name}" for name in row.baselines for state in STATES
        ]
        assert row.note in page
    assert ("## Published" in page) == (table == "backbones")
    assert ("## Notes" in page) == (table == "skip")


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
import torch
from robust_lpips.studies.ablation import run
from robust_lpips.studies.study import Preset, Study
from robust_lpips.training import Recipe

if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe = Recipe("teacher", 1, 0, 5e-4, batch_size=4, dropout=0.0)
    preset = Preset("tiny", recipe, 8, 16, checkpoint_every=1)
    run(Study("alexnet", preset, Path(sys.argv[1])), {rows}, (0,), jobs=1)
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
    done = [task.distances_path(s) for task in killed for s in STATES if s in task.record]
    written = [path.stat().st_mtime_ns for path in done]
    assert 0 < len(done) < 2 * len(STATES)
    run(resumed, ROWS, (0,), jobs=1)
    assert [path.stat().st_mtime_ns for path in done] == written
    _assert_same_distances(tasks, killed)


def test_training_goes_on_inside_an_epoch(finished, tmp_path):
    """From the step after which it was stopped, to the same weights; its time is not known."""
    study, tasks, _ = finished
    stopped = RowTask(dataclasses.replace(study, output=tmp_path), tasks[0].row, 0)
    _stop_inside_training(stopped)
    assert read_checkpoint(stopped.checkpoint)["training"]["progress"]["step"] == 1
    steps = []
    stopped.advance(steps.append)
    assert len(steps) == 1  # of two
    stopped(lambda _: None)
    _assert_same_distances(tasks[:1], [stopped])
    record = stopped.record["training"]
    assert record["seconds"] is None
    assert record["losses"] == tasks[0].record["training"]["losses"]


def _stop_inside_training(task):
    """Do the first stage of ``task`` and the first step of the second."""

    def stop(_):
        raise KeyboardInterrupt

    task.advance(lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        task.advance(stop)


def _assert_same_distances(some, others):
    for one, other in zip(some, others, strict=True):
        for state in STATES:
            assert (
                one.distances_path(state).read_bytes() == other.distances_path(state).read_bytes()
            )


@pytest.mark.parametrize("first", [0, 1])
def test_shards_make_the_whole(first):
    tasks = list(range(11))
    shards = [Shard(first + i, 4).of(tasks) for i in range(4)]
    assert sorted(task for shard in shards for task in shard) == tasks
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert Shard().of(tasks) == tasks


@pytest.mark.parametrize(("index", "count"), [(5, 4), (-1, 4), (0, 0)])
def test_shards_that_cannot_be(index, count):
    with pytest.raises(ValueError, match=f"shard must be i/n.*got {index}/{count}"):
        Shard(index, count)


def test_shards_give_the_summary_of_one_run(finished, tmp_path):
    study, *_ = finished
    parted = dataclasses.replace(study, output=tmp_path)
    run(parted, ROWS, (0,), jobs=1, shard=Shard(2, 2))
    tasks = run(parted, ROWS, (0,), jobs=1, shard=Shard(2, 2))  # nothing is left of it
    # The first shard of two has the first row and every second one from there on.
    assert unfinished(parted, tasks) == [f"{ROWS[1]}, seed 0", "alexnet-untrained"]
    tasks = run(parted, ROWS, (0,), jobs=1, shard=Shard(1, 2))
    assert unfinished(parted, tasks) == []
    write_report(parted, tasks, "command")
    assert_same_summary(parted, study)


def assert_same_summary(one: Study, other: Study) -> None:
    """Every column but the seconds."""
    tables = [pd.read_csv(study.output / "summary.csv") for study in (one, other)]
    pd.testing.assert_frame_equal(
        *(table.drop(columns=["train_seconds", "eval_seconds"]) for table in tables)
    )


@pytest.fixture
def ray(monkeypatch):
    """Ray, which starts a cluster of its own on this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_gives_the_summary_of_one_process(finished, ray, tmp_path):
    """From where each row was left: one goes on inside its training, another begins."""
    study, tasks, _ = finished
    remote = dataclasses.replace(study, output=tmp_path / "remote")
    begun = RowTask(remote, tasks[0].row, 0)
    _stop_inside_training(begun)
    written = begun.distances_path("untrained").stat().st_mtime_ns
    # With one job a core, each row has one thread, as in the run to compare with.
    tasks = run(remote, ROWS, (0,), available_cores(), engine="ray")
    assert begun.distances_path("untrained").stat().st_mtime_ns == written
    assert begun.record["training"]["seconds"] is None  # it began with what there was
    write_report(remote, tasks, "command")
    assert_same_summary(remote, study)
    broken = dataclasses.replace(
        remote, output=tmp_path / "broken", weights={"vanilla": tmp_path / "gone.pt"}
    )
    with pytest.raises(
        RuntimeError, match=r"vanilla, seed 0 failed on Ray: FileNotFoundError.*gone\.pt"
    ):
        run(broken, ["vanilla"], (0,), available_cores(), engine="ray")


def test_ray_that_is_not_installed(finished, monkeypatch, tmp_path):
    study, *_ = finished
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "robust-lpips\[ray\]"'):
        run(dataclasses.replace(study, output=tmp_path), ROWS, (0,), engine="ray")


def test_tables_with_vgg16_take_fewer_triplets():
    for table in TABLES:
        sizes = [preset_for(table, name).train_triplets for name in PRESETS]
        assert sizes == [400 if table in ("backbones", "skip") else 500, 4000, None]
    assert preset_for("skip", "quick").val_triplets == 240
