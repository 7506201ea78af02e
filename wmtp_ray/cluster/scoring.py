"""The pool of frozen critics: owned by the driver, called ahead of training by every worker's loader.

    worker's stream  ─ micro-batch ─►  least busy critic actor  ─►  cache? else forward  ─►  values
                     ◄─ awaited in plan order, at most `window` micro-batches ahead ─┘

The pool lives as long as the driver: a restarted worker finds the same actors by name, and a critic that dies is
restarted by Ray, which repeats its unfinished calls.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError, RayTaskError

from actors.cache import CacheCounts, ScoreCache
from actors.critic import CriticActor
from wmtp_ray.config.weighting import CriticPoolConfig
from wmtp_ray.errors import InfraError, WMTPError
from wmtp_ray.training.batch import MicroBatch

NAMESPACE = "wmtp"
RESTARTS_WITHOUT_LIMIT = -1


@dataclass(frozen=True)
class PoolUse:
    """What a pool did for a run: forwards of the critic, and lookups of the cache."""

    forwards: int
    cache: CacheCounts


class ScorePool:
    """The actors of one run. `names` is what workers need to find them."""

    def __init__(
        self, run: str, critic: Path, models: Path, cache_file: Path, config: CriticPoolConfig
    ) -> None:
        self._cache: Any = (
            ray.remote(ScoreCache)
            .options(
                name=f"scores-{run}",
                namespace=NAMESPACE,
                num_cpus=0,
                max_restarts=RESTARTS_WITHOUT_LIMIT,
                max_task_retries=config.max_task_retries,
            )
            .remote(str(cache_file), config.cache_bytes)
        )
        self.names = [f"critic-{run}-{i}" for i in range(config.actors)]
        self._critics: list[Any] = [
            ray.remote(CriticActor)
            .options(
                name=name,
                namespace=NAMESPACE,
                num_cpus=config.cpus_per_actor,
                num_gpus=config.gpus_per_actor,
                max_restarts=RESTARTS_WITHOUT_LIMIT,
                max_task_retries=config.max_task_retries,
            )
            .remote(str(critic), str(models), f"scores-{run}", config.threads_per_actor)
            for name in self.names
        ]

    def use(self) -> PoolUse:
        """What the pool did so far (forwards since each actor's last restart)."""
        forwards = sum(ray.get([critic.forwards.remote() for critic in self._critics]))
        return PoolUse(forwards, ray.get(self._cache.counts.remote()))

    def close(self) -> None:
        """End the actors."""
        for actor in (*self._critics, self._cache):
            ray.kill(actor)


@dataclass(frozen=True)
class _Submitted:
    micro_batch: MicroBatch
    critic: int
    values: ray.ObjectRef


class ScoreAhead:
    """A worker's side: sends micro-batches to the pool ahead of their use and hands them on with their values."""

    def __init__(self, names: list[str], window: int) -> None:
        self._critics = [ray.get_actor(name, namespace=NAMESPACE) for name in names]
        self._window = window
        self._pending: Counter[int] = Counter()
        self.wait_seconds = 0.0
        """Time spent waiting for scores since the start."""

    def __call__(self, steps: Iterator[list[MicroBatch]]) -> Iterator[list[MicroBatch]]:
        """The same steps in the same order, every micro-batch with its values. While one step trains, the next one at
        least is in scoring, and further ones while fewer than `window` micro-batches are."""
        ahead: deque[list[_Submitted]] = deque()
        self._fill(ahead, steps)
        while ahead:
            current = ahead.popleft()
            self._fill(ahead, steps)
            yield [self._await(submitted) for submitted in current]

    def _fill(self, ahead: deque[list[_Submitted]], steps: Iterator[list[MicroBatch]]) -> None:
        while not ahead or sum(map(len, ahead)) < self._window:
            step = next(steps, None)
            if step is None:
                return
            ahead.append([self._submit(micro_batch) for micro_batch in step])

    def _submit(self, micro_batch: MicroBatch) -> _Submitted:
        critic = min(range(len(self._critics)), key=lambda i: (self._pending[i], i))
        self._pending[critic] += 1
        return _Submitted(micro_batch, critic, self._critics[critic].score.remote(micro_batch.batch))

    def _await(self, submitted: _Submitted) -> MicroBatch:
        started = time.perf_counter()
        try:
            values_RT = ray.get(submitted.values)
        except RayTaskError as error:
            if isinstance(error.cause, WMTPError):
                raise error.cause from None
            raise
        except RayActorError as error:
            raise InfraError(
                f"critic actor {submitted.critic} died more often than critic.max_task_retries allows: {error}"
            ) from error
        self.wait_seconds += time.perf_counter() - started
        self._pending[submitted.critic] -= 1
        return replace(submitted.micro_batch, values_RT=torch.from_numpy(values_RT.copy()))
