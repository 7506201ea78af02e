"""The result of a comparison: a row per arm, contrasts between arms, and what they say in plain words."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from wmtp_ray.evaluation.contrasts import SEEDS_TO_JUDGE, Contrast, contrast, holm

LOSS = "held-out loss"
"""The primary metric: nats per token of held-out programs by the next-token head, a problem's mean; lower is better."""


@dataclass(frozen=True)
class CellCost:
    """What one policy takes that is trained from nothing, its critic or reference model for it alone."""

    policy: float
    """Floating-point operations of training it; nan where a model's shape is not known, as in the next two."""
    scorer_training: float
    scoring: float
    steps: int
    tokens: int
    passes: float
    """How often it meets one of its programs, on average."""
    labelled: int
    """Programs whose label was used, by it or by its critic or reference model."""

    @property
    def total(self) -> float:
        """All operations."""
        return self.policy + self.scorer_training + self.scoring


@dataclass(frozen=True)
class ArmResult:
    """Numbers of one arm under every seed."""

    name: str
    rate: float
    """The learning rate that it was trained with."""
    costs: tuple[CellCost, ...]
    """By seed."""
    device_seconds: float
    """As measured: optimizer steps times train workers, and scoring, mean over seeds; its scorers' training."""
    search_flops: float
    """Spent on learning rates that were not taken."""
    metrics: Mapping[str, np.ndarray]
    """[seeds, problems] by name, `held-out loss` and `pass@k (benchmark)`."""


@dataclass(frozen=True)
class Comparison:
    """Everything that is said of a comparison."""

    name: str
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    primary: Contrast
    secondary: tuple[Contrast, ...]
    """On the primary metric, corrected together."""
    others: Mapping[str, tuple[Contrast, ...]]
    """The same contrasts, the primary among them, on every other metric; corrected over all of them."""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """What it comes to, the primary contrast first."""
        return [
            f"Primary: {said(self.primary, LOSS)}",
            *_all_said(self.secondary, LOSS),
            *(line for metric, contrasts in self.others.items() for line in _all_said(contrasts, metric)),
        ]


def compare(
    name: str,
    seeds: Sequence[int],
    arms: Sequence[ArmResult],
    primary: tuple[str, str],
    secondary: Sequence[tuple[str, str]],
    facts: Mapping[str, str],
) -> Comparison:
    """Make the contrasts: the primary one alone, all others on the primary metric corrected together, and those on the
    other metrics, which decide nothing, corrected among themselves."""
    by_name = {arm.name: arm for arm in arms}

    def between(pair: tuple[str, str], metric: str, family: int = 1) -> Contrast:
        treated, reference = (by_name[name].metrics[metric] for name in pair)
        return contrast(*pair, treated, reference, family=family)

    metrics = [metric for metric in arms[0].metrics if metric != LOSS]
    pairs = (primary, *secondary)
    others = {
        metric: [between(pair, metric, len(metrics) * len(pairs)) for pair in pairs] for metric in metrics
    }
    corrected = iter(_corrected([c for contrasts in others.values() for c in contrasts]))
    return Comparison(
        name=name,
        seeds=tuple(seeds),
        arms=tuple(arms),
        primary=between(primary, LOSS),
        secondary=tuple(_corrected([between(pair, LOSS, len(secondary)) for pair in secondary])),
        others={metric: tuple(next(corrected) for _ in contrasts) for metric, contrasts in others.items()},
        facts=facts,
    )


def _all_said(contrasts: Sequence[Contrast], metric: str) -> list[str]:
    """A sentence each; one for all of those that nothing tells apart."""
    alike = [c for c in contrasts if c.indistinct]
    if len(alike) < 2:
        return [said(c, metric) for c in contrasts]
    pairs = ", ".join(f"{c.treated} − {c.reference}" for c in alike)
    together = (
        f"{pairs}; {metric}: none of {alike[0].problems} problems tells any of these apart under any of "
        f"{len(alike[0].by_seed)} seeds, so this says nothing of what was missed."
    )
    return [*(said(c, metric) for c in contrasts if not c.indistinct), together]


def said(c: Contrast, metric: str) -> str:
    """One contrast in plain words, with the size of a difference that would have been missed."""
    unit, better = ("nats per token", "lower") if metric == LOSS else ("of all problems solved", "higher")
    e, seeds = c.estimate, len(c.by_seed)
    numbers = (
        f"{c.treated} − {c.reference}, {metric}: {e.mean:+.4f} {unit} (95% interval {e.low:+.4f} to {e.high:+.4f}, "
        f"{seeds} seed{'s'[: seeds > 1]}, {c.problems} problems; {better} is better)."
    )
    if c.indistinct:
        return f"{numbers} No problem under any seed tells the two apart, so this says nothing of what was missed."
    missed = f"A true difference below {c.detectable:.4f} would be missed more often than once in five times."
    match c.judgement:
        case "too few seeds":
            return (
                f"{numbers} No difference is claimed with fewer than {SEEDS_TO_JUDGE} seeds, however large."
            )
        case "no difference found":
            return f"{numbers} No difference found, which is a result. {missed}"
        case "differs":
            won = (e.mean < 0) == (better == "lower")
            return f"{numbers} {c.treated} did {'better' if won else 'worse'} than {c.reference}."


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


def _corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    adjusted = holm([c.p_value for c in contrasts])
    return [replace(c, adjusted_p=p) for c, p in zip(contrasts, adjusted, strict=True)]


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
