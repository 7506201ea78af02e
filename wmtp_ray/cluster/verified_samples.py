"""The samples that a plan asks for, drawn and judged; what a killed job left is not drawn again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.evaluation import draw_and_judge
from wmtp_ray.cluster.evaluation_plan import SamplePlan, require_same, sampling_resources
from wmtp_ray.evaluation.progress import EvaluationProgress
from wmtp_ray.evaluation.samples import SAMPLES_FILE, JudgedSample, SampleLog
from wmtp_ray.storage.runs import RunDirectory
from wmtp_ray.storage.timeline import record_span


def verified_samples(plan: SamplePlan, run: RunDirectory, say: Callable[[str], None]) -> list[JudgedSample]:
    """All samples of `plan`, judged, as they came; they are also in the run's `samples.jsonl`.

    Connects to Ray while something is missing. Errors: those of `draw_and_judge`, and a `ConfigError` where a model or
    a problem changed since the run was begun.
    """
    require_same(run, plan)
    log = SampleLog(run.path / SAMPLES_FILE)
    there = f"; {len(log.samples)} are there" if log.samples else ""
    say(f"{run.path.name}: {plan.summary()}{there}")
    work = plan.missing(log)
    if not work:
        log.close()
        return log.samples
    run.begin_attempt()
    with closing(log), connected(sampling_resources(plan.config.engine, plan.config.judge)):
        draw_and_judge(
            work,
            plan.tasks,
            plan.config.engine,
            plan.config.judge,
            log,
            EvaluationProgress(len(log.samples), plan.num_samples),
            lambda offered: say(f"sandbox: {offered}"),
            partial(record_span, run.path),
        )
    return log.samples
