"""Choices of items."""

import pytest

from robust_lpips.data import evenly_spaced


@pytest.mark.parametrize(
    ("n", "chosen"), [(None, range(5)), (5, range(5)), (9, range(5)), (3, (0, 2, 4)), (1, (0,))]
)
def test_evenly_spaced(n, chosen):
    dataset = evenly_spaced([10, 11, 12, 13, 14], n)
    assert [dataset[i] for i in range(len(dataset))] == [10 + i for i in chosen]


def test_less_than_one():
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        evenly_spaced([1, 2], 0)
