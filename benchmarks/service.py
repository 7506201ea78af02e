"""The critic as a service beside its own forward pass, and beside a server without batches. One torch thread each.

SmolLM2-135M with an untrained head, in bfloat16 or float32, whichever is faster here. Bare, served and unbatched are
measured in turns, so that all meet the same noise; the served tokens pass through HTTP, JSON, tokenizer, queue and
weighting.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import torch

from benchmarks.figure import Figure
from benchmarks.service_scene import BATCH_TOKENS, GIVEN, benchmark_critic, served, service_item, unbatched
from serve.critic import ServedCritic
from serve.samples import Prepared, Preparer
from wmtp_ray.client import ScoreClient
from wmtp_ray.config.serve import ServeLimitsConfig

ROUNDS, ROUND_SECONDS = 3, 8.0
CROWD = 12
"""Clients at saturation."""
CLIENTS = {1: 5.0, 16: 8.0, 64: 12.0}
"""How many clients, and for how many seconds."""
SATURATED = ("limits.queue_seconds=300",)


def figures() -> Iterator[Figure]:
    """Throughput at saturation against both counterparts, then latency."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bare = Bare(benchmark_critic(root))
        with served(root, *SATURATED) as ours, unbatched(root) as plain:
            url, plain_url = ours.url, plain.url
            for ask in (_ask_service(url, 4), _ask_plain(plain_url)):
                load(ask, clients=8, seconds=4.0)  # warm
            found: dict[str, list[float]] = {"bare": [], "served": [], "single": [], "unbatched": []}
            for _ in range(ROUNDS):
                found["bare"].append(bare.tokens_per_second(ROUND_SECONDS))
                for name, ask in (
                    ("served", _ask_service(url, 4)),
                    ("single", _ask_service(url, 1)),
                    ("unbatched", _ask_plain(plain_url)),
                ):
                    found[name].append(load(ask, clients=CROWD, seconds=ROUND_SECONDS).tokens_per_second)
            rates = {name: statistics.median(values) for name, values in found.items()}
            yield Figure(
                "serve_vs_bare_forward",
                _median_ratio(found["served"], found["bare"]),
                "x tokens/s",
                f"bare batched forward {rates['bare']:.0f} tokens/s, {CROWD} clients of 4 items, median of {ROUNDS}",
                ">= 0.85",
            )
            yield Figure(
                "serve_vs_unbatched",
                _median_ratio(found["single"], found["unbatched"]),
                "x tokens/s",
                f"FastAPI without batches {rates['unbatched']:.0f} tokens/s, {CROWD} clients of 1 item",
                "> 1",
            )
            yield from _latencies(url, plain_url)


def _latencies(url: str, plain_url: str) -> Iterator[Figure]:
    for clients, seconds in CLIENTS.items():
        ours = load(_ask_service(url, 1), clients, seconds).seconds
        plain = load(_ask_plain(plain_url), clients, seconds).seconds
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            counterpart = f"unbatched {1000 * np.quantile(plain, share):.0f} ms, {len(ours)} answers"
            value = 1000 * float(np.quantile(ours, share))
            yield Figure(f"serve_latency_{name}_{clients}_clients", value, "ms", counterpart)


class Bare:
    """The same model on batches of the same texts, prepared beforehand and sorted by length."""

    def __init__(self, critic: ServedCritic) -> None:
        torch.set_num_threads(1)
        self._critic = critic
        prepared = Preparer(critic, ServeLimitsConfig()).items(
            [service_item(n) for n in range(200)], truncate=False
        )
        self._batches = list(_batches(sorted(prepared, key=lambda p: len(p.sample.token_ids))))
        random.Random(0).shuffle(self._batches)
        self._at = 0

    def tokens_per_second(self, seconds: float) -> float:
        began, tokens = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            batch = self._batches[self._at % len(self._batches)]
            self._at += 1
            self._critic.score_rows([[item.sample] for item in batch])
            tokens += sum(len(item.sample.token_ids) for item in batch)
        return tokens / (time.perf_counter() - began)


def _batches(prepared: list[Prepared]) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for item in prepared:
        if batch and (len(batch) + 1) * len(item.sample.token_ids) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(item)
    yield batch


@dataclass
class Load:
    """What clients that ask again at once got within their time."""

    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    took: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.took


Ask = Callable[[random.Random], int]
"""One request; returns the tokens that it had scored."""


def load(ask: Ask, clients: int, seconds: float) -> Load:
    """`clients` threads that ask for `seconds`; what was begun in time is finished and counted, with its time."""
    found, lock, begun = Load(), threading.Lock(), time.perf_counter()

    def client(seed: int) -> None:
        numbers = random.Random(seed)
        while time.perf_counter() - begun < seconds:
            began = time.perf_counter()
            tokens = ask(numbers)
            with lock:
                found.seconds.append(time.perf_counter() - began)
                found.tokens += tokens

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.took = time.perf_counter() - begun
    return found


def _ask_service(url: str, items: int) -> Ask:
    client = ScoreClient(url, patience=120, connections=64)

    def ask(numbers: random.Random) -> int:
        answer = client.score([service_item(numbers.randrange(200)) for _ in range(items)], GIVEN)
        return sum(item.prompt_tokens + item.response_tokens for item in answer.items)

    return ask


def _ask_plain(url: str) -> Ask:
    client = httpx.Client(base_url=url, timeout=120, limits=httpx.Limits(max_connections=64))

    def ask(numbers: random.Random) -> int:
        return client.post("/score", json=service_item(numbers.randrange(200)).model_dump()).json()["tokens"]

    return ask


def _median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Of rounds measured one after the other, which met about the same noise."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
