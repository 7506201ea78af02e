"""Attention masks of packed rows: causal inside a segment, nothing across segments."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_mask_from_segments(
    segment_ids_RT: Tensor, dtype: torch.dtype, sliding_window: int | None = None
) -> Tensor:
    """Additive mask [R, 1, T, T] of `dtype`: 0 where query q may read key k, −inf elsewhere.

    Query q reads key k when k ≤ q, both lie in the same segment and, with a sliding window of w tokens, k >
    q − w (within a segment the distance of two indices is that of their positions). Padding (segment −1)
    counts as a segment of its own: each padding token reads itself at least, so no row of the softmax is
    empty.

    Additive rather than boolean, because SDPA turns a boolean mask into a new additive one in every layer
    and keeps each of them for the backward pass.

    Example: segments [0 0 1 −1], allowed: [[x...], [xx..], [..x.], [...x]].
    """
    num_tokens = segment_ids_RT.shape[1]
    index_T = torch.arange(num_tokens, device=segment_ids_RT.device)
    distance_TT = index_T[:, None] - index_T[None, :]
    near_TT = distance_TT >= 0
    if sliding_window is not None:
        near_TT &= distance_TT < sliding_window
    allowed_RTT = (segment_ids_RT[:, :, None] == segment_ids_RT[:, None, :]) & near_TT
    mask_RTT = torch.zeros(allowed_RTT.shape, dtype=dtype, device=segment_ids_RT.device)
    return mask_RTT.masked_fill_(~allowed_RTT, float("-inf")).unsqueeze(1)


def is_plain_causal(segment_ids_RT: Tensor, sliding_window: int | None = None) -> bool:
    """Whether SDPA's own causal mask will do: one segment per row, padded on the right, no window in reach.

    Causality keeps real tokens from reading the padding behind them, and what padding reads is never used.
    Without an explicit mask the fast attention kernels apply.
    """
    if sliding_window is not None and segment_ids_RT.shape[1] > sliding_window:
        return False
    return bool((segment_ids_RT <= 0).all())
