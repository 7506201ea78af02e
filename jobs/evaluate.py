"""Sample models with vLLM, judge every sample in a sandbox, report pass@k with intervals and paired
differences.

Departs from the seed: all problems by default, tests that a program cannot talk its way past, one seed per
(problem, sample), intervals beside every number. A killed evaluation continues with the samples that are
missing.

    python jobs/evaluate.py --config configs/quickstart/evaluate.yaml storage.root=/data/wmtp
    ray job submit --working-dir . -- python jobs/evaluate.py --config configs/production/evaluate.yaml
"""

from __future__ import annotations

from rich.console import Console

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.evaluation import draw_and_judge
from wmtp_ray.cluster.evaluation_plan import (
    EvaluationPlan,
    logical_cpus,
    plan_evaluation,
    require_same_models,
)
from wmtp_ray.config.command import Flags, run_command
from wmtp_ray.config.evaluate import EvaluateJobConfig
from wmtp_ray.config.load import dump_yaml
from wmtp_ray.evaluation.outcome import outcome_text, read_outcome, write_outcome
from wmtp_ray.evaluation.progress import EvaluationProgress
from wmtp_ray.evaluation.report import ReportContent, render_report
from wmtp_ray.evaluation.samples import SampleLog
from wmtp_ray.evaluation.table import ResultTable, result_table
from wmtp_ray.evaluation.training_runs import read_training_run
from wmtp_ray.storage.runs import RunDirectory

console = Console(highlight=False, soft_wrap=True)


def run(config: EvaluateJobConfig, flags: Flags) -> None:
    """Evaluate as `config` says, or go on with what is missing, or show the result of a finished evaluation."""
    plan = plan_evaluation(config)
    if flags.dry_run:
        console.print(f"{dump_yaml(config)}\nevaluate-{config.name}: {plan.summary()}")
        return
    run = RunDirectory.open(config.storage.root, "evaluate", config, fresh=flags.fresh)
    if run.result is not None:
        console.print(f"{run.path.name} is finished (--fresh starts anew):")
        return _show(run, read_outcome(run.path))
    require_same_models(run, plan)
    log = SampleLog(run.path / "samples.jsonl")
    console.print(
        f"{run.path.name}: {plan.summary()}" + (f"; {len(log.samples)} are there" if log.samples else "")
    )
    work = plan.missing(log)
    if work:
        progress = EvaluationProgress(len(log.samples), plan.num_samples)
        with connected(logical_cpus(config)):
            draw_and_judge(work, plan.tasks, config.engine, config.judge, log, progress, _show_sandbox)
    log.close()
    table = result_table(
        log.samples,
        models=[model.name for model in plan.models],
        temperatures=config.decoding.temperatures,
        problems={b.name: [task.problem_id for task in b.tasks] for b in plan.benchmarks},
        totals={b.name: b.total for b in plan.benchmarks},
        samples_per_problem=config.decoding.samples_per_problem,
        ks=config.decoding.k,
        seed=config.seed,
    )
    facts = plan.facts()
    write_outcome(table, facts, run.path)
    _write_report(config, run, plan, log, table, facts)
    run.finish({"samples": len(log.samples)} | table.to_json())
    _show(run, table)


def _write_report(
    config: EvaluateJobConfig,
    run: RunDirectory,
    plan: EvaluationPlan,
    log: SampleLog,
    table: ResultTable,
    facts: dict[str, str],
) -> None:
    runs = [read_training_run(config.storage.root, name) for name in config.report.runs]
    content = ReportContent(
        config.report.title, table, plan.benchmarks, log.samples, runs, facts, dump_yaml(config)
    )
    run.write("report.html", render_report(content))


def _show_sandbox(offered: str) -> None:
    console.print(f"sandbox: {offered}")


def _show(run: RunDirectory, table: ResultTable) -> None:
    console.print(outcome_text(table))
    console.print(f"report: {run.path / 'report.html'}")


if __name__ == "__main__":
    run_command(EvaluateJobConfig, run, __doc__)
