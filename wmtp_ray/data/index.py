"""Columnar metadata of a store: what sampling and planning need, without reading any text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Side:
    """The correct, or the incorrect, rows of all problems.

    Those of problem i are `rows[offsets[i]:offsets[i + 1]]`, and their lengths stand at the same places.
    """

    offsets: np.ndarray
    """[P + 1] int64"""
    rows: np.ndarray
    """[N] int64, store row numbers, increasing"""
    targets: np.ndarray
    """[N] int32, response tokens and EOS among them"""

    @cached_property
    def problems(self) -> np.ndarray:
        """[N] int32: the problem of every row."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int32), np.diff(self.offsets))


@dataclass(frozen=True)
class ProblemIndex:
    """P problems, N rows. Problems are numbered in the order of the store; the rows of one are contiguous."""

    problem_ids: pa.StringArray
    """[P]"""
    split: np.ndarray
    """[P] int8, position in `SPLITS`"""
    difficulty: np.ndarray
    """[P] int32, 0 = unknown"""
    cf_rating: np.ndarray
    """[P] int32, rating at Codeforces, 0 = unknown"""
    tags: pa.ListArray
    """[P] lists of strings"""
    cluster: np.ndarray
    """[P] int32, number of the first problem of its near-duplicates; itself where it has none"""
    row_problem: np.ndarray
    """[N] int32, nondecreasing"""
    row_correct: np.ndarray
    """[N] bool"""
    row_tokens: np.ndarray
    """[N] int32"""
    row_targets: np.ndarray
    """[N] int32"""

    @property
    def num_problems(self) -> int:
        return len(self.split)

    @property
    def num_rows(self) -> int:
        return len(self.row_problem)

    @cached_property
    def correct(self) -> Side:
        """All correct rows, by problem."""
        return self._side(self.row_correct)

    @cached_property
    def incorrect(self) -> Side:
        """All incorrect rows, by problem."""
        return self._side(~self.row_correct)

    @cached_property
    def every(self) -> Side:
        """All rows, by problem."""
        return self._side(np.ones(self.num_rows, dtype=bool))

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """The ids of the problems that these rows belong to, each once."""
        return self.problem_ids.take(pa.array(np.unique(self.row_problem[rows]))).to_pylist()

    def in_split(self, split: str) -> np.ndarray:
        """[P] bool: the problems of one split."""
        return self.split == SPLITS.index(split)

    def torn_cluster(self) -> tuple[str, str] | None:
        """The ids of two near-duplicate problems of which one is trained on and the other held out, if there are."""
        trained = self.in_split("train")
        torn = np.flatnonzero(trained != trained[self.cluster])
        if not torn.size:
            return None
        return self.problem_ids[int(self.cluster[torn[0]])].as_py(), self.problem_ids[int(torn[0])].as_py()

    def _side(self, mask: np.ndarray) -> Side:
        rows = np.flatnonzero(mask)
        offsets = np.searchsorted(self.row_problem[rows], np.arange(self.num_problems + 1))
        return Side(
            offsets=offsets.astype(np.int64),
            rows=rows,
            targets=self.row_targets[rows],
        )
