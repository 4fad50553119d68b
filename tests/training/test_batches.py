"""Which triplets each process takes in each step."""

from itertools import chain

import pytest

from robust_lpips.training.batches import EpochBatches


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (13, 5), (11, 4), (3, 50)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
class TestSharing:
    def test_processes_share_each_batch(self, n, batch_size, world_size):
        """Each triplet once, in the same global batches whatever the number of processes."""
        alone = list(EpochBatches(n, batch_size, seed=3))
        shared = [
            list(EpochBatches(n, batch_size, 3, rank, world_size)) for rank in range(world_size)
        ]
        for whole, parts in zip(alone, zip(*shared, strict=True), strict=False):
            assert sorted(chain(*parts)) == sorted(whole)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            assert min(map(len, parts)) >= 1

    def test_counts(self, n, batch_size, world_size):
        batches = EpochBatches(n, batch_size, 3, 0, world_size)
        whole = list(batches.whole())
        assert len(batches) == batches.steps == len(whole)
        assert [batches.triplets(step) for step in range(len(whole))] == [*map(len, whole)]
        # A last batch that has none for some process is all that may be missing.
        assert n - sum(map(len, whole)) < world_size


def test_epoch_takes_each_triplet_once_in_an_order_of_its_own():
    batches, orders = EpochBatches(50, 7, seed=0), set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        batches.seed, batches.epoch = seed, epoch
        order = list(chain(*batches))
        assert sorted(order) == list(range(50))
        orders.add(tuple(order))
    assert len(orders) == 3
    assert tuple(range(50)) not in orders


def test_goes_on_from_any_step():
    batches = EpochBatches(13, 4, seed=0, rank=1, world_size=2)
    batches.epoch = 2
    whole = list(batches)
    batches.first = 2
    assert list(batches) == whole[2:]
    assert len(batches) == len(whole) - 2


@pytest.mark.parametrize(("n", "batch_size"), [(1, 50), (50, 1)])
def test_too_few_for_the_processes(n, batch_size):
    with pytest.raises(ValueError, match=f"at least 2, one for each.*got {batch_size} and {n}"):
        EpochBatches(n, batch_size, 0, 0, 2)
