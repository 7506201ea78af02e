"""Real jobs on a tiny random model and a small store, started as a user starts them: `python jobs/NAME.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.cluster_utils import Cluster

from tests.tiny import save_tiny_model
from wmtp_ray.data.records import Problem, Solution
from wmtp_ray.data.writer import write_store
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint

CHECKOUT = Path(__file__).resolve().parents[2]
STEPS = 12


def tiny_root(root: Path) -> Path:
    """A storage root with a tiny model in `model/` and a store `tiny` of 30 problems with both sides."""
    save_tiny_model(root / "model")
    tiny_store(root, problems=30)
    return root


def tiny_store(root: Path, problems: int, name: str = "tiny") -> None:
    """Write `stores/<name>`."""
    tokenizer = load_tokenizer(root / "model")
    write_store(
        root / "stores" / name,
        [_problem(i) for i in range(problems)],
        tokenizer,
        128,
        source="written by a test",
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
    )


def _problem(number: int) -> Problem:
    right = [f"def f{number}(x):\n    y = x + {number}\n    return y{' + 0' * n}\n" for n in range(3)]
    wrong = [f"def f{number}(x):\n    y = x - {number + 1}\n    return y{' + 1' * n}\n" for n in range(3)]
    solutions = [Solution(code, True) for code in right] + [Solution(code, False) for code in wrong]
    split = "train" if number < 18 else "valid" if number < 24 else "test"
    return Problem(f"tiny/{number}", f"Add {number} to x.", tuple(solutions), split=split)


def tiny_config(root: Path, job: str, name: str, **sections: Any) -> Path:
    """Write the configuration of a tiny `job` ("critic", "baseline", "verifiable"); `sections` replace whole ones."""
    pairs = job == "critic"
    sampling = {"solutions": "pairs" if pairs else "correct", "split": "train"}
    lora = {"rank": 4, "alpha": 8}
    config: dict[str, Any] = {
        "name": name,
        "storage": {"root": str(root)},
        "data": {
            "store": "tiny",
            "sampling": sampling,
            "validation": {**sampling, "split": "valid"},
            "plan": {
                "epochs": 4,
                "max_steps": STEPS,
                "micro_batches_per_step": 3,
                "samples_per_micro_batch": 2,
            },
        },
        "model": {"name": str(root / "model"), "lora": lora},
        "optimizer": {"learning_rate": 1e-3},
        "checkpoint": {"every_steps": 2},
        "cluster": {"steps_per_read": 2},
    }
    if pairs:
        config["model"]["head"] = "linear"
    else:
        config["model"]["num_heads"] = 2
    if job == "verifiable":
        config["weighting"] = {"method": "critic"}
        config["critic"] = {"run": "tiny", "window": 3}
    path = root / f"{job}-{name}.yaml"
    path.write_text(yaml.safe_dump(config | sections))
    return path


@contextmanager
def shared_cluster(cpus: float) -> Iterator[str]:
    """The address of a Ray cluster that several jobs use one after another: none of them has to start its own."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
        os.environ.pop(name, None)
    cluster = Cluster(True, head_node_args={"num_cpus": cpus})
    try:
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def start(job: str, config: Path, address: str | None = None) -> subprocess.Popen[str]:
    """Start a job in a process group of its own, on the Ray cluster at `address` or on one of its own."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "WMTP_TEST_RUN": "1"}
    environment |= {"RAY_ADDRESS": address} if address else {}
    command = [sys.executable, str(CHECKOUT / "jobs" / f"{job}.py"), "--config", str(config)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 400) -> str:
    """Wait for a job's good end and return what it printed."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_tree(process)
        output, _ = process.communicate()
        raise AssertionError(f"the job did not end within {timeout} s:\n{output}") from None
    assert process.returncode == 0, output
    return output


def losses(root: Path, run: str) -> list[tuple[int, float, float]]:
    """(step, loss, gradient norm) of every step, exactly as written."""
    lines = (root / "runs" / run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["step"], r["loss"], r["grad_norm"]) for r in records if "grad_norm" in r]


def await_step(
    root: Path, run: str, step: int, process: subprocess.Popen[str] | None = None, timeout: float = 300
) -> None:
    """Wait until a run has written `step`; not longer than `process` lives."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        path = root / "runs" / run / "metrics.jsonl"
        if path.exists() and any(s >= step for s, _, _ in losses(root, run)):
            return
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"{run} did not reach step {step} within {timeout} s")


def ray_process(title: str, below: int | None = None, timeout: float = 120) -> psutil.Process:
    """The first Ray process whose title contains `title`, waited for; below process `below`, else below this one.
    Titles are read as often as possible, since a task's lasts no longer than the task."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        children = psutil.Process(below).children(recursive=True)
        listed = time.monotonic()
        while time.monotonic() < listed + 0.3:
            for child in children:
                with suppress(OSError):
                    if title.encode() in Path(f"/proc/{child.pid}/cmdline").read_bytes():
                        return child
            time.sleep(0.001)
    raise AssertionError(f"no process {title} within {timeout} s")


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL a job with everything that it started."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        if child.is_running():
            child.kill()
    process.wait()
