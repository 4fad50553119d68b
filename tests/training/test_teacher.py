"""Triplets with the teacher's distances beside them."""

import pandas as pd
import pytest
import torch

from robust_lpips.training import WithTeacher

ITEMS = [{"subset": "traditional", "sample": f"00000{i}", "judge": 1.0} for i in range(2)]
DISTANCES = pd.DataFrame(
    [
        ("traditional", "000001", "full", 0.3, 0.4),
        ("traditional", "000000", "full", 0.1, 0.2),
        ("traditional", "000000", "shift-0", 0.8, 0.9),
    ],
    columns=["subset", "sample", "view", "d0", "d1"],
)


def test_each_item_has_its_own_distances_of_the_whole_patches():
    dataset = WithTeacher(ITEMS, DISTANCES)
    assert len(dataset) == 2
    torch.testing.assert_close(dataset[0]["teacher"], torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(dataset[1]["teacher"], torch.tensor([0.3, 0.4]))
    assert dataset[1]["judge"] == 1.0


def test_missing_sample():
    dataset = WithTeacher(ITEMS, DISTANCES[DISTANCES["sample"] != "000001"])
    with pytest.raises(ValueError, match="lack the sample traditional/000001"):
        dataset[1]
