"""Batching by tokens: requests from many clients meet in one forward pass, on a thread of its own.

    event loop  ─ samples ─►  queue (bounded)  ─►  thread: the oldest samples, packed into one row  ─►  forward
                ◄─ values, each to the future of its own sample ─────────────────────────────────────┘

Nothing waits for a batch to fill: while one is computed, the next one gathers. First come, first served.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.errors import DataError, InfraError, WMTPError

Rows = list[list[TokenizedSample]]
ScoreRows = Callable[[Rows], list[np.ndarray]]
_NEW_SHARE = 0.5
"""Weight of a batch in the estimated speed. An emptier one, which is slower per token, weighs less where it was slower
than estimated; a faster one shows that the estimate is too low."""


class QueueFull(WMTPError):
    """More waits for the model than may wait. `retry_after` is an estimate in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Forward:
    """One forward pass, for metrics."""

    tokens: int
    samples: int
    seconds: float
    oldest_waited: float


@dataclass(eq=False)
class _Unit:
    """What is scored together: one sample that may share a batch, or a whole packed batch that may not."""

    rows: Rows
    alone: bool
    future: Future[list[np.ndarray]] = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = sum(len(s.token_ids) for row in self.rows for s in row)


class TokenBatcher:
    """Scores samples by `score_rows` in batches of at most `batch_tokens`; a longer sample alone."""

    def __init__(
        self,
        score_rows: ScoreRows,
        *,
        batch_tokens: int,
        queue_tokens: int,
        queue_seconds: float,
        tokens_per_second: float,
        on_start: Callable[[], None] = lambda: None,
        on_forward: Callable[[Forward], None] = lambda _: None,
    ) -> None:
        self._score_rows, self._on_start, self._on_forward = score_rows, on_start, on_forward
        self._batch_tokens, self._queue_tokens, self._queue_seconds = (
            batch_tokens,
            queue_tokens,
            queue_seconds,
        )
        self._speed = tokens_per_second
        self._queue: list[_Unit] = []
        self._changed = threading.Condition()
        self._closed = False
        self._computing = 0
        self._began: float | None = None
        self._thread = threading.Thread(target=self._run, name="critic", daemon=True)
        self._thread.start()

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait or are in the model just now."""
        return sum(unit.tokens for unit in self._queue) + self._computing

    def seconds_for(self, rows: Rows) -> float:
        """About how long one forward pass over `rows`, padding included, would take at the present speed."""
        return len(rows) * max(sum(len(s.token_ids) for s in row) for row in rows) / self._speed

    def forward_seconds(self) -> float:
        """How long the present forward has been running; 0 where none is."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def score(self, samples: Sequence[TokenizedSample]) -> list[np.ndarray]:
        """Values of each sample; `QueueFull` at once where there is no room. Cancelled, it leaves the queue."""
        return [values[0] for values in await self._submit([_Unit([[s]], alone=False) for s in samples])]

    async def score_packed(self, rows: Rows) -> list[np.ndarray]:
        """Values of each sample of one packed batch, computed exactly so and with nothing else beside it."""
        return (await self._submit([_Unit(rows, alone=True)]))[0]

    def close(self) -> None:
        """End the thread after what is queued."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def require_room(self, tokens: int) -> None:
        """`QueueFull` unless `tokens` more may wait. Asked with 0, it costs next to nothing."""
        waiting = self.waiting_tokens
        seconds = waiting / self._speed
        if waiting and (waiting + tokens > self._queue_tokens or seconds > self._queue_seconds):
            raise QueueFull(
                f"{waiting} tokens wait for the model already (about {seconds:.0f} s)",
                max(1.0, seconds - self._queue_seconds / 2),
            )

    async def _submit(self, units: list[_Unit]) -> list[list[np.ndarray]]:
        with self._changed:
            if self._closed or not self._thread.is_alive():
                raise InfraError("this replica is shutting down; ask again")
            self.require_room(sum(unit.tokens for unit in units))
            self._queue.extend(units)
            self._changed.notify()
        return list(await asyncio.gather(*(asyncio.wrap_future(unit.future) for unit in units)))

    def _run(self) -> None:
        self._on_start()
        while (batch := self._next_batch()) is not None:
            if batch:
                self._compute(batch)
            with self._changed:
                self._computing, self._began = 0, None

    def _next_batch(self) -> list[_Unit] | None:
        """Wait for work and take it off the queue; None at the end."""
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._changed.wait()
            batch = choose(self._queue, self._batch_tokens)
            self._queue = self._queue[len(batch) :]
            batch = [unit for unit in batch if unit.future.set_running_or_notify_cancel()]
            self._computing = sum(unit.tokens for unit in batch)
            self._began = time.monotonic()
            return batch

    def _compute(self, batch: list[_Unit]) -> None:
        rows = batch[0].rows if batch[0].alone else [[sample for unit in batch for [sample] in unit.rows]]
        started = time.monotonic()
        try:
            values = self._score_rows(rows)
        except DataError as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for unit in batch:  # one sample's fault must not be its neighbours'
                self._compute([unit])
            return
        except Exception as error:  # the thread's edge: whoever waits is told, the thread goes on
            for unit in batch:
                unit.future.set_exception(error)
            return
        seconds = time.monotonic() - started
        tokens = sum(unit.tokens for unit in batch)
        speed = tokens / max(seconds, 1e-6)
        share = 1.0 if speed > self._speed else min(1.0, tokens / self._batch_tokens)
        self._speed += _NEW_SHARE * share * (speed - self._speed)
        at = 0
        for unit in batch:
            count = sum(map(len, unit.rows))
            unit.future.set_result(values[at : at + count])
            at += count
        self._on_forward(Forward(tokens, at, seconds, started - batch[0].queued))


def choose(queue: Sequence[_Unit], batch_tokens: int) -> list[_Unit]:
    """The oldest unit, and those behind it while all fit into `batch_tokens`; none beside a packed batch."""
    batch, tokens = [queue[0]], queue[0].tokens
    for unit in queue[1:]:
        tokens += unit.tokens
        if tokens > batch_tokens or unit.alone or batch[0].alone:
            break
        batch.append(unit)
    return batch
