"""Cross-fitting: each training problem is in one of F folds, and is scored by the critic trained on the others."""

from __future__ import annotations

import hashlib

import numpy as np

from wmtp_ray.data.index import ProblemIndex


def fold_of(problem_id: str, folds: int) -> int:
    """The fold of a problem: a hash of its id, the same in every store, process and run."""
    digest = hashlib.sha256(f"fold/{problem_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def problem_folds(index: ProblemIndex, folds: int) -> np.ndarray:
    """[P] int64: the fold of every problem of the split `train`, -1 for the others, which no critic trains on.

    Near-duplicates are in one fold, that of the first of them: a critic that had seen one would know the other.
    """
    names = index.problem_ids.to_pylist()
    found = np.array([fold_of(names[first], folds) for first in index.cluster.tolist()], dtype=np.int64)
    return np.where(index.in_split("train"), found, -1)


def row_folds(index: ProblemIndex, folds: int) -> np.ndarray:
    """[N] int64: the fold of every row's problem."""
    return problem_folds(index, folds)[index.row_problem]
