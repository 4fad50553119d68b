"""Suite training: both sides do the same number of steps, and what they give is in the table."""

import pytest
import torch

from robust_lpips.evaluation.capability import Peaks
from robust_lpips.studies.benchmark import training
from robust_lpips.studies.benchmark.training import TrainingSettings


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)


@pytest.mark.parametrize("variant", training.CONFIGS)
@pytest.mark.parametrize("train", [training.ours, training.released])
def test_both_sides_take_the_steps(train, variant):
    torch.manual_seed(0)
    seconds = train(variant, 2, "cpu")
    assert len(seconds) == 2
    assert min(seconds) > 0


def test_table(monkeypatch):
    """Ours takes 1 s a step and the released package 2 s, but for the first steps."""
    for name, each in (("ours", 1.0), ("released", 2.0)):

        def train(variant, steps, device, each=each):
            return [100.0] * 2 + [each] * (steps - 2)

        monkeypatch.setattr(training, name, train)
    monkeypatch.setattr(training, "peaks", lambda device: Peaks(8, 1e10, 3, 1e10))
    result = training.measure(TrainingSettings(steps=3, rounds=2), "cpu")
    plain, tolerant = result.table.to_dict("records")
    assert (plain["ours"], plain["released"]) == (2.0, 1.0)
    assert (plain["ratio"], plain["ratio_low"], plain["ratio_high"]) == (2.0, 2.0, 2.0)
    assert plain["ours_share"] == 2 * plain["released_share"] < tolerant["ours_share"]
