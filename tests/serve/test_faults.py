"""What dies, floods or lies must cost nobody else an answer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.soak import quantile, soak
from serve.critic import ServedCritic
from serve.samples import Preparer
from tests.serve.load import Clients, item
from tests.serve.ray_service import RunningService, await_ready, rolling_service, running_service
from wmtp_ray.config.serve import ServedCriticConfig, ServeLimitsConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def expected(root: Path) -> dict[str, dict[int, list[float]]]:
    """Values of 40 items by each critic, computed here."""
    values = {}
    for run in ("quickstart", "newer"):
        critic = ServedCritic.load(ServedCriticConfig(run=run), root)
        preparer = Preparer(critic, ServeLimitsConfig())
        values[critic.identity.fingerprint] = {
            number: critic.score_rows([[prepared.sample]])[0][1:].tolist()
            for number in range(40)
            for prepared in preparer.items([item(number)], truncate=False)
        }
    return values


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[RunningService]:
    """Two replicas."""
    with running_service(root, "replicas=2", "limits.queue_seconds=2", "limits.body_seconds=3") as running:
        yield running


def test_a_killed_replica_under_load_costs_no_answer(
    service: RunningService, expected: dict[str, dict[int, list[float]]]
) -> None:
    with Clients(service.url, expected) as clients:
        time.sleep(3)
        before = clients.seen.answered
        assert before > 0
        first, _ = service.replicas()
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(10)
        os.kill(service.replicas()[-1].pid, signal.SIGKILL)
        time.sleep(10)
    assert clients.seen.wrong == []
    assert clients.seen.answered > before + 20
    await_ready(service)


def test_twice_what_it_can_do_is_refused_at_once_and_the_rest_stays_bounded(service: RunningService) -> None:
    """A minute of `python -m benchmarks soak`, on replicas that make no more than two seconds wait."""
    met = asyncio.run(soak(service.url, [item(n) for n in range(1000)], 64, 60, service.memory))
    print(met.summary())
    assert not met.others, met.others
    assert met.accepted and met.refused
    assert quantile(met.accepted, 0.99) < 20  # the rest of the machine is these clients' own
    assert quantile(met.refused, 0.5) < 1
    assert met.growth() < 1.05


def test_slow_bodies_and_half_requests_hold_up_nobody(service: RunningService) -> None:
    address = urlsplit(service.url)
    assert address.port is not None
    connections = []
    for number in range(60):
        connection = socket.create_connection((address.hostname, address.port), timeout=30)
        head = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(head if number % 2 else head + b"Content-Length: 900\r\n\r\n{")
        connections.append(connection)
    try:
        began = time.monotonic()
        answer = httpx.post(f"{service.url}/v1/score", json={"items": [item(1).model_dump()]}, timeout=30)
        assert answer.status_code == 200
        assert time.monotonic() - began < 10
        assert connections[0].recv(100).startswith(b"HTTP/1.1 408")
    finally:
        for connection in connections:
            connection.close()


def test_ten_thousand_items_are_refused(service: RunningService) -> None:
    answer = httpx.post(
        f"{service.url}/v1/score", json={"items": [item(1).model_dump()] * 10_000}, timeout=60
    )
    assert answer.status_code == 422
    assert "10000 items are more than the 256" in answer.json()["detail"]


def test_metrics_of_the_replicas_are_gathered(service: RunningService) -> None:
    deadline = time.monotonic() + 60
    text = ""
    while time.monotonic() < deadline and "ray_wmtp_serve_tokens_total" not in text:
        time.sleep(2)
        text = httpx.get(f"{service.url}/metrics", timeout=30).text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {
        "ray_wmtp_serve_answers_total",
        "ray_wmtp_serve_answer_seconds",
        "ray_wmtp_serve_tokens_total",
    } <= names
    assert all(line.startswith(("#", "ray_wmtp_")) for line in text.splitlines() if line)


def test_a_new_critic_rolls_in_without_a_failed_request(
    root: Path, expected: dict[str, dict[int, list[float]]]
) -> None:
    older, newer = expected
    with rolling_service(root) as running:
        # No patience: the first failure counts.
        with Clients(running.url, expected, threads=4, patience=0) as clients:
            time.sleep(3)
            assert set(clients.seen.critics) == {older}
            assert running.process.stdin is not None
            running.process.stdin.write("newer\n")
            running.process.stdin.flush()
            deadline = time.monotonic() + 120
            while newer not in clients.seen.critics and time.monotonic() < deadline:
                time.sleep(0.5)
            time.sleep(10)
            middle = clients.seen.critics[newer]
            time.sleep(3)
        assert clients.seen.wrong == []
        assert clients.seen.critics[newer] > middle > 0


def test_it_ends_when_its_open_requests_are_answered(root: Path) -> None:
    long = {"items": [{"prompt": "x", "response": "y = 1\n" * 200}] * 15}
    with running_service(root, "limits.queue_seconds=100") as running, ThreadPoolExecutor(4) as threads:
        ask = partial(httpx.post, f"{running.url}/v1/score", json=long, timeout=60)
        assert ask().status_code == 200
        answers = [threads.submit(ask) for _ in range(4)]
        # The service has the others by then, and answers one at a time.
        wait(answers, return_when=FIRST_COMPLETED)
        running.process.terminate()
        assert [answer.result().status_code for answer in answers] == [200] * 4
        assert running.process.wait(60) == 143
