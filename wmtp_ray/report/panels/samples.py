"""What models wrote, to be browsed: problems with their samples and verdicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape

from wmtp_ray.evaluation.benchmarks import Benchmark
from wmtp_ray.evaluation.samples import JudgedSample
from wmtp_ray.report.markup import section
from wmtp_ray.report.panels.results import STATUS

SHOWN_PROBLEMS = 200
"""Problems of each benchmark, evenly spread, whose samples can be unfolded."""
SHOWN_SAMPLES = 5
"""Samples of one model for one of them."""
_FILTER = (
    "<p class=filter><label><input type=radio name=shown checked> all problems</label> "
    "<label><input type=radio name=shown id=only-different> those on which models differ</label> "
    "<label><input type=radio name=shown id=only-unsolved> those that none solved</label></p>"
)


def browsable_samples(benchmarks: Sequence[Benchmark], samples: Sequence[JudgedSample]) -> str:
    """Every shown problem is a line that unfolds into its statement and each model's samples."""
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
    return section("Samples", *parts)


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
        f"<h4>{sample.sample}: {STATUS[sample.status]}{cut}{escape(detail)}</h4>"
        f"<pre>{escape(sample.text)}</pre>"
    )
