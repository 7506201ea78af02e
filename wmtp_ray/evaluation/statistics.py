"""Intervals: percentile bootstrap over problems, of a mean and of the difference of two means on the same problems;
Wilson's for a share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wmtp_ray.errors import DataError

RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval (of a difference: whether the models differ at this level)."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: np.ndarray, *, seed: int = 0, level: float = 0.95) -> Estimate:
    """Mean of `values` [P] and its percentile interval over 10,000 resamples of the P problems.

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
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
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


def paired_difference(
    treated: np.ndarray, reference: np.ndarray, *, seed: int = 0, level: float = 0.95
) -> Estimate:
    """mean(treated − reference) over the same problems in the same order, both [P].

    Pairing removes what the problems' difficulty contributes to both; two separate intervals would not.
    """
    if np.shape(treated) != np.shape(reference):
        raise DataError(
            f"paired values of {np.shape(treated)} and {np.shape(reference)} problems; use the same problems"
        )
    return bootstrap_mean(
        np.asarray(treated, dtype=float) - np.asarray(reference, dtype=float), seed=seed, level=level
    )
