"""From an evaluation's configuration to its work: models on disk, tasks, and which engine draws what."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.sampler import EngineSettings
from wmtp_ray.cluster.evaluation import Draw, EngineWork
from wmtp_ray.config.evaluate import EvaluatedModel, EvaluateJobConfig, HumanEvalConfig
from wmtp_ray.data.store import SolutionStore
from wmtp_ray.errors import ConfigError, ModelError
from wmtp_ray.evaluation.benchmarks import Benchmark, Task, humaneval, stored_problems
from wmtp_ray.evaluation.samples import SampleLog
from wmtp_ray.evaluation.sampling import Decoding, Request, request_seed
from wmtp_ray.models import model_fingerprint, resolve_model
from wmtp_ray.storage import verify_manifest
from wmtp_ray.storage.manifest import sha256_of_file
from wmtp_ray.storage.runs import RunDirectory, commit


@dataclass(frozen=True)
class LocatedModel:
    """A model of the table on disk: a plain Hugging Face directory, and an adapter on top of it or None."""

    name: str
    directory: Path
    adapter: Path | None
    fingerprint: str


@dataclass(frozen=True)
class EvaluationPlan:
    """All that an evaluation will do, before anything is started."""

    config: EvaluateJobConfig
    models: tuple[LocatedModel, ...]
    benchmarks: tuple[Benchmark, ...]

    @property
    def tasks(self) -> dict[tuple[str, str], Task]:
        """Tasks by (benchmark, problem id)."""
        return {(b.name, task.problem_id): task for b in self.benchmarks for task in b.tasks}

    @property
    def num_samples(self) -> int:
        """Samples of all models together."""
        d = self.config.decoding
        return len(self.models) * len(d.temperatures) * len(self.tasks) * d.samples_per_problem

    def missing(self, log: SampleLog) -> list[EngineWork]:
        """What `log` does not have yet."""
        return engine_work(self.config, list(self.models), list(self.benchmarks), log)

    def summary(self) -> str:
        """One line."""
        benchmarks = ", ".join(f"{b.name} ({len(b.tasks)} of {b.total} problems)" for b in self.benchmarks)
        models = ", ".join(model.name for model in self.models)
        return f"{self.num_samples} samples of {models} on {benchmarks}"

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
            f"model {m.name}": f"{m.fingerprint[:16]}{' with adapter' if m.adapter else ''}"
            for m in self.models
        }
        if d.tuned_on_reported_split:
            facts["tuning"] = "Settings were tuned on these very problems: the numbers are too good."
        return facts


def plan_evaluation(config: EvaluateJobConfig) -> EvaluationPlan:
    """Find every model and problem that `config` names; nothing is started."""
    models = tuple(locate(model, config.storage.root) for model in config.models)
    return EvaluationPlan(config, models, tuple(load_benchmarks(config)))


def require_same_models(run: RunDirectory, plan: EvaluationPlan) -> None:
    """A resumed evaluation goes on with the models it was begun with; `ConfigError` names the one that
    changed."""
    path = run.path / "models.json"
    now = {model.name: model.fingerprint for model in plan.models}
    if path.exists():
        before = json.loads(path.read_text())
        changed = [name for name, fingerprint in now.items() if before.get(name) != fingerprint]
        if changed:
            raise ConfigError(
                f"{run.path} was begun with other weights of {changed[0]}; use --fresh or another name"
            )
    run.write("models.json", json.dumps(now, indent=1))


def logical_cpus(config: EvaluateJobConfig) -> float:
    """CPUs that must be there at least: one engine and the verifiers."""
    return config.engine.cpus_per_actor + config.judge.actors * config.judge.cpus_per_actor


def locate(model: EvaluatedModel, root: Path) -> LocatedModel:
    """Where `model` lies; `StorageError` for an unfinished run, `ModelError` for an unusable model or
    adapter."""
    if model.run is not None and not model.as_adapter:
        export = root / "runs" / model.run / "export"
        return LocatedModel(model.name, export / "model", None, verify_manifest(export, "policy").fingerprint)
    if model.run is not None:
        export = root / "runs" / model.run / "export"
        fingerprint = verify_manifest(export, "policy").fingerprint
        adapter = export / "adapter"
        base = Path(_adapter_config(model.name, adapter)["base_model_name_or_path"])
        return LocatedModel(model.name, resolve_model(base, root / "models"), adapter, fingerprint)
    directory = resolve_model(str(model.model), root / "models")
    fingerprint = model_fingerprint(directory)
    if model.adapter is None:
        return LocatedModel(model.name, directory, None, fingerprint)
    adapter = model.adapter.expanduser()
    _adapter_config(model.name, adapter)
    hashes = [sha256_of_file(path) for path in sorted(adapter.glob("adapter_*"))]
    return LocatedModel(
        model.name, directory, adapter, hashlib.sha256("".join([fingerprint, *hashes]).encode()).hexdigest()
    )


def _adapter_config(name: str, adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise ModelError(
            f"model {name}: {adapter} is no PEFT adapter (no adapter_config.json); a policy finetuned in full has "
            "none: leave as_adapter out"
        )
    return json.loads(path.read_text())


def load_benchmarks(config: EvaluateJobConfig) -> list[Benchmark]:
    """The benchmarks of `config`, limited as it says."""
    loaded = []
    for one in config.benchmarks:
        if isinstance(one, HumanEvalConfig):
            benchmark = humaneval(one.path)
        else:
            store = SolutionStore.open(config.storage.root / "stores" / one.store)
            benchmark = stored_problems(store, one.split, one.name)
        loaded.append(Benchmark(one.name, benchmark.tasks, benchmark.total).limited(one.limit))
    return loaded


def engine_work(
    config: EvaluateJobConfig, models: list[LocatedModel], benchmarks: list[Benchmark], log: SampleLog
) -> list[EngineWork]:
    """What is still to be drawn: models of one base share an engine (its adapters by LoRA requests), and each
    engine's problems are spread over `actors_per_model` actors. Samples that `log` has are left out."""
    settings = config.engine
    bases: dict[Path, list[LocatedModel]] = {}
    for model in models:
        bases.setdefault(model.directory, []).append(model)
    work = []
    for directory, members in bases.items():
        ranks = [int(_adapter_config(m.name, m.adapter)["r"]) for m in members if m.adapter is not None]
        engine = EngineSettings(
            model=str(directory),
            dtype=settings.dtype,
            threads=settings.threads_per_actor,
            tensor_parallel=max(1, int(settings.gpus_per_actor)),
            max_length=settings.max_length,
            max_batch=settings.max_batch,
            cache_gb=settings.cache_gb,
            gpu_memory_share=settings.gpu_memory_share,
            lora_rank=max(ranks, default=None),
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
    config: EvaluateJobConfig,
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
