"""What every training job does around its objective: plan, check, resume or finish, train, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console

from wmtp_ray.cluster.connect import connected
from wmtp_ray.cluster.dry_run import described
from wmtp_ray.cluster.scoring import ScorerUse
from wmtp_ray.cluster.train import train_on_ray, training_resources
from wmtp_ray.cluster.worker import JobSide, WorkerSpec
from wmtp_ray.config import TrainingJobConfig
from wmtp_ray.config.command import Flags
from wmtp_ray.config.critic import LambdaReturnConfig
from wmtp_ray.config.explain import explained_yaml
from wmtp_ray.data.plan import Plan, make_plan
from wmtp_ray.data.store import SolutionStore, store_path
from wmtp_ray.errors import ModelError, StorageError
from wmtp_ray.evaluation.critic_diagnostics import diagnose
from wmtp_ray.models.fingerprint import model_fingerprint
from wmtp_ray.models.resolve import resolve_model
from wmtp_ray.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from wmtp_ray.report.runs import DIAGNOSTICS, training_run
from wmtp_ray.report.training import training_report
from wmtp_ray.storage.runs import REPORT, RunDirectory, commit, run_path
from wmtp_ray.training.checkpoint import complete_checkpoints, newest_state
from wmtp_ray.training.held_out import read_held_out_pairs
from wmtp_ray.training.metrics_file import read_metrics
from wmtp_ray.training.trainer import TrainerConfig

console = Console(highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Planned:
    """The store of a job and its plans."""

    store: SolutionStore
    training: Plan
    validation: Plan


def plan_job(config: TrainingJobConfig) -> Planned:
    """Open the store and make both plans; `StorageError` or `ConfigError` name what is missing."""
    store = SolutionStore.named(config.storage.root, config.data.store)
    once = config.data.plan.model_copy(update={"epochs": 1.0, "max_steps": None})
    return Planned(
        store=store,
        training=make_plan(store, config.data.sampling, config.data.plan),
        validation=make_plan(store, config.data.validation, once),
    )


def run_training_job(
    job: str, config: TrainingJobConfig, side: JobSide, flags: Flags, scorer: ScorerUse | None = None
) -> None:
    """Train as `config` says, or go on with what an earlier start of the same run left, or show its result.

    `config.model` names the backbone. `scorer` must have the backbone's tokenizer.
    """
    if flags.dry_run:
        return _describe(job, config, scorer)
    planned = plan_job(config)
    own = RunDirectory(run_path(config.storage.root, job, config.name))
    if config.resume is not None and (flags.fresh or not complete_checkpoints(own.checkpoints)):
        RunDirectory(config.resume).refuse_changes(config, free=("name", "resume"))
    run = RunDirectory.open(config.storage.root, job, config, fresh=flags.fresh)
    if run.result is not None:
        console.print(f"{run.path.name} is finished (--fresh starts anew):")
        _print_result(run.result)
        return console.print(f"  report: {run.path / REPORT}")
    backbone = resolve_model(config.model.name, config.storage.root / "models")  # pyright: ignore[reportAttributeAccessIssue]
    _require_tokenizer(backbone, planned.store)
    fingerprints = {
        "plan": planned.training.fingerprint,
        "store": planned.store.fingerprint,
        "model": model_fingerprint(backbone),
    }
    if scorer:
        fingerprints[scorer.section] = scorer.fingerprint(tokenizer_fingerprint(load_tokenizer(backbone)))
        scorer.require_same_folds(planned.store)
    planned.training.save(run.plan)
    planned.validation.save(run.validation_plan)
    spec = WorkerSpec(
        job=side,
        trainer=TrainerConfig(
            config.seed,
            config.optimizer,
            config.schedule,
            config.checkpoint,
            config.validation,
            config.resume,
            config.resume_allow,
        ),
        cluster=config.cluster,
        run=run.path,
        attempt=run.begin_attempt(),
        store=planned.store.path,
        backbone=backbone,
        fingerprints=fingerprints,
        tracking=config.tracking,
        described={"job": job, "commit": commit(), **{k: v[:16] for k, v in fingerprints.items()}},
    )
    console.print(f"{run.path.name}: {_plan_line(planned)}")
    _print_sampling(planned)
    with connected(training_resources(config.cluster, scorer, config.cluster.worker_range[0])):
        seconds, asked = train_on_ray(spec, scorer, planned.training.num_steps)
    result = {"fingerprints": fingerprints} | _result(run, config, planned, seconds)
    if asked:
        result["critic_forwards"] = asked.stored_batches
    _write_diagnostics(run, config, planned.store, backbone)
    run.write(REPORT, training_report(replace(training_run(run), result=result)))
    run.finish(result)
    _print_result(result)
    console.print(f"  report: {run.path / REPORT}")


def _write_diagnostics(
    run: RunDirectory, config: TrainingJobConfig, store: SolutionStore, backbone: Path
) -> None:
    """What a critic's held-out pairs say of it."""
    step, pairs = read_held_out_pairs(run.path)
    if pairs:
        ranking = not isinstance(getattr(config, "objective", None), LambdaReturnConfig)
        found = diagnose(step, pairs, store, load_tokenizer(backbone), ranking)
        run.write(DIAGNOSTICS, found.to_json())


