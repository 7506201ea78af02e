"""What is drawn by which engine: the same samples however many engines there are, one engine for all of one base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wmtp_ray.cluster.evaluation import EngineWork
from wmtp_ray.cluster.evaluation_plan import EvaluationPlan, engine_work, require_same
from wmtp_ray.config.evaluate import EvaluateJobConfig
from wmtp_ray.config.load import validate
from wmtp_ray.data.records import Tests
from wmtp_ray.errors import ConfigError, StorageError
from wmtp_ray.evaluation.benchmarks import Benchmark, Task
from wmtp_ray.evaluation.located_models import LocatedModel
from wmtp_ray.evaluation.samples import JudgedSample, SampleLog
from wmtp_ray.evaluation.sampling import Request
from wmtp_ray.storage.runs import RunDirectory

TESTS = Tests("assert", code="assert f(1)")
BENCHMARKS = [
    Benchmark(name, tuple(Task(f"p{i}", f"{name} {i}", TESTS, "respond") for i in range(size)), size)
    for name, size in (("a", 7), ("b", 3))
]


def config(**engine: Any) -> EvaluateJobConfig:
    names = ("base", "one", "two", "other")
    content = {
        "name": "x",
        "models": [{"name": name, "model": "m"} for name in names],
        "benchmarks": [{"kind": "humaneval"}],
        "decoding": {"samples_per_problem": 3, "k": [1], "temperature": [0.2, 0.8]},
        "engine": engine,
    }
    return validate(EvaluateJobConfig, content, "a test")


@pytest.fixture
def models(tmp_path: Path) -> list[LocatedModel]:
    """A base, two adapters of it with different ranks, and another model."""
    for name, rank in (("one", 4), ("two", 16)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    base, other = tmp_path / "base", tmp_path / "other"
    return [
        LocatedModel("base", base, None, "0"),
        LocatedModel("one", base, tmp_path / "one", "1"),
        LocatedModel("two", base, tmp_path / "two", "2"),
        LocatedModel("other", other, None, "3"),
    ]


def drawn(work: list[EngineWork]) -> list[tuple[Any, ...]]:
    """Every sample that is asked for, with all that it depends on."""
    return sorted(
        (
            draw.model,
            draw.adapter or "",
            draw.decoding.temperature,
            *_key(request),
            request.seed,
            request.prompt,
        )
        for one in work
        for draw in one.draws
        for request in draw.requests
    )


def _key(request: Request) -> tuple[str, str, int]:
    return request.benchmark, request.problem_id, request.sample


def test_any_number_of_engines_draws_the_same_samples(models: list[LocatedModel], tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples.jsonl")
    alone = engine_work(config(), models, BENCHMARKS, log)
    expected = drawn(alone)
    assert len(expected) == len(set(expected)) == 4 * 2 * 10 * 3
    assert len({seed for *_, seed, _ in expected}) == 10 * 3, (
        "a seed for each problem and sample, not for each model"
    )
    for actors in (2, 3, 8):
        spread = engine_work(config(actors_per_model=actors), models, BENCHMARKS, log)
        assert drawn(spread) == expected
        assert len(spread) == 2 * min(actors, 7), "no engine is started that has nothing to draw"


def test_all_adapters_of_a_base_share_its_engine(models: list[LocatedModel], tmp_path: Path) -> None:
    shared, other = engine_work(config(), models, BENCHMARKS, SampleLog(tmp_path / "samples.jsonl"))
    assert [draw.model for draw in shared.draws[::2]] == ["base", "one", "two"]
    assert [draw.adapter for draw in shared.draws[::2]] == [None, *(str(m.adapter) for m in models[1:3])]
    assert shared.settings.lora_rank == 16 and other.settings.lora_rank is None
    assert {draw.model for draw in other.draws} == {"other"}


def test_what_is_there_is_not_drawn_again(models: list[LocatedModel], tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples.jsonl")
    before = drawn(engine_work(config(actors_per_model=2), models, BENCHMARKS, log))
    sample = JudgedSample("one", 0.8, "b", "p2", 1, "x", 1, False, "passed", "", 1, 1, 0.1)
    for model in ("base", "one", "two"):
        for temperature in (0.2, 0.8):
            for benchmark in BENCHMARKS:
                for task in benchmark.tasks:
                    for number in range(3):
                        key = (model, temperature, benchmark.name, task.problem_id, number)
                        if key != sample.key:
                            fields = ("model", "temperature", "benchmark", "problem_id", "sample")
                            log.append(replace(sample, **dict(zip(fields, key, strict=True))))
    left = engine_work(config(actors_per_model=2), models, BENCHMARKS, log)
    assert [row for row in drawn(left) if row[0] != "other"] == [
        row for row in before if (row[0], *row[2:6]) == sample.key
    ]
    assert len(left) == 3, "one engine of the shared base, both of the other model"


def test_a_resumed_job_needs_the_problems_and_models_it_was_begun_with(
    models: list[LocatedModel], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)

    def require(benchmarks: list[Benchmark], located: list[LocatedModel]) -> None:
        plan = EvaluationPlan(config(), tuple(benchmarks))
        vars(plan)["models"] = tuple(located)
        require_same(run, plan)

    require(BENCHMARKS[:1], models[:2])
    require(BENCHMARKS, models)  # more of both
    other = replace(BENCHMARKS[0].tasks[3], tests=Tests("assert", code="assert not f(1)"))
    changed = replace(BENCHMARKS[0], tasks=(*BENCHMARKS[0].tasks[:3], other))
    with pytest.raises(ConfigError, match="begun with other prompt or tests of a/p3; use --fresh"):
        require([changed], models)
    with pytest.raises(ConfigError, match="begun with other weights of two"):
        require(BENCHMARKS, [*models[:2], replace(models[2], fingerprint="9")])


def test_a_full_disk_is_one_error(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "samples.jsonl")
    log._file = open("/dev/full", "a")  # noqa: SIM115
    sample = JudgedSample("one", 0.8, "b", "p2", 1, "x", 1, False, "passed", "", 1, 1, 0.1)
    with pytest.raises(
        StorageError, match=r"cannot write .*samples\.jsonl: No space left on device; free space"
    ):
        log.append(sample)
    log.close()
