"""How many actors a pool has: one more while workers wait for scores, one fewer when none has waited for long.

Workers report on a board how long they waited; a thread of the driver reads it. A new actor takes calls once its
process runs; one that is to go is taken off the board, and ends when no worker would call it and no call is under way.
The first `least` actors stay for the whole run: they are the ones that a restarted worker begins with.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from actors.board import WorkerLoad
from wmtp_ray.cluster.resources import rooms

LOOK_EVERY_SECONDS = 1.0
WAITING_SHARE = 0.05
"""A pool is too small where a worker waits more than this share of its time."""
QUIET_SECONDS = 60.0
"""A pool is too large where no worker waited for so long."""
logger = logging.getLogger(__name__)


@dataclass
class ActorGroup:
    """Actors that all score with one model."""

    make: Callable[[int], tuple[str, Any]]
    """Starts the actor of a number; its name and handle."""
    least: int
    board: Any
    board_name: str
    resources: Mapping[str, float]
    """What one actor takes of the cluster."""
    actors: dict[str, Any] = field(default_factory=dict)
    _started: int = 0

    def __post_init__(self) -> None:
        for _ in range(self.least):
            self.add()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its actors."""
        return tuple(self.actors)

    def add(self) -> Any:
        """Start one more; names are never used again, so that a late call cannot reach another actor."""
        name, actor = self.make(self._started)
        self._started += 1
        self.actors[name] = actor
        return actor

    def retire(self, name: str) -> None:
        """End one actor."""
        ray.kill(self.actors.pop(name))

    def has_room(self) -> bool:
        """Whether the cluster could hold one more."""
        return rooms(ray.available_resources(), self.resources) > 0

    def close(self) -> None:
        """End all."""
        for actor in (*self.actors.values(), self.board):
            ray.kill(actor)


class PoolSizer:
    """Keeps a group between its least and its most actors. Does nothing where the two are equal."""

    def __init__(self, group: ActorGroup, actor_range: tuple[int, int]) -> None:
        self._group = group
        self._least, self._most = actor_range
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="pool-size", daemon=True)
        self._taking = list(group.names)
        self._loads: dict[int, WorkerLoad] = {}
        self._seen = self._last_wait = time.monotonic()

    def start(self) -> None:
        if self._least < self._most:
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_SECONDS):
            try:
                self._look()
            except RayError as error:  # a dead board or actor is restarted; the next look finds it
                logger.warning("the size of the critic pool is left as it is for now: %s", error)

    def _look(self) -> None:
        now = time.monotonic()
        loads: dict[int, WorkerLoad] = ray.get(self._group.board.post.remote(tuple(self._taking)))
        waited = max(
            (
                load.waited - self._loads[rank].waited if rank in self._loads else load.waited
                for rank, load in loads.items()
            ),
            default=0.0,
        )
        elapsed, self._seen, self._loads = now - self._seen, now, dict(loads)
        leaving = [name for name in self._group.names if name not in self._taking]
        for name in leaving:
            if not any(load.pending.get(name) or name in load.names for load in loads.values()):
                self._group.retire(name)
        if waited > WAITING_SHARE * elapsed:
            self._last_wait = now
            if not leaving and len(self._taking) < self._most and self._group.has_room():
                self._grow()
        elif now - self._last_wait > QUIET_SECONDS and len(self._taking) > self._least:
            self._taking.pop()
            self._last_wait = now

    def _grow(self) -> None:
        """Start one more, and send calls to it once it lives: another tenant may have taken its room meanwhile."""
        ready = self._group.add().ready.remote()
        while not ray.wait([ready], timeout=LOOK_EVERY_SECONDS)[0]:
            if self._stopping.is_set():
                return
        ray.get(ready)
        self._taking = list(self._group.names)
        self._last_wait = time.monotonic()  # the quiet is that of the larger pool
        logger.warning("workers wait for scores: %s critics score now", len(self._taking))
