"""References next to themselves, warped and noisy."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from robust_lpips.data.warped import SEVERITY, WarpedAndNoisy


class References(Dataset):
    """Two smooth references, uint8 (3, 64, 64)."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        coarse = np.random.default_rng(index).integers(30, 220, (3, 16, 16), dtype=np.uint8)
        return {"ref": torch.from_numpy(np.kron(coarse, np.ones((4, 4), dtype=np.uint8)))}


def test_warps_are_mild_noise_is_seen_and_both_are_drawn_once():
    dataset = References()
    items = [WarpedAndNoisy(dataset)[i] for i in (0, 1)]
    for item, again in zip(items, (WarpedAndNoisy(dataset)[i] for i in (0, 1)), strict=True):
        noise = (item["p1"].double() - item["ref"].double()).std() / 255
        assert noise == pytest.approx(SEVERITY * 0.15, rel=0.05)
        assert not torch.equal(item["p0"], item["ref"])
        assert torch.equal(item["p0"], again["p0"])
    other = WarpedAndNoisy(dataset, seed=1)[0]
    assert not torch.equal(other["p1"], items[0]["p1"])
