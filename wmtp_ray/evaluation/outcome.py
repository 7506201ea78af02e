"""The result of an evaluation as files and as text on a terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from wmtp_ray.evaluation.rerank import CHOICES, Reranked
from wmtp_ray.evaluation.statistics import INTERVAL, Estimate
from wmtp_ray.evaluation.table import Difference, ResultTable, Row
from wmtp_ray.storage.manifest import write_bytes_atomically


def write_outcome(table: ResultTable, facts: dict[str, str], directory: Path) -> None:
    """`results.json` (rows, differences, facts) and `results.csv`."""
    content = table.to_json() | {"facts": facts}
    write_bytes_atomically(directory / "results.json", json.dumps(content, indent=1).encode())
    write_bytes_atomically(directory / "results.csv", table.to_csv().encode())


def read_outcome(directory: Path) -> tuple[ResultTable, dict[str, str]]:
    """The table and the facts that `write_outcome` wrote."""
    content = json.loads((directory / "results.json").read_text(encoding="utf-8"))
    rows = tuple(Row(**(row | {"pass_at_k": _by_k(row["pass_at_k"])})) for row in content["rows"])
    differences = tuple(
        Difference(**(d | {"estimate": Estimate(**d["estimate"])})) for d in content["differences"]
    )
    return ResultTable(rows, differences), content["facts"]


def write_reranked(rows: Sequence[Reranked], directory: Path) -> None:
    """`reranked.json` and `reranked.csv`: a line per row and choice, and one per difference."""
    write_bytes_atomically(
        directory / "reranked.json", json.dumps([asdict(r) for r in rows], indent=1).encode()
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["model", "temperature", "benchmark", "n", "choice", "value", "low95", "high95", "unscored"]
    )
    for row in rows:
        differences = {
            "critic-random": row.critic_minus_random,
            "critic-majority": row.critic_minus_majority,
        }
        for choice, e in {**row.solved, **differences}.items():
            writer.writerow(
                (
                    *(row.model, row.temperature, row.benchmark, row.samples_per_problem),
                    *(choice, e.mean, e.low, e.high, row.unscored),
                )
            )
    write_bytes_atomically(directory / "reranked.csv", text.getvalue().encode())


def read_reranked(directory: Path) -> list[Reranked]:
    """The rows that `write_reranked` wrote, none where there are none."""
    path = directory / "reranked.json"
    return [_reranked(row) for row in json.loads(path.read_text())] if path.exists() else []


def _reranked(row: dict[str, Any]) -> Reranked:
    content = dict(row)
    for name in ("critic_minus_random", "critic_minus_majority"):
        content[name] = Estimate(**row[name])
    content["solved"] = {choice: Estimate(**estimate) for choice, estimate in row["solved"].items()}
    return Reranked(**content)


def reranked_text(rows: Sequence[Reranked]) -> Group:
    """Best of n for a terminal."""
    table = Table(
        "benchmark",
        "model",
        "T",
        "n",
        *(f"{c} %" for c in CHOICES),
        "critic − random",
        box=None,
        pad_edge=False,
    )
    for row in rows:
        table.add_row(
            row.benchmark,
            row.model,
            f"{row.temperature:g}",
            str(row.samples_per_problem),
            *(_percent(row.solved[choice]) for choice in CHOICES),
            _percent(row.critic_minus_random, signed=True),
        )
    return Group("", "One of n samples, chosen at random, by majority on the tests, by the critic:", table)


def _by_k(estimates: dict[str, Any]) -> dict[int, Estimate]:
    return {int(k): Estimate(**estimate) for k, estimate in estimates.items()}


def outcome_text(table: ResultTable) -> Group:
    """Both tables for a terminal."""
    ks = list(table.rows[0].pass_at_k)
    results = Table(
        "benchmark", "model", "T", *(f"pass@{k} %" for k in ks), "problems", "cut", box=None, pad_edge=False
    )
    for row in table.rows:
        problems = (
            str(row.problems)
            if row.problems == row.problems_total
            else f"{row.problems} of {row.problems_total}"
        )
        results.add_row(
            row.benchmark,
            row.model,
            f"{row.temperature:g}",
            *map(_percent, row.pass_at_k.values()),
            problems,
            f"{row.cut} of {row.problems * row.samples_per_problem}",
        )
    if not table.differences:
        return Group(results)
    differences = Table(
        "benchmark", "difference", "T", *(f"pass@{k} %" for k in ks), box=None, pad_edge=False
    )
    for d in table.differences:
        if d.k == ks[0]:
            same = [
                e
                for e in table.differences
                if (e.benchmark, e.temperature, e.model, e.reference)
                == (d.benchmark, d.temperature, d.model, d.reference)
            ]
            cells = [_percent(e.estimate, signed=True) for e in same]
            differences.add_row(d.benchmark, f"{d.model} − {d.reference}", f"{d.temperature:g}", *cells)
    return Group(results, "", differences, f"In brackets: {INTERVAL}.")


def _percent(estimate: Estimate, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} [{low}, {high}]"
