"""How the samples of a step are laid out into micro-batches and packed rows, from their lengths alone.

A sample is one segment, or two (a pair), which stay in one micro-batch. Everything is deterministic.

- By count: every micro-batch gets the same number of samples; the longest go first, each to the micro-batch
  with the fewest tokens so far, so that ranks wait little for each other.
- By tokens: samples are taken from the shuffled stream until the step is full, then placed longest first into
  the row where they leave the least room (best fit), or, in a step that is not full, into the micro-batch that
  needs them most. What finds no room comes first in the next step. As each step is a random run of the stream,
  steps do not become homogeneous in length.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from wmtp_ray.data.evenness import FILL, evened, rank_kernel

Segment = tuple[int, int]
"""(place of the sample in the stream, side)"""
RowLayout = list[Segment]
MicroBatchLayout = list[RowLayout]
StepLayout = list[MicroBatchLayout]


def steps_by_count(
    sizes: np.ndarray, micro_batches: int, samples: int, row_tokens: int
) -> Iterator[StepLayout]:
    """Steps of `micro_batches` x `samples` samples; `sizes` is [U, sides] tokens. The last may be smaller."""
    per_step = micro_batches * samples
    for start in range(0, len(sizes), per_step):
        numbers = np.arange(start, min(start + per_step, len(sizes)))
        yield [_packed(units, sizes, row_tokens) for units in _dealt(numbers, sizes, micro_batches)]


def steps_by_tokens(
    sizes: np.ndarray, micro_batches: int, rows: int, row_tokens: int, even_for: int | None = None
) -> Iterator[StepLayout]:
    """Steps of `micro_batches` micro-batches, each of at most `rows` rows of `row_tokens`.

    `sizes` is [U, sides] tokens. Every sample must fit into an empty micro-batch. `even_for`: any number of ranks up
    to this shares a step evenly, which then is filled to two thirds (see `evenness`).
    """
    capacity = micro_batches * rows * row_tokens
    if even_for is not None:
        capacity = capacity * FILL[0] // FILL[1]
    totals = sizes.sum(axis=1)
    emptiest_first = np.eye(micro_batches, dtype=np.int64)
    kernel = None if even_for is None else rank_kernel(micro_batches, even_for)
    waiting: list[int] = []
    reach = 0

    def fits(units: list[int]) -> bool:
        return rows == 1 or _best_fit(units, sizes, rows, row_tokens) is not None

    while waiting or reach < len(sizes):
        window, tokens = waiting, int(totals[waiting].sum()) if waiting else 0
        while reach < len(sizes) and tokens + totals[reach] <= capacity:
            window.append(reach)
            tokens += int(totals[reach])
            reach += 1
        full = reach < len(sizes)
        preferred = kernel if kernel is not None else None if full else emptiest_first
        shares, waiting = _placed(window, sizes, micro_batches, rows, row_tokens, preferred)
        if waiting and not full:
            shares, waiting = _placed(window, sizes, micro_batches, rows, row_tokens, None)
        elif kernel is not None:
            shares = evened(shares, totals, kernel, rows * row_tokens, fits)
        layouts = (_best_fit(share, sizes, rows, row_tokens) for share in shares)
        yield [_tightest([layout], sizes, row_tokens) for layout in layouts if layout]


def _dealt(numbers: np.ndarray, sizes: np.ndarray, micro_batches: int) -> list[list[int]]:
    """Deal samples to micro-batches, as evenly in number as possible and balanced in tokens."""
    micro_batches = min(micro_batches, len(numbers))
    least, extra = divmod(len(numbers), micro_batches)
    dealt: list[list[int]] = [[] for _ in range(micro_batches)]
    totals = sizes[numbers].sum(axis=1)
    loads = [(0, m) for m in range(micro_batches)]
    for i in np.argsort(-totals, kind="stable"):
        load, m = heapq.heappop(loads)
        dealt[m].append(int(numbers[i]))
        if len(dealt[m]) < least + (m < extra):
            heapq.heappush(loads, (load + int(totals[i]), m))
    return dealt


def _packed(units: list[int], sizes: np.ndarray, row_tokens: int) -> MicroBatchLayout:
    """One micro-batch's samples in rows: first fit, longest first, unless evenly filled rows take less."""
    segments = _longest_first([(u, side) for u in units for side in range(sizes.shape[1])], sizes)
    rows: MicroBatchLayout = []
    fill: list[int] = []
    for segment in segments:
        size = int(sizes[segment])
        r = next((r for r, f in enumerate(fill) if f + size <= row_tokens), len(rows))
        if r == len(rows):
            rows.append([])
            fill.append(0)
        rows[r].append(segment)
        fill[r] += size
    return _tightest([rows], sizes, row_tokens)


