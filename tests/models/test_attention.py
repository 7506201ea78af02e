from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.models.attention import attention_mask_from_segments, is_plain_causal


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.none() | st.integers(1, 6))
def test_a_query_reads_the_causal_window_of_its_own_segment(
    lengths: list[int], padding: int, window: int | None
) -> None:
    ids = [number for number, length in enumerate(lengths) for _ in range(length)] + [-1] * padding
    mask = attention_mask_from_segments(torch.tensor([ids]), torch.float32, window)
    assert mask.shape == (1, 1, len(ids), len(ids))
    for q in range(len(ids)):
        for k in range(len(ids)):
            allowed = k <= q and ids[k] == ids[q] and (window is None or q - k < window)
            assert mask[0, 0, q, k] == (0 if allowed else float("-inf"))


def test_sdpa_masks_by_itself_where_that_is_enough() -> None:
    one_each = torch.tensor([[0, 0, 0, 0], [0, 0, -1, -1]])
    assert is_plain_causal(one_each)
    assert is_plain_causal(one_each, sliding_window=4)
    assert not is_plain_causal(one_each, sliding_window=3)
    assert not is_plain_causal(torch.tensor([[0, 0, 1, 1]]))
