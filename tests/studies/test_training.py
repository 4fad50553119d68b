"""A training by the command line: what it writes, refuses and resumes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.cli import main
from robust_lpips.data import sample_dataset
from robust_lpips.evaluation import measure, paired_difference, read_distances, summarize
from robust_lpips.records import read
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.base.study import Plan
from robust_lpips.studies.training import STUDY, TrainSettings
from robust_lpips.training import BEST, LAST, initialization
from robust_lpips.training.session import Session
from robust_lpips.weights import read_checkpoint

SCRIPT = Path(__file__).parents[2] / "experiments" / "train.py"
SIZE = 48
SMALL = [
    *("--image-size", str(SIZE), "--n-train", "9", "--n", "12", "--epochs", "2"),
    *("--batch-size", "4", "--device", "cpu", "--checkpoint-every", "2"),
]
STATES = ("before", "last", "best")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for the sample sets of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def bapps(tmp_path_factory) -> Path:
    """BAPPS's layout and subsets, three triplets each: noise, and more of it."""
    root, rng = tmp_path_factory.mktemp("bapps"), np.random.default_rng(0)
    for split, subsets in (("train", ("traditional", "cnn", "mix")), ("val", ("cnn", "color"))):
        for subset in subsets:
            folder = root / "2afc" / split / subset
            for part in ("ref", "p0", "p1", "judge"):
                (folder / part).mkdir(parents=True)
            for i in range(3):
                ref = rng.integers(60, 190, (SIZE, SIZE, 3))
                for part, noise in (("ref", 0), ("p0", 40), ("p1", 20)):
                    image = np.clip(ref + rng.normal(0, noise, ref.shape), 0, 255)
                    path = folder / part / f"{i:06d}.png"
                    Image.fromarray(image.astype(np.uint8)).save(path)
                np.save(folder / "judge" / f"{i:06d}.npy", np.array([0.8]))
    return root


