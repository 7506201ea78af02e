"""Unbiased pass@k: the chance that at least one of k samples, drawn without replacement from n, passes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wmtp_ray.errors import DataError


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 − C(n−c, k) / C(n, k) of one problem, as a product that cannot overflow.

    C(n−c, k) / C(n, k) = Π_{i=n−c+1..n} (1 − k/i)  (Chen et al. 2021, arXiv 2107.03374).
    Example: n = 5, c = 1, k = 2: 1 − C(4, 2)/C(5, 2) = 1 − 6/10 = 0.4.

    `n` samples were drawn, `c` of them passed. Raises `DataError` where k > n: the estimate does not exist.
    """
    if not 0 <= c <= n:
        raise DataError(f"{c} of {n} samples passed: impossible counts")
    if not 1 <= k <= n:
        raise DataError(f"pass@{k} needs at least {k} samples per problem and there are {n}; sample more")
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def pass_at_k_per_problem(num_samples: Sequence[int], num_passed: Sequence[int], k: int) -> np.ndarray:
    """`pass_at_k` of each problem, [P] float64; their mean is the reported pass@k."""
    return np.array([pass_at_k(n, c, k) for n, c in zip(num_samples, num_passed, strict=True)])
