"""Sample models with vLLM, judge every sample in a sandbox, report pass@k with intervals and paired
differences; with `--rerank`, what a critic's choice among each problem's samples would solve.

Unlike the proposal: all problems by default, tests that a program cannot talk its way past, one seed per
(problem, sample), intervals beside every number. A killed evaluation continues with the samples that are
missing.

    python jobs/evaluate.py --config configs/quickstart/evaluate.yaml storage.root=/data/wmtp
    python jobs/evaluate.py --config configs/quickstart/evaluate.yaml storage.root=/data/wmtp --rerank quickstart
    ray job submit --working-dir . -- python jobs/evaluate.py --config configs/production/evaluate.yaml
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from wmtp_ray.cluster.evaluation_plan import EvaluationPlan, check_models, plan_evaluation, require_same_tasks
from wmtp_ray.cluster.reranking import critic_values, find_reranker
from wmtp_ray.cluster.verified_samples import verified_samples
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.evaluate import EvaluateJobConfig, RerankConfig
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.config.load import dump_yaml
from wmtp_ray.evaluation.outcome import (
    outcome_text,
    read_outcome,
    read_reranked,
    reranked_text,
    write_outcome,
    write_reranked,
)
from wmtp_ray.evaluation.rerank import Reranked, answer_of, rerank
from wmtp_ray.evaluation.samples import SAMPLES_FILE, JudgedSample, read_samples
from wmtp_ray.evaluation.table import ResultTable, result_table
from wmtp_ray.report.evaluation import EvaluationReport
from wmtp_ray.report.runs import read_training_run
from wmtp_ray.storage.runs import REPORT, RunDirectory
from wmtp_ray.storage.timeline import read_timeline

console = Console(highlight=False, markup=False, soft_wrap=True)


def run(config: EvaluateJobConfig, flags: Flags) -> None:
    """Evaluate as `config` says, or go on with what is missing, or show the result of a finished evaluation."""
    plan = plan_evaluation(config)
    if flags.dry_run:
        check_models(config)
        _require_beside(config)
        console.print(f"{explained_yaml(config)}\nevaluate-{config.name}: {plan.summary()}")
        return
    run = RunDirectory.open(config.storage.root, "evaluate", config, fresh=flags.fresh)
    finished = run.result is not None
    if finished:
        console.print(f"{run.path.name} is finished (--fresh starts anew):")
        if config.rerank is None:
            return _show(run, read_outcome(run.path)[0], read_reranked(run.path))
        require_same_tasks(run, plan)
        samples = list(read_samples(run.path / SAMPLES_FILE))
        table, facts = read_outcome(run.path)
    else:
        _require_beside(config)
        samples = verified_samples(plan, run, console.print)
        table, facts = _table(config, plan, samples), plan.facts()
        write_outcome(table, facts, run.path)
    reranked: Sequence[Reranked] = []
    if config.rerank is not None:
        reranked = _reranked(config, config.rerank, plan, samples)
        write_reranked(reranked, run.path)
    runs = [read_training_run(config.storage.root, name) for name in config.report.runs]
    report = EvaluationReport(
        title=config.report.title,
        table=table,
        benchmarks=plan.benchmarks,
        samples=samples,
        runs=runs,
        facts=facts,
        config_yaml=dump_yaml(config),
        reranked=reranked,
        timeline=read_timeline(run.path),
        attempts=run.attempts,
    )
    run.write(REPORT, report.html())
    if not finished:
        run.finish({"samples": len(samples)} | table.to_json())
    _show(run, table, reranked)


def _require_beside(config: EvaluateJobConfig) -> None:
    """What is read after all sampling is there before it."""
    for name in config.report.runs:
        read_training_run(config.storage.root, name)
    if config.rerank is not None:
        find_reranker(config.rerank, config.storage.root)


def _table(config: EvaluateJobConfig, plan: EvaluationPlan, samples: list[JudgedSample]) -> ResultTable:
    return result_table(
        samples,
        models=[model.name for model in config.models],
        temperatures=config.decoding.temperatures,
        problems={b.name: [task.problem_id for task in b.tasks] for b in plan.benchmarks},
        totals={b.name: b.total for b in plan.benchmarks},
        samples_per_problem=config.decoding.samples_per_problem,
        ks=config.decoding.k,
        seed=config.seed,
    )


def _reranked(
    config: EvaluateJobConfig, critic: RerankConfig, plan: EvaluationPlan, samples: list[JudgedSample]
) -> list[Reranked]:
    """The samples once more, chosen by the critic."""
    tasks = plan.tasks
    answers = {s.key: answer_of(tasks[s.benchmark, s.problem_id], s.text) for s in samples}
    values = critic_values(critic, config.storage.root, f"rerank-{config.name}", answers)
    return rerank(plan.in_order(samples), values, config.seed)


def _show(run: RunDirectory, table: ResultTable, reranked: Sequence[Reranked]) -> None:
    console.print(outcome_text(table))
    if reranked:
        console.print(reranked_text(reranked))
    console.print(f"report: {run.path / REPORT}")


if __name__ == "__main__":
    run_command(EvaluateJobConfig, run, __doc__, shorthands={"--rerank": "rerank.run"})
