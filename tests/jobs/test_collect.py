"""The collecting job: what a killed one left is taken up, and the whole of it with a real model and real verdicts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.collect import run as run_collect
from tests.tiny import save_tiny_model
from wmtp_ray.config.collect import CollectJobConfig
from wmtp_ray.config.command import Flags
from wmtp_ray.config.load import load_config
from wmtp_ray.data.provenance import SampleProvenance
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError
from wmtp_ray.evaluation.samples import JudgedSample, read_samples
from wmtp_ray.storage.runs import RunDirectory

CHECKOUT = Path(__file__).resolve().parents[2]
LINES = [
    {
        "problem_id": "add",
        "instruction": "Write a Python function add(a, b) that returns the sum of a and b.",
        "tests": {"kind": "call", "cases": [{"input": "add(1, 2)", "expected": "3"}]},
    },
    {
        "problem_id": "even",
        "instruction": "Write a Python function is_even(n) that returns True if n is even, else False.",
        "tests": {"kind": "assert", "code": "assert is_even(2)\nassert not is_even(3)"},
        "solutions": [{"code": "def is_even(n):\n    return n & 1 == 0\n", "is_correct": True}],
        "split": "valid",
    },
    {
        "problem_id": "held",
        "instruction": "Write a Python function one() that returns 1.",
        "tests": {"kind": "call", "cases": [{"input": "one()", "expected": "1"}]},
        "split": "test",
    },
]


def write_job(root: Path, model: str, **sections: Any) -> Path:
    """A configuration that samples the first two problems."""
    (root / "problems.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    content: dict[str, Any] = {
        "name": "made",
        "storage": {"root": str(root)},
        "problems": {"source": {"kind": "problems", "paths": [str(root / "problems.jsonl")]}},
        "models": [{"name": "writer", "model": model}],
        "decoding": {"samples_per_problem": 2, "temperature": 0.5, "max_tokens": 90},
        "engine": {"max_length": 512, "threads_per_actor": 2},
        "store": {"tokenizer": model, "max_length": 256, "upload": f"file://{root}/copies/made"},
    }
    path = root / "collect.yaml"
    path.write_text(yaml.safe_dump(content | sections))
    return path


def test_a_collection_that_was_killed_before_its_store_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All samples are there, so no engine is needed; the last line was not finished."""
    config = write_job(tmp_path, str(save_tiny_model(tmp_path / "model")))
    run = tmp_path / "runs" / "collect-made"
    run.mkdir(parents=True)
    samples = [
        JudgedSample("writer", 0.5, "problems", problem, n, text, 9, False, status, "", 0, 1, 0.1)
        for problem, n, text, status in (
            ("add", 0, "def add(a, b): return a + b", "passed"),
            ("add", 1, "def add(a, b): return a - b", "wrong_answer"),
            ("even", 0, "Even numbers are divisible by 2.", "syntax_error"),
            ("even", 1, "def is_even(n): return True", "wrong_answer"),
        )
    ]
    lines = "".join(json.dumps(asdict(sample)) + "\n" for sample in samples)
    (run / "samples.jsonl").write_text(lines + '{"model": "writer"')

    def in_process(*overrides: str, dry_run: bool = False) -> str:
        run_collect(load_config(CollectJobConfig, config, overrides), Flags(dry_run=dry_run, fresh=False))
        return capsys.readouterr().out

    done = in_process()
    assert "4 samples = 1 passed + 2 wrong_answer + 1 syntax_error; 0 cut; 1 of 2 problems solved" in done
    assert "5 rows in = 4 kept + 1 rejected (syntax_error 1); 2 correct, 2 incorrect" in done
    assert "copied to file://" in done and (tmp_path / "copies" / "made" / "manifest.json").is_file()
    store = SolutionStore.open(tmp_path / "stores" / "made")
    rows = {(row.problem_id, row.output): row.is_correct for row in store.read(range(len(store)))}
    assert rows["add", "def add(a, b): return a - b"] is False
    assert rows["even", "def is_even(n):\n    return n & 1 == 0\n"] is True
    assert [len(store.problems(split)) for split in ("train", "valid", "test")] == [1, 1, 1]

    again = in_process()
    assert "is finished" in again and "5 rows in = 4 kept" in again and "is already at file://" in again
    with pytest.raises(ConfigError, match="started with another configuration"):
        in_process("store.incorrect=[error]")
    planned = in_process("name=mine", "problems.source=null", "problems.store=made", dry_run=True)
    assert "4 samples of writer on problems (2 of 2 problems)" in planned
    (tmp_path / "runs").rename(tmp_path / "moved")
    (tmp_path / "stores" / "made").rename(tmp_path / "stores" / "mine")
    with pytest.raises(ConfigError, match="is another store and is never changed"):
        in_process("name=mine")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_samples_of_a_real_model_become_rows_though_its_job_is_killed(tmp_path: Path) -> None:
    decoding = {"samples_per_problem": 12, "temperature": 0.5, "top_p": 0.95, "max_tokens": 90}
    config = write_job(tmp_path, "smollm2-135m", decoding=decoding)
    log = tmp_path / "runs" / "collect-made" / "samples.jsonl"
    command = [sys.executable, str(CHECKOUT / "jobs" / "collect.py"), "--config", str(config)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    with (tmp_path / "log").open("w") as output:
        job = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 400
    while not (log.exists() and log.read_text()):
        assert job.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.wait()
    before = list(read_samples(log))

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    samples = list(read_samples(log))
    assert 0 < len(before) < len(samples) == len({s.key for s in samples}) == 24
    assert samples[: len(before)] == before and f"{len(before)} are there" in done.stdout
    assert len(RunDirectory(log.parent).attempts) == 2
    store = SolutionStore.open(tmp_path / "stores" / "made")
    counts = store.manifest.facts["counts"]
    assert counts["rows_in"] == 25 == counts["rows_kept"] + sum(counts["rejected"].values())
    rows = store.read(range(len(store)))
    origins = [(row, SampleProvenance.from_text(row.provenance)) for row in rows]
    sampled = [(row, origin) for row, origin in origins if origin]
    assert (
        sampled
    )  # whether a model this small solves any is its luck; labels of both kinds are held elsewhere
    for row, origin in sampled:
        [sample] = [s for s in samples if (s.problem_id, s.sample) == (row.problem_id, origin.sample)]
        assert row.output in sample.text and row.is_correct == (sample.status == "passed")
        assert origin.model == "writer" and origin.verdict == sample.status
