"""Random packed label rows, and the MTP loss as plain loops in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

V = 7


@dataclass(frozen=True)
class Rows:
    """Labels, segments and a weight per token, [B, T]."""

    labels: Tensor
    segment_ids: Tensor
    weights: Tensor


@st.composite
def label_rows(draw: st.DrawFn, max_rows: int = 3, max_segments: int = 3) -> Rows:
    """Rows of packed samples: prompts (possibly empty), responses with holes, padding."""
    rows = []
    for _ in range(draw(st.integers(1, max_rows))):
        labels, segments = [], []
        for segment in range(draw(st.integers(0, max_segments))):
            response = draw(st.lists(st.integers(-1, V - 1), min_size=1, max_size=7))
            tokens = [-100] * draw(st.integers(0, 3)) + [t if t >= 0 else -100 for t in response]
            labels += tokens
            segments += [segment] * len(tokens)
        rows.append((labels, segments))
    T = max(max(len(labels) for labels, _ in rows), 1) + draw(st.integers(0, 2))
    labels, segments = torch.full((len(rows), T), -100), torch.full((len(rows), T), -1)
    for b, (row_labels, row_segments) in enumerate(rows):
        labels[b, : len(row_labels)] = torch.tensor(row_labels, dtype=torch.int64)
        segments[b, : len(row_segments)] = torch.tensor(row_segments, dtype=torch.int64)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return Rows(labels, segments, torch.rand(labels.shape, generator=generator, dtype=torch.float64) * 3)


def reference_targets(labels: Tensor, segment_ids: Tensor, k: int, state: bool) -> list[tuple[int, int, int]]:
    """(row, t, token) of head k's valid targets."""
    found = []
    B, T = labels.shape
    for b in range(B):
        for t in range(T - k):
            valid = labels[b, t + k] != -100 and segment_ids[b, t] == segment_ids[b, t + k]
            if valid and state:
                valid = labels[b, t + 1] != -100
            if valid:
                found.append((b, t, int(labels[b, t + k])))
    return found


def reference_loss(
    logits: np.ndarray, rows: Rows, state: bool, coefficients: list[float] | None = None
) -> tuple[float, float, list[int]]:
    """Weighted and unweighted loss and N_k, from logits [B, T, K, V]."""
    K = logits.shape[2]
    weighted = unweighted = total = 0.0
    counts = []
    for k in range(1, K + 1):
        targets = reference_targets(rows.labels, rows.segment_ids, k, state)
        counts.append(len(targets))
        if not targets:
            continue
        c = 1.0 if coefficients is None else coefficients[k - 1]
        total += c
        for b, t, token in targets:
            scores = logits[b, t, k - 1]
            top = scores.max()
            ce = top + math.log(np.exp(scores - top).sum()) - scores[token]
            w = float(rows.weights[b, t + 1 if state else t + k])
            weighted += c * w * ce / len(targets)
            unweighted += c * ce / len(targets)
    return weighted / (total or 1.0), unweighted / (total or 1.0), counts


def random_logits(rows: Rows, K: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*rows.labels.shape, K, V, generator=generator, dtype=torch.float64)
