"""Intervals: percentile bootstrap over problems, of a mean share and of the difference of two on the same problems;
Wilson's for a share, and where a bootstrap has nothing to draw from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wmtp_ray.errors import DataError

RESAMPLES = 10_000
INTERVAL = "95% bootstrap interval over problems, or Wilson's where none or all are solved"
"""What tables say of `mean_share` and `paired_difference`."""


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval (of a difference: whether the models differ at this level)."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: np.ndarray, *, seed: int = 0) -> Estimate:
    """Mean of `values` [P] and its 95% percentile interval over 10,000 resamples of the P problems.

    Problems are resampled, not samples: the interval says how the number might move with other problems of
    this kind. Raises `DataError` for no values or a value that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise DataError(f"a bootstrap needs finite values of at least one problem, not {values!r}")
    generator = np.random.default_rng(seed)
    # Counts per problem instead of indices: [resamples, P] times [P], in slices that bound the memory.
    means = [
        generator.multinomial(values.size, np.full(values.size, 1 / values.size), size=1000)
        @ values
        / values.size
        for _ in range(RESAMPLES // 1000)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def share_interval(hits: int, of: int) -> Estimate:
    """`hits / of` with its 95% Wilson score interval, which does not shrink to a point at 0 or 1. `of` ≥ 1.

    Example: 8 of 10 → .8 [.490, .943].
    """
    z = 1.959964
    share, spread = hits / of, z * z / of
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return Estimate(share, centre - half, centre + half)


def mean_share(shares: np.ndarray, *, seed: int = 0) -> Estimate:
    """Mean of the shares [P] in 0..1 of P problems, with its 95% interval: `bootstrap_mean`'s; but Wilson's where all
    are 0 or all are 1, of which every resample is the same again, as if other problems could not differ.

    Example: none of 21 problems solved → 0 [0, .155].
    """
    estimate = bootstrap_mean(shares, seed=seed)
    if not _all_or_none(shares):
        return estimate
    return share_interval(round(estimate.mean) * len(shares), len(shares))


def paired_difference(treated: np.ndarray, reference: np.ndarray, *, seed: int = 0) -> Estimate:
    """mean(treated − reference) of shares [P] of the same problems in the same order, with its 95% interval.

    Pairing removes what the problems' difficulty contributes to both; two separate intervals would not. Where each
    side is all 0 or all 1, Newcombe's interval from both Wilson intervals (1998, Statistics in Medicine 17, 873-890,
    method 10). Raises `DataError` where the sides are of different length.

    Example: neither model solves any of 21 problems → 0 [-.155, .155].
    """
    treated, reference = np.asarray(treated, dtype=float), np.asarray(reference, dtype=float)
    if treated.shape != reference.shape:
        raise DataError(
            f"paired values of {treated.shape} and {reference.shape} problems; use the same problems"
        )
    if not (_all_or_none(treated) and _all_or_none(reference)):
        return bootstrap_mean(treated - reference, seed=seed)
    ours, theirs = mean_share(treated), mean_share(reference)
    difference = ours.mean - theirs.mean
    below = math.hypot(ours.mean - ours.low, theirs.high - theirs.mean)
    above = math.hypot(ours.high - ours.mean, theirs.mean - theirs.low)
    return Estimate(difference, difference - below, difference + above)


def _all_or_none(shares: np.ndarray) -> bool:
    return bool(np.all(np.asarray(shares) == 0) or np.all(np.asarray(shares) == 1))
