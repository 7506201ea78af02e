"""The service as a user starts it, `python -m serve`, on a Ray of its own; and its replicas, to be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
REPLICA = "ServeReplica:critic"


@dataclass(frozen=True)
class RunningService:
    """Where it answers, and its processes."""

    url: str
    process: subprocess.Popen[str]

    def replicas(self) -> list[psutil.Process]:
        """The processes of its replicas, oldest first."""
        tree = psutil.Process(self.process.pid).children(recursive=True)
        named = [p for p in tree if any(REPLICA in part for part in _command(p))]
        return sorted(named, key=lambda p: p.create_time())

    def memory(self) -> int:
        """Bytes that the replicas have for themselves."""
        return sum(replica.memory_info().rss for replica in self.replicas())


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_service(root: Path, *overrides: str) -> Iterator[RunningService]:
    """`python -m serve storage.root=ROOT OVERRIDES`, until the end of the block."""
    port = free_port()
    command = ["-m", "serve", f"storage.root={root}", f"listen.port={port}", *overrides]
    with _running(command, port) as service:
        yield service


@contextmanager
def rolling_service(root: Path) -> Iterator[RunningService]:
    """Two replicas of the critic `quickstart`; a line on the process's standard input rolls in that run's critic."""
    port = free_port()
    with _running(["-m", "tests.serve.rolling", str(root), str(port)], port) as service:
        yield service


@contextmanager
def _running(command: list[str], port: int) -> Iterator[RunningService]:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    service = RunningService(f"http://localhost:{port}", process)
    try:
        await_ready(service)
        yield service
    finally:
        if process.poll() is None:
            process.terminate()  # a suite in the background of a shell has SIGINT ignored, and so do its children
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def await_ready(service: RunningService, seconds: float = 240) -> None:
    """Wait until the service answers that it is ready."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            assert service.process.stdout is not None
            raise AssertionError(f"the service ended:\n{service.process.stdout.read()}")
        try:
            if httpx.get(f"{service.url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"the service was not ready within {seconds} s")
