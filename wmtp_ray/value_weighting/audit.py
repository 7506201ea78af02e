"""Before a weighted run is paid for: what would the critic's weights do? Computed from its values alone.

All statistics are over the response tokens (N) of the programs (P) at hand; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wmtp_ray.errors import DataError

BOOTSTRAPS = 500
SMALLEST_ESS, LARGEST_ESS = 0.2, 0.99
LARGEST_CELL_SHARE = 0.5
SMALLEST_STABILITY = 0.3
"""What the verdict asks for; judgements, not laws."""


@dataclass(frozen=True)
class AuditedTokens:
    """What is known of every response token, flat."""

    program_N: np.ndarray
    """[N] int64: number of the token's program."""
    cell_N: np.ndarray
    """[N] int64: class and tenth of the response (`wmtp_ray.value_weighting.token_classes`)."""
    place_N: np.ndarray
    """[N] float64: place in the response, 0 at its first token, 1 at its last."""
    eos_N: np.ndarray
    """[N] bool"""
    mutated_N: np.ndarray
    """[N] bool: inside a known mutation. All False in programs where none is known."""


@dataclass(frozen=True)
class Setting:
    """One point of the grid."""

    lam: float
    beta: float
    min_weight: float
    max_weight: float


@dataclass(frozen=True)
class SettingAudit:
    """What the weights of one setting are like."""

    setting: Setting
    effective_sample_size: float
    """(Σw)² / (N Σw²): 1 for equal weights."""
    share_at_bounds: float
    explained_by_cell: float
    """Share of the weights' variance that class and place explain, corrected for the number of cells."""
    eos_weight: float
    """Mean weight of EOS over the mean weight; NaN without EOS."""
    stability: float | None
    """Correlation with the weights of a second critic; NaN where those of one of them are all equal."""


@dataclass(frozen=True)
class Localisation:
    """How well low advantages point at mutated tokens: the chance that one has less than another token of its
    program."""

    auroc: float
    low: float
    high: float
    """95% bootstrap interval over programs."""
    by_place: float
    """The same for the better of "earlier" and "later" alone; a random critic has 0.5."""
    programs: int


def audit_setting(
    advantages_N: np.ndarray,
    tokens: AuditedTokens,
    setting: Setting,
    second_N: np.ndarray | None = None,
    *,
    eos_one: bool = False,
) -> SettingAudit:
    """Whiten by the statistics of all tokens, weigh, measure. `second_N`: another critic's advantages; `eos_one`: EOS
    weighs 1, as with `eos_weight: one`."""
    fixed_N = tokens.eos_N & eos_one
    weights_N = _weights(advantages_N, setting, fixed_N)
    at_bounds = (weights_N <= setting.min_weight) | (weights_N >= setting.max_weight)
    stability = None
    if second_N is not None:
        with np.errstate(invalid="ignore"):
            stability = float(np.corrcoef(weights_N, _weights(second_N, setting, fixed_N))[0, 1])
    return SettingAudit(
        setting,
        effective_sample_size=float(weights_N.sum() ** 2 / (weights_N.size * np.square(weights_N).sum())),
        share_at_bounds=float(at_bounds.mean()),
        explained_by_cell=explained_share(weights_N, tokens.cell_N),
        eos_weight=float(weights_N[tokens.eos_N].mean() / weights_N.mean())
        if tokens.eos_N.any()
        else float("nan"),
        stability=stability,
    )


def explained_share(values_N: np.ndarray, groups_N: np.ndarray) -> float:
    """Share of the variance between groups, as adjusted R²: 0 where groups say nothing, 1 where they say all.

    Example: values [1 1 3 3], groups [0 0 1 1] → 1; groups [0 1 0 1] → below 0, returned as 0.
    """
    _, group_N, count_G = np.unique(groups_N, return_inverse=True, return_counts=True)
    mean_G = np.bincount(group_N, values_N) / count_G
    total, left = np.square(values_N - values_N.mean()).sum(), np.square(values_N - mean_G[group_N]).sum()
    spare = values_N.size - count_G.size
    if total == 0 or spare <= 0:
        return 0.0
    return max(0.0, 1.0 - float(left / total) * (values_N.size - 1) / spare)


