"""How the samples of a step are laid out into micro-batches and packed rows, from their lengths alone.

A sample is one segment, or two (a pair), which stay in one micro-batch. Everything is deterministic.

- By count: every micro-batch gets the same number of samples; the longest go first, each to the micro-batch
  with the fewest tokens so far, so that ranks wait little for each other.
- By tokens: samples are taken from the shuffled stream until the step is full, then placed longest first into
  the row where they leave the least room (best fit). What finds no room comes first in the next step. As each
  step is a random run of the stream, steps do not become homogeneous in length.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

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
    sizes: np.ndarray, micro_batches: int, rows: int, row_tokens: int
) -> Iterator[StepLayout]:
    """Steps of `micro_batches` micro-batches, each of at most `rows` rows of `row_tokens`.

    `sizes` is [U, sides] tokens.     Every sample must fit into an empty micro-batch.
    """
    capacity = micro_batches * rows * row_tokens
    totals = sizes.sum(axis=1)
    waiting: list[int] = []
    reach = 0
    while waiting or reach < len(sizes):
        window, tokens = waiting, int(totals[waiting].sum()) if waiting else 0
        while reach < len(sizes) and tokens + totals[reach] <= capacity:
            window.append(reach)
            tokens += int(totals[reach])
            reach += 1
        full = reach < len(sizes)
        step, waiting = _placed(window, sizes, micro_batches, rows, row_tokens, spread=not full)
        if waiting and not full:
            step, waiting = _placed(window, sizes, micro_batches, rows, row_tokens, spread=False)
        yield [_tightest([micro_batch], sizes, row_tokens) for micro_batch in step if micro_batch]


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
    window: list[int], sizes: np.ndarray, micro_batches: int, rows: int, row_tokens: int, *, spread: bool
) -> tuple[StepLayout, list[int]]:
    """Place samples longest first; returns the step and the samples that found no room, in stream order.

    `spread` gives each sample to the emptiest micro-batch (for a step that will not be full), otherwise to
    where it leaves the least room.
    """
    room = np.full((micro_batches, rows), row_tokens)
    every = np.arange(micro_batches)
    step: StepLayout = [[[] for _ in range(rows)] for _ in range(micro_batches)]
    left: list[int] = []
    for u in sorted(window, key=lambda u: (-int(sizes[u].sum()), u)):
        after = room.copy()
        chosen = np.zeros((sizes.shape[1], micro_batches), dtype=np.int64)
        tightness = np.zeros(micro_batches, dtype=np.int64)
        fits = np.ones(micro_batches, dtype=bool)
        for side in np.argsort(-sizes[u], kind="stable"):
            remaining = after - sizes[u, side]
            r = np.where(remaining >= 0, remaining, np.iinfo(np.int64).max).argmin(axis=1)
            chosen[side] = r
            fits &= remaining[every, r] >= 0
            tightness += remaining[every, r]
            after[every, r] = remaining[every, r]
        if not fits.any():
            left.append(u)
            continue
        preference = -room.sum(axis=1) if spread else tightness
        m = int(np.where(fits, preference, np.iinfo(np.int64).max).argmin())
        room[m] = after[m]
        for side in range(sizes.shape[1]):
            step[m][chosen[side, m]].append((u, side))
    return [[row for row in micro_batch if row] for micro_batch in step], sorted(left)
