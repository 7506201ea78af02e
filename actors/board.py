"""Where the driver of a run and its train workers tell each other about the pool of critics: who scores, who waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class WorkerLoad:
    """What one worker reports after a step."""

    waited: float
    """Seconds spent waiting for scores since it started."""
    pending: Mapping[str, int]
    """Calls under way, by name of the actor."""
    names: tuple[str, ...]
    """The actors that it may call until its next report."""


class PoolBoard:
    """Holds the names of the actors that take calls, and each worker's latest report. Nothing depends on its memory:
    after a restart the driver posts the names again, and workers go on with those that they know."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._loads: dict[int, WorkerLoad] = {}

    def post(self, names: tuple[str, ...]) -> dict[int, WorkerLoad]:
        """The driver's side: these actors take calls from now on. Returns the workers' reports, by rank."""
        self._names = names
        return self._loads

    def report(self, rank: int, world_size: int, load: WorkerLoad) -> tuple[str, ...]:
        """A worker's side; returns the names that take calls, empty where they are not known yet. A report replaces the
        one of the worker that had this rank before it died, and ends those of ranks that are no more. Since the worker
        reads the answer at some later time, the names in it count as its own from now on."""
        self._loads = {other: known for other, known in self._loads.items() if other < world_size}
        told = (name for name in self._names if name not in load.names)
        self._loads[rank] = replace(load, names=(*load.names, *told))
        return self._names