def localisation(advantages_N: np.ndarray, tokens: AuditedTokens, seed: int = 0) -> Localisation:
    """Area under the ROC curve of −advantage (λ = 0: −δ) at mutated tokens against the other tokens of the same
    program, EOS left out; mean over programs. `DataError` where no program has a known mutation."""

    def of_programs(score_N: np.ndarray) -> np.ndarray:
        found = []
        for start, end in _programs(tokens.program_N):
            part = slice(start, end)
            kept = ~tokens.eos_N[part]
            hit = tokens.mutated_N[part][kept]
            if hit.any() and not hit.all():
                found.append(auroc(score_N[part][kept], hit))
        return np.array(found)

    areas_P = of_programs(-advantages_N)
    if not areas_P.size:
        raise DataError(
            "no program at hand has a known mutation; sample incorrect ones of a source that marks them"
        )
    later = float(of_programs(tokens.place_N).mean())
    drawn = np.random.default_rng(seed).integers(0, areas_P.size, (BOOTSTRAPS, areas_P.size))
    low, high = np.quantile(areas_P[drawn].mean(axis=1), [0.025, 0.975])
    return Localisation(float(areas_P.mean()), float(low), float(high), max(later, 1 - later), areas_P.size)


def auroc(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Chance that a positive's score is above a negative's; ties count half (Mann and Whitney).

    Example: scores [3 1 2 2], positives [1 0 1 0] → (1 + 1 + 1 + ½)/4 = .875.
    """
    positive, negative = np.sort(scores_N[positive_N]), np.sort(scores_N[~positive_N])
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float((below + not_above).sum() / 2 / (positive.size * negative.size))


def verdict(chosen: SettingAudit, found: Localisation | None) -> str:
    """One sentence: whether a training run with these weights is worth its cost, and why. Without a `found`, since no
    program has a known mutation, nothing can be said for the critic, only against its weights."""
    doubts: list[str] = []
    if found and found.low <= max(0.5, found.by_place):
        doubts.append(
            f"low advantages point at mutated tokens no better than {'place' if found.by_place > 0.5 else 'chance'} "
            f"(AUROC {found.auroc:.2f}, 95% {found.low:.2f} to {found.high:.2f}; place alone {found.by_place:.2f})"
        )
    if chosen.explained_by_cell > LARGEST_CELL_SHARE:
        doubts.append(
            f"class and place of a token explain {chosen.explained_by_cell:.0%} of its weight's variance"
        )
    if chosen.effective_sample_size < SMALLEST_ESS:
        doubts.append(
            f"the effective sample size is {chosen.effective_sample_size:.2f} (raise beta or narrow the clips)"
        )
    if chosen.effective_sample_size > LARGEST_ESS:
        doubts.append(
            f"the weights hardly vary (effective sample size {chosen.effective_sample_size:.3f}), so that it would "
            "train like the baseline"
        )
    if chosen.stability is not None and not chosen.stability >= SMALLEST_STABILITY:
        doubts.append(f"a second critic's weights correlate by {chosen.stability:.2f} only")
    if doubts:
        return f"Not worth a training run yet: {'; '.join(doubts)}."
    weights = (
        f"class and place explain {chosen.explained_by_cell:.0%} of the weights' variance, and the effective "
        f"sample size is {chosen.effective_sample_size:.2f}"
    )
    if found is None:
        return (
            f"Nothing speaks against a training run: {weights}; but no program has a known mutation, so nobody knows "
            "whether the critic finds faults."
        )
    return (
        f"Worth a training run: low advantages point at mutated tokens (AUROC {found.auroc:.2f}, 95% {found.low:.2f} "
        f"to {found.high:.2f}, place alone {found.by_place:.2f}), {weights}."
    )


def grid(
    lams: Sequence[float], betas: Sequence[float], clips: Sequence[tuple[float, float]]
) -> list[Setting]:
    """Every combination."""
    return [Setting(lam, beta, low, high) for lam in lams for beta in betas for low, high in clips]


def audit_grid(
    settings: Sequence[Setting],
    tokens: AuditedTokens,
    advantages: Callable[[float], np.ndarray],
    second: Callable[[float], np.ndarray] | None = None,
    *,
    eos_one: bool = False,
) -> list[SettingAudit]:
    """`audit_setting` of all; `advantages` and `second` give a critic's advantages [N] for a λ."""
    lams = {setting.lam for setting in settings}
    first_L = {lam: advantages(lam) for lam in lams}
    second_L = {lam: second(lam) if second else None for lam in lams}
    return [audit_setting(first_L[s.lam], tokens, s, second_L[s.lam], eos_one=eos_one) for s in settings]


def _weights(advantages_N: np.ndarray, setting: Setting, fixed_N: np.ndarray) -> np.ndarray:
    whitened_N = (advantages_N - advantages_N.mean()) / (advantages_N.std() + 1e-8)
    weights_N = np.exp(whitened_N / setting.beta).clip(setting.min_weight, setting.max_weight)
    return np.where(fixed_N, 1.0, weights_N)


def _programs(program_N: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of each program's tokens, which stand together."""
    bounds = np.flatnonzero(np.r_[True, program_N[1:] != program_N[:-1], True])
    return list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
