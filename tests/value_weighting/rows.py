"""Random samples with prompts and holes, alone or packed into rows, as hypothesis strategies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One sample's critic values and response mask, both of its own length."""

    values: np.ndarray
    mask: np.ndarray


@st.composite
def samples(draw: st.DrawFn, max_prompt: int = 4, max_response: int = 12, min_prompt: int = 0) -> Sample:
    """A prompt, then a response that may have holes and tokens after its last response token."""
    prompt = draw(st.integers(min_prompt, max_prompt))
    response = draw(st.lists(st.booleans(), min_size=0 if prompt else 1, max_size=max_response))
    mask = np.array([False] * prompt + response)
    seed = draw(st.integers(0, 2**32 - 1))
    return Sample(np.random.default_rng(seed).normal(0.5, 1.0, mask.size).astype(np.float32), mask)


@dataclass(frozen=True)
class Rows:
    """Rows [B, T] as the library takes them."""

    values: Tensor
    mask: Tensor
    segment_ids: Tensor


def pack(rows: list[list[Sample]], padding: int = 0, fill: float = 7.0) -> Rows:
    """Each inner list becomes one row; `fill` is the value on padding."""
    T = max(sum(s.mask.size for s in row) for row in rows) + padding
    values = torch.full((len(rows), T), fill)
    mask = torch.zeros(len(rows), T, dtype=torch.bool)
    segment_ids = torch.full((len(rows), T), -1)
    for b, row in enumerate(rows):
        start = 0
        for number, sample in enumerate(row):
            part = slice(start, start + sample.mask.size)
            values[b, part], mask[b, part] = torch.from_numpy(sample.values), torch.from_numpy(sample.mask)
            segment_ids[b, part] = number
            start += sample.mask.size
    return Rows(values, mask, segment_ids)


def unpack(result_BT: Tensor, rows: list[list[Sample]]) -> list[np.ndarray]:
    """Per sample, in order, what a [B, T] result says about its tokens."""
    found = []
    for b, row in enumerate(rows):
        start = 0
        for sample in row:
            found.append(result_BT[b, start : start + sample.mask.size].numpy())
            start += sample.mask.size
    return found
