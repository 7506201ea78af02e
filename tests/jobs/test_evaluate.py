"""The evaluation job end to end: real Ray, real vLLM, real sandboxes, a tiny random model."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from tests.tiny import save_tiny_model
from wmtp_ray.config import LoRAConfig
from wmtp_ray.config.evaluate import EvaluateJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.data.records import Case, Problem, Solution, Tests
from wmtp_ray.data.writer import write_store
from wmtp_ray.errors import ConfigError
from wmtp_ray.evaluation.samples import JudgedSample, read_samples
from wmtp_ray.models import MTPPolicy, load_tokenizer, tokenizer_fingerprint

CHECKOUT = Path(__file__).resolve().parents[2]


def command(config: Path) -> list[str]:
    """What a user types."""
    return [sys.executable, str(CHECKOUT / "jobs" / "evaluate.py"), "--config", str(config)]


def environment() -> dict[str, str]:
    """Where the job finds the code."""
    return os.environ | {"PYTHONPATH": str(CHECKOUT)}


def evaluate(config: Path) -> subprocess.CompletedProcess[str]:
    """Run the job to its end."""
    return subprocess.run(command(config), env=environment(), capture_output=True, text=True, timeout=500)


def content(root: Path, **sections: Any) -> dict[str, Any]:
    """A configuration of base and adapter on two problems of each benchmark."""
    model = str(root / "model")
    base: dict[str, Any] = {
        "name": "tiny",
        "storage": {"root": str(root)},
        "models": [
            {"name": "base", "model": model},
            {"name": "new", "model": model, "adapter": str(root / "adapter")},
        ],
        "benchmarks": [
            {"kind": "humaneval", "limit": 2},
            {"kind": "store", "name": "mini", "store": "tiny", "split": "test"},
        ],
        "decoding": {"samples_per_problem": 2, "k": [1, 2], "temperature": 1.0, "max_tokens": 8},
        "engine": {"dtype": "float32", "max_length": 512},
    }
    return base | sections


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage root with a model, an adapter and a store with tests."""
    root = tmp_path_factory.mktemp("root")
    model = save_tiny_model(root / "model")
    policy = MTPPolicy.from_pretrained(model, num_heads=2, lora=LoRAConfig(rank=4))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3, generator=generator)
    policy.save_adapter(root / "adapter")
    tests = Tests("call", cases=(Case("f(1)", "2"),))
    solutions = (
        Solution("def f(x):\n    return x + 1\n", True),
        Solution("def f(x):\n    return x\n", False),
    )
    problems = [
        Problem(f"p{i}", f"Add one, version {i}.", solutions, split="test", tests=tests) for i in range(2)
    ]
    tokenizer = load_tokenizer(model)
    identity = tokenizer_fingerprint(tokenizer)
    write_store(
        root / "stores" / "tiny", problems, tokenizer, 128, source="a test", tokenizer_fingerprint=identity
    )
    return root


def test_models_are_sampled_judged_and_compared_and_a_killed_evaluation_goes_on(root: Path) -> None:
    run = root / "runs" / "evaluate-tiny"
    run.mkdir(parents=True)
    there = JudgedSample(
        "new", 1.0, "mini", "p1", 0, "def f(x): return x + 1", 9, False, "passed", "", 1, 1, 0.1
    )
    (run / "samples.jsonl").write_text(json.dumps(asdict(there)) + '\n{"model": "new", "bench')
    config = root / "evaluate.yaml"
    config.write_text(yaml.safe_dump(content(root)))

    done = evaluate(config)
    assert done.returncode == 0, done.stdout + done.stderr
    samples = list(read_samples(run / "samples.jsonl"))
    assert samples[0] == there and len({s.key for s in samples}) == len(samples) == 16
    assert all(s.cut == (s.tokens == 8) or s is samples[0] for s in samples)
    texts = {(s.model, s.benchmark, s.problem_id, s.sample): s.text for s in samples[1:]}
    base = {key[1:]: text for key, text in texts.items() if key[0] == "base"}
    assert any(text != texts.get(("new", *key)) for key, text in base.items()), "the adapter changed nothing"
    rows = list(csv.DictReader((run / "results.csv").open()))
    mini = {(r["model"], r["minus"], r["k"]): float(r["value"]) for r in rows if r["benchmark"] == "mini"}
    assert mini["new", "", "1"] == 0.25 and mini["new", "base", "1"] == 0.25 and mini["new", "", "2"] == 0.5
    assert {r["problems"] + "/" + r["problems_total"] for r in rows if not r["minus"]} == {"2/164", "2/2"}
    html = (run / "report.html").read_text()
    assert "2 of 164 problems" in html and "vLLM, float32" in html
    assert done.stdout.rstrip().endswith(f"report: {run / 'report.html'}") and "new − base" in done.stdout

    again = evaluate(config)
    assert again.returncode == 0 and "is finished" in again.stdout and "new − base" in again.stdout
    assert list(read_samples(run / "samples.jsonl")) == samples


@pytest.mark.slow
def test_a_killed_engine_is_replaced_and_asked_for_what_is_missing(root: Path) -> None:
    config = root / "killed.yaml"
    decoding = {"samples_per_problem": 8, "k": [1], "temperature": 1.0, "max_tokens": 200}
    sections = {"name": "killed", "decoding": decoding, "benchmarks": [{"kind": "humaneval", "limit": 8}]}
    config.write_text(yaml.safe_dump(content(root, **sections)))
    log = root / "runs" / "evaluate-killed" / "samples.jsonl"
    with (root / "killed.log").open("w") as output:
        job = subprocess.Popen(command(config), env=environment(), stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while not (log.exists() and log.read_text()):
        assert job.poll() is None and time.monotonic() < deadline, (root / "killed.log").read_text()
        time.sleep(0.05)
    [engine] = [
        p
        for p in psutil.Process(job.pid).children(recursive=True)
        if "ray::SamplerActor" in "".join(p.cmdline())
    ]
    engine.kill()
    assert job.wait(400) == 0, (root / "killed.log").read_text()
    samples = list(read_samples(log))
    assert len(samples) == len({s.key for s in samples}) == 2 * 8 * 8


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"decoding": {"samples_per_problem": 2, "k": [5]}}, "k = 5 needs as many samples"),
        ({"decoding": {"samples_per_problem": 2, "k": [1], "temperature": 0}}, "equal samples"),
        ({"models": [{"name": "a", "model": "x"}, {"name": "a", "model": "y"}]}, "'a' is given twice"),
        ({"models": [{"name": "a"}]}, "set exactly one"),
        ({"models": [{"name": "a", "model": "x", "as_adapter": True}]}, "as_adapter is for a run"),
        ({"models": []}, "models"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(EvaluateJobConfig, content(tmp_path, **sections), "evaluate.yaml")
