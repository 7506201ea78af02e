"""From judged samples to the result: pass@k with intervals, counts, and paired differences of models."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any, get_args

import numpy as np

from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.estimator import pass_at_k_per_problem
from wmtp_ray.evaluation.samples import JudgedSample, judged
from wmtp_ray.evaluation.statistics import Estimate, mean_share, paired_difference
from wmtp_ray.evaluation.verify import Status

_COLUMNS = (
    *(
        "model",
        "minus",
        "temperature",
        "benchmark",
        "k",
        "value",
        "low95",
        "high95",
        "problems",
        "problems_total",
        "samples",
    ),
    *("cases_passed", "cut", "mean_tokens"),
)


@dataclass(frozen=True)
class Row:
    """One model on one benchmark."""

    model: str
    temperature: float
    benchmark: str
    problems: int
    problems_total: int
    samples_per_problem: int
    pass_at_k: dict[int, Estimate]
    cases_passed: float
    """Mean share of test cases passed, over all samples. Those not run after a crash or time-out count as failed."""
    cut: int
    """Samples cut by a length limit."""
    mean_tokens: float
    counts: dict[str, int]
    """Samples by status; they add up to problems · samples_per_problem."""


@dataclass(frozen=True)
class Difference:
    """pass@k of `model` − pass@k of `reference` on the same problems, at the same temperature."""

    model: str
    reference: str
    temperature: float
    benchmark: str
    k: int
    estimate: Estimate


@dataclass(frozen=True)
class ResultTable:
    """All rows, and the differences of every pair of models."""

    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dicts."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "differences": [asdict(d) for d in self.differences],
        }

    def to_csv(self) -> str:
        """One line per row and k, then one per difference."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        counted = get_args(Status)
        writer.writerow([*_COLUMNS, *counted])
        for row in self.rows:
            for k, e in row.pass_at_k.items():
                writer.writerow(
                    [row.model, "", row.temperature, row.benchmark, k, e.mean, e.low, e.high]
                    + [
                        row.problems,
                        row.problems_total,
                        row.samples_per_problem,
                        row.cases_passed,
                        row.cut,
                        row.mean_tokens,
                    ]
                    + [row.counts.get(status, 0) for status in counted]
                )
        for d in self.differences:
            e = d.estimate
            writer.writerow(
                [d.model, d.reference, d.temperature, d.benchmark, d.k, e.mean, e.low, e.high]
                + [""] * (6 + len(counted))
            )
        return text.getvalue()


def result_table(
    samples: Iterable[JudgedSample],
    *,
    models: Sequence[str],
    temperatures: Sequence[float],
    problems: dict[str, Sequence[str]],
    totals: dict[str, int],
    samples_per_problem: int,
    ks: Sequence[int],
    seed: int = 0,
) -> ResultTable:
    """Aggregate `samples` of `models` on `problems` (ids of each benchmark, in order).

    Every (model, temperature, problem) must have exactly `samples_per_problem` samples, else `DataError`. A
    sample with a `sandbox_fault` says nothing about its model: its problem is estimated from the others,
    `DataError` if fewer than k. The resamples of all models and benchmarks share `seed`, so that a difference
    and its two rows agree.
    """
    drawn: dict[tuple[str, float, str, str], list[JudgedSample]] = defaultdict(list)
    for sample in samples:
        drawn[sample.model, sample.temperature, sample.benchmark, sample.problem_id].append(sample)
    rows, per_problem = [], {}
    for benchmark, ids in problems.items():
        for temperature, model in product(temperatures, models):
            groups = [drawn.pop((model, temperature, benchmark, problem), []) for problem in ids]
            for problem, group in zip(ids, groups, strict=True):
                if len(group) != samples_per_problem:
                    raise DataError(
                        f"{model} has {len(group)} samples of {benchmark} problem {problem}, not "
                        f"{samples_per_problem}; run the evaluation again to draw the rest"
                    )
            verdicts = [judged(group, max(ks)) for group in groups]
            numbers = [len(group) for group in verdicts]
            passed = [sum(s.status == "passed" for s in group) for group in verdicts]
            values = {k: pass_at_k_per_problem(numbers, passed, k) for k in ks}
            per_problem[model, temperature, benchmark] = values
            everything = [s for group in groups for s in group]
            rows.append(
                Row(
                    model=model,
                    temperature=temperature,
                    benchmark=benchmark,
                    problems=len(ids),
                    problems_total=totals[benchmark],
                    samples_per_problem=samples_per_problem,
                    pass_at_k={k: mean_share(v, seed=seed) for k, v in values.items()},
                    cases_passed=float(
                        np.mean([s.cases_passed / s.cases for group in verdicts for s in group])
                    ),
                    cut=sum(s.cut for s in everything),
                    mean_tokens=float(np.mean([s.tokens for s in everything])),
                    counts=dict(Counter(s.status for s in everything)),
                )
            )
    if drawn:
        raise DataError(
            f"samples of {next(iter(drawn))} belong to no row of the table; start anew with --fresh"
        )
    differences = tuple(
        Difference(
            model=later,
            reference=earlier,
            temperature=t,
            benchmark=benchmark,
            k=k,
            estimate=paired_difference(
                per_problem[later, t, benchmark][k], per_problem[earlier, t, benchmark][k], seed=seed
            ),
        )
        for benchmark, t in product(problems, temperatures)
        for earlier, later in combinations(models, 2)
        for k in ks
    )
    return ResultTable(tuple(rows), differences)
