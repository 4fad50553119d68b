"""Batches of triplets as a function of seed, epoch and step, so that training can resume."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[int]]):
    """Batches of one epoch in random order, from any step on, distributed over processes.

    A step's batch does not depend on the number of processes, each of which takes every
    ``world_size``-th triplet of it; batch normalisation sees only the part of its process. A last
    batch with fewer triplets than processes is left out.

    Args:
        n: number of triplets.
        batch_size: triplets per step, over all processes.
        seed: of the order.
        rank: index of this process.
        world_size: number of processes.

    Attributes:
        epoch: the epoch to iterate over.
        first: the step to start from.

    Raises:
        ValueError: a batch, or the whole set, has fewer triplets than there are processes.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if min(n, batch_size) < world_size:
            raise ValueError(
                f"batch_size and the number of triplets must be at least {world_size}, one for "
                f"each process; got {batch_size} and {n}"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first = 0
        self.steps = n // batch_size + (n % batch_size >= world_size)

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole():
            yield batch[self.rank :: self.world_size]

    def triplets(self, step: int) -> int:
        """Number of triplets of a step, over all processes."""
        return min(self.batch_size, self.n - step * self.batch_size)

    def whole(self) -> Iterator[list[int]]:
        """Batches of all processes together."""
        # Torch's generators on the CPU take 32 bits of a seed, too few for both numbers.
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist()
        for step in range(self.first, self.steps):
            yield order[step * self.batch_size : (step + 1) * self.batch_size]
