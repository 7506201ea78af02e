"""`report.html`: one file without any other, light and dark, readable on a phone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from wmtp_ray.evaluation.benchmarks import Benchmark
from wmtp_ray.evaluation.figures import histogram_chart, interval_chart, line_chart
from wmtp_ray.evaluation.rerank import CHOICES, Reranked
from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.evaluation.statistics import Estimate
from wmtp_ray.evaluation.table import ResultTable, Row
from wmtp_ray.evaluation.training_runs import TrainingRun, WeightedSample

SHOWN_PROBLEMS = 200
"""Problems of each benchmark, evenly spread, whose samples can be unfolded."""
SHOWN_SAMPLES = 5
"""Samples of one model for one of them."""
HISTOGRAM_TOP = 3.0
_STATUS = {
    "passed": "passed",
    "wrong_answer": "wrong answer",
    "error": "run-time error",
    "syntax_error": "syntax error",
    "timeout": "time-out",
    "memory": "out of memory",
    "sandbox_fault": "sandbox fault",
}
_FILTER = (
    "<p class=filter><label><input type=radio name=shown checked> all problems</label> "
    "<label><input type=radio name=shown id=only-different> those on which models differ</label> "
    "<label><input type=radio name=shown id=only-unsolved> those that none solved</label></p>"
)


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows."""

    title: str
    table: ResultTable
    benchmarks: Sequence[Benchmark]
    samples: Sequence[JudgedSample]
    runs: Sequence[TrainingRun]
    facts: dict[str, str]
    """What the numbers depend on: seed, decoding, commit, fingerprints."""
    config_yaml: str
    reranked: Sequence[Reranked] = ()


def render_report(content: ReportContent) -> str:
    """The page."""
    sections = [
        _results(content.table, content.facts),
        _differences(content.table),
        _best_of_n(content.reranked),
        _training(content.runs),
        _weights(content.runs),
        _samples(content.benchmarks, content.samples),
        f"<h2>Settings</h2>{_facts(content.facts)}"
        f"<details><summary>Resolved configuration</summary><pre>{escape(content.config_yaml)}</pre></details>",
    ]
    style = files("wmtp_ray.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(content.title)}</title>'
        f"<style>{style}</style></head>\n<body><main><h1>{escape(content.title)}</h1>\n"
        + "\n".join(sections)
        + "</main></body></html>\n"
    )


def _results(table: ResultTable, facts: dict[str, str]) -> str:
    ks = list(table.rows[0].pass_at_k)
    header = [
        "benchmark",
        "model",
        "T",
        *(f"pass@{k}" for k in ks),
        "tests passed",
        "cut",
        "tokens",
        "not passed, by cause",
    ]
    body = [
        [row.benchmark, row.model, f"{row.temperature:g}"]
        + [_interval(e) for e in row.pass_at_k.values()]
        + [_percent(row.cases_passed), _share(row.cut, row), f"{row.mean_tokens:.0f}", _causes(row)]
        for row in table.rows
    ]
    limited = sorted({f"{r.benchmark}: {r.problems} of {r.problems_total} problems" for r in table.rows})
    charts = "".join(
        _figure(
            interval_chart(
                {
                    f"pass@{k}": {
                        f"{r.model}, T={r.temperature:g}": r.pass_at_k[k]
                        for r in table.rows
                        if r.benchmark == benchmark
                    }
                    for k in ks
                },
                x_label="share of problems solved",
            ),
            caption=benchmark,
        )
        for benchmark in dict.fromkeys(row.benchmark for row in table.rows)
    )
    note = (
        f"{escape('; '.join(limited))}. {escape(facts['decoding'])}. In brackets: 95% bootstrap interval over "
        "problems. cut: samples that reached the length limit. tests passed: mean share of test cases."
    )
    tuned = facts.get("tuning")
    warning = f"<p class=warning>{escape(tuned)}</p>" if tuned else ""
    return f"<h2>Results</h2>{warning}{_table(header, body)}<p class=note>{note}</p>{charts}"


def _differences(table: ResultTable) -> str:
    if not table.differences:
        return ""
    body = [
        [
            d.benchmark,
            f"{d.model} − {d.reference}",
            f"{d.temperature:g}",
            f"pass@{d.k}",
            _interval(d.estimate, signed=True),
            "differs" if d.estimate.excludes_zero else "not shown to differ",
        ]
        for d in table.differences
    ]
    return (
        "<h2>Paired differences</h2>"
        + _table(["benchmark", "models", "T", "", "difference", "at 95%"], body)
        + "<p class=note>In points of percent, on the same problems. An interval that holds 0 does not show a "
        "difference; several comparisons at 95% each are together less sure than 95%.</p>"
    )


def _best_of_n(rows: Sequence[Reranked]) -> str:
    if not rows:
        return ""
    header = ["benchmark", "model", "T", "n", *CHOICES, "critic − random", "critic − majority", "unscored"]
    body = [
        [row.benchmark, row.model, f"{row.temperature:g}", str(row.samples_per_problem)]
        + [_interval(row.solved[choice]) for choice in CHOICES]
        + [_interval(row.critic_minus_random, signed=True), _interval(row.critic_minus_majority, signed=True)]
        + [str(row.unscored)]
        for row in rows
    ]
    return (
        f"<h2>Best of n</h2>{_table(header, body)}"
        "<p class=note>Share of problems solved by one of n samples. random: any of them, which is pass@1. majority: "
        "of the largest group that did the same on the tests. critic: the one whose tokens the critic values most on "
        "average. any: whether one passes, which no choice can beat.</p>"
    )


