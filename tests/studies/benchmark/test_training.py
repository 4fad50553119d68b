"""Suite training: both sides do the same number of steps, and what they give is in the table."""

import pytest
import torch

from robust_lpips.studies.benchmark import training
from robust_lpips.studies.benchmark.capability import Peaks
from robust_lpips.studies.benchmark.training import TrainingSettings


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(training, "BATCH", 2)


@pytest.mark.parametrize("variant", training.CONFIGS)
def test_both_sides_take_the_steps(variant):
    torch.manual_seed(0)
    for steps in training.both_sides(variant, "cpu").values():
        seconds = steps(2)
        assert len(seconds) == 2
        assert min(seconds) > 0


def test_table(monkeypatch):
    """Ours takes 1 s a step and the released package 2 s, but for the first steps."""

    def both_sides(variant, device):
        return {
            side: lambda steps, each=each: [100.0] * 2 + [each] * (steps - 2)
            for side, each in (("ours", 1.0), ("released", 2.0))
        }

    monkeypatch.setattr(training, "both_sides", both_sides)
    monkeypatch.setattr(training, "peaks", lambda device: Peaks(8, 1e10, 3, 1e10))
    result = training.measure(TrainingSettings(steps=3, rounds=2), "cpu")
    plain, tolerant = result.table.to_dict("records")
    assert (plain["ours"], plain["released"]) == (2.0, 1.0)
    assert (plain["ratio"], plain["ratio_low"], plain["ratio_high"]) == (2.0, 2.0, 2.0)
    assert plain["ours_share"] == 2 * plain["released_share"] < tolerant["ours_share"]
