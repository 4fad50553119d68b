"""Two processes that share each batch, against one that takes it whole."""

import os
import signal
import subprocess

import pandas as pd
import pytest
import torch

from robust_lpips import RobustLPIPS
from robust_lpips.training import BEST, LAST
from robust_lpips.training.log import HISTORY_FILE, STEPS_FILE
from robust_lpips.weights import read_checkpoint
from tests.training import toy

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
# Batches of five and a last one of three: the processes' parts differ in size.
RUN = {
    "n": 23,
    "size": 64,
    "epochs": 2,
    "decay_epochs": 1,
    "batch_size": 5,
    "learning_rate": 1e-4,
    "dropout": 0.0,
}


def train_in_two(folder, **settings):
    """Run :func:`toy.train` in two processes; what they printed."""
    command, environment = toy.program(*TWO, output=folder, **settings)
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_as_one(tmp_path):
    """Ten steps of the same batches: the same losses, scores and weights, up to rounding."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    toy.train(alone, **RUN)
    train_in_two(shared, **RUN)
    steps, expected = (pd.read_csv(folder / STEPS_FILE) for folder in (shared, alone))
    assert len(steps) == 10
    assert steps["loss"].tolist() == pytest.approx(expected["loss"].tolist(), abs=1e-4)
    assert steps["accuracy"].tolist() == pytest.approx(expected["accuracy"].tolist())
    history, wanted = (pd.read_csv(folder / HISTORY_FILE) for folder in (shared, alone))
    pd.testing.assert_frame_equal(history, wanted, atol=1e-4, rtol=0)
    for name in (LAST, BEST):
        weights, before = (RobustLPIPS(weights=folder / name) for folder in (shared, alone))
        for key, value in before.state_dict().items():
            torch.testing.assert_close(weights.state_dict()[key], value, atol=1e-3, rtol=0)
    states = read_checkpoint(shared / LAST)["training"]["random"]["cpu"]
    assert len(states) == 2
    assert not torch.equal(*states)  # they draw dropout of their own


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["alexnet", "resnet18"])
def test_same_again_with_dropout_and_batch_normalisation(arch, tmp_path):
    """Killed after a step of the second epoch, and gone on with."""
    settings = RUN | {"arch": arch, "n": 13, "size": 48, "dropout": 0.5, "checkpoint_every": 2}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_in_two(whole, **settings)
    command, environment = toy.program(*TWO, output=parts, hang_after=5, **settings)
    environment["OMP_NUM_THREADS"] = "1"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in [process.stdout.readline() for _ in range(2)]:
            os.kill(int(line), signal.SIGKILL)
    progress = read_checkpoint(parts / LAST)["training"]["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 2)
    train_in_two(parts, **settings)
    found, expected = (read_checkpoint(folder / LAST) for folder in (parts, whole))
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name
    for name in (STEPS_FILE, HISTORY_FILE):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
