"""Backward recursions over the response tokens of (packed) rows, without a loop over tokens or rows.

Both GAE and the λ-return are first-order linear recursions x_t = b_t + a·x_{t+1} that start at the last
response token of a sample and never cross into the next one. This module knows where samples begin and end,
and solves the recursion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

_BLOCK = (
    32  # tokens solved by one triangular product; the fastest of 16, 32, 64, 128 at T=2048 on one CPU core
)


@dataclass(frozen=True)
class ResponseSpans:
    """Where the response of every sample lies.

    Example, one row with two packed samples (p prompt, r response, h hole, . padding)::

        token       p r h r | p r | . .
        segment     0 0 0 0   1 1  -1 -1
        inside      0 1 1 1   0 1   0 0     between first and last response token, holes included
        starts      1 0 0 0   1 0   1 0     nothing of the same segment precedes
        next_start  4 4 4 4   6 6   8 8     position at which the next segment begins (T if none does)
        first       0 1 0 0   0 1   0 0     first response token
        last        0 0 0 1   0 1   0 0     last response token
    """

    inside_BT: Tensor
    """bool"""
    starts_BT: Tensor | None
    """bool; None if every row is one segment, which starts at 0."""
    next_start_BT: Tensor | None
    """int64; None if every row is one segment."""

    @property
    def first_BT(self) -> Tensor:
        """bool: the first response token of each segment."""
        continues_BT = pad(self.inside_BT[:, :-1], (1, 0))
        if self.starts_BT is not None:
            continues_BT = continues_BT & ~self.starts_BT
        return self.inside_BT & ~continues_BT

    @property
    def last_BT(self) -> Tensor:
        """bool: the last response token of each segment."""
        continues_BT = self.inside_BT[:, 1:]
        if self.starts_BT is not None:
            continues_BT = continues_BT & ~self.starts_BT[:, 1:]
        return self.inside_BT & ~pad(continues_BT, (0, 1))

    @property
    def before_first_BT(self) -> Tensor:
        """bool: the last prompt token, where there is one: its right neighbour is a first response token of
        the same segment.
        """
        first_BT = self.first_BT
        if self.starts_BT is not None:
            first_BT = first_BT & ~self.starts_BT
        return pad(first_BT[:, 1:], (0, 1))

    def previous(self, values_BT: Tensor, initial_value: float) -> Tensor:
        """V_{t−1}, or `initial_value` where nothing of the same segment precedes t."""
        previous_BT = pad(values_BT[:, :-1], (1, 0), value=initial_value)
        return (
            previous_BT if self.starts_BT is None else torch.where(self.starts_BT, initial_value, previous_BT)
        )


def response_spans(mask_BT: Tensor, segment_ids_BT: Tensor | None) -> ResponseSpans:
    """Locate the response of every segment; `segment_ids_BT=None` means that each row is one segment.

    Integer work is int32: torch multiplies int32 with bool several times faster than it selects with `where`.
    """
    T = mask_BT.shape[1]
    position_T = torch.arange(T, dtype=torch.int32, device=mask_BT.device)
    if segment_ids_BT is None:
        last_B1 = (mask_BT * position_T).amax(1, keepdim=True)
        first_B1 = T - (mask_BT * (T - position_T)).amax(1, keepdim=True)  # T where the row has no response
        return ResponseSpans((position_T >= first_B1) & (position_T <= last_B1), None, None)
    changes_BT = segment_ids_BT[:, 1:] != segment_ids_BT[:, :-1]
    starts_BT = pad(changes_BT, (1, 0), value=True)
    ends_BT = pad(changes_BT, (0, 1), value=True)
    after_first_BT = _seen(mask_BT, starts_BT, position_T)
    before_last_BT = _seen(mask_BT.flip(1), ends_BT.flip(1), position_T).flip(1)
    # The nearest end at or after t, found from the right: in flipped coordinates the latest one.
    nearest_end_BT = (T - 1) - (ends_BT.flip(1) * position_T).cummax(1).values.flip(1)
    return ResponseSpans(after_first_BT & before_last_BT, starts_BT, nearest_end_BT.long() + 1)


def _seen(mask_BT: Tensor, starts_BT: Tensor, position_T: Tensor) -> Tensor:
    """True where the segment of t has a masked position at or before t.

    Segment starts and masked positions are events coded 2t and 2t+1; the latest event up to t is a masked
    position (odd) exactly if one was seen since the segment began.
    """
    event_BT = (starts_BT | mask_BT) * (2 * position_T) + mask_BT
    return (event_BT.cummax(1).values & 1).bool()


def solve_backward(terms_BT: Tensor, decay: float, spans: ResponseSpans) -> Tensor:
    """x_t = b_t + decay · x_{t+1} within each segment, x = 0 beyond its last term.

    Args:
        terms_BT: b, float64 [B, T], finite, zero outside the span that takes part.
        decay: a in [0, 1].
        spans: segment geometry of the same rows.

    Returns:
        x, float64 [B, T]; exact to a few ulps of the largest partial sum of the row.

    How: (1) rows are cut into blocks of 32 tokens and each block is solved by one product with the triangular
    matrix a^{j−i}; (2) the blocks' first elements obey the same recursion with decay a^32 and are solved the
    same way; (3) what follows a block is added to it with a^{distance}; (4) as the sum has so far run across
    segment boundaries, the part that came from beyond the boundary, a^{e−t}·x_e with e the next segment's
    start, is taken off again.

    Example (decay ½, segments [0 0 1]): b = [1 1 4] → (1–3) [2.5 3 4] → (4) minus [¼·4 ½·4 0] = [1.5 1 4].
    """
    B, T = terms_BT.shape
    size = max(_BLOCK, 1 << ((T - 1).bit_length() // 2))
    blocks = -(-T // size)
    if blocks * size != T:
        terms_BT = pad(terms_BT, (0, blocks * size - T))
    within, between, powers = _decay_tables(decay, size, blocks, str(terms_BT.device))
    solved = (terms_BT.reshape(B * blocks, size) @ within).view(B, blocks, size)
    if blocks > 1:
        following_BN = solved[:, :, 0] @ between
        solved.addcmul_(following_BN.unsqueeze(-1), powers[1 : size + 1].flip(0))
    solved_BT = solved.view(B, blocks * size)[:, :T]
    if spans.next_start_BT is not None:
        beyond_BT = pad(solved_BT, (0, 1)).gather(1, spans.next_start_BT)
        distance_BT = spans.next_start_BT - torch.arange(T, device=terms_BT.device)
        decay_BT = powers.index_select(0, distance_BT.view(-1)).view(B, T)
        solved_BT = solved_BT - beyond_BT.mul_(decay_BT)
    return solved_BT


@lru_cache(maxsize=16)
def _decay_tables(decay: float, size: int, blocks: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Within blocks: M[j, i] = a^{j−i} for j ≥ i. Between blocks: N[c, b] = (a^size)^{c−b−1} for c > b.
    Powers a^0, a^1, ….

    Kept between calls: a run uses one decay and few lengths. Treat the tensors as constants.
    """
    powers = torch.tensor(decay, dtype=torch.float64) ** torch.arange(size * blocks + 1, dtype=torch.float64)
    token = torch.arange(size)
    within = torch.where(token[:, None] >= token, powers[(token[:, None] - token).clamp_min(0)], 0.0)
    block = torch.arange(blocks)
    apart = block[:, None] - block - 1
    between = torch.where(apart >= 0, powers[apart.clamp_min(0) * size], 0.0)
    return within.to(device), between.to(device), powers.to(device)
