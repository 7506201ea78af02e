"""A prepared store as a source: its problems with their splits and tests, its rows with their text and provenance.

So a store, which is never changed once it is complete, can become part of a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from wmtp_ray.data.records import Problem
from wmtp_ray.data.store import SolutionStore

PROBLEMS_AT_ONCE = 64


@dataclass(frozen=True)
class StoreSource:
    """The store at `path`, in parts of a few problems, which are given by half-open ranges of their numbers."""

    path: Path

    def partitions(self) -> list[tuple[int, int]]:
        """Ranges of problems. `StorageError` where the store is incomplete or damaged."""
        number = SolutionStore.open(self.path).index.num_problems
        return [
            (first, min(first + PROBLEMS_AT_ONCE, number)) for first in range(0, number, PROBLEMS_AT_ONCE)
        ]

    def problems(self, partition: tuple[int, int]) -> Iterator[Problem]:
        """The problems of one range, each with its rows in the order of the store."""
        yield from _opened(self.path).whole_problems(*partition)


@lru_cache(maxsize=1)
def _opened(path: Path) -> SolutionStore:
    """`partitions` has compared the hashes."""
    return SolutionStore.open(path, check="sizes")
