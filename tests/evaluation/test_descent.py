"""Images optimised by a distance, and how near they come to their target."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from robust_lpips.data.windows import as_input, cut_pairs, random_windows
from robust_lpips.evaluation.descent import descend, likeness


def test_offset_of_the_target():
    pairs = cut_pairs(random_windows("val", 2, 44, seed=0), (0, -2), 40)
    assert np.array_equal(pairs.first[:, :, 2:], pairs.second[:, :, :-2])
    sought, target = as_input(pairs.first), as_input(pairs.second)
    table = likeness(lambda a, b: (a - b).square().mean((1, 2, 3)), sought, target, 2)
    assert (table["distance_aligned"] == 0).all()
    assert (table["distance_in_place"] > 0).all()
    assert table["psnr_in_place"].to_numpy() == pytest.approx(
        -10 * np.log10(table["distance_in_place"] / 4)
    )


def test_descends_and_tells_gradients_that_are_not_finite():
    start, target = torch.zeros(2, 3, 24, 24), torch.full((2, 3, 24, 24), 0.5)
    weight = torch.tensor([1.0, torch.nan])
    done = []
    images, table = descend(
        lambda a, b: weight * (a - b).square().mean((1, 2, 3)),
        start,
        target,
        (0, 0),
        steps=3,
        learning_rate=0.01,
        radius=3,
        done=lambda: done.append(1),
    )
    assert len(done) == 3
    assert table.groupby("window")["finite"].all().tolist() == [True, False]
    values = table.loc[table["window"] == 0, "value"]
    assert all(a > b for a, b in pairwise(values))
    assert not images.requires_grad
    assert (start == 0).all()
