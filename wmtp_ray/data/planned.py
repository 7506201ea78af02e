"""One optimizer step of a plan, as trainers, critics and loaders receive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class PlannedMicroBatch:
    """S samples in R packed rows. Arrays are in sample order, (packed row, segment), as in `PackedBatch`."""

    packed_rows: tuple[tuple[int, ...], ...]
    """Store rows of each packed row's segments."""
    tokens: np.ndarray
    """[S] int32, length of each sample"""
    targets: np.ndarray
    """[S] int32, response tokens (EOS included) of each sample"""
    correct: np.ndarray
    """[S] bool, label of each sample"""
    pairs: np.ndarray
    """[P, 2] int64, indices into the S samples: the correct and the incorrect side of each pair"""

    @property
    def rows(self) -> tuple[int, ...]:
        """[S] store rows in sample order."""
        return tuple(row for packed_row in self.packed_rows for row in packed_row)

    @property
    def shape(self) -> tuple[int, int]:
        """(R, T): packed rows, and tokens of the fullest one."""
        ends = np.cumsum([len(packed_row) for packed_row in self.packed_rows])[:-1]
        return len(self.packed_rows), max(int(part.sum()) for part in np.split(self.tokens, ends))

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.tokens.sum())

    def head_targets(self, head: int, alignment: Literal["target", "state"] = "target") -> int:
        """Valid targets of head `head` (from 1), known before any text is read.

        A sample of p prompt and n response tokens has its targets y_j at j = p .. p+n-1; head k predicts y_j
        from position j-k, so j >= k: min(n, n+p-k) targets, none below 0. With `state` alignment j-k+1 must
        not lie in the prompt: j >= p+k-1, which leaves n-k+1 (where p >= 1).

        p = 1, n = 3: heads 1..4 have 3, 2, 1, 0. p = 2, n = 3: 3, 3, 2, 1; with `state` 3, 2, 1, 0.
        """
        prompts = self.tokens - self.targets
        first = np.maximum(prompts, head)
        if alignment == "state":
            first = np.maximum(prompts + head - 1, head)
        return int(np.maximum(self.tokens - first, 0).sum())


@dataclass(frozen=True)
class PlannedStep:
    """One optimizer step. `number` counts over all epochs, from 0."""

    number: int
    epoch: int
    micro_batches: tuple[PlannedMicroBatch, ...]

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return sum(m.num_tokens for m in self.micro_batches)

    def head_targets(self, head: int, alignment: Literal["target", "state"] = "target") -> int:
        """N_k of the step: valid targets of head `head` over all its micro-batches."""
        return sum(m.head_targets(head, alignment) for m in self.micro_batches)
