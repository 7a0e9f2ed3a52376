"""Lanes: the rows of a batch, each a cursor into the text and a carried state, and who computes which.

A rank holds lanes that lie side by side. It computes them in groups, one thread a group, and adds all gradients up
in a fixed tree, which goes on across the ranks (`system.distributed`):

    ((g_0 + g_1) + (g_2 + g_3)) + …

The groups depend on the batch alone. So any number of ranks that divides their number comes to the same bits, with
any number of threads; other numbers of ranks that divide the batch come to the same up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from charlm.errors import ConfigError
from charlm.system.distributed import Ranks

MOST_GROUPS = 8
_LANES_PER_GROUP = 8  # at least: smaller groups cost more for reading the weights than the threads gain


def group_count(batch_size: int) -> int:
    """Returns into how many groups the lanes of a batch are divided: a power of two that divides it."""
    groups = 1
    while groups < MOST_GROUPS and batch_size % (2 * groups) == 0 and batch_size >= 2 * groups * _LANES_PER_GROUP:
        groups *= 2
    return groups


@dataclass(frozen=True)
class Lanes:
    """How the lanes of a training are divided.

    Attributes:
        ranks: the processes.
        groups: of the whole batch.
    """

    ranks: Ranks
    groups: int

    @property
    def own_groups(self) -> int:
        """How many groups each rank computes; one where the ranks do not divide the groups."""
        size = self.ranks.size
        return self.groups // size if self.groups % size == 0 else 1

    def check(self, batch_size: int) -> None:
        """Checks that the ranks can share a batch evenly.

        Raises:
            ConfigError: they cannot.
        """
        size = self.ranks.size
        if batch_size % size:
            fitting = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
            fewer = max(n for n in fitting if n < size)
            raise ConfigError(
                f"training.batch_size: {batch_size} sequences cannot be divided evenly among {size} processes; "
                f"start {fewer} with torchrun, or set training.batch_size to a multiple of {size}"
            )

    def rows(self, lanes: int, rank: int | None = None) -> slice:
        """Returns which of so many lanes a rank holds, by default this one."""
        first = (self.ranks.rank if rank is None else rank) * self.own_groups
        return slice(self._begin(first, lanes), self._begin(first + self.own_groups, lanes))

    def sizes(self, lanes: int) -> list[int]:
        """Returns how many of so many lanes each rank holds."""
        return [(rows := self.rows(lanes, rank)).stop - rows.start for rank in range(self.ranks.size)]

    def group_rows(self, lanes: int) -> list[slice]:
        """Returns the lanes of each group of this rank, counted from its first lane."""
        first, start = self.ranks.rank * self.own_groups, self.rows(lanes).start
        ends = [self._begin(first + group, lanes) - start for group in range(self.own_groups + 1)]
        return [slice(a, b) for a, b in pairwise(ends)]

    def _begin(self, group: int, lanes: int) -> int:
        return group * lanes // (self.own_groups * self.ranks.size)
