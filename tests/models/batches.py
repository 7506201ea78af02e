"""Random samples, packed and padded, for tests of models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.data.batch import PackedBatch, pack
from wmtp_ray.data.prompt import TokenizedSample

LENGTHS = [[9, 4, 7], [12, 5]]


def random_samples(vocabulary: int = 97, seed: int = 0) -> list[list[TokenizedSample]]:
    """Two packed rows with segments of LENGTHS tokens."""
    generator = np.random.default_rng(seed)
    numbers = iter(range(100))
    return [
        [
            TokenizedSample(
                sample_id=next(numbers),
                token_ids=generator.integers(0, vocabulary, length).astype(np.int32),
                response_start=2,
                truncated=False,
            )
            for length in row
        ]
        for row in LENGTHS
    ]


def packed_and_padded(vocabulary: int = 97) -> tuple[PackedBatch, PackedBatch]:
    """The same samples as packed rows, and one sample per padded row."""
    rows = random_samples(vocabulary)
    return pack(rows, 0), pack([[sample] for row in rows for sample in row], 0)


def segments(values_RT: Tensor, batch: PackedBatch) -> list[Tensor]:
    """What `values_RT` holds for each sample, in the order of the samples."""
    return [
        values_RT[row][batch.segment_ids[row] == segment]
        for row in range(batch.shape[0])
        for segment in range(int(batch.segment_ids[row].max()) + 1)
    ]


def assert_same_samples(left_RT: Tensor, left: PackedBatch, right_RT: Tensor, right: PackedBatch) -> None:
    """Sample by sample equal to 1e-5."""
    for a, b in zip(segments(left_RT, left), segments(right_RT, right), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
