"""What `benchmarks.service` and `benchmarks.soak` measure: SmolLM2-135M as a critic with an untrained head, served by
`python -m serve` and by the unbatched counterpart. One torch thread each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.figure import NotMeasured
from serve.critic import ServedCritic
from wmtp_ray.client import Options, PromptItem
from wmtp_ray.config.model import ValueModelConfig
from wmtp_ray.config.serve import ServedCriticConfig
from wmtp_ray.errors import ModelError
from wmtp_ray.models.resolve import default_cache_dir
from wmtp_ray.models.value_model import ValueModel

CHECKOUT = Path(__file__).resolve().parent.parent
BATCH_TOKENS = 2048
GIVEN = Options(statistics="given", mean=0.0, std=1.0)


@dataclass(frozen=True)
class Server:
    """Where it answers, and the process that started all of it."""

    url: str
    process: int

    def memory_bytes(self) -> int:
        """What the processes that requests pass through (proxy and replicas) have for themselves."""
        taken = 0
        for process in psutil.Process(self.process).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it has just ended
                if any(name in " ".join(process.cmdline()) for name in ("ProxyActor", "ServeReplica")):
                    taken += process.memory_info().rss
        return taken


def service_item(number: int) -> PromptItem:
    """50 to 140 tokens, as programs of the quickstart have."""
    lines = "".join(f"    total += items[{(number + i) % 7}] * {i}\n" for i in range(2 + number % 8))
    response = f"def f{number}(items):\n    total = 0\n{lines}    return total\n"
    return PromptItem(
        prompt=f"Write f{number}, which adds some items, each as often as told.\n", response=response
    )


def benchmark_critic(root: Path) -> ServedCritic:
    """An exported critic of the benchmark's own, loaded; `NotMeasured` where its backbone is not there."""
    config = ValueModelConfig.model_validate(
        {"name": "smollm2-135m", "dtype": "auto", "head": "linear", "lora": {"rank": 16, "last_layers": 8}}
    )
    converted = default_cache_dir()
    converted.mkdir(parents=True, exist_ok=True)
    (root / "models").symlink_to(converted)  # where the service looks for it
    try:
        model = ValueModel.from_pretrained(config, seed=0)
    except ModelError as error:
        raise NotMeasured(str(error)) from None
    model.save(root / "runs" / "critic-benchmark" / "export", {})
    return ServedCritic.load(ServedCriticConfig(run="benchmark"), root)


@contextmanager
def served(root: Path, *overrides: str) -> Iterator[Server]:
    """`python -m serve` with that critic and these overrides."""
    port = _free_port()
    command = (
        f"-W ignore -m serve critic.run=benchmark batch_tokens={BATCH_TOKENS} listen.port={port}".split()
    )
    with _process([*command, f"storage.root={root}", *overrides], {}) as process:
        yield Server(_await(f"http://127.0.0.1:{port}", "/readyz"), process)


@contextmanager
def unbatched(root: Path) -> Iterator[Server]:
    """`unbatched_server.py` with that critic."""
    port = _free_port()
    command = f"-m uvicorn benchmarks.unbatched_server:app --port {port} --log-level error".split()
    with _process(command, {"WMTP_BENCHMARK_ROOT": str(root)}) as process:
        yield Server(_await(f"http://127.0.0.1:{port}", "/openapi.json"), process)


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=CHECKOUT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        process.terminate()  # SIGINT is ignored by what a shell starts in the background
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