def start(*arguments: object) -> None:
    main(STUDY, "", [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run on judgments, and its arguments."""
    output = tmp_path_factory.mktemp("runs") / "x"
    arguments = [*SMALL, "--output", output]
    start(*arguments)
    return output, arguments


def distances(output: Path, state: str) -> pd.DataFrame:
    return read_distances(output / state / "distances.csv.gz")


class TestRun:
    def test_files(self, finished):
        output, _ = finished
        made = ("settings.json", "report.md", "training.png", "summary.csv", "differences.csv")
        for name in (*made, LAST, BEST, "steps.csv", "history.csv"):
            assert (output / name).is_file()
        settings = json.loads((output / "settings.json").read_text())
        assert settings["config"]["arch"] == "alexnet"
        assert settings["n_train"] == 9
        assert not {"resume", "checkpoint_every"} & set(settings)

    def test_tables_and_records(self, finished):
        output, _ = finished
        page = (output / "report.md").read_text(encoding="utf-8")
        summary, differences = (
            pd.read_csv(output / f"{name}.csv") for name in ("summary", "differences")
        )
        for state, row in zip(STATES, summary.to_dict("records"), strict=True):
            mean = summarize(distances(output, state)).iloc[-1]
            for quantity in ("two_afc", "rrf_1", "rrf_3"):
                names = [quantity, f"{quantity}_low", f"{quantity}_high"]
                value, low, high = mean[names]
                assert [row[name] for name in names] == pytest.approx([value, low, high])
                assert f"{value:.1f} [{low:.1f}, {high:.1f}]" in page
        expected = paired_difference(distances(output, "best"), distances(output, "before"))
        found = differences["difference"].tolist()[-len(expected) :]
        assert found == pytest.approx(expected["difference"].tolist())
        before, last, best = read(output)
        assert before["settings"]["arch"] == "alexnet"
        assert before["weights"] != last["weights"]
        assert best["scores"]["two_afc"] == summary.iloc[2, 2:5].tolist()

    def test_distances_are_those_of_the_checkpoints(self, finished):
        output, _ = finished
        dataset = sample_dataset(split="val", n=12, image_size=SIZE)
        torch.manual_seed(0)
        metrics = {
            "before": RobustLPIPS(BackboneConfig(), weights=None, linear=True),
            "last": RobustLPIPS(weights=output / LAST),
            "best": RobustLPIPS(weights=output / BEST),
        }
        for state, metric in metrics.items():
            expected = measure(metric, dataset, progress=False)
            assert distances(output, state)["d1"].tolist() == pytest.approx(
                expected["d1"].tolist(), rel=1e-5
            )

    def test_history_agrees_with_the_distances(self, finished):
        output, _ = finished
        history = pd.read_csv(output / "history.csv")
        for state, row in (("before", 0), ("last", -1)):
            mean = summarize(distances(output, state)).iloc[-1]
            assert 100 * history["validation"].iloc[row] == pytest.approx(mean["two_afc"])

    def test_same_again(self, finished, tmp_path):
        output, arguments = finished
        start(*arguments[:-1], tmp_path)
        for name in ("history.csv", "steps.csv"):
            found, expected = (folder / name for folder in (tmp_path, output))
            assert found.read_bytes() == expected.read_bytes()

    def test_bapps_with_another_metric_as_teacher(self, bapps, tmp_path):
        """Its subsets, a part of its validation triplets, and distances that are kept."""
        arguments = ["--data-root", bapps, "--image-size", SIZE, "--n", "4"]
        arguments += ["--epochs", "1", "--target", "l2", "--dropout", "0", "--device", "cpu"]
        start(*arguments, "--output", tmp_path)
        teacher = read_distances(tmp_path / "distances" / "train" / "l2" / "distances.csv.gz")
        assert list(teacher["subset"].unique()) == ["traditional", "cnn", "mix"]
        assert set(teacher["view"]) == {"full"}
        before = distances(tmp_path, "before").query("view == 'full'")
        assert before["subset"].value_counts().to_dict() == {"cnn": 2, "color": 2}


class TestResume:
    def test_ends_as_the_run_that_was_not_cut_off(self, finished, tmp_path, monkeypatch):
        output, arguments = finished
        save = Session.save

        def cut_off(session, *names):
            save(session, *names)
            if (session.progress.epoch, session.progress.step) == (1, 2):
                raise KeyboardInterrupt

        monkeypatch.setattr(Session, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            start(*arguments[:-1], tmp_path)
        monkeypatch.undo()
        start(*arguments[:-1], tmp_path, "--resume")
        for name in ("history.csv", "steps.csv"):
            assert (tmp_path / name).read_bytes() == (output / name).read_bytes()
        states = [read_checkpoint(folder / LAST)["state_dict"] for folder in (tmp_path, output)]
        for name, value in states[1].items():
            assert torch.equal(states[0][name], value), name

    def test_finished_training_is_reported_again(self, finished, monkeypatch, capsys):
        output, arguments = finished
        monkeypatch.setattr("robust_lpips.studies.base.training.fit", None)
        start(*arguments, "--checkpoint-every", "7")
        page = (output / "report.md").read_text(encoding="utf-8")
        assert capsys.readouterr().out.startswith(page)

    def test_another_process_joins_in_nothing_that_is_finished(self, finished, monkeypatch, capsys):
        output, arguments = finished
        monkeypatch.setenv("RANK", "1")
        before = (output / "report.md").stat().st_mtime_ns
        start(*arguments)
        assert capsys.readouterr().out == ""
        assert (output / "report.md").stat().st_mtime_ns == before

    def test_nothing_to_resume(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            start(*SMALL, "--output", tmp_path / "new", "--resume")
        assert "last.pt to resume from" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()

    def test_weights_of_another_program_are_kept(self, tmp_path, capsys):
        (tmp_path / LAST).write_bytes(b"weights")
        with pytest.raises(SystemExit):
            start(*SMALL, "--output", tmp_path)
        assert "choose another folder" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == [LAST]

    @pytest.mark.filterwarnings("ignore:.*the dataset is packed again:UserWarning")
    def test_other_triplets_are_trained_on_from_the_start(self, bapps, tmp_path):
        """Files of the stale training go by name; those of the user in the same folder stay."""
        root, output = shutil.copytree(bapps, tmp_path / "bapps"), tmp_path / "out"
        arguments = ["--data-root", root, "--image-size", SIZE, "--n", "4", "--epochs", "1"]
        arguments += ["--device", "cpu", "--output", output]
        start(*arguments)
        (output / "notes.txt").touch()
        first = (output / LAST).read_bytes()
        np.save(root / "2afc" / "train" / "cnn" / "judge" / "000000.npy", np.array([0.1]))
        start(*arguments)
        assert (output / LAST).read_bytes() != first
        assert (output / "notes.txt").is_file()
        assert len(pd.read_csv(output / "steps.csv")) == 1

    def test_other_settings(self, finished, capsys):
        _, arguments = finished
        with pytest.raises(SystemExit):
            start(*arguments, "--seed", "1")
        assert "seed 0 there, 1 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "tune"], "init must name trained weights"),
        (["--blur-size", "5"], "blur_size=5 needs a blur"),
        (["--arch", "resnet50"], "invalid choice"),
        (["--dropout", "1"], "dropout must be in"),
        (["--epochs", "2", "--decay-epochs", "3"], "decay_epochs must be from 0 to epochs"),
        (["--init", "no/such.pt"], "must be one of random"),
        (["--target", "people"], "must be one of judge, package.module:factory, l2"),
        (["--mode", "head"], "invalid choice"),
        (["--max-shift", "99"], "max_shift"),
    ],
)
def test_refused_before_anything_is_written(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        start(*arguments, "--output", tmp_path / "new")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_settings_from_the_command_line():
    settings = TrainSettings()
    assert (settings.count("train"), settings.count("val")) == (500, 200)
    on_bapps = TrainSettings(data_root=Path("bapps"))
    assert (on_bapps.count("train"), on_bapps.count("val")) == (None, 2000)
    assert settings.recipe.decay_epochs == 4
    assert TrainSettings(epochs=2).recipe.decay_epochs == 0  # as four of ten
    assert TrainSettings(target="l2").recipe.target == "teacher"


def test_a_file_of_initial_weights_is_claimed_by_its_content(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"weights")
    settings = TrainSettings(init=path)
    claim = settings.claim()["init"]
    path.write_bytes(b"others")
    assert settings.claim()["init"] != claim
    assert settings.record()["init"] == "a.pt"


def test_weights_that_are_unavailable(tmp_path, monkeypatch):
    def refuse(config):
        raise FileNotFoundError("the ImageNet weights were not found. Tried: x")

    monkeypatch.setitem(initialization._RELEASED, "imagenet", refuse)
    settings = TrainSettings(init="imagenet", n=12, n_train=9, image_size=SIZE)
    with pytest.raises(ValueError, match=r"ImageNet weights were not found$"):
        run(STUDY, Plan(settings), tmp_path)


@pytest.mark.slow
def test_two_processes(tmp_path):
    """``torchrun`` as it is typed; one report, of both."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["--", str(SCRIPT), *SMALL, "--arch", "resnet18", "--output", str(tmp_path / "out")]
    for _ in range(2):  # the second time everything is finished
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("# Training") == 1
    steps = pd.read_csv(tmp_path / "out" / "steps.csv")
    assert len(steps) == 2 * 2  # nine triplets by four