def _best_fit(units: list[int], sizes: np.ndarray, rows: int, row_tokens: int) -> MicroBatchLayout | None:
    """One micro-batch's samples, longest first, each segment where it leaves the least room; None if one finds none."""
    room = [row_tokens] * rows
    layout: MicroBatchLayout = [[] for _ in range(rows)]
    for u in sorted(units, key=lambda u: (-int(sizes[u].sum()), u)):
        chosen = {}
        for side in np.argsort(-sizes[u], kind="stable").tolist():
            size = int(sizes[u, side])
            fitting = [r for r in range(rows) if room[r] >= size]
            if not fitting:
                return None
            r = chosen[side] = min(fitting, key=room.__getitem__)
            room[r] -= size
        for side, r in sorted(chosen.items()):
            layout[r].append((u, side))
    return [row for row in layout if row]


def _tightest(candidates: list[MicroBatchLayout], sizes: np.ndarray, row_tokens: int) -> MicroBatchLayout:
    """The layout with the fewest padded tokens, rows x fullest row: a given one, or rows filled evenly."""
    segments = _longest_first([segment for row in candidates[0] for segment in row], sizes)
    lengths = [int(sizes[segment]) for segment in segments]
    fewest = -(-sum(lengths) // row_tokens)
    for num_rows in range(fewest, min(fewest + 3, len(segments)) + 1):
        rows: MicroBatchLayout = [[] for _ in range(num_rows)]
        fills = [(0, r) for r in range(num_rows)]
        for segment, length in zip(segments, lengths, strict=True):
            fill, r = heapq.heappop(fills)
            rows[r].append(segment)
            heapq.heappush(fills, (fill + length, r))
        if max(fills)[0] <= row_tokens:
            candidates = [*candidates, rows]
    return min(candidates, key=lambda rows: len(rows) * max(sum(int(sizes[s]) for s in row) for row in rows))


def _longest_first(segments: list[Segment], sizes: np.ndarray) -> list[Segment]:
    return sorted(segments, key=lambda segment: (-int(sizes[segment]), segment))


def _placed(
    window: list[int],
    sizes: np.ndarray,
    micro_batches: int,
    rows: int,
    row_tokens: int,
    kernel: np.ndarray | None,
) -> tuple[list[list[int]], list[int]]:
    """Place samples longest first; returns each micro-batch's, and those that found no room, in stream order.

    A sample goes to where it leaves the least room, or, by a `kernel` [M, M], to the micro-batch m with the least
    kernel[m] @ tokens.
    """
    room = np.full((micro_batches, rows), row_tokens)
    every = np.arange(micro_batches)
    pressure = np.zeros(micro_batches, dtype=np.int64)
    shares: list[list[int]] = [[] for _ in range(micro_batches)]
    left: list[int] = []
    for u in sorted(window, key=lambda u: (-int(sizes[u].sum()), u)):
        after = room.copy()
        tightness = np.zeros(micro_batches, dtype=np.int64)
        fits = np.ones(micro_batches, dtype=bool)
        for side in np.argsort(-sizes[u], kind="stable"):
            remaining = after - sizes[u, side]
            r = np.where(remaining >= 0, remaining, np.iinfo(np.int64).max).argmin(axis=1)
            fits &= remaining[every, r] >= 0
            tightness += remaining[every, r]
            after[every, r] = remaining[every, r]
        if not fits.any():
            left.append(u)
            continue
        m = int(np.where(fits, tightness if kernel is None else pressure, np.iinfo(np.int64).max).argmin())
        room[m] = after[m]
        if kernel is not None:
            pressure += kernel[m] * int(sizes[u].sum())
        shares[m].append(u)
    return shares, sorted(left)
