"""Which triplets a step takes: known from seed, epoch and step, so that training can go on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[int]]):
    """Batches of one epoch in random order, from any step on, shared among processes.

    A step's batch is the same for any number of processes, which take every ``world_size``-th of
    it each; batch normalisation sees a process's own part of it. A last batch of fewer triplets
    than processes is left out.

    Args:
        n: how many triplets there are.
        batch_size: triplets a step, over all processes.
        seed: of the order.
        rank: which of the processes this is.
        world_size: how many there are.

    Attributes:
        epoch: which epoch to go through.
        first: the step to begin with.

    Raises:
        ValueError: a batch, or the whole set, is too small for that many processes.
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
        """How many triplets a step has, over all processes."""
        return min(self.batch_size, self.n - step * self.batch_size)

    def whole(self) -> Iterator[list[int]]:
        """The batches of all processes together."""
        # Torch's generators on the CPU take 32 bits of a seed, too few for both numbers.
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist()
        for step in range(self.first, self.steps):
            yield order[step * self.batch_size : (step + 1) * self.batch_size]
