"""How many train workers there is room for: at the start, after a death, and while fewer than wanted run.

Ray Train's own elastic policy counts what nodes have, not what is free: beside critics and read tasks it asks for
workers that can never start, and waits for them for ever. Here placement groups are asked for instead, which see what
is free, and are given back at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group

from wmtp_ray.config.run import ClusterConfig

PLACED_SECONDS = 10.0
"""A placement group that was not placed in this time does not fit. What a group that just ended held is free a little
later."""
LOOK_AGAIN_SECONDS = 5.0


def worker_resources(cluster: ClusterConfig) -> dict[str, float]:
    """What one train worker takes of the cluster, without its read tasks."""
    resources = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    return {name: amount for name, amount in resources.items() if amount}


def await_room(
    cluster: ClusterConfig, notice: Callable[[str], None], asked_to_end: Callable[[], bool]
) -> int:
    """The number of workers to start: as many as there is room for now, within the configured range. Waits for the
    least, or until `asked_to_end`, then 0."""
    least, most = cluster.worker_range
    told = False
    while (found := _room(cluster, most)) < least:
        if not told:
            notice(f"there is room for {found} train workers; waits for {least}, cluster.num_workers' least")
            told = True
        if asked_to_end():
            return 0
        time.sleep(LOOK_AGAIN_SECONDS)
    return found


class Growth:
    """Looks now and then whether one more worker than the `running` ones would fit, and calls `when_there_is_room` once
    if so. Use as a context manager. `at_work` says whether those are all in their places."""

    def __init__(
        self,
        cluster: ClusterConfig,
        running: int,
        at_work: Callable[[], bool],
        when_there_is_room: Callable[[], None],
    ) -> None:
        self._cluster, self._running, self._at_work = cluster, running, at_work
        self._when_there_is_room = when_there_is_room
        self._wanted = running < cluster.worker_range[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="growth", daemon=True)

    def __enter__(self) -> None:
        if self._wanted:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._wanted:
            self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(self._cluster.grow_every_seconds):
            if self._at_work() and _fits(self._cluster, 1, self._running):
                return self._when_there_is_room()


def _room(cluster: ClusterConfig, most: int) -> int:
    """The largest number of workers up to `most` that fits; by halving, since what fits, fits with fewer."""
    if _fits(cluster, most):
        return most
    fits, too_many = 0, most
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _fits(cluster, middle):
            fits = middle
        else:
            too_many = middle
    return fits


def _fits(cluster: ClusterConfig, workers: int, reading: int = 0) -> bool:
    """Whether so many workers, each with its read tasks, could be placed beside what runs now, and the read tasks of
    `reading` workers that run already."""
    place, reads = worker_resources(cluster), cluster.read_tasks * cluster.read_cpus
    if cpus := place.get("CPU", 0.0) + reads:
        place["CPU"] = cpus
    if not place:
        return True
    group = placement_group([place] * workers + [{"CPU": reads}] * (reading if reads else 0))
    try:
        return group.wait(PLACED_SECONDS)
    except RayError:  # a node went away meanwhile
        return False
    finally:
        remove_placement_group(group)
