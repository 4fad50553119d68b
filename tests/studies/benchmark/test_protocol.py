"""Suite protocol: the released procedure and ours agree on every verdict."""

import pandas as pd
import pytest
import torch
from torch import nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.data import TwoAFCDataset, sample_dataset
from robust_lpips.evaluation import measure
from robust_lpips.studies.base.machine import multiply_accumulates
from robust_lpips.studies.benchmark import peers, protocol
from robust_lpips.studies.benchmark.capability import Peaks
from robust_lpips.studies.benchmark.protocol import (
    ProtocolSettings,
    ReleasedPass,
    released_distances,
    triplet_multiply_accumulates,
)
from robust_lpips.studies.benchmark.verdicts import differing_verdicts


@pytest.fixture(scope="module", autouse=True)
def small():
    """Images of 64 pixels on disk are resized to 48."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "DISK_SIZE", 64)
        patch.setattr(protocol, "IMAGE_SIZE", 48)
        yield


@pytest.fixture(scope="module")
def dataset():
    return TwoAFCDataset(sample_dataset(n=12).roots, image_size=48)


def test_distances_are_those_of_ours(dataset, released, stlpips_peer):
    # Loaded here: of what is loaded in inference mode other tests can take no gradients.
    peer = stlpips_peer(protocol.NET)

    def net(a, b):
        return peer(a, b).flatten()

    ours = measure(released(protocol.NET), dataset, protocol.MAX_SHIFT, progress=False)
    theirs = released_distances(net, dataset.samples, "cpu")
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-6)
    assert differing_verdicts(ours, theirs) == 0


def test_a_pass_reads_pixels_as_ours_does(dataset):
    whole = ReleasedPass(dataset.samples, None)[3]
    moved = ReleasedPass(dataset.samples, 2)[3]
    expected = dataset[3]
    for part in protocol.PARTS:
        torch.testing.assert_close(whole[part], expected[part] / 127.5 - 1.0)
    assert torch.equal(moved["ref"], whole["ref"][..., :45])
    assert torch.equal(moved["p0"], whole["p0"][..., 2:47])
    assert whole["judge"] == expected["judge"]


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
    monkeypatch.setattr(peers, "build", lambda builders, device: ({"peer 1.0": L2()}, {}))
    monkeypatch.setattr(protocol, "peaks", lambda device: Peaks(8, 1e12, 3, 1e12))
    result = protocol.measure(ProtocolSettings(n=12, rounds=2), "cpu")
    cold, warm = result.table.to_dict("records")
    assert (cold["mode"], cold["ratio"], cold["seconds"]) == ("cold", 2.0, 4.0)
    assert (warm["mode"], warm["ratio"], warm["ours"]) == ("warm", 8.0, 12.0)
    assert cold["ours_two_afc"] == cold["released_two_afc"]
    assert cold["ours_rrf_3"] == cold["released_rrf_3"]
    assert (cold["verdicts_differ"], warm["verdicts_differ"]) == (0, 0)


def test_the_released_package_is_needed(monkeypatch):
    monkeypatch.setattr(peers, "build", lambda builders, device: ({}, {protocol.PEER: "why"}))
    with pytest.raises(ImportError, match="why"):
        protocol.measure(ProtocolSettings(n=12), "cpu")
