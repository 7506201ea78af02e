"""Packed attention against softmax over an explicit mask, and where segments lie."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from wmtp_ray.models.attention import SegmentGroups, packed_attention

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def naive(query: Tensor, key: Tensor, value: Tensor, segment_ids: Tensor, window: int | None) -> Tensor:
    """[R, H, T, D] to [R, T, H, D] by one softmax over all pairs of a row."""
    index = torch.arange(segment_ids.shape[1])
    distance = index[:, None] - index[None, :]
    near = (distance >= 0) & (distance < (window or len(index)))
    allowed = near & (segment_ids[:, :, None] == segment_ids[:, None, :])
    key, value = (states.repeat_interleave(HEADS // KEY_HEADS, dim=1) for states in (key, value))
    scores = (query @ key.transpose(2, 3) / WIDTH**0.5).masked_fill(~allowed[:, None], float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


@st.composite
def rows(draw: st.DrawFn) -> Tensor:
    """Segment ids of up to three rows, each of up to four segments and padding."""
    width = draw(st.integers(1, 16))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        ids: list[int] = []
        for number, length in enumerate(draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))):
            ids += [number] * length
        made.append((ids + [-1] * width)[:width])
    return torch.tensor(made)


@given(rows(), st.none() | st.integers(1, 6), st.integers(0, 2**31))
def test_values_and_gradients_are_those_of_an_explicit_mask(
    segment_ids: Tensor, window: int | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    R, T = segment_ids.shape
    query, key, value = states = [
        torch.randn(R, heads, T, WIDTH, generator=generator, requires_grad=True)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]
    groups = SegmentGroups.of(segment_ids)
    direction = torch.randn(R, T, HEADS, WIDTH, generator=generator)
    ours, _ = packed_attention(
        nn.Identity(), query, key, value, None, groups=groups, scaling=WIDTH**-0.5, sliding_window=window
    )
    wanted = naive(query, key, value, segment_ids, window)
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    for got, expected in zip(
        torch.autograd.grad((ours * direction).sum(), states),
        torch.autograd.grad((wanted * direction).sum(), states),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_segments_of_about_the_same_length_share_a_call_and_every_token_has_one_slot() -> None:
    groups = SegmentGroups.of(torch.tensor([[0] * 5 + [1] * 16 + [-1] * 3, [0] * 17 + [1] * 6 + [2]]))
    assert groups.shapes == ((1, 1), (1, 3), (1, 5), (1, 6), (1, 16), (1, 17))
    groups = SegmentGroups.of(torch.tensor([[0] * 10 + [1] * 11 + [2], [0] * 20 + [1, 1]]))
    assert groups.shapes == ((1, 1), (1, 2), (2, 11), (1, 20))
    assert groups.token_of_slot[groups.slot_of_token].tolist() == list(range(44))
    assert sorted([*groups.filling.tolist(), *groups.slot_of_token.tolist()]) == list(range(45))


def test_a_segment_ends_with_its_row() -> None:
    assert SegmentGroups.of(torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0]])).shapes == ((2, 4),)