def _training(runs: Sequence[TrainingRun]) -> str:
    charts = []
    for key, label in (
        ("loss_unweighted", "unweighted loss"),
        ("loss", "loss as trained"),
        ("pairwise_accuracy", "pairwise accuracy"),
        ("weight_ess", "effective sample size"),
    ):
        curves = {run.name: curve for run in runs if (curve := run.curve(key))[0]}
        points = {run.name: curve for run in runs if (curve := run.curve(f"val_{key}"))[0]}
        if curves or points:
            charts.append(_figure(line_chart(curves, x_label="optimizer step", y_label=label, points=points)))
    return f"<h2>Training</h2>{''.join(charts)}" if charts else ""


def _weights(runs: Sequence[TrainingRun]) -> str:
    histograms = {run.name: bins for run in runs if (bins := run.weight_histogram) is not None}
    parts = []
    if histograms:
        chart = histogram_chart(histograms, top=HISTOGRAM_TOP, x_label="token weight")
        parts.append(
            _figure(chart)
            + "<p class=note>All response tokens of all steps; weights above 3 in the last bin.</p>"
        )
    for run in runs:
        if run.samples:
            legend = "".join(
                f'<span class=token style="{_tint(w)}">{w:g}</span>'
                for w in (0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)
            )
            parts.append(
                f"<h3>{escape(run.name)}: weights on held-out samples</h3>"
                f"<p class=note>Weight {legend}. Touch or point at a token for its value, advantage and weight.</p>"
            )
            parts += map(_heat_map, run.samples)
    return f"<h2>Token weights</h2>{''.join(parts)}" if parts else ""


def _heat_map(sample: WeightedSample) -> str:
    columns = zip(sample.tokens, sample.values, sample.advantages, sample.weights, strict=True)
    tokens = "".join(
        f'<span class=token tabindex=0 style="{_tint(w)}" '
        f'title="weight {w:.2f}, advantage {a:+.3f}, value {v:.3f}">{escape(text)}</span>'
        for text, v, a, w in columns
    )
    return f"<figure><figcaption>sample {escape(sample.sample_id)}</figcaption><pre class=heat>{tokens}</pre></figure>"


def _tint(weight: float) -> str:
    """Blue below 1, orange above, on a logarithmic scale that is full at 0.1 and 3."""
    strength = math.log(max(weight, 1e-3)) / math.log(3.0 if weight > 1 else 10.0)
    hue = "var(--more)" if strength > 0 else "var(--less)"
    return f"background:color-mix(in srgb,{hue} {min(abs(strength), 1.0) * 75:.0f}%,transparent)"


def _samples(benchmarks: Sequence[Benchmark], samples: Sequence[JudgedSample]) -> str:
    drawn: dict[tuple[str, str], dict[str, list[JudgedSample]]] = defaultdict(lambda: defaultdict(list))
    for s in sorted(samples, key=lambda s: s.sample):
        drawn[s.benchmark, s.problem_id][f"{s.model}, T={s.temperature:g}"].append(s)
    parts = [_FILTER]
    for benchmark in benchmarks:
        shown = benchmark.limited(SHOWN_PROBLEMS).tasks
        parts.append(
            f"<h3>{escape(benchmark.name)}: {len(shown)} problems, "
            f"at most {SHOWN_SAMPLES} samples of each model</h3>"
        )
        for task in shown:
            rows = drawn[benchmark.name, task.problem_id]
            rates = [sum(s.status == "passed" for s in row) / len(row) for row in rows.values()]
            kind = "unsolved" if not any(rates) else "different" if len(set(rates)) > 1 else ""
            parts.append(
                f"<details class='problem {kind}'><summary>{escape(task.problem_id)} "
                + " ".join(_mark(name, row) for name, row in rows.items())
                + f"</summary><pre>{escape(task.prompt)}</pre>"
                + "".join(_row_of_samples(name, row) for name, row in rows.items())
                + "</details>"
            )
    return f"<h2>Samples</h2>{''.join(parts)}"


def _mark(name: str, row: Sequence[JudgedSample]) -> str:
    passed = sum(s.status == "passed" for s in row)
    style = "passed" if passed else Counter(s.status for s in row).most_common(1)[0][0]
    return f'<span class="mark {style}">{escape(name)} {passed}/{len(row)}</span>'


def _row_of_samples(name: str, row: Sequence[JudgedSample]) -> str:
    return f"<details><summary>{escape(name)}</summary>{''.join(map(_answer, row[:SHOWN_SAMPLES]))}</details>"


def _answer(sample: JudgedSample) -> str:
    cut = ", cut at the length limit" if sample.cut else ""
    detail = f": {sample.detail}" if sample.detail else ""
    return (
        f"<h4>{sample.sample}: {_STATUS[sample.status]}{cut}{escape(detail)}</h4>"
        f"<pre>{escape(sample.text)}</pre>"
    )


def _facts(facts: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _table(header: Iterable[str], body: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _figure(svg: str, caption: str = "") -> str:
    return f"<figure>{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}{svg}</figure>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _share(count: int, row: Row) -> str:
    return _percent(count / (row.problems * row.samples_per_problem))


def _interval(estimate: Estimate, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"


def _causes(row: Row) -> str:
    found = [
        f"{n} {_STATUS[status]}"
        for status, n in sorted(row.counts.items(), key=lambda c: -c[1])
        if status != "passed"
    ]
    return ", ".join(found) or "none"
