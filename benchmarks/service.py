"""The critic as a service beside its own forward pass, and beside a server without batches. One torch thread each.

SmolLM2-135M in bfloat16 with an untrained head. Bare, served and unbatched are measured in turns, so that all meet the
same noise; the served tokens pass through HTTP, JSON, tokenizer, queue and weighting.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch

from benchmarks.figure import Figure, NotMeasured
from serve.critic import ServedCritic
from serve.samples import Prepared, Preparer
from wmtp_ray.client import Options, PromptItem, ScoreClient
from wmtp_ray.config.model import LoRAConfig, ValueModelConfig
from wmtp_ray.config.serve import ServedCriticConfig, ServeLimitsConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models.resolve import default_cache_dir
from wmtp_ray.models.value_model import ValueModel

CHECKOUT = Path(__file__).resolve().parent.parent
ROUNDS, ROUND_SECONDS = 3, 8.0
BATCH_TOKENS = 2048
CROWD = 12
"""Clients at saturation."""
CLIENTS = {1: 5.0, 16: 8.0, 64: 12.0}
"""How many clients, and for how many seconds."""
GIVEN = Options(statistics="given", mean=0.0, std=1.0)


def figures() -> Iterator[Figure]:
    """Throughput at saturation against both counterparts, then latency."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            critic = _critic(root)
        except ModelError as error:
            raise NotMeasured(str(error)) from None
        bare = Bare(critic)
        with _served(root) as url, _unbatched(root) as plain_url:
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
            counterpart = f"unbatched {1000 * _quantile(plain, share):.0f} ms, {len(ours)} answers"
            value = 1000 * _quantile(ours, share)
            yield Figure(f"serve_latency_{name}_{clients}_clients", value, "ms", counterpart)


class Bare:
    """The same model on batches of the same texts, prepared beforehand and sorted by length."""

    def __init__(self, critic: ServedCritic) -> None:
        torch.set_num_threads(1)
        self._critic = critic
        prepared = Preparer(critic, ServeLimitsConfig()).items([_item(n) for n in range(200)], truncate=False)
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


def _item(number: int) -> PromptItem:
    """50 to 140 tokens, as programs of the quickstart have."""
    lines = "".join(f"    total += items[{(number + i) % 7}] * {i}\n" for i in range(2 + number % 8))
    response = f"def f{number}(items):\n    total = 0\n{lines}    return total\n"
    return PromptItem(
        prompt=f"Write f{number}, which adds some items, each as often as told.\n", response=response
    )


def _ask_service(url: str, items: int) -> Ask:
    client = ScoreClient(url, patience=120, connections=64)

    def ask(numbers: random.Random) -> int:
        answer = client.score([_item(numbers.randrange(200)) for _ in range(items)], GIVEN)
        return sum(item.prompt_tokens + item.response_tokens for item in answer.items)

    return ask


def _ask_plain(url: str) -> Ask:
    client = httpx.Client(base_url=url, timeout=120, limits=httpx.Limits(max_connections=64))

    def ask(numbers: random.Random) -> int:
        return client.post("/score", json=_item(numbers.randrange(200)).model_dump()).json()["tokens"]

    return ask


def _critic(root: Path) -> ServedCritic:
    """An exported critic of the benchmark's own, loaded."""
    config = ValueModelConfig(
        name="smollm2-135m", dtype="bfloat16", head="linear", lora=LoRAConfig(rank=16, last_layers=8)
    )
    converted = default_cache_dir()
    converted.mkdir(parents=True, exist_ok=True)
    (root / "models").symlink_to(converted)  # where the service looks for it
    model = ValueModel.from_pretrained(config, seed=0)
    model.save(root / "runs" / "critic-benchmark" / "export", {})
    return ServedCritic.load(ServedCriticConfig(run="benchmark"), root)


def _median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Of rounds measured one after the other, which met about the same noise."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@contextmanager
def _served(root: Path) -> Iterator[str]:
    port = _free_port()
    command = [
        "-W",
        "ignore",
        "-m",
        "serve",
        f"storage.root={root}",
        "critic.run=benchmark",
        f"listen.port={port}",
    ]
    command += [f"batch_tokens={BATCH_TOKENS}", "limits.queue_seconds=300", "limits.request_seconds=120"]
    with _process([sys.executable, *command], {}, signal.SIGINT):
        yield _await(f"http://127.0.0.1:{port}", "/readyz")


@contextmanager
def _unbatched(root: Path) -> Iterator[str]:
    port = _free_port()
    command = [
        "-m",
        "uvicorn",
        "benchmarks.unbatched_server:app",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    with _process([sys.executable, *command], {"WMTP_BENCHMARK_ROOT": str(root)}, signal.SIGTERM):
        yield _await(f"http://127.0.0.1:{port}", "/openapi.json")


@contextmanager
def _process(command: list[str], environment: dict[str, str], end: signal.Signals) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=os.environ | environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        process.send_signal(end)
        process.wait(60)


def _await(url: str, path: str) -> str:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            if httpx.get(url + path, timeout=5).status_code == 200:
                return url
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise NotMeasured(f"{url} did not come up within 240 s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
