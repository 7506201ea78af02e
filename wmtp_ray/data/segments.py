"""Where each sample lies in a packed batch, and numbers per sample laid out over its response tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.data.batch import IGNORED_LABEL, PackedBatch


@dataclass(frozen=True)
class Segment:
    """Where one sample lies in a packed batch: row, [start, end) and the first response position."""

    row: int
    start: int
    response_start: int
    end: int

    @property
    def scored(self) -> slice:
        """The positions whose values are kept."""
        return slice(max(self.start, self.response_start - 1), self.end)

    @property
    def response(self) -> slice:
        """The response tokens (EOS included)."""
        return slice(self.response_start, self.end)


def segments_of(batch: PackedBatch) -> list[Segment]:
    """The samples of a batch, in the order of `batch.sample_ids`."""
    segments = []
    for row, (ids, mask) in enumerate(
        zip(batch.segment_ids.numpy(), batch.response_mask.numpy(), strict=True)
    ):
        for segment in range(ids.max() + 1):
            positions = np.flatnonzero(ids == segment)
            start, end = int(positions[0]), int(positions[-1]) + 1
            segments.append(Segment(row, start, start + int(np.argmax(mask[start:end])), end))
    return segments


def map_responses(
    values_RT: Tensor, batch: PackedBatch, change: Callable[[int, np.ndarray], np.ndarray]
) -> Tensor:
    """A copy of `values_RT` in which the response of every sample is `change(sample id, its values)`.

    Example: response values [1 2 3] and a `change` that reverses give [3 2 1] at the same places.
    """
    changed_RT = values_RT.clone()
    for sample_id, segment in zip(batch.sample_ids.tolist(), segments_of(batch), strict=True):
        own = values_RT[segment.row, segment.response].numpy()
        changed_RT[segment.row, segment.response] = torch.from_numpy(change(sample_id, own).astype(own.dtype))
    return changed_RT


def per_sample(values_S: np.ndarray, batch: PackedBatch, fill: float) -> Tensor:
    """[R, T]: each sample's number at all of its tokens, `fill` on padding."""
    spread_RT = torch.full(batch.shape, fill, dtype=torch.from_numpy(values_S[:0]).dtype)
    for value, segment in zip(values_S.tolist(), segments_of(batch), strict=True):
        spread_RT[segment.row, segment.start : segment.end] = value
    return spread_RT


def take_samples(batch: PackedBatch, chosen_S: np.ndarray) -> PackedBatch:
    """The batch with only the chosen samples [S bool], in their rows and order, without gaps.

    Example: a row of segments [0 0 1 1 1 2] of which the first and the third are chosen becomes [0 0 1].
    """
    rows: dict[int, list[Segment]] = {}
    for segment, chosen in zip(segments_of(batch), chosen_S, strict=True):
        if chosen:
            rows.setdefault(segment.row, []).append(segment)
    width = max(sum(s.end - s.start for s in row) for row in rows.values())
    fills = {"input_ids": 0, "position_ids": 0, "segment_ids": -1, "labels": IGNORED_LABEL}
    tensors = {name: torch.full((len(rows), width), fill) for name, fill in fills.items()}
    for r, row in enumerate(rows.values()):
        start = 0
        for number, segment in enumerate(row):
            end = start + segment.end - segment.start
            for name, tensor in tensors.items():
                tensor[r, start:end] = getattr(batch, name)[segment.row, segment.start : segment.end]
            tensors["segment_ids"][r, start:end] = number
            start = end
        tensors["position_ids"][r, start:] = torch.arange(width - start)
    return PackedBatch(sample_ids=batch.sample_ids[torch.from_numpy(chosen_S)], **tensors)
