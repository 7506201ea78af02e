"""The service at twice its capacity: its memory, how long accepted requests take, how soon the others are refused.

    python -m benchmarks soak                            # five minutes
    WMTP_SOAK_SECONDS=60 python -m benchmarks soak

Capacity is measured first, by a few clients that ask again at once. Then requests come at twice that rate, whatever
has become of the earlier ones: a service cannot lower its load by being slow.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.figure import Figure
from benchmarks.service_scene import GIVEN, benchmark_critic, served, service_item
from wmtp_ray.client import PromptItem
from wmtp_ray.client.wire import ScoreRequest

SECONDS = float(os.environ.get("WMTP_SOAK_SECONDS", "300"))
WARM_SECONDS, CAPACITY_SECONDS = 5.0, 20.0
CLIENTS = 6
ITEMS = 8
QUEUE_SECONDS = 5.0
TIMES_CAPACITY = 2.0


@dataclass
class Soak:
    """What came of the requests, in seconds each, and the memory at each second."""

    capacity: float
    """Requests per second."""
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    took: float = 0.0

    def growth(self) -> float:
        """Memory of the last fifth of the time, relative to the second fifth: until then buffers still grow."""
        fifth = max(1, len(self.memory) // 5)
        return statistics.median(self.memory[-fifth:]) / statistics.median(self.memory[fifth : 2 * fifth])

    def summary(self) -> str:
        """One line."""
        took = [quantile(times, share) for times in (self.accepted, self.refused) for share in (0.5, 0.99)]
        return (
            f"capacity {self.capacity:.1f} requests/s; in {self.took:.0f} s {len(self.accepted)} accepted in "
            f"{took[0]:.2f} s (p99 {took[1]:.2f}), {len(self.refused)} refused in {took[2]:.3f} s (p99 {took[3]:.3f}), "
            f"others {dict(self.others)}; memory {self.memory[-1] / 2**20:.0f} MiB x {self.growth():.3f}"
        )


def figures() -> Iterator[Figure]:
    """Of one soak with the benchmark's critic on one replica."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        benchmark_critic(root)
        with served(root, f"limits.queue_seconds={QUEUE_SECONDS}") as server:
            met = asyncio.run(
                soak(server.url, [service_item(n) for n in range(200)], ITEMS, SECONDS, server.memory_bytes)
            )
    offered = (
        f"{TIMES_CAPACITY * met.capacity:.1f} requests/s for {met.took:.0f} s, capacity {met.capacity:.1f}"
    )
    answers = f"{len(met.accepted)} accepted, {len(met.refused)} refused"
    megabytes = statistics.median(met.memory) / 2**20
    yield Figure("soak_memory_growth", met.growth(), "x", f"{megabytes:.0f} MiB; {offered}", "<= 1.02")
    yield Figure("soak_accepted_p50", quantile(met.accepted, 0.5), "s", answers)
    yield Figure(
        "soak_accepted_p99",
        quantile(met.accepted, 0.99),
        "s",
        f"limits.queue_seconds {QUEUE_SECONDS:g}",
        f"<= {2 * QUEUE_SECONDS:g}",
    )
    yield Figure("soak_refused_p50", 1000 * quantile(met.refused, 0.5), "ms", answers)
    yield Figure("soak_refused_p99", 1000 * quantile(met.refused, 0.99), "ms", answers, "<= 500")
    rate = len(met.accepted) / met.took
    yield Figure(
        "soak_accepted_vs_capacity", rate / met.capacity, "x requests/s", f"{met.capacity:.1f}", ">= 0.85"
    )
    yield Figure("soak_other_answers", met.others.total(), "requests", str(dict(met.others)), "== 0")


async def soak(
    url: str, items: Sequence[PromptItem], per_request: int, seconds: float, memory_bytes: Callable[[], int]
) -> Soak:
    """Ask `url` for `seconds` for `per_request` of `items` at a time, at twice the rate that it can answer."""
    numbers = random.Random(0)

    def body() -> bytes:
        return (
            ScoreRequest(items=numbers.choices(items, k=per_request), options=GIVEN)
            .model_dump_json()
            .encode()
        )

    unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=unbounded) as client:
        await _capacity(client, body, WARM_SECONDS)
        met = Soak(await _capacity(client, body, CAPACITY_SECONDS))
        watching = asyncio.create_task(_watch(met, memory_bytes))
        began = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            while time.monotonic() - began < seconds:
                requests.create_task(_ask(client, body(), met))
                await asyncio.sleep(numbers.expovariate(TIMES_CAPACITY * met.capacity))
            met.took = time.monotonic() - began
        assert not watching.done(), watching.exception()
        watching.cancel()
    return met


async def _capacity(client: httpx.AsyncClient, body: Callable[[], bytes], seconds: float) -> float:
    """Requests per second that a few clients together have answered."""
    met, began = Soak(0.0), time.monotonic()

    async def ask_again() -> None:
        while time.monotonic() - began < seconds:
            await _ask(client, body(), met)

    await asyncio.gather(*(ask_again() for _ in range(CLIENTS)))
    return len(met.accepted) / (time.monotonic() - began)


async def _ask(client: httpx.AsyncClient, body: bytes, met: Soak) -> None:
    began = time.monotonic()
    try:
        answer = await client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    except httpx.TransportError as error:
        met.others[type(error).__name__] += 1
        return
    took = time.monotonic() - began
    if answer.status_code == 200:
        met.accepted.append(took)
    elif answer.status_code == 503 and "retry-after" in answer.headers:
        met.refused.append(took)
    else:
        met.others[str(answer.status_code)] += 1


async def _watch(met: Soak, memory_bytes: Callable[[], int]) -> None:
    while True:
        met.memory.append(await asyncio.to_thread(memory_bytes))
        await asyncio.sleep(1.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie; NaN of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
