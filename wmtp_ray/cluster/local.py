"""A Ray head of our own for as long as a command runs: started, used and ended without touching any other Ray."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from wmtp_ray.errors import ConfigError, InfraError

START_SECONDS = 90.0
STOP_SECONDS = 20.0


def enable_token_authentication() -> None:
    """Ray's clients and servers of this process and its children authenticate by the token in `~/.ray/auth_token`,
    which is made if there is none. A user who set RAY_AUTH_MODE decides for themselves."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and not os.environ.get("RAY_AUTH_TOKEN"):
        _ray("get-auth-token", "--generate")


@contextmanager
def local_ray(dashboard_port: int, logical_cpus: int) -> Iterator[str]:
    """Inside, a Ray head runs on this machine; yields the address of its dashboard, where jobs are submitted.

    The dashboard is on loopback; the other ports, which ask for a token, are on the machine's address. Raises
    `ConfigError` where the port is taken, `InfraError` where Ray does not come up.
    """
    _require_free(dashboard_port)
    enable_token_authentication()
    descriptor, name = tempfile.mkstemp(prefix="wmtp-ray-head-", suffix=".log")
    log = Path(name)
    command = [
        *_ray_command(),
        "start",
        "--head",
        "--block",
        "--port=0",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard_port}",
        "--dashboard-agent-listen-port=0",
        f"--temp-dir={_own_directory(dashboard_port)}",
        f"--num-cpus={logical_cpus}",
        "--disable-usage-stats",
    ]
    with os.fdopen(descriptor, "wb") as output:
        head = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    address = f"http://127.0.0.1:{dashboard_port}"
    try:
        _await(head, dashboard_port, log)
        yield address
    finally:
        _end(head)
        log.unlink(missing_ok=True)


def _own_directory(dashboard_port: int) -> Path:
    """Where this head keeps its sessions. Ray tells a submitted job the address of the cluster that was started last
    below the same directory, so heads that share one send their jobs to each other."""
    return Path(tempfile.gettempdir(), f"wmtp-ray-{os.getuid()}-{dashboard_port}")


def _ray_command() -> list[str]:
    beside = Path(sys.executable).with_name("ray")
    return [str(beside) if beside.exists() else shutil.which("ray") or "ray"]


def _ray(*arguments: str) -> None:
    done = subprocess.run([*_ray_command(), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise InfraError(f"`ray {' '.join(arguments)}` failed: {done.stderr.strip().splitlines()[-1:]}")


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigError(
                f"port {port} for the Ray dashboard is in use; set --dashboard-port (or DASHBOARD_PORT= with make) to "
                "another, or set RAY_ADDRESS to use the cluster that runs there"
            ) from None


def _await(head: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if head.poll() is not None:
            break
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0 and "--block" in log.read_text(errors="replace"):
                return
        time.sleep(0.3)
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
    raise InfraError(f"Ray {ray.__version__} did not start within {START_SECONDS:.0f} s: {' | '.join(last)}")


def _end(head: subprocess.Popen[bytes]) -> None:
    """Ask the head to stop its processes; what is left of its session after a while is killed."""
    if head.poll() is None:
        head.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            head.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()
