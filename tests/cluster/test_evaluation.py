"""What a job is told when a verifier dies. Whole evaluations are run by the tests of the job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.sampler import EngineSettings
from wmtp_ray.cluster import evaluation
from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.evaluation import Draw, EngineWork, draw_and_judge
from wmtp_ray.config.evaluate import EngineConfig, JudgeConfig
from wmtp_ray.data.records import Tests
from wmtp_ray.errors import InfraError
from wmtp_ray.evaluation.benchmarks import Task
from wmtp_ray.evaluation.samples import SampleLog
from wmtp_ray.evaluation.sampling import Completion, Decoding, Request


@pytest.mark.slow
def test_a_verifier_that_dies_over_a_sample_each_time_ends_the_job_with_the_samples_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sampler:
        def __init__(self, settings: EngineSettings) -> None: ...

        def sample(self, requests: list[Request], *_: Any) -> Iterator[Completion]:
            for request in requests:
                yield Completion(request.benchmark, request.problem_id, request.sample, "x = 1", 3, cut=False)

    class DyingVerifier:
        def __init__(self, *_: Any) -> None: ...

        def protection(self) -> str:
            return "strict"

        def judge(self, program: str, tests: Tests) -> None:
            os._exit(1)

    monkeypatch.setattr(evaluation, "SamplerActor", Sampler)
    monkeypatch.setattr(evaluation, "VerifierActor", DyingVerifier)
    monkeypatch.setattr(evaluation, "VERIFIER_RETRIES", 1)
    task = Task("p", "Set x.", Tests("assert", code="assert x"), "respond")
    draw = Draw("base", None, Decoding(0.2, 1.0, 8), (Request("b", "p", 0, task.prompt, (), 7),))
    work = [EngineWork(EngineSettings("m", "float32"), (draw,))]
    log = SampleLog(tmp_path / "samples.jsonl")
    with (
        connected({"CPU": 2}),
        pytest.raises(InfraError, match="died 2 times over sample 0 of problem p of b"),
    ):
        draw_and_judge(
            work,
            {("b", "p"): task},
            EngineConfig(),
            JudgeConfig(),
            log,
            on_sample=lambda _: None,
            on_sandbox=lambda _: None,
        )
    log.close()
