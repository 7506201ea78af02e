"""Between tokens of packed rows and the samples they belong to: pooling and spreading, without a loop over
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wmtp_ray.value_weighting.checks import require_finite, require_same_shape


@dataclass(frozen=True)
class SegmentMeans:
    """Mean per packed sample, in the order of `PackedBatch.sample_ids` (by row, then segment)."""

    mean_S: Tensor
    """float32 (float64 for float64 values); 0 where count is 0."""
    count_S: Tensor
    """int64: how many tokens were averaged."""


def segment_index(segment_ids_RT: Tensor, num_segments: int) -> Tensor:
    """The sample number of every token, `num_segments` on padding; int64 [R, T].

    Segment ids count 0, 1, 2, … within a row, −1 on padding; a sample's number is its row's offset plus its
    id.

    Example: [[0 0 1 −1], [0 1 1 2]], 5 samples → [[0 0 1 5], [2 3 3 4]].
    """
    per_row_R = segment_ids_RT.amax(1) + 1
    offset_R1 = (per_row_R.cumsum(0) - per_row_R).unsqueeze(1)
    return torch.where(segment_ids_RT >= 0, segment_ids_RT + offset_R1, num_segments)


def segment_means(
    values_RT: Tensor, mask_RT: Tensor, segment_ids_RT: Tensor, num_segments: int
) -> SegmentMeans:
    """Mean of the values over the mask of each packed sample; differentiable in the values.

    Args:
        values_RT: [R, T] or [R, T, 1], any floating dtype; summed in float64.
        mask_RT: [R, T], non-zero where a token counts.
        segment_ids_RT: [R, T] int64, 0, 1, 2, … within a row, −1 on padding.
        num_segments: S, the length of `PackedBatch.sample_ids`.

    Raises:
        DataError: a value on the mask is NaN or infinite (names row, position, segment); shapes disagree.

    Example: values [[1 3 5 9]], mask [[0 1 1 1]], segments [[0 0 0 1]] → means [4 9], counts [2 1].
    """
    values_RT = values_RT.squeeze(-1) if values_RT.dim() == 3 else values_RT
    require_same_shape(values=values_RT, mask=mask_RT, segment_ids=segment_ids_RT)
    mask_RT = mask_RT.bool()
    require_finite(values_RT.detach(), mask_RT, "value", segment_ids_RT)
    index_N = segment_index(segment_ids_RT, num_segments).flatten()
    masked_N = torch.where(mask_RT, values_RT, 0.0).double().flatten()
    # One slot more than there are samples takes the padding.
    sum_S = masked_N.new_zeros(num_segments + 1).index_add(0, index_N, masked_N)[:num_segments]
    count_S = torch.zeros(num_segments + 1, dtype=torch.int64, device=mask_RT.device)
    count_S = count_S.index_add(0, index_N, mask_RT.flatten().long())[:num_segments]
    mean_S = sum_S / count_S.clamp_min(1)
    return SegmentMeans(mean_S if values_RT.dtype == torch.float64 else mean_S.float(), count_S)


def spread_over_segments(values_S: Tensor, segment_ids_RT: Tensor, fill: float = 0.0) -> Tensor:
    """Each sample's value at all of its tokens, `fill` on padding; [R, T] (rewards for packed rows, for
    instance).

    Example: values [7 8], segments [[0 0 1 −1]] → [[7 7 8 fill]].
    """
    padded_S = torch.cat([values_S, values_S.new_tensor([fill])])
    return padded_S[segment_index(segment_ids_RT, values_S.shape[0])]
