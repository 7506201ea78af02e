"""The packed micro-batch that everything computes on.

R packed rows, T tokens (the fullest row), S samples. Several samples share a packed row as segments; nothing
(attention, advantage recursion, head targets) crosses from one segment to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from wmtp_ray.data.prompt import TokenizedSample

IGNORED_LABEL = -100
"""Label of a token that is no target."""


@dataclass(frozen=True)
class PackedBatch:
    """Packed rows of samples. Two samples (prompt 2 + response 2, prompt 1 + response 1) in a row of 6:

    input_ids     [a0 a1 a2 a3 b0 b1]
    position_ids  [ 0  1  2  3  0  1]
    segment_ids   [ 0  0  0  0  1  1]
    labels        [ -  - a2 a3  - b1]      - is -100
    """

    input_ids: Tensor
    """[R, T] int64; the pad id on padding."""
    position_ids: Tensor
    """[R, T] int64; from 0 in every segment, and in the padding."""
    segment_ids: Tensor
    """[R, T] int64; 0, 1, 2, ... within a packed row, -1 on padding."""
    labels: Tensor
    """[R, T] int64; not shifted: the token itself on response positions, -100 on prompt and padding."""
    sample_ids: Tensor
    """[S] int64; store row number of each segment, ordered by (packed row, segment)."""

    @property
    def response_mask(self) -> Tensor:
        """[R, T] bool: the tokens that are targets."""
        return self.labels != IGNORED_LABEL

    @property
    def shape(self) -> tuple[int, int]:
        """(R, T)."""
        return self.input_ids.shape[0], self.input_ids.shape[1]

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        return PackedBatch(
            input_ids=move(self.input_ids),
            position_ids=move(self.position_ids),
            segment_ids=move(self.segment_ids),
            labels=move(self.labels),
            sample_ids=move(self.sample_ids),
        )


def shift_left(values_BT: Tensor, k: int, fill: float) -> Tensor:
    """values_{t+k} at t; `fill` where t+k lies beyond the row. [B, T] → [B, T], also for k ≥ T."""
    T = values_BT.shape[1]
    return pad(values_BT[:, k:], (0, min(k, T)), value=fill)


def pack(samples: list[list[TokenizedSample]], pad_id: int) -> PackedBatch:
    """Lay samples out as packed rows: the outer list holds the rows, each inner list the segments of one.

    The rows are padded on the right to the fullest one. `ValueError` for no rows or an empty row.
    """
    if not samples or not all(samples):
        raise ValueError("pack needs at least one row, and at least one sample in every row")
    num_rows = len(samples)
    num_tokens = max(sum(len(s.token_ids) for s in row) for row in samples)
    input_ids = np.full((num_rows, num_tokens), pad_id, dtype=np.int64)
    position_ids = np.zeros((num_rows, num_tokens), dtype=np.int64)
    segment_ids = np.full((num_rows, num_tokens), -1, dtype=np.int64)
    labels = np.full((num_rows, num_tokens), IGNORED_LABEL, dtype=np.int64)
    for r, row in enumerate(samples):
        start = 0
        for segment, sample in enumerate(row):
            end = start + len(sample.token_ids)
            input_ids[r, start:end] = sample.token_ids
            position_ids[r, start:end] = np.arange(end - start)
            segment_ids[r, start:end] = segment
            labels[r, start + sample.response_start : end] = sample.token_ids[sample.response_start :]
            start = end
        position_ids[r, start:] = np.arange(num_tokens - start)
    return PackedBatch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        segment_ids=torch.from_numpy(segment_ids),
        labels=torch.from_numpy(labels),
        sample_ids=torch.tensor([s.sample_id for row in samples for s in row], dtype=torch.int64),
    )
