"""Batches by tokens: nobody starves, everybody gets their own, too much is refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.batcher import Forward, QueueFull, Rows, TokenBatcher, _Unit, choose
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.errors import DataError, InfraError


def sample(length: int, first: int = 0) -> TokenizedSample:
    return TokenizedSample(0, np.full(length, first, dtype=np.int32), 0, False)


def own_ids(rows: Rows) -> list[np.ndarray]:
    """Scores that name their sample: its ids."""
    return [s.token_ids.astype(np.float32) for row in rows for s in row]


@contextmanager
def batcher(score_rows: Any = own_ids, **changes: Any) -> Iterator[TokenBatcher]:
    settings = {"batch_tokens": 64, "queue_tokens": 10_000, "queue_seconds": 60.0, "tokens_per_second": 1e6}
    made = TokenBatcher(score_rows, **(settings | changes))
    try:
        yield made
    finally:
        made.close()
        made._thread.join(20)


LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 300))
def test_a_batch_has_the_oldest_and_as_many_as_fit(lengths: list[int], batch_tokens: int) -> None:
    queue = [_Unit([[sample(length)]], alone=False) for length in lengths]
    batch = choose(queue, batch_tokens)
    assert batch == queue[: len(batch)]
    assert len(batch) == 1 or sum(unit.tokens for unit in batch) <= batch_tokens
    assert batch == queue or sum(unit.tokens for unit in queue[: len(batch) + 1]) > batch_tokens


def test_a_packed_batch_is_computed_alone_and_as_it_is() -> None:
    seen: list[list[list[int]]] = []

    def score_rows(rows: Rows) -> list[np.ndarray]:
        seen.append([[len(s.token_ids) for s in row] for row in rows])
        return own_ids(rows)

    async def ask() -> None:
        with batcher(score_rows) as made:
            await asyncio.gather(
                made.score([sample(3), sample(4)]),
                made.score_packed([[sample(5), sample(6)], [sample(7)]]),
                made.score([sample(8)]),
            )

    asyncio.run(ask())
    assert [[5, 6], [7]] in seen


@given(st.lists(LENGTHS, min_size=1, max_size=8))
def test_everybody_gets_their_own(requests: list[list[int]]) -> None:
    forwards: list[Forward] = []

    async def one(made: TokenBatcher, number: int, lengths: list[int]) -> None:
        samples = [sample(length, 100 * number + i) for i, length in enumerate(lengths)]
        for asked, answered in zip(samples, await made.score(samples), strict=True):
            assert answered.tolist() == asked.token_ids.tolist()

    async def ask() -> None:
        with batcher(on_forward=forwards.append) as made:
            await asyncio.gather(*(one(made, i, lengths) for i, lengths in enumerate(requests)))

    asyncio.run(ask())
    assert sum(forward.tokens for forward in forwards) == sum(map(sum, requests))
    assert sum(forward.samples for forward in forwards) == sum(map(len, requests))


def test_too_much_is_refused_at_once_and_what_is_accepted_is_answered() -> None:
    go_on = threading.Event()

    def slow(rows: Rows) -> list[np.ndarray]:
        go_on.wait(20)
        return own_ids(rows)

    async def ask() -> None:
        with batcher(slow, queue_tokens=100) as made:
            accepted = asyncio.create_task(made.score([sample(60)]))
            await asyncio.sleep(0.05)
            with pytest.raises(QueueFull, match="60 tokens wait"):
                await made.score([sample(60)])
            assert not accepted.done()
            go_on.set()
            assert len(await accepted) == 1
            await made.score([sample(60)])  # there is room again

    asyncio.run(ask())


def test_a_wait_that_would_be_too_long_is_refused_with_its_length() -> None:
    go_on = threading.Event()

    def slow(rows: Rows) -> list[np.ndarray]:
        go_on.wait(20)
        return own_ids(rows)

    async def ask() -> None:
        with batcher(slow, tokens_per_second=10.0, queue_seconds=4.0) as made:
            accepted = asyncio.create_task(made.score([sample(60)]))
            await asyncio.sleep(0.05)
            with pytest.raises(QueueFull) as refusal:
                await made.score([sample(1)])
            assert refusal.value.retry_after == pytest.approx(
                4.0
            )  # 6 s of work, of which 2 may be waited for
            go_on.set()
            await accepted

    asyncio.run(ask())


def test_a_small_fast_batch_raises_a_low_estimate_and_a_small_slow_one_hardly_lowers_it() -> None:
    def slow(rows: Rows) -> list[np.ndarray]:
        time.sleep(0.05)
        return own_ids(rows)

    async def seconds_after_one(tokens_per_second: float) -> float:
        with batcher(slow, batch_tokens=1_000_000, tokens_per_second=tokens_per_second) as made:
            await made.score_packed([[sample(10)]])
            return made.seconds_for([[sample(10)]])

    assert asyncio.run(seconds_after_one(0.01)) < 1000 / 2
    assert asyncio.run(seconds_after_one(1e6)) == pytest.approx(10 / 1e6, rel=1e-4)


def test_one_bad_sample_is_not_its_neighbours_fault() -> None:
    def score_rows(rows: Rows) -> list[np.ndarray]:
        if any(s.token_ids[0] == 13 for row in rows for s in row):
            raise DataError("not finite")
        return own_ids(rows)

    async def ask() -> None:
        with batcher(score_rows) as made:
            good, bad = await asyncio.gather(
                made.score([sample(4, 1)]), made.score([sample(4, 13)]), return_exceptions=True
            )
            assert isinstance(bad, DataError)
            assert not isinstance(good, BaseException)
            assert good[0].tolist() == [1, 1, 1, 1]

    asyncio.run(ask())


def test_who_leaves_is_not_computed() -> None:
    begun, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(rows: Rows) -> list[np.ndarray]:
        begun.set()
        go_on.wait(20)
        seen.extend(int(s.token_ids[0]) for row in rows for s in row)
        return own_ids(rows)

    async def ask() -> None:
        with batcher(slow) as made:
            first = asyncio.create_task(made.score([sample(4, 1)]))
            await asyncio.to_thread(begun.wait, 20)
            leaving = asyncio.create_task(made.score([sample(4, 2)]))
            await asyncio.sleep(0.05)
            leaving.cancel()
            await asyncio.sleep(0.05)
            go_on.set()
            await first
            await made.score([sample(4, 3)])

    asyncio.run(ask())
    assert seen == [1, 3]


def test_a_closed_batcher_finishes_and_takes_no_more() -> None:
    async def ask() -> None:
        with batcher() as made:
            accepted = asyncio.create_task(made.score([sample(4)]))
            await asyncio.sleep(0)
            made.close()
            assert len(await accepted) == 1
            with pytest.raises(InfraError, match="shutting down"):
                await made.score([sample(4)])

    asyncio.run(ask())
