"""Draw samples and judge them at the same time: engines stream completions, verifiers judge each as it
arrives.

    engine actor ── completions as they finish ──► driver ──► verifier actor (sandbox) ──► samples.jsonl

Engines that do not fit on the cluster's CPUs or GPUs wait for others to end. An engine that dies is replaced,
and asked only for what it had not delivered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError

from actors.answers import answer
from actors.sampler import EngineSettings, SamplerActor
from actors.verifier import VerifierActor
from wmtp_ray.config.evaluate import EngineConfig, JudgeConfig
from wmtp_ray.errors import InfraError
from wmtp_ray.evaluation.benchmarks import Task
from wmtp_ray.evaluation.limits import Limits
from wmtp_ray.evaluation.samples import JudgedSample, SampleLog
from wmtp_ray.evaluation.sampling import Completion, Decoding, Request
from wmtp_ray.evaluation.verify import Verdict
from wmtp_ray.storage.timeline import Span

JUDGED_AHEAD = 64
"""Programs that may wait for a verdict before completions are left waiting."""
VERIFIER_RETRIES = 3
"""How often a program goes to a verifier again that died over it."""
VERIFYING_SPAN_SECONDS = 10.0
"""Verdicts are put into the timeline together, for about so long."""


@dataclass(frozen=True)
class Draw:
    """What one engine is asked for on behalf of one model of the table."""

    model: str
    adapter: str | None
    decoding: Decoding
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class EngineWork:
    """One engine and all that it draws, one model after another."""

    settings: EngineSettings
    draws: tuple[Draw, ...]


@dataclass
class _Stream:
    """A live engine with what it still has to deliver."""

    work: EngineWork
    restarts_left: int
    actor: Any = None
    completions: Any = None
    position: int = 0
    missing: dict[tuple[str, str, int], Request] = field(default_factory=dict)
    activity: str = "loading engines"
    since: float = 0.0
    """When it began with `activity`."""

    @property
    def draw(self) -> Draw:
        return self.work.draws[self.position]


def draw_and_judge(
    work: Sequence[EngineWork],
    tasks: dict[tuple[str, str], Task],
    engine: EngineConfig,
    judge: JudgeConfig,
    log: SampleLog,
    on_sample: Callable[[JudgedSample], None],
    on_sandbox: Callable[[str], None],
    on_span: Callable[[Span], None] = lambda span: None,
) -> None:
    """Do all `work` and append every judged sample to `log`. `tasks` by (benchmark, problem id).
    `on_sandbox` is told what the verifiers' machines offer, before any engine loads; `on_span` when an engine was
    loading, sampling, and its samples were verified.

    Raises `InfraError` where an engine dies more often than `engine.max_restarts`, `SandboxError` where a
    verifier's machine cannot isolate, `DataError` for a prompt that no engine can take.
    """
    evaluation = _Evaluation(tasks, engine, judge, log, on_sample, on_span)
    try:
        for offered in evaluation.protections():
            on_sandbox(offered)
        evaluation.run(work)
    finally:
        evaluation.close()


class _Evaluation:
    def __init__(
        self,
        tasks: dict[tuple[str, str], Task],
        engine: EngineConfig,
        judge: JudgeConfig,
        log: SampleLog,
        on_sample: Callable[[JudgedSample], None],
        on_span: Callable[[Span], None],
    ) -> None:
        self._tasks, self._engine = tasks, engine
        self._log, self._on_sample, self._on_span = log, on_sample, on_span
        self._verifying: Span | None = None
        limits = Limits(
            judge.cpu_seconds, judge.wall_seconds, judge.memory_mb, judge.total_memory_mb, judge.processes
        )
        self._verifiers: list[Any] = [
            ray.remote(VerifierActor)
            .options(num_cpus=judge.cpus_per_actor, max_restarts=-1, max_task_retries=VERIFIER_RETRIES)
            .remote(limits, judge.fault_retries, judge.isolation)
            for _ in range(judge.actors)
        ]
        self._turn = 0
        self._judging: dict[ray.ObjectRef, tuple[Draw, Completion]] = {}
        self._streams: dict[Any, _Stream] = {}

    def run(self, work: Sequence[EngineWork]) -> None:
        for one in work:
            stream = _Stream(one, self._engine.max_restarts)
            self._start(stream)
            self._ask(stream)
        while self._streams or self._judging:
            streams = [] if len(self._judging) >= JUDGED_AHEAD else list(self._streams)
            ready, _ = ray.wait([*streams, *self._judging], num_returns=1, fetch_local=False)
            for item in ready:
                if item in self._streams:
                    self._advance(item)
                else:
                    self._record(item)
        self._end_verifying()

    def protections(self) -> list[str]:
        """What the verifiers' machines offer, each once; `SandboxError` where it is less than required."""
        offered = [verifier.protection.remote() for verifier in self._verifiers]
        return list(dict.fromkeys(str(answer(one)) for one in offered))

    def close(self) -> None:
        for actor in (*self._verifiers, *(stream.actor for stream in self._streams.values())):
            ray.kill(actor)

    def _start(self, stream: _Stream) -> None:
        stream.activity, stream.since = "loading engines", time.time()
        stream.actor = (
            ray.remote(SamplerActor)
            .options(num_cpus=self._engine.cpus_per_actor, num_gpus=self._engine.gpus_per_actor)
            .remote(stream.work.settings)
        )

    def _ask(self, stream: _Stream, again: bool = False) -> None:
        """Ask the stream's engine for its draw, or `again` for what is missing of it."""
        if not again:
            stream.missing = {(r.benchmark, r.problem_id, r.sample): r for r in stream.draw.requests}
        sample = stream.actor.sample.options(num_returns="streaming")
        completions = sample.remote(list(stream.missing.values()), stream.draw.decoding, stream.draw.adapter)
        self._streams[completions] = stream

    def _advance(self, completions: Any) -> None:
        """Take one completion of a stream; at its end begin the engine's next draw, or let the engine go."""
        stream = self._streams[completions]
        try:
            completion = answer(next(completions))
        except StopIteration:
            del self._streams[completions]
            self._end_activity(stream)
            assert not stream.missing, f"an engine ended without {len(stream.missing)} samples"
            stream.position += 1
            if stream.position < len(stream.work.draws):
                self._ask(stream)
            else:
                ray.kill(stream.actor)
            return
        except (RayActorError, InfraError) as error:
            del self._streams[completions]
            self._end_activity(stream)
            self._replace(stream, error)
            return
        if stream.activity != "sampling":
            self._end_activity(stream)
        del stream.missing[completion.benchmark, completion.problem_id, completion.sample]
        task = self._tasks[completion.benchmark, completion.problem_id]
        verifier = self._verifiers[self._turn % len(self._verifiers)]
        self._turn += 1
        verdict = verifier.judge.remote(task.program(completion.text), task.tests)
        self._judging[verdict] = (stream.draw, completion)

    def _end_activity(self, stream: _Stream) -> None:
        """Record what the stream's engine did until now; what follows is sampling."""
        now = time.time()
        self._on_span(Span(stream.activity, stream.since, now))
        stream.activity, stream.since = "sampling", now

    def _verified(self, seconds: float) -> None:
        """Add a verdict that took `seconds` to the span that is open, which is recorded and ends now and then."""
        now, span = time.time(), self._verifying
        start, before = (span.start, span.work) if span else (now - seconds, 0.0)
        self._verifying = Span("verifying", start, now, before + seconds)
        if now - start >= VERIFYING_SPAN_SECONDS:
            self._end_verifying()

    def _end_verifying(self) -> None:
        if self._verifying:
            self._on_span(self._verifying)
        self._verifying = None

    def _replace(self, stream: _Stream, error: RayActorError | InfraError) -> None:
        reason = str(error).strip().splitlines()[-1]
        model = stream.work.settings.model
        if "creation task" in str(error):
            raise InfraError(
                f"the engine of {model} could not be loaded ({reason}); see the log of its actor"
            ) from error
        if not stream.restarts_left:
            raise InfraError(
                f"the engine of {model} died {self._engine.max_restarts + 1} times, at last with {len(stream.missing)} "
                f"samples missing ({reason}); if it ran out of memory, lower engine.max_batch or engine.cache_gb; see "
                "the log of its actor"
            ) from error
        stream.restarts_left -= 1
        self._start(stream)
        self._ask(stream, again=True)

    def _record(self, reference: ray.ObjectRef) -> None:
        draw, completion = self._judging.pop(reference)
        try:
            verdict: Verdict = answer(reference)
        except RayActorError as error:
            raise InfraError(
                f"the verifier died {VERIFIER_RETRIES + 1} times over sample {completion.sample} of problem "
                f"{completion.problem_id} of {completion.benchmark} ({str(error).strip().splitlines()[-1]}); what was "
                "judged is kept: see the log of its actor and run the same command again"
            ) from error
        self._verified(verdict.seconds)
        sample = JudgedSample(
            model=draw.model,
            temperature=draw.decoding.temperature,
            benchmark=completion.benchmark,
            problem_id=completion.problem_id,
            sample=completion.sample,
            text=completion.text,
            tokens=completion.tokens,
            cut=completion.cut,
            status=verdict.status,
            detail=verdict.detail,
            cases_passed=verdict.cases_passed,
            cases=verdict.cases,
            seconds=round(verdict.seconds, 4),
        )
        self._log.append(sample)
        self._on_sample(sample)
