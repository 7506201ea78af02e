"""Attention of packed rows: causal inside a segment, nothing across segments.

SDPA's fast kernels take no mask, and with one would compute every pair of tokens of a row. So segments of about the
same length are laid beside each other, filled up on the right, and go through one causal call: no real token reads the
filling behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

PACKED_ATTENTION = "wmtp_packed"
"""The name that transformers' models find `packed_attention` by."""
CALLS_PER_OCTAVE = 4
"""Segments share a call if their lengths are at most a factor 2^(1/4) apart."""


@dataclass(frozen=True)
class SegmentGroups:
    """Where the segments of packed rows lie, and which of them are attended together. What the filling holds is read by
    the filling alone, and what comes out of it by nobody.

    Example: rows [a a b c] and [d d d d] (one letter a segment, 8 tokens) have the groups [b c], [a] and [d].
    """

    shapes: tuple[tuple[int, int], ...]
    """(segments, tokens of the longest) of each group; their products add up to the number of slots."""
    token_of_slot: Tensor
    """[slots] int64: index into R · T of the token in each slot, one group after another; any in the filling."""
    filling: Tensor
    """[slots that hold no token] int64: their indices."""
    slot_of_token: Tensor
    """[R · T] int64: where each token lies."""
    _window_masks: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, segment_ids_RT: Tensor) -> SegmentGroups:
        """Those of a batch, on its device. Padding is a segment like others: an idle rank's batch is nothing else, and
        must reach the same weights as everybody's."""
        lengths = np.array([len(list(run)) for row in segment_ids_RT.tolist() for _, run in groupby(row)])
        starts = np.cumsum(lengths) - lengths
        alike = np.ceil(CALLS_PER_OCTAVE * np.log2(lengths))
        shapes, tokens, filling = [], [], []
        for kind in np.unique(alike):
            chosen = alike == kind
            place = np.arange(lengths[chosen].max())
            empty = place >= lengths[chosen, None]
            shapes.append(empty.shape)
            tokens.append(np.where(empty, 0, starts[chosen, None] + place).ravel())
            filling.append(empty.ravel())
        token_of_slot, empty = np.concatenate(tokens), np.concatenate(filling)
        slot_of_token = np.empty(segment_ids_RT.numel(), dtype=np.int64)
        slot_of_token[token_of_slot[~empty]] = np.flatnonzero(~empty)
        arrays = (token_of_slot, np.flatnonzero(empty), slot_of_token)
        on_device = (torch.from_numpy(array).to(segment_ids_RT.device) for array in arrays)
        return cls(tuple(shapes), *on_device)

    def to_slots(self, states: Tensor) -> Tensor:
        """[R · T, ...] to [slots, ...]."""
        nothing = self.filling[:0]
        return _Selected.apply(states, self.token_of_slot, self.slot_of_token, nothing)  # type: ignore[return-value]

    def to_tokens(self, slots: Tensor) -> Tensor:
        """[slots, ...] to [R · T, ...]."""
        return _Selected.apply(slots, self.slot_of_token, self.token_of_slot, self.filling)  # type: ignore[return-value]

    def window_mask(self, length: int, window: int) -> Tensor:
        """[length, length] bool: query q reads key k when q − window < k ≤ q. Made once for all layers."""
        if (length, window) not in self._window_masks:
            ones = torch.ones(length, length, dtype=torch.bool, device=self.filling.device)
            self._window_masks[length, window] = ones.tril().triu(1 - window)
        return self._window_masks[length, window]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    groups: SegmentGroups,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """What a layer of transformers calls: queries [R, H, T, D], keys and values [R, H', T, D] to [R, T, H, D].
    `layer(..., groups=...)` hands the groups down."""
    sizes = [segments * width for segments, width in groups.shapes]
    slots = [
        groups.to_slots(states.transpose(1, 2).flatten(0, 1)).split(sizes) for states in (query, key, value)
    ]
    attended = []
    for shape, *qkv in zip(groups.shapes, *slots, strict=True):
        width = shape[1]
        window = sliding_window if sliding_window and width > sliding_window else None
        attended.append(
            scaled_dot_product_attention(
                *(states.unflatten(0, shape).transpose(1, 2) for states in qkv),
                attn_mask=groups.window_mask(width, window) if window else None,
                dropout_p=dropout,
                is_causal=window is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
            .transpose(1, 2)
            .flatten(0, 1)
        )
    return groups.to_tokens(torch.cat(attended)).unflatten(0, (query.shape[0], query.shape[2])), None


class _Selected(torch.autograd.Function):
    """Rows `there` of [N, ...], whose gradient is a selection as well: of rows `back`, with 0 in place of the `unread`.
    Autograd would add up row by row, not knowing that none is selected twice but to fill up."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, there: Tensor, back: Tensor, unread: Tensor) -> Tensor:
        ctx.save_for_backward(back, unread)
        return states.index_select(0, there)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        back, unread = ctx.saved_tensors
        return gradient.index_select(0, back).index_fill_(0, unread, 0.0), None, None, None


transformers.AttentionInterface.register(PACKED_ATTENTION, packed_attention)
