"""Differences between ways to train, paired over seeds and problems: interval, p-value, what could have been found.

The same problems were met under every seed, so seeds and problems are crossed and both are resampled, independently
(the pigeonhole bootstrap, Owen 2007, doi 10.1214/07-AOAS122): the interval speaks of other seeds and of other
problems. Few seeds know little of their own spread, so the bootstrap's standard error is widened by √(S/(S−1)) and
taken with Student's t of S−1 degrees of freedom. Interval, p-value and detectable difference come from that one number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student

from wmtp_ray.errors import DataError
from wmtp_ray.evaluation.statistics import RESAMPLES, Estimate

LEVEL, POWER = 0.95, 0.8
SEEDS_TO_JUDGE = 5
"""With fewer seeds nothing is called distinguishable."""

Judgement = Literal["differs", "no difference found", "too few seeds"]


@dataclass(frozen=True)
class Contrast:
    """`treated` − `reference`: mean over seeds and problems, and how sure it is."""

    treated: str
    reference: str
    estimate: Estimate
    p_value: float
    """Two-sided, of this contrast alone."""
    adjusted_p: float
    """After Holm's correction over the contrasts it was made with; `p_value` for a primary one."""
    detectable: float
    """A true difference of this size would be found in 4 of 5 such comparisons, by the strictest level of Holm's
    correction over the contrasts it was made with. NaN where seeds are too few to find anything."""
    by_seed: tuple[float, ...]
    """The mean difference under each seed."""
    problems: int

    @property
    def indistinct(self) -> bool:
        """Whether no problem under any seed tells the arms apart: then there is no spread to judge by either."""
        return self.estimate == Estimate(0.0, 0.0, 0.0)

    @property
    def judgement(self) -> Judgement:
        """What may be said of it."""
        if len(self.by_seed) < SEEDS_TO_JUDGE:
            return "too few seeds"
        return "differs" if self.adjusted_p < 1 - LEVEL else "no difference found"


def contrast(
    treated: str,
    reference: str,
    treated_SP: np.ndarray,
    reference_SP: np.ndarray,
    *,
    family: int = 1,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Contrast:
    """Compare two arms by numbers [seeds, problems], both in the same order, as one of a `family` of contrasts that are
    corrected together.

    With one seed the interval speaks of problems only. Raises `DataError` for other shapes or numbers not finite.
    """
    if np.ndim(treated_SP) != 2 or np.shape(treated_SP) != np.shape(reference_SP):
        raise DataError(
            f"{treated} has numbers of {np.shape(treated_SP)} seeds and problems, {reference} of "
            f"{np.shape(reference_SP)}; compare the same ones"
        )
    difference_SP = np.asarray(treated_SP, dtype=np.float64) - np.asarray(reference_SP, dtype=np.float64)
    if difference_SP.size == 0 or not np.isfinite(difference_SP).all():
        raise DataError(
            f"{treated} and {reference}: a comparison needs finite numbers of at least one problem"
        )
    seeds, problems = difference_SP.shape
    levels = seeds if seeds > 1 else problems
    mean, freedom = float(difference_SP.mean()), max(levels - 1, 1)
    error = _bootstrap_error(difference_SP, seed, resamples) * math.sqrt(levels / freedom)
    reach = float(student.ppf((1 + LEVEL) / 2, freedom))
    p_value = _two_sided(mean, error, freedom)
    found_at = float(student.ppf(1 - (1 - LEVEL) / 2 / family, freedom))
    return Contrast(
        treated=treated,
        reference=reference,
        estimate=Estimate(mean, mean - reach * error, mean + reach * error),
        p_value=p_value,
        adjusted_p=p_value,
        detectable=(found_at + float(student.ppf(POWER, freedom))) * error
        if seeds >= SEEDS_TO_JUDGE
        else math.nan,
        by_seed=tuple(difference_SP.mean(axis=1).tolist()),
        problems=problems,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the order given.

    Example: [0.01, 0.04, 0.03] gives [0.03, 0.06, 0.06].
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _bootstrap_error(difference_SP: np.ndarray, seed: int, resamples: int) -> float:
    """Standard deviation of the mean over resamples of seeds and of problems."""
    generator = np.random.default_rng(seed)
    shares = [
        generator.multinomial(size, np.full(size, 1 / size), size=resamples) / size
        for size in difference_SP.shape
    ]
    means = np.einsum(
        "bs,sp,bp->b", shares[0], difference_SP - difference_SP.mean(), shares[1], optimize=True
    )
    return float(means.std())


def _two_sided(mean: float, error: float, freedom: int) -> float:
    if error == 0:
        return float(mean == 0)
    return float(2 * student.sf(abs(mean) / error, freedom))
