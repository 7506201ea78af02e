"""Attention of packed rows: causal inside a segment, nothing across segments.

SDPA's fast kernels take no mask, and with one would compute every pair of tokens of a row. So segments of about the
same length are laid beside each other, filled up on the right, and go through one causal call: no real token reads the
filling behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

PACKED_ATTENTION = "wmtp_packed"
"""The name that transformers' models find `packed_attention` by."""
CALLS_PER_OCTAVE = 4
"""Segments share a call if their lengths are at most a factor 2^(1/4) apart."""


@dataclass(frozen=True)
class Spans:
    """Where the segments of packed rows lie, and which of them are attended together."""

    lengths: tuple[int, ...]
    """Tokens of each run of equal segment ids, one row after another; together R · T."""
    groups: tuple[tuple[int, ...], ...]
    """Numbers of the runs that share a call."""
    _window_masks: dict[tuple[int, int], Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, segment_ids_RT: Tensor) -> Spans:
        """Those of a batch. Padding is a run like others: an idle rank's batch is nothing else, and must reach the
        same weights as everybody's.

        Example: rows [0 0 1 −1] and [0 0 0 0] have runs of 2, 1, 1 and 4 tokens.
        """
        lengths = tuple(len(list(run)) for row in segment_ids_RT.tolist() for _, run in groupby(row))
        groups: dict[int, list[int]] = {}
        for number, length in enumerate(lengths):
            groups.setdefault(math.ceil(CALLS_PER_OCTAVE * math.log2(length)), []).append(number)
        return cls(lengths, tuple(map(tuple, groups.values())))

    def window_mask(self, length: int, window: int, device: torch.device) -> Tensor:
        """[length, length] bool: query q reads key k when q − window < k ≤ q. Made once for all layers."""
        if (length, window) not in self._window_masks:
            ones = torch.ones(length, length, dtype=torch.bool, device=device)
            self._window_masks[length, window] = ones.tril().triu(1 - window)
        return self._window_masks[length, window]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    spans: Spans,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """What a layer of transformers calls: queries [R, H, T, D], keys and values [R, H', T, D] to [R, T, H, D].
    `layer(..., spans=...)` hands the spans down."""
    q, k, v = (states.transpose(1, 2).flatten(0, 1).split(spans.lengths) for states in (query, key, value))
    attended: list[Tensor] = list(q)
    for group in spans.groups:
        width = max(spans.lengths[number] for number in group)
        window = sliding_window if sliding_window and width > sliding_window else None
        beside = scaled_dot_product_attention(
            *(_beside([runs[number] for number in group], width) for runs in (q, k, v)),
            attn_mask=spans.window_mask(width, window, query.device) if window else None,
            dropout_p=dropout,
            is_causal=window is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        for number, run in zip(group, beside.transpose(1, 2), strict=True):
            attended[number] = run[: spans.lengths[number]]
    return torch.cat(attended).unflatten(0, (query.shape[0], query.shape[2])), None


def _beside(runs: Sequence[Tensor], width: int) -> Tensor:
    """[N, H, width, D] of N runs [L, H, D], filled up with 0: by one concatenation, whose backward is one split."""
    parts = []
    for run in runs:
        parts += [run, run.new_zeros(width - len(run), *run.shape[1:])]
    return torch.cat(parts).unflatten(0, (len(runs), width)).transpose(1, 2)


transformers.AttentionInterface.register(PACKED_ATTENTION, packed_attention)
