"""From a configuration to the samples it asks for: models on disk, tasks, and which engine draws what."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from actors.sampler import EngineSettings
from wmtp_ray.cluster.evaluation import Draw, EngineWork
from wmtp_ray.cluster.resources import total
from wmtp_ray.config.evaluate import (
    EngineConfig,
    EvaluateJobConfig,
    HumanEvalConfig,
    JudgeConfig,
    SourceBenchmarkConfig,
    VerifiedSamplesConfig,
)
from wmtp_ray.data.sources import build_source
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError
from wmtp_ray.evaluation.benchmarks import Benchmark, Task, humaneval, source_problems, stored_problems
from wmtp_ray.evaluation.located_models import LocatedModel, find_checkpoint, locate
from wmtp_ray.evaluation.samples import MODELS_FILE, TASKS_FILE, JudgedSample, SampleLog
from wmtp_ray.evaluation.sampling import Decoding, Request, request_seed
from wmtp_ray.storage.runs import RunDirectory, commit


@dataclass(frozen=True)
class SamplePlan:
    """All samples that a job will draw and judge, before anything is started."""

    config: VerifiedSamplesConfig
    benchmarks: tuple[Benchmark, ...]

    @cached_property
    def models(self) -> tuple[LocatedModel, ...]:
        """The models on disk, in the table's order; checkpoints are exported."""
        return tuple(locate(model, self.config.storage.root) for model in self.config.models)

    @property
    def tasks(self) -> dict[tuple[str, str], Task]:
        """Tasks by (benchmark, problem id)."""
        return {(b.name, task.problem_id): task for b in self.benchmarks for task in b.tasks}

    @property
    def num_samples(self) -> int:
        """Samples of all models together."""
        d = self.config.decoding
        return len(self.config.models) * len(d.temperatures) * len(self.tasks) * d.samples_per_problem

    def in_order(self, samples: Iterable[JudgedSample]) -> list[JudgedSample]:
        """All samples of a finished job: by benchmark, temperature, model, problem and number."""
        by_key = {sample.key: sample for sample in samples}
        d = self.config.decoding
        return [
            by_key[model.name, temperature, benchmark.name, task.problem_id, n]
            for benchmark in self.benchmarks
            for temperature in d.temperatures
            for model in self.config.models
            for task in benchmark.tasks
            for n in range(d.samples_per_problem)
        ]

    def missing(self, log: SampleLog) -> list[EngineWork]:
        """What `log` does not have yet."""
        return engine_work(self.config, list(self.models), list(self.benchmarks), log)

    def summary(self) -> str:
        """One line."""
        benchmarks = ", ".join(f"{b.name} ({len(b.tasks)} of {b.total} problems)" for b in self.benchmarks)
        models = ", ".join(model.name for model in self.config.models)
        return f"{self.num_samples} samples of {models} on {benchmarks}"


@dataclass(frozen=True)
class EvaluationPlan(SamplePlan):
    """All that an evaluation will do."""

    config: EvaluateJobConfig

    def facts(self) -> dict[str, str]:
        """What the numbers depend on, for the table's readers."""
        d, config = self.config.decoding, self.config
        facts = {
            "decoding": f"{d.samples_per_problem} samples per problem at temperature "
            f"{', '.join(f'{t:g}' for t in d.temperatures)}, top_p {d.top_p:g}, at most {d.max_tokens} tokens",
            "seed": str(config.seed),
            "engine": f"vLLM, {config.engine.dtype}",
            "judge": f"bubblewrap, {config.judge.isolation} or refused, {config.judge.cpu_seconds:g} s of CPU, "
            f"{config.judge.memory_mb} MB",
            "code": commit(),
        }
        facts |= {
            f"benchmark {b.name}": f"{len(b.tasks)} problems ({b.fingerprint[:16]})" for b in self.benchmarks
        }
        facts |= {
            f"model {m.name}": f"{m.fingerprint[:16]}{' with adapter' if m.adapter else ''}"
            for m in self.models
        }
        if d.tuned_on_reported_split:
            facts["tuning"] = "Settings were tuned on these very problems: the numbers are too good."
        return facts


def plan_evaluation(config: EvaluateJobConfig) -> EvaluationPlan:
    """Find every problem that `config` names; nothing is started, and no model is looked for before it is needed."""
    return EvaluationPlan(config, tuple(load_benchmarks(config)))


def check_models(config: VerifiedSamplesConfig) -> None:
    """Every model that `config` names is there, with the errors of `locate`; nothing is exported."""
    for model in config.models:
        if model.run is not None and model.checkpoint is not None:
            find_checkpoint(RunDirectory(config.storage.root / "runs" / model.run), model.checkpoint)
        else:
            locate(model, config.storage.root)


