"""The evaluation job end to end: real Ray, real vLLM, real sandboxes, a tiny random model."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import torch
import yaml

from jobs.evaluate import run as run_evaluate
from tests.tiny import save_tiny_model
from wmtp_ray.config import LoRAConfig
from wmtp_ray.config.command import Flags
from wmtp_ray.config.evaluate import EvaluateJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.config.model import ValueModelConfig
from wmtp_ray.data.records import Case, Problem, Solution, Tests
from wmtp_ray.data.writer import write_store
from wmtp_ray.errors import ConfigError, ModelError
from wmtp_ray.evaluation.outcome import read_outcome, read_reranked
from wmtp_ray.evaluation.samples import JudgedSample, read_samples
from wmtp_ray.models import MTPPolicy, load_tokenizer, tokenizer_fingerprint
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.storage.runs import RunDirectory

T = TypeVar("T")
FLAGS = Flags(dry_run=False, fresh=False)
CHECKOUT = Path(__file__).resolve().parents[2]


def command(config: Path) -> list[str]:
    """What a user types."""
    return [sys.executable, str(CHECKOUT / "jobs" / "evaluate.py"), "--config", str(config)]


def environment() -> dict[str, str]:
    """Where the job finds the code."""
    return os.environ | {"PYTHONPATH": str(CHECKOUT)}


def evaluate(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the job to its end."""
    return subprocess.run(
        [*command(config), *more], env=environment(), capture_output=True, text=True, timeout=500
    )


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


LONG: dict[str, Any] = {
    "decoding": {"samples_per_problem": 4, "k": [1], "temperature": 1.0, "max_tokens": 120},
    "benchmarks": [{"kind": "humaneval", "limit": 8}],
    "engine": {"dtype": "float32", "max_length": 512, "max_batch": 8},
}
"""Sections of an evaluation that lasts long enough to be disturbed: its samples come in four waves."""


def started(root: Path, name: str, sections: dict[str, Any]) -> tuple[subprocess.Popen[bytes], Path]:
    """A running evaluation and its samples; its output goes to `<name>.log`."""
    config = root / f"{name}.yaml"
    config.write_text(yaml.safe_dump(content(root, name=name, **sections)))
    with (root / f"{name}.log").open("w") as output:
        job = subprocess.Popen(command(config), env=environment(), stdout=output, stderr=subprocess.STDOUT)
    return job, root / "runs" / f"evaluate-{name}" / "samples.jsonl"


def wait_for(job: subprocess.Popen[bytes], output: Path, happened: Callable[[], T]) -> T:
    """What happened, once it did; fails with the job's output if it ends before, or after five minutes."""
    deadline = time.monotonic() + 300
    while not (what := happened()):
        assert job.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    return what


