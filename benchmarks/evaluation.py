"""Evaluation beside its parts: sandbox and bare interpreter, vLLM and transformers, judging and sampling alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from transformers import AutoModelForCausalLM

from actors.sampler import EngineSettings, SamplerActor
from benchmarks.figure import Figure, NotMeasured
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.evaluation import Draw, EngineWork, draw_and_judge
from wmtp_ray.config.evaluate import EngineConfig, JudgeConfig
from wmtp_ray.config.model import computes_in_bfloat16
from wmtp_ray.data.prompt import encode_text, with_bos
from wmtp_ray.data.records import Case, Tests
from wmtp_ray.errors import SandboxError
from wmtp_ray.evaluation.benchmarks import Benchmark, humaneval
from wmtp_ray.evaluation.probe import protection
from wmtp_ray.evaluation.samples import SampleLog
from wmtp_ray.evaluation.sampling import Completion, Decoding, Request, request_seed
from wmtp_ray.evaluation.verify import verify, verify_many
from wmtp_ray.models import load_tokenizer, resolve_model
from wmtp_ray.models.backbone import DTYPES

PROGRAM = "def f(x):\n    return sum(i * i for i in range(x))\n"
CALLS = Tests(
    "call", cases=tuple(Case(f"f({n})", str(sum(i * i for i in range(n)))) for n in (0, 1, 2, 10, 100))
)
ASSERTS = Tests("assert", code="\n".join(f"assert {case.input} == {case.expected}" for case in CALLS.cases))
REPEATS = 20
PROBLEMS, SAMPLES, TOKENS, THREADS = 16, 6, 128, 2
DTYPE = "bfloat16" if computes_in_bfloat16() else "float32"


def figures() -> Iterator[Figure]:
    """The sandbox first: it needs no model."""
    yield from _verdicts()
    yield from _sampling()


def _verdicts() -> Iterator[Figure]:
    """Time of one verdict and of a fresh interpreter that runs the same checks unprotected, in turns."""
    try:
        offered = protection()
    except SandboxError as error:
        raise NotMeasured(str(error)) from None
    bare = [sys.executable, "-I", "-c", f"{PROGRAM}\n{ASSERTS.code}"]
    seconds = _alternate(
        bare=lambda: subprocess.run(bare, check=True),
        call=lambda: verify(PROGRAM, CALLS),
        asserts=lambda: verify(PROGRAM, ASSERTS),
    )
    counterpart = f"python -I {1000 * seconds['bare']:.1f} ms, sandbox {offered}"
    yield Figure("verify_vs_bare_interpreter", seconds["call"] / seconds["bare"], "x time", counterpart)
    yield Figure(
        "verify_asserts_vs_bare_interpreter", seconds["asserts"] / seconds["bare"], "x time", counterpart
    )
    yield Figure("verify_call", 1000 * seconds["call"], "ms", counterpart)
    begun = time.perf_counter()
    count = sum(verdict.passed for verdict in verify_many([(PROGRAM, CALLS)] * 100))
    one_by_one = f"one by one {1 / seconds['call']:.0f}/s"
    yield Figure("verified_programs", count / (time.perf_counter() - begun), "programs/s", one_by_one)


def _sampling() -> Iterator[Figure]:
    """One vLLM engine on HumanEval's prompts: beside transformers on the same prompts, and again with every sample
    judged as it comes. Loading is in neither time."""
    directory = resolve_model("smollm2-135m")
    benchmark = humaneval().limited(PROBLEMS)
    requests = _requests(benchmark)
    decoding = Decoding(temperature=0.4, top_p=0.95, max_tokens=TOKENS)
    settings = EngineSettings(str(directory), DTYPE, threads=THREADS, max_length=1024)
    judge = JudgeConfig(cpus_per_actor=0.25)
    with connected({"CPU": 1 + judge.cpus_per_actor}):
        drawn, begun, times = _sample_alone(settings, requests, decoding)
        rate = sum(c.tokens for c in drawn) / (times[-1] - begun)
        torch.set_num_threads(THREADS)
        reference = _transformers_rate(directory, benchmark)
        yield Figure(
            "sample_vs_transformers",
            rate / reference,
            "x tokens/s",
            f"generate, {PROBLEMS} prompts at once, {reference:.0f} tokens/s; vLLM {rate:.0f}",
            target="> 1",
        )
        # An engine on all cores shares them with the verifiers, as it would not with a GPU.
        for name, threads, target in (("", 1, "<= 1.1"), ("_shared_cores", THREADS, None)):
            engine = replace(settings, threads=threads)
            _, _, times = _sample_alone(engine, requests, decoding)
            judged = _evaluate(engine, requests, decoding, benchmark, judge)
            alone, together = times[-1] - times[0], judged[-1] - judged[0]
            yield Figure(
                f"evaluate_vs_sampling{name}",
                together / alone,
                "x time",
                f"sampling alone on {threads} of {os.cpu_count()} cores {alone:.1f} s for {len(requests)} samples, "
                "from the first one to the last",
                target=target,
            )


def _requests(benchmark: Benchmark) -> tuple[Request, ...]:
    return tuple(
        Request(
            benchmark.name,
            task.problem_id,
            n,
            task.prompt,
            task.stops,
            request_seed(0, benchmark.name, task.problem_id, n),
        )
        for task in benchmark.tasks
        for n in range(SAMPLES)
    )


def _sample_alone(
    settings: EngineSettings, requests: tuple[Request, ...], decoding: Decoding
) -> tuple[list[Completion], float, list[float]]:
    """Completions, when they were asked for, and when each came."""
    actor: Any = ray.remote(SamplerActor).options(num_cpus=1).remote(settings)
    ask = actor.sample.options(num_returns="streaming")
    list(ask.remote(list(requests[:4]), decoding))
    drawn, times, begun = [], [], time.perf_counter()
    for reference in ask.remote(list(requests), decoding):
        drawn.append(ray.get(reference))
        times.append(time.perf_counter())
    ray.kill(actor)
    return drawn, begun, times


def _evaluate(
    settings: EngineSettings,
    requests: tuple[Request, ...],
    decoding: Decoding,
    benchmark: Benchmark,
    judge: JudgeConfig,
) -> list[float]:
    """When each of the same samples was judged."""
    times: list[float] = []
    work = [EngineWork(settings, (Draw("base", None, decoding, requests),))]
    tasks = {(benchmark.name, task.problem_id): task for task in benchmark.tasks}
    with tempfile.TemporaryDirectory(prefix="wmtp-bench-") as folder:
        log = SampleLog(Path(folder) / "samples.jsonl")
        draw_and_judge(
            work,
            tasks,
            EngineConfig(),
            judge,
            log,
            on_sample=lambda _: times.append(time.perf_counter()),
            on_sandbox=lambda _: None,
        )
        log.close()
    return times


@torch.inference_mode()
def _transformers_rate(directory: Path, benchmark: Benchmark) -> float:
    """Tokens per second of `generate` on one batch of all prompts, end of sequence ignored."""
    tokenizer = load_tokenizer(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=DTYPES[DTYPE]).eval()
    prompts = [
        with_bos(tokenizer, ids) for ids in encode_text(tokenizer, [t.prompt for t in benchmark.tasks])
    ]
    length = max(map(len, prompts))
    ids = torch.tensor([[0] * (length - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])

    def generate(tokens: int) -> float:
        begun = time.perf_counter()
        model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=0.4,
            top_p=0.95,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
        )
        return time.perf_counter() - begun

    generate(2)
    return PROBLEMS * TOKENS / generate(TOKENS)


def _alternate(**timed: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each, measured in turns so that all meet the same noise."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(REPEATS):
        for name, run in timed.items():
            begun = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begun)
    return {name: sorted(times)[REPEATS // 2] for name, times in found.items()}
