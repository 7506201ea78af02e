"""A tiny critic with values that differ, the service around it, and a client that asks it in this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve.api import build_api
from serve.measures import NoMeasures
from serve.service import ScoringService
from tests.tiny import save_tiny_model
from wmtp_ray.config.model import LoRAConfig, ValueModelConfig
from wmtp_ray.config.serve import ServeConfig
from wmtp_ray.models.value_model import ValueModel

CHECKOUT = Path(__file__).resolve().parents[2]


def save_critic(root: Path, run: str, seed: int, model: Path | None = None, method: str = "ranking") -> Path:
    """An exported critic `run` under the storage root `root`, and its backbone; values spread over about ±2."""
    model = model or save_tiny_model(root / "model")
    config = ValueModelConfig(name=str(model), head="linear", lora=LoRAConfig(rank=4, alpha=8))
    critic = ValueModel.from_pretrained(config, seed=seed)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic.head.out.weight.normal_(0, 0.1)
    directory = root / "runs" / f"critic-{run}" / "export"
    critic.save(directory, {"objective": {"method": method}})
    return directory


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with the critics `quickstart` and `newer` on one backbone."""
    root = tmp_path_factory.mktemp("served")
    save_critic(root, "quickstart", seed=1)
    save_critic(root, "newer", seed=2, model=root / "model")
    return root


def service_config(root: Path, **sections: Any) -> ServeConfig:
    return ServeConfig.model_validate({"storage": {"root": str(root)}, **sections})


@asynccontextmanager
async def _configured(service: ScoringService, config: ServeConfig) -> AsyncIterator[None]:
    await service.configure(config)
    yield
    await service.close()


def served(config: ServeConfig) -> TestClient:
    """A client of the API in this process; enter it to load the critic."""
    service = ScoringService(NoMeasures())
    api = build_api(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with _configured(service, config):
            yield

    api.router.lifespan_context = lifespan
    return TestClient(api, base_url="http://localhost")


@pytest.fixture(scope="session")
def api(root: Path) -> Iterator[TestClient]:
    """The service on the critic `quickstart`, with small limits."""
    limits = {"items": 8, "body_bytes": 100_000, "item_tokens": 400, "request_tokens": 1200}
    with served(service_config(root, limits=limits)) as client:
        yield client


@pytest.fixture(scope="session")
def url(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service on a plain HTTP server of its own process."""
    config = tmp_path_factory.mktemp("plain") / "serve.yaml"
    config.write_text(yaml.safe_dump({"storage": {"root": str(root)}}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tests.serve.local_app:app", "--port", str(port)]
    environment = os.environ | {"WMTP_SERVE_CONFIG": str(config), "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen([*command, "--log-level", "error"], env=environment, cwd=CHECKOUT)
    try:
        yield _await(f"http://localhost:{port}", process)
    finally:
        process.terminate()
        process.wait(20)


def _await(url: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return url
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("the service did not start")