def require_same(run: RunDirectory, plan: SamplePlan) -> None:
    """A resumed job goes on with the models and the problems it was begun with; `ConfigError` names one that changed.
    There may be more of both."""
    models = {model.name: model.fingerprint for model in plan.models}
    for file, what, now in ((MODELS_FILE, "weights", models), (TASKS_FILE, "prompt or tests", _tasks(plan))):
        path = run.path / file
        before = json.loads(path.read_text()) if path.exists() else {}
        for name, fingerprint in now.items():
            if before.get(name, fingerprint) != fingerprint:
                raise ConfigError(
                    f"{run.path} was begun with other {what} of {name}; use --fresh or another name"
                )
        run.write(file, json.dumps(before | now, indent=1))


def require_same_tasks(run: RunDirectory, plan: SamplePlan) -> None:
    """The samples of a finished job answer the problems of `plan`; `ConfigError` names one that changed, came or
    went."""
    before, now = json.loads((run.path / TASKS_FILE).read_text()), _tasks(plan)
    for name in before | now:
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"{run.path} was made with another {name}: its samples are no answers to what is there now; "
                "bring back the problems, or use --fresh or another name"
            )


def _tasks(plan: SamplePlan) -> dict[str, str]:
    return {f"{benchmark}/{problem}": task.fingerprint for (benchmark, problem), task in plan.tasks.items()}


def sampling_resources(engine: EngineConfig, judge: JudgeConfig) -> dict[str, float]:
    """What must be there at least: for one engine and the verifiers."""
    one = {"CPU": engine.cpus_per_actor, "GPU": engine.gpus_per_actor}
    return total(one, {"CPU": judge.actors * judge.cpus_per_actor})


def load_benchmarks(config: EvaluateJobConfig) -> list[Benchmark]:
    """The benchmarks of `config`, limited as it says."""
    loaded = []
    for one in config.benchmarks:
        if isinstance(one, HumanEvalConfig):
            benchmark = humaneval(one.path, one.dataset, one.revision)
        elif isinstance(one, SourceBenchmarkConfig):
            benchmark = source_problems(build_source(one.source), one.split, one.name)
        else:
            store = SolutionStore.named(config.storage.root, one.store)
            benchmark = stored_problems(store, one.split, one.name)
        loaded.append(Benchmark(one.name, benchmark.tasks, benchmark.total).limited(one.limit))
    return loaded


def engine_work(
    config: VerifiedSamplesConfig, models: list[LocatedModel], benchmarks: list[Benchmark], log: SampleLog
) -> list[EngineWork]:
    """What is still to be drawn: models of one base share an engine (its adapters by LoRA requests), and each
    engine's problems are spread over `actors_per_model` actors. Samples that `log` has are left out."""
    settings = config.engine
    bases: dict[Path, list[LocatedModel]] = {}
    for model in models:
        bases.setdefault(model.directory, []).append(model)
    work = []
    for directory, members in bases.items():
        rank = max(member.lora_rank for member in members)
        engine = EngineSettings(
            model=str(directory),
            dtype=settings.dtype,
            threads=settings.threads_per_actor,
            tensor_parallel=max(1, int(settings.gpus_per_actor)),
            max_length=settings.max_length,
            long_prompts=settings.long_prompts,
            max_batch=settings.max_batch,
            cache_gb=settings.cache_gb,
            gpu_memory_share=settings.gpu_memory_share,
            lora_rank=rank or None,
        )
        for part in range(settings.actors_per_model):
            draws = [
                Draw(
                    model.name,
                    None if model.adapter is None else str(model.adapter),
                    Decoding(temperature, config.decoding.top_p, config.decoding.max_tokens),
                    requests,
                )
                for model in members
                for temperature in config.decoding.temperatures
                if (requests := _requests(config, model.name, temperature, benchmarks, log, part))
            ]
            if draws:
                work.append(EngineWork(engine, tuple(draws)))
    return work


def _requests(
    config: VerifiedSamplesConfig,
    model: str,
    temperature: float,
    benchmarks: list[Benchmark],
    log: SampleLog,
    part: int,
) -> tuple[Request, ...]:
    return tuple(
        Request(
            benchmark=benchmark.name,
            problem_id=task.problem_id,
            sample=sample,
            prompt=task.prompt,
            stops=task.stops,
            seed=request_seed(config.seed, benchmark.name, task.problem_id, sample),
        )
        for benchmark in benchmarks
        for number, task in enumerate(benchmark.tasks)
        if number % config.engine.actors_per_model == part
        for sample in range(config.decoding.samples_per_problem)
        if (model, temperature, benchmark.name, task.problem_id, sample) not in log
    )
