"""From finished cells to the numbers of a comparison, and what a dry run says of its matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from wmtp_ray.cluster.cells import device_seconds, losses_by_problem
from wmtp_ray.cluster.matrix import JOB, Cell, Matrix
from wmtp_ray.config.compare import CompareJobConfig, PassAtKConfig
from wmtp_ray.config.evaluate import EvaluatedModel, EvaluateJobConfig
from wmtp_ray.errors import StorageError
from wmtp_ray.evaluation.comparison import LOSS, ArmResult, Comparison, compare
from wmtp_ray.evaluation.estimator import pass_at_k_per_problem
from wmtp_ray.evaluation.listings import tera
from wmtp_ray.evaluation.samples import JudgedSample, judged
from wmtp_ray.storage.runs import commit

DECIDES = "val_loss_head_1"
"""The metric of validation that a learning rate is chosen by: the loss of the next token."""
MAY_GROW = (
    *("models", "benchmarks", "decoding.temperature", "decoding.samples_per_problem", "decoding.k"),
    *("engine.actors_per_model", "judge.actors"),
)
"""What the evaluation of a comparison may be asked for besides: samples that are missing are drawn then."""


def best_rates(matrix: Matrix, tried: Sequence[Cell]) -> dict[str, float]:
    """The learning rate of each arm: the one with the lowest validation loss, the lower one of equals."""
    if not tried:
        return dict.fromkeys((arm.name for arm in matrix.comparison.arms), matrix.comparison.rates[0])
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for cell in tried:
        result = cell.run.result
        assert result is not None
        if DECIDES not in result["after"]:
            raise StorageError(f"{cell.run.path} has no validation loss to choose a learning rate by")
        losses[cell.arm].append((result["after"][DECIDES], cell.rate))
    return {arm: min(of_arm)[1] for arm, of_arm in losses.items()}


def evaluation_of(
    config: CompareJobConfig, wanted: PassAtKConfig, cells: Sequence[Cell]
) -> EvaluateJobConfig:
    """The evaluation of all cells: adapters of one base share its engine."""
    models = tuple(
        EvaluatedModel(
            name=_model_name(cell),
            run=f"{JOB}-{cell.config.name}",
            as_adapter=cell.config.model.lora is not None,
        )
        for cell in cells
    )
    return EvaluateJobConfig(
        name=evaluation_name(config),
        storage=config.storage,
        seed=wanted.seed,
        models=models,
        benchmarks=wanted.benchmarks,
        decoding=wanted.decoding,
        engine=wanted.engine,
        judge=wanted.judge,
        resume_allow=MAY_GROW,
    )


def evaluation_name(config: CompareJobConfig) -> str:
    """Name of the evaluation's run."""
    return f"compare-{config.name}"


def gather(
    matrix: Matrix, cells: Sequence[Cell], tried: Sequence[Cell], samples: Sequence[JudgedSample]
) -> Comparison:
    """The comparison of finished cells."""
    config, problems = matrix.comparison, matrix.store.index.row_problem
    solved_by = solved(samples, config.pass_at_k.decoding.k if config.pass_at_k else ())
    arms = []
    for arm in config.arms:
        own = [cell for cell in cells if cell.arm == arm.name]
        taken = {cell.config.name for cell in own}
        scorers = [(m, part) for m in matrix.read_by(arm) for part in m.parts]
        metrics = {LOSS: np.stack([losses_by_problem(cell, matrix.held_out, problems) for cell in own])} | {
            metric: np.stack([by_model[_model_name(cell)] for cell in own])
            for metric, by_model in solved_by.items()
        }
        arms.append(
            ArmResult(
                name=arm.name,
                rate=own[0].rate,
                costs=tuple(cell.cost for cell in own),
                device_seconds=float(np.mean([device_seconds(cell.run) for cell in own]))
                + sum(device_seconds(model.directory(part)) for model, part in scorers),
                search_flops=sum(
                    c.cost.policy for c in tried if c.arm == arm.name and c.config.name not in taken
                ),
                metrics=metrics,
            )
        )
    return compare(config.name, config.seeds, arms, config.primary, config.secondary, _facts(matrix, cells))


