"""Training by the command line: what it writes, refuses and goes on with, and that it learns."""

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.data import TwoAFCDataset, sample_dataset
from robust_lpips.evaluation import measure, read_distances, summarize
from robust_lpips.studies.training import Settings
from robust_lpips.studies.triplets import evenly_spaced, triplets
from robust_lpips.training import BEST, LAST, Recipe
from robust_lpips.training.session import Session
from robust_lpips.weights import read_checkpoint

SCRIPT = Path(__file__).parents[2] / "experiments" / "train.py"
SIZE = 48
SMALL = [
    *("--image-size", str(SIZE), "--train-triplets", "9", "--val-triplets", "12"),
    *("--epochs", "2", "--batch-size", "4", "--device", "cpu", "--checkpoint-every", "2"),
]
FILES = {
    *("settings.json", LAST, BEST, "steps.csv", "history.csv", "report.md", "training.png"),
    *(f"distances-{state}.csv.gz" for state in ("before", "last", "best")),
}
LABEL = "agreement with the released VGG-16 metric"


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


def start(*arguments: str) -> None:
    """Run the script in this process."""
    spec = importlib.util.spec_from_file_location("train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(SCRIPT), *map(str, arguments)])
        module.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run on judgments, and its arguments."""
    output = tmp_path_factory.mktemp("runs") / "x"
    arguments = [*SMALL, "--output", output]
    start(*arguments)
    return output, arguments


class TestRun:
    def test_files(self, finished):
        output, _ = finished
        found = {path.name for path in output.iterdir()}
        assert found - {"tensorboard"} == FILES
        settings = json.loads((output / "settings.json").read_text())
        assert settings["config"]["arch"] == "alexnet"
        assert settings["recipe"]["decay_epochs"] == 0  # as four of ten, of two
        assert settings["train_triplets"] == 9

    def test_report(self, finished):
        output, arguments = finished
        page = (output / "report.md").read_text(encoding="utf-8")
        for text in (
            LABEL,
            "not with people",
            f"sample set {SIZE}x{SIZE}, 9 training and 12 validation triplets, seed 0",
            "largest shift 3 px",
            "ranking loss",
            shlex.join(["python", "experiments/train.py", *map(str, arguments)]),
        ):
            assert text in page
        lines = {line.split(" |")[0]: line for line in page.splitlines() if line.startswith("| ")}
        for state, name in (("before", "before training"), ("best", "at its best")):
            mean = summarize(read_distances(output / f"distances-{state}.csv.gz")).iloc[-1]
            line = next(line for key, line in lines.items() if key.strip("| ") == name)
            for quantity in ("two_afc", "rrf_1", "rrf_3"):
                low, high = mean[f"{quantity}_low"], mean[f"{quantity}_high"]
                assert f"{mean[quantity]:.1f} [{low:.1f}, {high:.1f}]" in line

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
            found = read_distances(output / f"distances-{state}.csv.gz")
            assert found["d1"].tolist() == pytest.approx(expected["d1"].tolist(), rel=1e-5)

    def test_history_agrees_with_the_distances(self, finished):
        output, _ = finished
        history = pd.read_csv(output / "history.csv")
        for state, row in (("before", 0), ("last", -1)):
            mean = summarize(read_distances(output / f"distances-{state}.csv.gz")).iloc[-1]
            assert 100 * history["validation"].iloc[row] == pytest.approx(mean["two_afc"])

    def test_same_again(self, finished, tmp_path):
        output, arguments = finished
        start(*arguments[:-1], tmp_path)
        for name in ("history.csv", "steps.csv"):
            assert (tmp_path / name).read_bytes() == (output / name).read_bytes()

    def test_bapps_with_another_metric_as_teacher(self, bapps, tmp_path):
        """Its subsets, a part of its validation triplets, and distances that are kept."""
        arguments = ["--data-root", bapps, "--image-size", SIZE, "--val-triplets", "4"]
        arguments += ["--epochs", "1", "--target", "l2", "--dropout", "0", "--device", "cpu"]
        start(*arguments, "--output", tmp_path)
        teacher = read_distances(tmp_path / "teacher.csv.gz")
        assert list(teacher["subset"].unique()) == ["traditional", "cnn", "mix"]
        assert set(teacher["view"]) == {"full"}
        before = read_distances(tmp_path / "distances-before.csv.gz").query("view == 'full'")
        assert before["subset"].value_counts().to_dict() == {"cnn": 2, "color": 2}
        page = (tmp_path / "report.md").read_text(encoding="utf-8")
        assert "all training and 4 evenly spaced validation triplets" in page
        assert "2AFC against people's judgments" in page
        assert "the distances of l2 (distillation)" in page
        assert LABEL not in page


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
        found, expected = (read_checkpoint(folder / LAST) for folder in (tmp_path, output))
        for name, value in expected["state_dict"].items():
            assert torch.equal(found["state_dict"][name], value), name

    def test_folder_that_holds_a_training(self, finished, capsys):
        _, arguments = finished
        with pytest.raises(SystemExit):
            start(*arguments)
        assert "holds a training already" in capsys.readouterr().err

    def test_nothing_to_resume(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            start(*SMALL, "--output", tmp_path / "new", "--resume")
        assert "holds no last.pt" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()

    def test_other_settings(self, finished):
        _, arguments = finished
        with pytest.raises(ValueError, match="seed 0 there, 1 here"):
            start(*arguments, "--resume", "--seed", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "tune"], "init must name trained weights"),
        (["--blur-size", "5"], "blur_size=5 needs a blur"),
        (["--dropout", "1"], "dropout must be in"),
        (["--epochs", "2", "--decay-epochs", "3"], "decay_epochs must be from 0 to epochs"),
        (["--init", "no/such.pt"], "must be one of random"),
        (["--target", "people"], "must be one of judge, package.module:factory, l2"),
        (["--mode", "head"], "invalid choice"),
    ],
)
def test_refused_before_anything_is_written(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        start(*arguments, "--output", tmp_path / "new")
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("target", "teacher"), [("judge", "vgg16"), ("teacher", None)], ids=["too many", "none"]
)
def test_a_teacher_belongs_to_its_target(target, teacher):
    with pytest.raises(ValueError, match="teacher must be given with"):
        Settings(recipe=Recipe(target=target), teacher=teacher)


class TestTriplets:
    def test_evenly_spaced(self, bapps):
        whole = TwoAFCDataset(bapps, "train", image_size=SIZE)
        names = [(s.subset, s.sample) for s in whole.samples]
        part = evenly_spaced(whole, 3)
        assert [(item["subset"], item["sample"]) for item in part] == [names[i] for i in (0, 4, 8)]
        assert evenly_spaced(whole, None) is whole
        assert evenly_spaced(whole, 9) is whole
        with pytest.raises(ValueError, match="n must be at least 1; got 0"):
            evenly_spaced(whole, 0)

    def test_sample_set_where_no_root_is_given(self):
        assert len(triplets(None, "val", 12, SIZE)) == 12
        with pytest.raises(ValueError, match="n must be"):
            triplets(None, "val", None, SIZE)


@pytest.mark.slow
def test_two_processes(tmp_path):
    """``torchrun`` as it is typed; one report, of both."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(SCRIPT), *SMALL, "--arch", "resnet18", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("# Training") == 1
    assert "torchrun --nproc_per_node=2 experiments/train.py" in done.stdout
    assert len(pd.read_csv(tmp_path / "out" / "steps.csv")) == 2 * 2  # nine triplets by four