def _require_tokenizer(backbone: Path, store: SolutionStore) -> None:
    found = tokenizer_fingerprint(load_tokenizer(backbone))
    if found != store.tokenizer_fingerprint:
        raise ModelError(
            f"the tokenizer of {backbone} is not the one that store {store.path} was prepared with; prepare one with "
            "this model's tokenizer, or train a model that has the store's"
        )


def _plan_line(planned: Planned) -> str:
    plan = planned.training
    return (
        f"{plan.num_steps} steps, {plan.useful_tokens} tokens, padding {plan.waste():.1%}; "
        f"validation on {planned.validation.useful_tokens} tokens of held-out problems"
    )


def _print_sampling(planned: Planned) -> None:
    """Samples that no bin took and bins that ran short are told, not only recorded in the plan."""
    for name, plan in (("training", planned.training), ("validation", planned.validation)):
        for line in plan.sampling_lines():
            console.print(f"  {name} on {line}")


def _describe(job: str, config: TrainingJobConfig, scorer: ScorerUse | None) -> None:
    console.print(explained_yaml(config))
    path = store_path(config.storage.root, config.data.store)
    planned = plan_job(config) if path.is_dir() else None
    if planned is None:
        console.print(f"{job}-{config.name}: no store {path} yet")
    else:
        console.print(f"{job}-{config.name}: {_plan_line(planned)}")
        _print_sampling(planned)
        for workers in sorted({1, *config.cluster.worker_range}):
            waste = planned.training.waste(workers)
            console.print(
                f"on {workers} worker{'s'[: workers > 1]}: padding and waiting {waste:.1%} of tokens"
            )
    for line in described(config, planned and planned.training, scorer):
        console.print(line)


def _result(run: RunDirectory, config: TrainingJobConfig, planned: Planned, seconds: float) -> dict[str, Any]:
    records = read_metrics(run.metrics)
    steps = [r for r in records if "tokens" in r]
    first = next((r for r in records if "tokens" not in r), {})
    begun = steps_before(steps, planned.training, config.resume is not None, run.metrics)
    step_seconds = sum(r["seconds"] for r in steps)
    state = newest_state(run.checkpoints)
    best = state.best if state else None
    return {
        "steps": planned.training.num_steps,
        "steps_before": begun,
        "samples": sum(r["samples"] for r in steps),
        "tokens": sum(r["tokens"] for r in steps),
        "seconds": seconds,
        "tokens_per_second": sum(r["tokens"] for r in steps) / step_seconds,
        "score_wait_share": sum(r["score_wait_seconds"] for r in steps) / step_seconds,
        "before": {k: v for k, v in first.items() if k.startswith("val_")},
        "after": {k: v for k, v in records[-1].items() if k.startswith("val_")},
        "best": best.model_dump() if best else None,
        "exported_step": run.exported_step,
        "last_step": {k: v for k, v in steps[-1].items() if not k.startswith("val_")},
    }


def steps_before(steps: Sequence[Mapping[str, Any]], plan: Plan, continued: bool, path: Path) -> int:
    """How many steps of the plan had been done before the first record of `steps`: 0, unless the run is `continued`
    from another. `StorageError` unless the records are of each step from there, with as many samples as planned."""
    begun = steps[0]["step"] - 1 if continued and steps else 0
    found = [(record["step"], record["samples"]) for record in steps]
    wanted = [
        (number + 1, sum(len(m.rows) for m in plan.step(number).micro_batches))
        for number in range(begun, plan.num_steps)
    ]
    differs = (step for step, pair in enumerate(zip_longest(found, wanted), begun + 1) if len(set(pair)) > 1)
    if step := next(differs, None):
        raise StorageError(
            f"{path}: step {step} is not there once with the plan's samples; the file was changed or lost lines, use "
            "--fresh"
        )
    return begun


def _print_result(result: dict[str, Any]) -> None:
    console.print(
        f"{result['steps']} steps, {result['samples']} samples as planned, {result['tokens']} tokens in "
        f"{result['seconds']:.0f} s ({result['tokens_per_second']:.0f} tokens/s while training)"
    )
    for name, value in result["after"].items():
        if isinstance(value, float | int):
            before = result["before"].get(name)
            console.print(f"  {name:28} {'' if before is None else f'{before:.4f} -> ':>14}{value:.4f}")
    line = f"exported: step {result['exported_step']}"
    if "critic_forwards" in result:
        waited, forwards = result["score_wait_share"], result["critic_forwards"]
        line += f"; waited for scores {waited:.1%} of the time; {forwards} micro-batches scored, the rest were cached"
    console.print(f"  {line}")