def described(matrix: Matrix) -> Iterator[str]:
    """What a dry run says: each model and cell, what is there already, and what is left to do."""
    for model in matrix.frozen:
        state = "finished, used as it is" if model.finished else "will be trained"
        steps = sum(model.plan(part).num_steps for part in model.parts)
        yield f"{model.kind}-{model.run}: {state}; {len(model.parts)} of it, {steps:,} steps"
    rates = dict.fromkeys((arm.name for arm in matrix.comparison.arms), matrix.comparison.rates[0])
    tried = matrix.tried()
    cells = [*tried, *(c for c in matrix.cells(rates) if c.config.name not in {t.config.name for t in tried})]
    for cell in cells:
        state = "finished, reused" if cell.finished else "to train"
        cost = cell.cost
        yield (
            f"{JOB}-{cell.config.name}: {state}; {cost.steps:,} steps, {cost.tokens:,} tokens, "
            f"{tera(cost.policy)} TFLOP of its own, {tera(cost.total)} with critic and scoring, "
            f"{cost.labelled:,} labelled programs"
        )
    if tried:
        yield (
            f"{len(tried)} cells choose among learning rates {matrix.comparison.rates}; the names of the others "
            "follow then"
        )
    left = [cell for cell in cells if not cell.finished]
    steps, tokens, flops = (
        sum(getattr(c.cost, part) for c in left) for part in ("steps", "tokens", "policy")
    )
    yield (
        f"{len(cells)} cells, {len(cells) - len(left)} of them finished; left: {steps:,} steps, {tokens:,} tokens, "
        f"{tera(flops)} TFLOP"
    )
    held_out = matrix.held_out
    yield (
        f"measured on {len(held_out.columns['row'])} programs of {held_out_problems(matrix)} held-out problems, "
        f"{held_out.useful_tokens:,} tokens"
    )


def held_out_problems(matrix: Matrix) -> int:
    """Problems that the arms are compared on."""
    return len(np.unique(matrix.store.index.row_problem[matrix.held_out.columns["row"]]))


def solved(samples: Sequence[JudgedSample], ks: Sequence[int]) -> dict[str, dict[str, np.ndarray]]:
    """pass@k [problems] by metric and model, the same problems for every model, in the order of their names.
    `DataError` where faults of the sandbox left too few verdicts on one of them."""
    drawn: dict[str, dict[str, dict[str, list[JudgedSample]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for s in samples:
        drawn[s.benchmark][s.model][s.problem_id].append(s)
    passed = {
        benchmark: {
            model: {
                problem: [s.status == "passed" for s in judged(of_problem, max(ks))]
                for problem, of_problem in problems.items()
            }
            for model, problems in by_model.items()
        }
        for benchmark, by_model in drawn.items()
    }
    return {
        f"pass@{k} ({benchmark})": {
            model: pass_at_k_per_problem(
                [len(problems[p]) for p in sorted(problems)], [sum(problems[p]) for p in sorted(problems)], k
            )
            for model, problems in by_model.items()
        }
        for benchmark, by_model in passed.items()
        for k in ks
    }


def _facts(matrix: Matrix, cells: Sequence[Cell]) -> dict[str, str]:
    config, held_out = matrix.comparison, matrix.held_out
    commits = sorted({attempt["commit"] for cell in cells for attempt in cell.run.attempts})
    scorers = {m.run for m in matrix.frozen}
    return {
        "comparison": config.name,
        "base": f"{config.policy.model.name} ({matrix.base_fingerprint[:16]})",
        "critics and references": ", ".join(sorted(scorers)) or "none",
        "store": f"{config.policy.data.store} ({matrix.store.fingerprint[:16]})",
        "seeds": ", ".join(map(str, config.seeds)),
        "held out": f"{len(held_out.columns['row'])} programs of {held_out_problems(matrix)} problems of split "
        f"{config.held_out.split}",
        **({"pass@k": _drawn(config.pass_at_k)} if config.pass_at_k else {}),
        "learning rates tried by every arm": ", ".join(f"{rate:g}" for rate in config.rates),
        "cells trained at": ", ".join(commits),
        "compared at": commit(),
    }


def _drawn(wanted: PassAtKConfig) -> str:
    """How the samples were drawn that pass@k is of."""
    d = wanted.decoding
    limits = ", ".join(f"{b.name}{f' ({b.limit} problems)' if b.limit else ''}" for b in wanted.benchmarks)
    return (
        f"{d.samples_per_problem} samples per problem at temperature {d.temperatures[0]:g}, top-p {d.top_p:g}, at most "
        f"{d.max_tokens} tokens, of {limits}"
        + (", tuned on these very problems" if d.tuned_on_reported_split else "")
    )


def _model_name(cell: Cell) -> str:
    return f"{cell.arm}-{cell.seed}"
