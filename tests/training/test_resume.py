"""Resumed training, its checkpoints and its log."""

import importlib.util
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.training import BEST, LAST, Recipe, fit
from robust_lpips.training.log import HISTORY_FILE, STEPS_FILE, TENSORBOARD_FOLDER
from robust_lpips.training.session import Progress, Session, _set_random_state
from robust_lpips.weights import read_checkpoint
from tests.training import toy

# Five steps an epoch, dropout on; last.pt is written in the middle of an epoch too.
RUN = {"epochs": 3, "decay_epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
EVERY = 3


def assert_equal(a, b):
    """The same content to the bit, however nested."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_equal(a[name], b[name])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def kill_in(folder, hang_after, **settings):
    """Start a training as a program of its own, and kill it after so many steps."""
    command, environment = toy.program(output=folder, hang_after=hang_after, **settings)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        os.kill(int(process.stdout.readline()), signal.SIGKILL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a training that nobody interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    toy.train(folder, checkpoint_every=EVERY, **RUN)
    return folder


class TestKilled:
    def test_end_is_the_same_to_the_bit(self, finished, tmp_path):
        """Killed in step 4 of the second epoch, whose last checkpoint was written after step 3."""
        kill_in(tmp_path, hang_after=9, checkpoint_every=EVERY, **RUN)
        progress = read_checkpoint(tmp_path / LAST)["training"]["progress"]
        assert (progress["epoch"], progress["step"]) == (1, 3)
        assert len(pd.read_csv(tmp_path / STEPS_FILE)) == 9
        losses = toy.train(tmp_path, checkpoint_every=EVERY, **RUN)
        assert len(losses) == 15 - 8
        for name in (LAST, BEST):
            assert_equal(read_checkpoint(tmp_path / name), read_checkpoint(finished / name))
        for name in (STEPS_FILE, HISTORY_FILE):
            assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()

    @pytest.mark.parametrize("missing", [LAST, BEST])
    def test_between_the_two_checkpoints(self, missing, finished, tmp_path, monkeypatch):
        """At the end of an epoch; the other one is written when training resumes."""
        save = Session.save

        def cut_off(session, *names):
            if BEST in names and session.progress.epoch == 1:
                save(session, *names[: names.index(missing)])
                raise KeyboardInterrupt
            save(session, *names)

        monkeypatch.setattr(Session, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            toy.train(tmp_path, checkpoint_every=EVERY, **RUN)
        monkeypatch.undo()
        toy.train(tmp_path, checkpoint_every=EVERY, **RUN)
        for name in (LAST, BEST):
            assert_equal(read_checkpoint(tmp_path / name), read_checkpoint(finished / name))

    def test_while_a_checkpoint_is_written(self, tmp_path, monkeypatch):
        """The previous one stays complete, and training resumes from it."""
        save, written = torch.save, []

        def half_of_the_third(content, path):
            save(content, path)
            written.append(path)
            if len(written) == 3:
                Path(path).write_bytes(Path(path).read_bytes()[:1000])
                raise KeyboardInterrupt

        monkeypatch.setattr(torch, "save", half_of_the_third)
        with pytest.raises(KeyboardInterrupt):
            toy.train(tmp_path, checkpoint_every=1, **RUN)
        assert read_checkpoint(tmp_path / LAST)["training"]["progress"]["step"] == 2
        assert {path.name for path in tmp_path.glob("*.pt")} == {LAST}

    def test_after_the_end_nothing_is_left_to_do(self, finished):
        before = {name: (finished / name).read_bytes() for name in (STEPS_FILE, HISTORY_FILE)}
        weights = (finished / LAST).stat().st_mtime_ns
        assert toy.train(finished, checkpoint_every=EVERY, **RUN) == []
        assert {name: (finished / name).read_bytes() for name in before} == before
        assert (finished / LAST).stat().st_mtime_ns == weights


class TestCheckpoints:
    def test_are_metrics(self, tmp_path):
        """With nothing else given; and as good as the history says."""
        metric, items = toy.untrained(), toy.items(8, 48)
        recipe = Recipe(epochs=4, decay_epochs=0, learning_rate=3e-3, batch_size=2)
        history = fit(metric, items, recipe, validation=toy.items(30, 48, 1), output=tmp_path)
        ref, p0 = (torch.stack([item[name] for item in items]) for name in ("ref", "p0"))
        last, best = (RobustLPIPS(weights=tmp_path / name) for name in (LAST, BEST))
        assert last.config == metric.config
        assert torch.equal(last(ref, p0), metric(ref, p0))
        scores = {}
        for name, trained in ((LAST, last), (BEST, best)):
            right = [
                float((trained(i["ref"], i["p1"]) < trained(i["ref"], i["p0"])) == i["judge"])
                for i in toy.items(30, 48, 1)
            ]
            scores[name] = sum(right) / len(right)
            assert read_checkpoint(tmp_path / name)["metrics"]["validation"] == scores[name]
        assert scores[LAST] == pytest.approx(history["validation"].iloc[-1])
        assert scores[BEST] == pytest.approx(history["validation"].iloc[1:].max())

    def test_best_is_the_first_of_equal_ones(self):
        progress = Progress()
        progress.begin(0.9)
        assert not progress.best_is_last
        found = []
        for score in (0.5, 0.7, 0.7, 0.6, 0.8):
            progress.count(0.0, 0.0, 1)
            progress.end_epoch(score, 1e-4)
            found.append(progress.best_is_last)
        assert found == [True, True, False, False, True]

    def test_without_validation_there_is_no_best(self, tmp_path):
        recipe = Recipe(epochs=1, decay_epochs=0)
        fit(toy.untrained(), toy.items(2, 48), recipe, output=tmp_path)
        assert (tmp_path / LAST).is_file()
        assert not (tmp_path / BEST).exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"batch_size": 5}, "recipe"),
            ({"n": 11}, "triplets 10 there, 11 here"),
            ({"arch": "squeezenet1_1"}, "arch 'alexnet' there, 'squeezenet1_1' here"),
        ],
    )
    def test_other_settings_do_not_go_on(self, change, message, finished):
        before = (finished / LAST).read_bytes()
        with pytest.raises(ValueError, match=f"belongs to other settings.*{message}"):
            toy.train(finished, **RUN | change)
        assert (finished / LAST).read_bytes() == before

    def test_other_network_does_not_go_on(self, tmp_path):
        """Its weights would fit: strides and filters are in no state dict."""
        recipe, data = Recipe(epochs=1, decay_epochs=0), toy.items(2, 48)
        fit(toy.untrained(), data, recipe, output=tmp_path)
        blurred = BackboneConfig(anti_alias="blurpool", conv1_stride=2)
        with pytest.raises(ValueError, match=r"belongs to other settings.*config"):
            fit(toy.untrained(blurred), data, recipe, output=tmp_path)

    def test_other_number_of_processes_does_not_go_on(self, tmp_path):
        toy.train(tmp_path, **RUN)
        content = read_checkpoint(tmp_path / LAST)
        states = content["training"]["random"]
        states["cpu"] = states["cpu"].repeat(2, 1)
        torch.save(content, tmp_path / LAST)
        with pytest.raises(ValueError, match="made by 2 processes and cannot be resumed with 1"):
            toy.train(tmp_path, **RUN)

    def test_metric_without_a_state_of_training(self, tmp_path):
        toy.train(tmp_path, **RUN)
        content = read_checkpoint(tmp_path / LAST)
        del content["training"]
        torch.save(content, tmp_path / LAST)
        with pytest.raises(ValueError, match="no training state"):
            toy.train(tmp_path, **RUN)


def test_each_process_takes_its_own_random_state():
    """As three processes restore what they saved together."""
    numbers = [torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    rows = [torch.Generator().manual_seed(seed).get_state() for seed in range(3)]
    with torch.random.fork_rng(devices=[]):
        for rank, expected in enumerate(numbers):
            fabric = SimpleNamespace(global_rank=rank, device=torch.device("cpu"))
            _set_random_state(fabric, {"cpu": torch.stack(rows)})
            assert torch.equal(torch.rand(3), expected)


class TestLog:
    def test_lines(self, finished):
        steps = pd.read_csv(finished / STEPS_FILE)
        assert list(steps) == ["epoch", "step", "loss", "accuracy", "learning_rate"]
        assert steps[["epoch", "step"]].to_numpy().tolist() == [
            [epoch, step] for epoch in range(3) for step in range(5)
        ]
        history = pd.read_csv(finished / HISTORY_FILE)
        assert history["epoch"].tolist() == [0, 1, 2, 3]
        for name in ("loss", "accuracy"):
            means = steps.groupby("epoch")[name].mean()
            assert history[name].tolist()[1:] == pytest.approx(means.tolist())
        assert history["learning_rate"].tolist()[1:] == pytest.approx([1e-3, 1e-3, 5e-4])

    def test_line_cut_in_half_is_taken_back(self, finished, tmp_path):
        for name in (LAST, BEST, STEPS_FILE, HISTORY_FILE):
            (tmp_path / name).write_bytes((finished / name).read_bytes())
        with (tmp_path / STEPS_FILE).open("a") as file:
            file.write("3,0,0.69")
        toy.train(tmp_path, checkpoint_every=EVERY, **RUN)
        assert (tmp_path / STEPS_FILE).read_bytes() == (finished / STEPS_FILE).read_bytes()

    @pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")
    def test_tensorboard_reads_the_same_numbers(self, finished):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(finished / TENSORBOARD_FOLDER))
        events.Reload()
        steps = pd.read_csv(finished / STEPS_FILE)
        history = pd.read_csv(finished / HISTORY_FILE)
        assert [e.step for e in events.Scalars("loss")] == list(range(1, 16))
        assert [e.value for e in events.Scalars("loss")] == pytest.approx(steps["loss"].tolist())
        found = events.Scalars("epoch validation")
        assert [e.step for e in found] == [5, 10, 15]
        assert [e.value for e in found] == pytest.approx(history["validation"].tolist()[1:])

    @pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="needs tensorboard")
    @pytest.mark.parametrize("stop_after", [4, 5])
    def test_tensorboard_has_every_step_of_a_run_that_went_on(self, stop_after, tmp_path):
        """Stopped behind a checkpoint: in the middle of an epoch, and after its last step."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        def stop(_, seen=[]):  # noqa: B006
            seen.append(1)
            if len(seen) == stop_after:
                raise KeyboardInterrupt

        arguments = {"output": tmp_path, "validation": toy.items(4, 48), "checkpoint_every": 2}
        arguments |= {"metric": toy.untrained(), "dataset": toy.items(8, 48)}
        recipe = Recipe(epochs=2, decay_epochs=0, batch_size=2)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe=recipe, on_step=stop, **arguments)
        fit(recipe=recipe, **arguments)
        events = EventAccumulator(str(tmp_path / TENSORBOARD_FOLDER))
        events.Reload()
        assert [e.step for e in events.Scalars("loss")] == list(range(1, 9))
        assert [e.step for e in events.Scalars("epoch validation")] == [4, 8]

    def test_without_a_folder_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        fit(toy.untrained(), toy.items(2, 48), Recipe(epochs=1, decay_epochs=0))
        assert os.listdir(tmp_path) == []
