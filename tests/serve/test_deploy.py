"""`serve deploy serve/config.yaml` on a cluster, and again with another critic."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.serve.conftest import CHECKOUT
from tests.serve.ray_service import free_port
from wmtp_ray.cluster.local import local_ray
from wmtp_ray.storage import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def deploy(config: dict[str, Any], file: Path, address: str) -> None:
    """As a user does it."""
    file.write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).with_name("serve")), "deploy", str(file), "--address", address]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def await_critic(url: str, fingerprint: str) -> None:
    deadline = time.monotonic() + 240
    answer = "nothing"
    while time.monotonic() < deadline:
        try:
            response = httpx.get(f"{url}/v1/info", timeout=5)
            answer = response.text
            if response.status_code == 200 and response.json()["critic"]["fingerprint"] == fingerprint:
                return
        except httpx.TransportError as error:
            answer = repr(error)
        time.sleep(0.5)
    raise AssertionError(f"not served within 240 s; last: {answer[:500]}")


def test_the_clusters_configuration_deploys_and_rolls(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "token"))
    config = yaml.safe_load((CHECKOUT / "serve" / "config.yaml").read_text())
    port = free_port()
    config["http_options"]["port"] = port
    user_config = config["applications"][0]["deployments"][0]["user_config"]
    user_config["storage"]["root"] = str(root)
    with local_ray(free_port(), logical_cpus=3) as address:
        for run in ("quickstart", "newer"):
            user_config["critic"]["run"] = run
            deploy(config, tmp_path / "config.yaml", address)
            manifest = read_manifest(root / "runs" / f"critic-{run}" / "export", "value_model")
            await_critic(f"http://localhost:{port}", manifest.fingerprint)
        assert "Ray Serve runs on this cluster already" in served_beside(root, address)
        await_critic(f"http://localhost:{port}", manifest.fingerprint)


def served_beside(root: Path, address: str) -> str:
    """How `python -m serve` ends on that cluster."""
    service = [sys.executable, "-m", "serve", f"storage.root={root}", f"listen.port={free_port()}"]
    command = [
        str(Path(sys.executable).with_name("ray")),
        "job",
        "submit",
        "--address",
        address,
        "--",
        *service,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    return done.stdout + done.stderr
