"""A comparison as tables: for a terminal, Markdown, CSV, JSON and the report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from wmtp_ray.evaluation.comparison import LOSS, Comparison
from wmtp_ray.evaluation.contrasts import SEEDS_TO_JUDGE, Contrast


@dataclass(frozen=True)
class Listing:
    """One table, as text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def listings(comparison: Comparison) -> Iterator[Listing]:
    """The tables of a comparison."""
    yield _arms(comparison)
    yield _costs(comparison)
    yield _contrasts(f"Differences in {LOSS}", comparison.secondary, comparison.primary)
    for metric, contrasts in comparison.others.items():
        yield _contrasts(f"Differences in {metric}", contrasts)


def markdown(comparison: Comparison) -> str:
    """Tables, sentences and facts, as they stand in a page of documentation."""
    parts = []
    for table in listings(comparison):
        lines = [
            f"**{table.title}**",
            "",
            _line(table.header),
            _line(["---"] + ["---:"] * (len(table.header) - 1)),
        ]
        parts.append(
            "\n".join([*lines, *map(_line, table.rows)]) + (f"\n\n{table.note}" if table.note else "")
        )
    parts.append("\n".join(f"- {sentence}" for sentence in comparison.sentences))
    parts.append("; ".join(f"{key}: {value}" for key, value in comparison.facts.items()) + ".")
    return "\n\n".join(parts) + "\n"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Plain lists and dicts; a number of operations that is not known is null."""
    content = asdict(replace(comparison, arms=()))
    content["arms"] = [
        asdict(replace(arm, metrics={}))
        | {"metrics": {metric: numbers.mean(axis=1).tolist() for metric, numbers in arm.metrics.items()}}
        for arm in comparison.arms
    ]
    return _known(content | {"sentences": comparison.sentences})


def to_csv(comparison: Comparison) -> str:
    """A line per arm, seed and metric, then one per contrast."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        (
            *("arm", "minus", "metric", "seed", "value", "low95", "high95", "p", "adjusted_p", "detectable"),
            *("learning_rate", "steps", "tokens", "flops", "labelled"),
        )
    )
    for arm in comparison.arms:
        for metric, numbers_SP in arm.metrics.items():
            for seed, cost, value in zip(comparison.seeds, arm.costs, numbers_SP.mean(axis=1), strict=True):
                flops = "" if math.isnan(cost.total) else f"{cost.total:.6g}"
                spent = (arm.rate, cost.steps, cost.tokens, flops, cost.labelled)
                writer.writerow((arm.name, "", metric, seed, f"{value:.8g}", "", "", "", "", "", *spent))
    everything = {LOSS: (comparison.primary, *comparison.secondary), **comparison.others}
    for metric, contrasts in everything.items():
        for c in contrasts:
            e = c.estimate
            numbers = (e.mean, e.low, e.high, c.p_value, c.adjusted_p, c.detectable)
            shown = ("" if math.isnan(n) else f"{n:.8g}" for n in numbers)
            writer.writerow((c.treated, c.reference, metric, "all", *shown, *[""] * 5))
    return text.getvalue()


def _arms(comparison: Comparison) -> Listing:
    metrics = list(comparison.arms[0].metrics)
    rows = []
    for arm in comparison.arms:
        means = [arm.metrics[metric].mean(axis=1) for metric in metrics]
        own = [f"{of_seed.mean():.4f}" for of_seed in means]
        rows.append(
            (
                arm.name,
                *own,
                " ".join(f"{value:.4f}" for value in means[0]),
                _spread(means[0]),
                f"{arm.rate:g}",
            )
        )
    return Listing(
        "Arms",
        ("arm", *metrics, f"{LOSS} by seed", "spread", "learning rate"),
        tuple(rows),
        f"{LOSS}: nats per token of the next token, mean of a problem's programs, then over problems and seeds. "
        "spread: standard deviation over seeds.",
    )


def _costs(comparison: Comparison) -> Listing:
    rows = []
    for arm in comparison.arms:
        parts = [
            float(np.mean([getattr(c, part) for c in arm.costs]))
            for part in ("policy", "scorer_training", "scoring")
        ]
        rows.append(
            (
                arm.name,
                f"{arm.costs[0].steps:,}",
                f"{np.mean([c.tokens for c in arm.costs]):,.0f}",
                f"{np.mean([c.passes for c in arm.costs]):.1f}",
                *(tera(flops) for flops in (*parts, sum(parts), arm.search_flops)),
                f"{arm.device_seconds:,.0f}",
                f"{np.mean([c.labelled for c in arm.costs]):,.0f}",
            )
        )
    return Listing(
        "What one policy of each arm took",
        (
            *(
                "arm",
                "steps",
                "tokens",
                "passes",
                "TFLOP policy",
                "critic's training",
                "scoring",
                "in all",
                "search",
            ),
            *("device seconds", "labelled programs"),
        ),
        tuple(rows),
        "Means over seeds. passes: how often a policy meets one of its programs. Operations are counted from shapes "
        "and tokens, a critic's or reference model's training and its scoring of each program once as if for this "
        "policy alone. search: learning rates that were not taken. device seconds: as measured, of optimizer steps on "
        "all train workers and of scoring; what an earlier cell had left in the score cache cost the later ones "
        "nothing.",
    )


def _contrasts(title: str, contrasts: Sequence[Contrast], primary: Contrast | None = None) -> Listing:
    rows = []
    for c in ([primary] if primary else []) + list(contrasts):
        e = c.estimate
        rows.append(
            (
                f"{c.treated} − {c.reference}{' (primary)' if c is primary else ''}",
                f"{e.mean:+.4f}",
                f"{e.low:+.4f} to {e.high:+.4f}",
                " ".join(f"{value:+.4f}" for value in c.by_seed),
                _p(c.p_value),
                "" if c is primary else _p(c.adjusted_p),
                "" if c.indistinct or math.isnan(c.detectable) else f"{c.detectable:.4f}",
                c.judgement,
            )
        )
    header = ("contrast", "difference", "95% interval", "by seed", "p", "Holm", "detectable", "so")
    kept = [n for n in range(len(header)) if any(row[n] for row in rows)]
    return Listing(
        title,
        tuple(header[n] for n in kept),
        tuple(tuple(row[n] for n in kept) for row in rows),
        ""
        if primary is None
        else "Intervals over problems and seeds, both resampled; a critic or reference model is one training, the same "
        "under every seed, so no interval speaks of other ones. detectable: the true difference that would be found "
        f"four times in five after the correction; with fewer than {SEEDS_TO_JUDGE} seeds none is.",
    )


def _spread(of_seed: np.ndarray) -> str:
    return f"{of_seed.std(ddof=1):.4f}" if of_seed.size > 1 else ""


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def tera(flops: float) -> str:
    """In 10^12 operations, to three digits."""
    if math.isnan(flops):
        return "unknown"
    return f"{flops / 1e12:,.0f}" if flops >= 1e14 else f"{flops / 1e12:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _known(content: Any) -> Any:
    """nan as null, which JSON has."""
    if isinstance(content, dict):
        return {key: _known(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_known(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
