"""The result of a comparison: a row per arm, contrasts between arms, and what they say in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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


def _corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    adjusted = holm([c.p_value for c in contrasts])
    return [replace(c, adjusted_p=p) for c, p in zip(contrasts, adjusted, strict=True)]
