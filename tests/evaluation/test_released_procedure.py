"""The released procedure: it reads what ours reads, and agrees on every verdict."""

import pandas as pd
import pytest
import torch

from robust_lpips.data import TwoAFCDataset, sample_dataset
from robust_lpips.evaluation import measure
from robust_lpips.evaluation.released_procedure import PARTS, ReleasedPass, released_distances
from robust_lpips.evaluation.verdicts import differing_verdicts

NET = "alexnet-shift-tolerant"


@pytest.fixture(scope="module")
def dataset():
    """Images of 64 pixels on disk are resized to 48."""
    return TwoAFCDataset(sample_dataset(n=12).roots, image_size=48)


def test_distances_are_those_of_ours(dataset, released, stlpips_peer):
    # Loaded here: of what is loaded in inference mode other tests can take no gradients.
    peer = stlpips_peer(NET)

    def net(a, b):
        return peer(a, b).flatten()

    ours = measure(released(NET), dataset, 3, progress=False)
    theirs = released_distances(net, dataset.samples, image_size=48, max_shift=3, batch_size=5)
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-6)
    assert differing_verdicts(ours, theirs) == 0


def test_a_pass_reads_pixels_as_ours_does(dataset):
    whole = ReleasedPass(dataset.samples, 48, 3, None)[3]
    moved = ReleasedPass(dataset.samples, 48, 3, 2)[3]
    expected = dataset[3]
    for part in PARTS:
        torch.testing.assert_close(whole[part], expected[part] / 127.5 - 1.0)
    assert torch.equal(moved["ref"], whole["ref"][..., :45])
    assert torch.equal(moved["p0"], whole["p0"][..., 2:47])
    assert whole["judge"] == expected["judge"]
