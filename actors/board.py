"""Where the driver of a run and its train workers tell each other about the pool of critics: who scores, who waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerLoad:
    """What one worker reports after a step."""

    waited: float
    """Seconds spent waiting for scores since it started."""
    pending: Mapping[str, int]
    """Calls under way, by name of the actor."""
    names: tuple[str, ...]
    """The actors that it would call now."""


class PoolBoard:
    """Holds the names of the actors that take calls, and each worker's latest report. Nothing depends on its memory:
    after a restart the driver posts the names again, and workers go on with those that they know."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._loads: dict[str, WorkerLoad] = {}

    def post(self, names: tuple[str, ...]) -> dict[str, WorkerLoad]:
        """The driver's side: these actors take calls from now on. Returns the workers' reports."""
        self._names = names
        return self._loads

    def report(self, worker: str, load: WorkerLoad) -> tuple[str, ...]:
        """A worker's side; returns the names that take calls, empty where they are not known yet."""
        self._loads[worker] = load
        return self._names
