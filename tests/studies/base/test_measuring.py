"""Distances: measured once, and again where anything changed that they depend on."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from PIL import Image

from robust_lpips import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import load_metric
from robust_lpips.evaluation import ShiftViews, measure
from robust_lpips.studies.base import measuring
from robust_lpips.studies.base.measuring import MetricTask, Part, file_stem, portable
from robust_lpips.studies.base.runner import SETTINGS_FILE, finish
from robust_lpips.studies.base.source import source_of
from robust_lpips.tasks import task as tasks
from tests.studies.base.tiny import SIZE, STUDY, parts

# A metric sees 3 batches of whole patches and 3 of each of 2 shifts, d0 and d1 of each.
CALLS = 2 * 3 * 3


def change_pixels(work, monkeypatch):
    path = work.root / "bapps" / "2afc" / "val" / "cnn" / "p0" / "3.png"
    Image.fromarray(np.full((SIZE, SIZE, 3), 99, np.uint8)).save(path)


def change_judgment(work, monkeypatch):
    np.save(work.root / "bapps" / "2afc" / "val" / "cnn" / "judge" / "3.npy", 0.125)


def change_weights(work, monkeypatch):
    work.source.with_name("weight").write_text("3.0")


def change_settings_of_the_metric(work, monkeypatch):
    work.source.with_name("power").write_text("2")


def change_code_of_the_metric(work, monkeypatch):
    work.source.write_text(work.source.read_text().replace("SCALE = 1.0", "SCALE = 2.0"))


def change_code_next_to_the_metric(work, monkeypatch):
    work.source.with_name("helper.py").write_text("pass")


def change_computing_source(work, monkeypatch):
    monkeypatch.setattr(measuring, "source_digest", lambda: "another")


@pytest.mark.filterwarnings("ignore:.*packed anew", "ignore:.*packed again")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_pixels, "data"),
        (change_judgment, "data"),
        (change_weights, "weights"),
        (change_settings_of_the_metric, "settings"),
        (change_code_of_the_metric, "code"),
        (change_code_next_to_the_metric, "code"),
        (change_computing_source, "source"),
    ],
)
def test_change_is_measured_again_and_said(work, monkeypatch, capsys, change, said):
    plan, output = work.plan(".first", max_shift=1), work.root / "run"
    before = finish(STUDY, plan, output).distances()[plan.metrics[0]]
    assert work.calls() == CALLS
    capsys.readouterr()
    work.forget()
    change(work, monkeypatch)
    after = finish(STUDY, plan, output).distances()[plan.metrics[0]]
    assert work.calls() == 2 * CALLS
    printed = capsys.readouterr().out
    assert f"{plan.metrics[0]}: measured again, because {said} " in printed
    assert after.equals(before) == (
        change in (change_code_next_to_the_metric, change_computing_source)
    )


@pytest.mark.parametrize(
    ("changed", "calls"), [({"seed": 1}, CALLS), ({"max_shift": 2}, 2 * 3 * 4)]
)
def test_settings_are_in_the_key(work, capsys, changed, calls):
    """Even where nothing in the folder says which settings it belongs to."""
    output, chosen = work.root / "run", {"max_shift": 1, "seed": 0}
    finish(STUDY, work.plan(".first", **chosen), output)
    (output / SETTINGS_FILE).unlink()
    capsys.readouterr()
    finish(STUDY, work.plan(".first", **chosen | changed), output)
    assert work.calls() == CALLS + calls
    assert "measured again" in capsys.readouterr().out


def test_commit_and_times_of_files_are_not_in_the_key(work, monkeypatch, capsys):
    plan, output = work.plan(".first", max_shift=1), work.root / "run"
    before = finish(STUDY, plan, output)
    work.forget()
    monkeypatch.setattr(tasks, "commit", lambda: "another")
    for path in (work.root / "bapps").rglob("*.*"):
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    os.utime(work.source, (1, 1))
    with pytest.warns(UserWarning, match="packed"):  # once more, with the same content
        after = finish(STUDY, plan, output)
    assert work.calls() == CALLS
    assert "measured again" not in capsys.readouterr().out
    assert after.commits == before.commits
    assert_frame_equal(*(each.distances()[plan.metrics[0]] for each in (before, after)))


def test_read_again_to_the_bit(work):
    plan = work.plan("l2", "ssim", max_shift=2)
    results = finish(STUDY, plan, work.root / "run")
    dataset = source_of(plan.settings).dataset
    for name, table in results.distances().items():
        expected = measure(load_metric(name), dataset, 2, batch_size=2, progress=False)
        assert_frame_equal(table, expected, check_exact=True)


def test_failing_metric_is_left_out_with_its_first_line(work):
    results = finish(STUDY, work.plan("l2", ".broken", ".absent"), work.root / "run")
    broken, absent = map(work.name, ("broken", "absent"))
    assert results.left_out[broken] == "failed with AssertionError: images must be larger"
    assert results.left_out[absent].startswith("cannot be loaded")
    assert "patience" in results.left_out[absent]
    assert list(results.distances()) == ["l2"]
    assert not list((work.root / "run").rglob("*broken*/*.gz"))


@pytest.mark.parametrize("lines", ["", "  \n"])
def test_error_without_a_message(work, lines):
    def bare(img0, img1):
        raise TypeError(lines)

    task = MetricTask("cpu", parts, work.plan("x").settings, "x", load=lambda *_: bare)
    with pytest.raises(tasks.LeftOut, match="failed with TypeError: no message"):
        task.do("results", work.root, lambda _: None)


def test_random_weights_follow_the_seed(work):
    """Of a factory that draws them without a seed: the key is that of what is measured."""

    def load(name, device, seed):
        return torch.nn.Linear(1, 1)

    identities = [measuring.identity_of(load, "x", seed).key for seed in (0, 1)]
    assert identities[0]["weights"] != identities[1]["weights"]
    metrics = [measuring.load_or_leave_out(load, "x", "cpu", seed) for seed in (0, 0, 1)]
    weights = [metric.weight.item() for metric in metrics]
    assert weights[0] == weights[1] != weights[2]


def test_part_counts_images():
    """Reference and two distorted patches, whole; and shifted, the reference once."""
    assert Part([0] * 5).images == 5 * 3
    assert Part([0] * 5, ShiftViews(2)).images == 5 * (3 + 1 + 2 * 3)


def test_work_is_in_multiply_accumulates(work):
    def load(name, device, seed):
        return SimpleNamespace(config=BackboneConfig(name))

    settings = work.plan("l2", max_shift=1).settings
    task = MetricTask("cpu", parts, settings, "alexnet", load=load)
    images = 5 * (3 + 1 + 2 * 2)
    assert task.work("results") == multiply_accumulates(BackboneConfig("alexnet"), 64) * images


def test_file_stem():
    assert file_stem("alexnet-shift-tolerant") == "alexnet-shift-tolerant"
    stems = {file_stem(name) for name in ("a.b:make", "a.b/make", "a.b-make")}
    assert len(stems) == 3
    assert all("/" not in stem and ":" not in stem for stem in stems)


def test_portable(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", "/home/ada/.cache/x")
    assert portable("no /home/ada/.cache/x/a") == "no the cache folder/a"
    assert portable("no /home/ada/a/b") == "no ~/a/b"
    monkeypatch.setenv("HOME", "/")
    assert portable("no /a/b") == "no /a/b"


def test_l2_by_hand(work):
    """The whole way from files to the table, against numpy."""
    results = finish(STUDY, work.plan("l2"), work.root / "run")
    table = results.distances()["l2"].set_index(["view", "sample"])
    folder = work.root / "bapps" / "2afc" / "val" / "cnn"
    ref, p1 = (np.asarray(Image.open(folder / part / "4.png"), float) for part in ("ref", "p1"))
    assert table.loc[("full", "4"), "d1"] == pytest.approx(((ref - p1) ** 2).mean() / 127.5**2)
    assert table.loc[("full", "4"), "judge"] == 0.8
