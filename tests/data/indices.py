"""Indices without a store, for properties of sampling and planning. Imports little: a subprocess uses it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from wmtp_ray.data.index import ProblemIndex


def random_index(num_problems: int, num_rows: int, seed: int = 0, longest: int = 60) -> ProblemIndex:
    """An index without a store: random lengths, labels, difficulties and splits; problems may be empty."""
    rng = np.random.default_rng(seed)
    row_problem = np.sort(rng.integers(0, num_problems, num_rows)).astype(np.int32)
    prompts = rng.integers(1, 1 + longest // 2, num_problems).astype(np.int32)
    targets = rng.integers(1, 1 + longest // 2, num_rows).astype(np.int32)
    return ProblemIndex(
        problem_ids=pa.array([f"p{i}" for i in range(num_problems)]),
        split=(rng.random(num_problems) < 0.2).astype(np.int8),
        difficulty=rng.integers(0, 30, num_problems).astype(np.int32),
        cf_rating=(800 + 300 * (np.arange(num_problems) % 10)).astype(np.int32),
        tags=pa.array([[]] * num_problems, pa.list_(pa.string())),
        cluster=np.arange(num_problems, dtype=np.int32),
        row_problem=row_problem,
        row_correct=rng.random(num_rows) < 0.5,
        row_tokens=prompts[row_problem] + targets,
        row_targets=targets,
    )
