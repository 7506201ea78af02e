"""pass@k of models: the table with causes of failure, paired differences, best of n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wmtp_ray.evaluation.rerank import CHOICES, Reranked
from wmtp_ray.evaluation.statistics import INTERVAL
from wmtp_ray.evaluation.table import ResultTable, Row
from wmtp_ray.report.figures import interval_chart
from wmtp_ray.report.markup import figure, interval, note, percent, section, table, warning

STATUS = {
    "passed": "passed",
    "wrong_answer": "wrong answer",
    "error": "run-time error",
    "syntax_error": "syntax error",
    "timeout": "time-out",
    "memory": "out of memory",
    "sandbox_fault": "sandbox fault",
}
"""What readers call the verdicts."""


def results(found: ResultTable, facts: Mapping[str, str]) -> str:
    """The table, and an interval plot for each benchmark. `facts["decoding"]` says how the samples were drawn."""
    ks = list(found.rows[0].pass_at_k)
    header = ["benchmark", "model", "T", *(f"pass@{k}" for k in ks)]
    header += ["tests passed", "cut", "tokens", "not passed, by cause"]
    body = [
        [row.benchmark, row.model, f"{row.temperature:g}"]
        + [interval(e) for e in row.pass_at_k.values()]
        + [percent(row.cases_passed), _share(row.cut, row), f"{row.mean_tokens:.0f}", _causes(row)]
        for row in found.rows
    ]
    limited = sorted({f"{r.benchmark}: {r.problems} of {r.problems_total} problems" for r in found.rows})
    charts = "".join(
        figure(
            interval_chart(
                {
                    f"pass@{k}": {
                        f"{r.model}, T={r.temperature:g}": r.pass_at_k[k]
                        for r in found.rows
                        if r.benchmark == benchmark
                    }
                    for k in ks
                },
                x_label="share of problems solved",
            ),
            caption=benchmark,
        )
        for benchmark in dict.fromkeys(row.benchmark for row in found.rows)
    )
    explained = (
        f"{'; '.join(limited)}. {facts['decoding']}. In brackets: {INTERVAL}. cut: samples "
        "that reached the length limit. tests passed: mean share of test cases; those "
        "not run after a crash or time-out count as failed."
    )
    tuned = facts.get("tuning")
    return section("Results", warning(tuned) if tuned else "", table(header, body), note(explained), charts)


def differences(found: ResultTable) -> str:
    """Each pair of models on the same problems."""
    if not found.differences:
        return ""
    body = [
        [
            d.benchmark,
            f"{d.model} − {d.reference}",
            f"{d.temperature:g}",
            f"pass@{d.k}",
            interval(d.estimate, signed=True),
            "differs" if d.estimate.excludes_zero else "not shown to differ",
        ]
        for d in found.differences
    ]
    return section(
        "Paired differences",
        table(["benchmark", "models", "T", "", "difference", "at 95%"], body),
        note(
            "In points of percent, on the same problems. An interval that holds 0 does not show a difference; several "
            "comparisons at 95% each are together less sure than 95%."
        ),
    )


def best_of_n(rows: Sequence[Reranked]) -> str:
    """What a critic's choice among each problem's samples solves."""
    if not rows:
        return ""
    header = ["benchmark", "model", "T", "n", *CHOICES, "critic − random", "critic − majority", "unscored"]
    body = [
        [row.benchmark, row.model, f"{row.temperature:g}", str(row.samples_per_problem)]
        + [interval(row.solved[choice]) for choice in CHOICES]
        + [interval(row.critic_minus_random, signed=True), interval(row.critic_minus_majority, signed=True)]
        + [str(row.unscored)]
        for row in rows
    ]
    return section(
        "Best of n",
        table(header, body),
        note(
            "Share of problems solved by one of n samples. random: any of them, which is pass@1. majority: of the "
            "largest group that did the same on the tests. critic: the one whose tokens the critic values most on "
            "average. any: whether one passes, which no choice can beat."
        ),
    )


def _share(count: int, row: Row) -> str:
    return percent(count / (row.problems * row.samples_per_problem))


def _causes(row: Row) -> str:
    found = [
        f"{n} {STATUS[status]}"
        for status, n in sorted(row.counts.items(), key=lambda c: -c[1])
        if status != "passed"
    ]
    return ", ".join(found) or "none"
