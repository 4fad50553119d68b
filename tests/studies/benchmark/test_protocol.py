"""Suite protocol: the sides take turns, and what both find is in the table."""

import pytest
from torch import nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import peers
from robust_lpips.evaluation.capability import Peaks
from robust_lpips.studies.benchmark import protocol
from robust_lpips.studies.benchmark.protocol import (
    ProtocolSettings,
    triplet_multiply_accumulates,
)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Images of 64 pixels on disk are resized to 48."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "DISK_SIZE", 64)
        patch.setattr(protocol, "IMAGE_SIZE", 48)
        yield


def test_multiply_accumulates_are_those_of_the_patches(metric):
    whole, window = (multiply_accumulates(metric.config, 48, width) for width in (48, 45))
    assert triplet_multiply_accumulates(metric.config) == 3 * whole + 9 * window


class L2(nn.Module):
    """Stands in for both networks."""

    config = BackboneConfig()

    def forward(self, a, b):
        return (a - b).square().mean((1, 2, 3))


def test_table(monkeypatch):
    """Ours is slower the first time; both find the same."""
    seconds = iter([4.0, 1.0, 8.0] * 2)
    timed = lambda work, device: work() or next(seconds)  # noqa: E731
    monkeypatch.setattr(protocol, "seconds_of", timed)
    monkeypatch.setattr(protocol, "RobustLPIPS", lambda name: L2())
    monkeypatch.setattr(peers, "shift_tolerant_peers", lambda name: {protocol.PEER: L2})
    monkeypatch.setattr(protocol, "peaks", lambda device: Peaks(8, 1e12, 3, 1e12))
    result = protocol.measure(ProtocolSettings(n=12, rounds=2), "cpu")
    cold, warm = result.table.to_dict("records")
    assert (cold["mode"], cold["ratio"], cold["seconds"]) == ("cold", 2.0, 4.0)
    assert (warm["mode"], warm["ratio"], warm["ours"]) == ("warm", 8.0, 12.0)
    assert cold["ours_two_afc"] == cold["released_two_afc"]
    assert cold["ours_rrf_3"] == cold["released_rrf_3"]
    assert (cold["verdicts_differ"], warm["verdicts_differ"]) == (0, 0)


def test_the_released_package_is_needed(missing):
    missing("stlpips_pytorch")
    with pytest.raises(ImportError, match="stlpips_pytorch"):
        protocol.measure(ProtocolSettings(n=12), "cpu")
