"""Jobs one after another: what will be run, mistakes found before anything is, and a real submission."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.stages import check_stages
from tests.cluster.tiny_jobs import await_step, kill_tree, losses, tiny_config, tiny_root
from wmtp_ray.config.load import load_config, validate
from wmtp_ray.config.pipeline import PipelineConfig
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError
from wmtp_ray.training.checkpoint import newest_state

CHECKOUT = Path(__file__).resolve().parents[2]


def started(config: Path, *more: str) -> subprocess.Popen[str]:
    """On a Ray of its own."""
    command = [sys.executable, "jobs/pipeline.py", "--config", str(config), *more]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(CHECKOUT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=pipe, stderr=pipe, text=True)


def pipeline(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    process = started(config, *more)
    output, errors = process.communicate(timeout=500)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("name", ["pipeline", "loop"])
def test_the_shipped_pipelines_are_made_of_valid_stages(name: str) -> None:
    config = load_config(PipelineConfig, CHECKOUT / "configs" / "quickstart" / f"{name}.yaml")
    check_stages(config)


def test_a_dry_run_prints_what_a_user_would_type(tmp_path: Path) -> None:
    stages = [
        {"job": "critic", "config": "configs/quickstart/critic.yaml", "overrides": ["name=a", "seed=3"]},
        {"job": "evaluate", "config": "configs/quickstart/evaluate.yaml"},
    ]
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}))
    done = pipeline(path, "storage.root=/data/wmtp", "--dry-run", "--fresh")
    assert done.returncode == 0, done.stdout + done.stderr
    critic = "jobs/critic.py --config configs/quickstart/critic.yaml storage.root=/data/wmtp name=a seed=3"
    evaluate = "jobs/evaluate.py --config configs/quickstart/evaluate.yaml storage.root=/data/wmtp"
    assert [shlex.split(line) for line in done.stdout.splitlines()] == [
        ["python", *critic.split(), "--fresh"],
        ["python", *evaluate.split(), "--fresh"],
    ]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"job": "criticise", "config": "configs/quickstart/critic.yaml"}, r"no jobs/criticise\.py"),
        ({"job": "critic", "config": "configs/critic.yaml"}, "no configuration file"),
        ({"job": "critic", "config": "configs/quickstart/critic.yaml", "overrides": ["nam=a"]}, "mean name"),
        ({"job": "critic", "config": "configs/quickstart/baseline.yaml"}, "unknown key model.num_heads"),
        ({"job": "summary", "config": "configs/quickstart/critic.yaml"}, r"no jobs/summary\.py that takes"),
    ],
)
def test_a_mistake_in_any_stage_is_found_before_the_first_starts(stage: dict[str, Any], message: str) -> None:
    first = {"job": "prepare", "config": "configs/quickstart/prepare.yaml"}
    config = validate(PipelineConfig, {"stages": [first, stage]}, "a test")
    with pytest.raises(ConfigError, match=message):
        check_stages(config)


@pytest.mark.slow
def test_stages_are_submitted_in_order_and_finished_ones_are_reused(tmp_path: Path) -> None:
    tests = {"kind": "call", "cases": [{"input": "f(1)", "expected": "2"}]}
    solutions = [{"code": f"def f(x):\n    return x + {n}\n", "is_correct": n == 1} for n in range(3)]
    line = {"problem_id": "p", "instruction": "Add one.", "tests": tests, "solutions": solutions}
    (tmp_path / "problems.jsonl").write_text(json.dumps(line))
    prepare = {"job": "prepare", "config": "configs/quickstart/prepare.yaml"}
    source = f"source={{kind: problems, paths: [{tmp_path / 'problems.jsonl'}]}}"
    stages = [
        prepare | {"overrides": [source, f"name={name}"], "minutes": 1}
        for name in ("first", "second", "first")
    ]
    path = tmp_path / "pipeline.yaml"
    content = {"storage": {"root": str(tmp_path / "root")}, "stages": stages, "dashboard_port": free_port()}
    path.write_text(yaml.safe_dump(content))
    done = pipeline(path)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, again = done.stdout.split(" prepare (about ")[1:]
    assert first.startswith("3 minutes left") and second.startswith("2 minutes left")
    assert "is finished" in again and "is finished" not in first + second
    stores = [SolutionStore.open(tmp_path / "root" / "stores" / name) for name in ("first", "second")]
    assert [len(store) for store in stores] == [3, 3]


@pytest.mark.slow
def test_interrupted_it_waits_until_the_stage_has_saved_its_work(tmp_path: Path) -> None:
    root = tiny_root(tmp_path)
    overrides = ["data.plan.epochs=500", "data.plan.max_steps=2000", "checkpoint.every_steps=2000"]
    stage = {"job": "critic", "config": str(tiny_config(root, "critic", "long")), "overrides": overrides}
    path = tmp_path / "pipeline.yaml"
    content = {"storage": {"root": str(root)}, "stages": [stage], "dashboard_port": free_port()}
    path.write_text(yaml.safe_dump(content))
    process = started(path)
    try:
        await_step(root, "critic-long", 3, process)
        process.terminate()
        output, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert process.returncode not in (0, None) and "it ends the step in progress" in output, output + errors
    saved = newest_state(root / "runs" / "critic-long" / "checkpoints")
    assert saved is not None and saved.step == losses(root, "critic-long")[-1][0]