def engines_of(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The living processes of the job's sampling engines."""
    found = []
    for process in psutil.Process(job.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ray::SamplerActor" in "".join(process.cmdline()):
                found.append(process)
    return found


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

    [attempt] = RunDirectory(run).attempts
    assert attempt["commit"] and attempt["started"]
    again = evaluate(config)
    assert again.returncode == 0 and "is finished" in again.stdout and "new − base" in again.stdout
    assert list(read_samples(run / "samples.jsonl")) == samples


@pytest.mark.slow
def test_an_engine_that_is_killed_or_fails_inside_a_living_actor_is_replaced(root: Path) -> None:
    """The first engine is killed; the second fails at the adapter, whose file is damaged by then and whole again when
    the third one loads. Each is asked for what is missing only."""
    weights = root / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    job, log = started(root, "disturbed", LONG)
    output = root / "disturbed.log"
    try:
        wait_for(job, output, lambda: log.exists() and log.read_text())
        first = engines_of(job)
        weights.write_bytes(b"damaged")
        first[0].kill()
        second = wait_for(job, output, lambda: [e for e in engines_of(job) if e not in first])
        wait_for(job, output, lambda: not second[0].is_running())
        assert {s.model for s in read_samples(log)} == {"base"}, "the engine failed at the adapter"
    finally:
        weights.write_bytes(whole)
    assert job.wait(400) == 0, output.read_text()
    samples = list(read_samples(log))
    assert len(samples) == len({s.key for s in samples}) == 2 * 8 * 4


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_is_reranked_afterwards(root: Path) -> None:
    sections = LONG | {"decoding": LONG["decoding"] | {"temperature": [0.6, 1.0], "max_tokens": 60}}
    job, log = started(root, "resumed", sections)
    wait_for(job, root / "resumed.log", lambda: log.exists() and log.read_text())
    job.send_signal(signal.SIGKILL)
    job.wait()
    before = list(read_samples(log))
    done = evaluate(root / "resumed.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    samples = list(read_samples(log))
    assert 0 < len(before) < len(samples) == len({s.key for s in samples}) == 2 * 2 * 8 * 4
    assert samples[: len(before)] == before and f"{len(before)} are there" in done.stdout
    assert len(RunDirectory(log.parent).attempts) == 2
    rows = list(csv.DictReader((log.parent / "results.csv").open()))
    assert [(r["model"], r["minus"], r["temperature"]) for r in rows] == [
        *[("base", "", "0.6"), ("new", "", "0.6"), ("base", "", "1.0"), ("new", "", "1.0")],
        *[("new", "base", "0.6"), ("new", "base", "1.0")],
    ]

    config = ValueModelConfig(name=str(root / "model"), train="head", head="linear")
    ValueModel.from_pretrained(config).save(root / "runs" / "critic-tiny" / "export", {})
    ranked = evaluate(root / "resumed.yaml", "--rerank", "tiny")
    assert ranked.returncode == 0, ranked.stdout + ranked.stderr
    assert "is finished" in ranked.stdout and "chosen at random" in ranked.stdout
    chosen = read_reranked(log.parent)
    assert [(r.model, r.temperature, r.samples_per_problem) for r in chosen] == [
        *[("base", 0.6, 4), ("new", 0.6, 4), ("base", 1.0, 4), ("new", 1.0, 4)]
    ]
    table, _ = read_outcome(log.parent)
    for r, row in zip(chosen, table.rows, strict=True):
        assert asdict(r.solved["random"]) == pytest.approx(asdict(row.pass_at_k[1]), abs=1e-12)
    assert all(r.solved["critic"] == r.solved["random"] for r in chosen), (
        "an untrained critic values all alike"
    )
    assert "<h2>Best of n</h2>" in (log.parent / "report.html").read_text()
    assert list(read_samples(log)) == samples


def finished_in_process(root: Path, store: str, **sections: Any) -> dict[str, Any]:
    """A finished evaluation of problem p on a store of its own, whose one sample was there; returns its content."""
    store_of(root, store, "p")
    run = root / "runs" / f"evaluate-{store}"
    run.mkdir(parents=True)
    sample = JudgedSample(
        "base", 1.0, "mini", "p", 0, "def f(x): return x + 1", 9, False, "passed", "", 1, 1, 0.1
    )
    (run / "samples.jsonl").write_text(json.dumps(asdict(sample)) + "\n")
    one: dict[str, Any] = {
        "name": store,
        "models": [{"name": "base", "model": str(root / "model")}],
        "benchmarks": [{"kind": "store", "name": "mini", "store": store, "split": "test"}],
        "decoding": {"samples_per_problem": 1, "k": [1], "temperature": 1.0, "max_tokens": 8},
    }
    sections = content(root, **one, **sections)
    run_evaluate(validate(EvaluateJobConfig, sections, "a test"), FLAGS)
    return sections


def store_of(root: Path, name: str, *problems: str, instruction: str = "Add one.") -> None:
    """A store of test problems, made anew."""
    shutil.rmtree(root / "stores" / name, ignore_errors=True)
    tests = Tests("call", cases=(Case("f(1)", "2"),))
    right = Solution("def f(x):\n    return x + 1\n", True)
    made = [Problem(problem, instruction, (right,), split="test", tests=tests) for problem in problems]
    tokenizer = load_tokenizer(root / "model")
    write_store(
        root / "stores" / name,
        made,
        tokenizer,
        128,
        source="a test",
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
    )


def test_samples_are_not_reranked_beside_other_problems(root: Path) -> None:
    evaluated = finished_in_process(root, "moving")
    ranked = validate(EvaluateJobConfig, evaluated | {"rerank": {"path": str(root / "nowhere")}}, "a test")
    with pytest.raises(ModelError, match="train the critic again"):
        run_evaluate(ranked, FLAGS)
    for problems, instruction in ((["p"], "Add two."), (["p", "q"], "Add one."), (["q"], "Add one.")):
        store_of(root, "moving", *problems, instruction=instruction)
        with pytest.raises(ConfigError, match=r"was made with another mini/[pq]: .* use --fresh"):
            run_evaluate(ranked, FLAGS)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"decoding": {"samples_per_problem": 2, "k": [5]}}, "k = 5 needs as many samples"),
        ({"decoding": {"samples_per_problem": 2, "k": [1], "temperature": 0}}, "equal samples"),
        ({"models": [{"name": "a", "model": "x"}, {"name": "a", "model": "y"}]}, "'a' is given twice"),
        ({"models": [{"name": "a"}]}, "set exactly one"),
        ({"models": [{"name": "a", "model": "x", "as_adapter": True}]}, "as_adapter is for a run"),
        ({"models": []}, "models"),
        ({"rerank": {"run": "c", "actors": [1, 3]}}, r"rerank.actors = \[1, 3\]: .* give one number"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(EvaluateJobConfig, content(tmp_path, **sections), "evaluate.yaml")
