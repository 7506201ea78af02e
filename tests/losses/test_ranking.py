from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmtp_ray.errors import DataError
from wmtp_ray.losses import (
    RankingStatistics,
    pairwise_ranking_loss,
    ranking_loss_from_means,
    segment_index,
    segment_means,
    spread_over_segments,
)


@st.composite
def sides(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """v_pos, v_neg, mask_pos, mask_neg with NaN off the masks; the sides differ in length."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    P, T, U = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    masks = rng.random((P, T)) < 0.6, rng.random((P, U)) < 0.6
    values = [np.where(m, rng.normal(size=m.shape), np.nan) for m in masks]
    return values[0], values[1], masks[0], masks[1]


def reference_margins(v_pos, v_neg, mask_pos, mask_neg) -> list[float]:
    """One number for each pair that has both sides."""
    return [
        p[m].mean() - n[k].mean()
        for p, n, m, k in zip(v_pos, v_neg, mask_pos, mask_neg, strict=True)
        if m.any() and k.any()
    ]


@given(pair=sides())
def test_loss_equals_the_loop_and_drops_empty_sides(pair):
    margins = reference_margins(*pair)
    tensors = [torch.from_numpy(x) for x in pair]
    if not margins:
        with pytest.raises(DataError, match="none of"):
            pairwise_ranking_loss(*tensors)
        return
    wanted = np.mean([math.log1p(math.exp(-m)) for m in margins])
    np.testing.assert_allclose(float(pairwise_ranking_loss(*tensors)), wanted, rtol=1e-9)
    single = [t.float() if t.is_floating_point() else t for t in tensors]
    np.testing.assert_allclose(float(pairwise_ranking_loss(*single)), wanted, rtol=1e-6, atol=1e-6)
    with_axis = [single[0].unsqueeze(-1), single[1].unsqueeze(-1), *single[2:]]
    assert pairwise_ranking_loss(*with_axis) == pairwise_ranking_loss(*single)


@given(pair=sides(), cut=st.integers(0, 5))
def test_statistics_equal_the_loop_and_add_up(pair, cut):
    v_pos, v_neg, mask_pos, mask_neg = (torch.from_numpy(x) for x in pair)
    margins = reference_margins(*pair)
    zeros = [torch.zeros_like(m, dtype=torch.int64) for m in (mask_pos, mask_neg)]
    pos = segment_means(v_pos, mask_pos, zeros[0], len(v_pos))
    neg = segment_means(v_neg, mask_neg, zeros[1], len(v_neg))
    found = RankingStatistics()
    for part in (slice(0, cut), slice(cut, None)):
        found += RankingStatistics.of(
            pos.mean_S[part], neg.mean_S[part], pos.count_S[part], neg.count_S[part]
        )
    assert found == RankingStatistics.from_tensor(found.as_tensor())
    assert found.pairs == len(margins) and found.dropped == len(v_pos) - len(margins)
    if margins:
        assert found.accuracy == np.mean([m > 0 for m in margins])
        assert found.tied == sum(m == 0 for m in margins)
        np.testing.assert_allclose(found.margin, np.mean(margins), atol=1e-9)
        both = mask_pos.any(1) & mask_neg.any(1)
        shorter = (mask_pos.sum(1) < mask_neg.sum(1))[both].double().mean()
        np.testing.assert_allclose(found.shorter_wins_accuracy, float(shorter))
    else:
        assert found.accuracy == found.margin == 0.0


def test_worked_examples_of_the_documentation():
    ones = torch.ones(2, 1)
    loss = pairwise_ranking_loss(torch.tensor([[1.0], [0.0]]), torch.zeros(2, 1), ones, ones)
    assert float(loss) == pytest.approx((math.log1p(math.exp(-1)) + math.log(2)) / 2)
    found = RankingStatistics.of(
        torch.tensor([0.9, 0.2]), torch.tensor([0.1, 0.2]), torch.tensor([5, 9]), torch.tensor([7, 9])
    )
    assert (found.pairs, found.accuracy, found.tied, found.shorter_wins_accuracy) == (2, 0.5, 1, 0.5)
    assert found.margin == pytest.approx(0.4)
    segments = torch.tensor([[0, 0, 1, -1], [0, 1, 1, 2]])
    assert segment_index(segments, 5).tolist() == [[0, 0, 1, 5], [2, 3, 3, 4]]
    assert spread_over_segments(torch.tensor([7.0, 8.0]), segments[:1], -1.0).tolist() == [[7, 7, 8, -1]]


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 3))
def test_packed_means_equal_each_samples_own(seed, rows):
    rng = np.random.default_rng(seed)
    lengths = [list(rng.integers(1, 6, rng.integers(0, 4))) for _ in range(rows)]
    T = max(sum(row) for row in lengths) + 2
    segments = torch.full((rows, T), -1)
    for r, row in enumerate(lengths):
        segments[r, : sum(row)] = torch.from_numpy(np.repeat(np.arange(len(row)), row))
    mask = (torch.rand(rows, T) < 0.6) & (segments >= 0)
    values = torch.where(mask, torch.randn(rows, T, dtype=torch.float64), torch.nan)
    found = segment_means(values, mask, segments, sum(map(len, lengths)))
    wanted = [
        values[r][(segments[r] == s) & mask[r]] for r, row in enumerate(lengths) for s in range(len(row))
    ]
    assert found.count_S.tolist() == [len(w) for w in wanted]
    for mean, tokens in zip(found.mean_S, wanted, strict=True):
        assert float(mean) == pytest.approx(float(tokens.mean()) if len(tokens) else 0.0)


def test_gradients_by_finite_differences():
    values = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    other = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    mask, other_mask = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]), torch.ones(3, 2)
    assert torch.autograd.gradcheck(
        lambda p, n: pairwise_ranking_loss(p, n, mask, other_mask), (values, other)
    )


def test_a_steps_loss_does_not_depend_on_its_cut_and_empty_parts_stay_differentiable():
    pos, neg = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    valid = torch.tensor([True, True, False, False, True, True])
    whole = ranking_loss_from_means(pos, neg, valid)
    pieces = [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 6)]
    parts = sum(ranking_loss_from_means(pos[p], neg[p], valid[p], normalizer=4.0) for p in pieces)
    torch.testing.assert_close(parts, whole)
    leaf = pos[2:4].clone().requires_grad_()
    ranking_loss_from_means(leaf, neg[2:4], valid[2:4], normalizer=4.0).backward()
    assert leaf.grad is not None and not leaf.grad.any()


def test_large_margins_neither_overflow_nor_vanish():
    mean = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = ranking_loss_from_means(mean, torch.zeros(2))
    loss.backward()
    assert loss.item() == pytest.approx(5e3)
    assert mean.grad is not None and mean.grad.tolist() == [0.0, -0.5]


def test_bad_input_is_named():
    values, ones = torch.zeros(2, 3), torch.ones(2, 3)
    values[1, 2] = math.nan
    with pytest.raises(DataError, match="value at row 1, position 2"):
        pairwise_ranking_loss(values, torch.zeros(2, 3), ones, ones)
    with pytest.raises(DataError, match="pair 1"):
        ranking_loss_from_means(torch.tensor([0.0, math.inf]), torch.zeros(2))
    with pytest.raises(DataError, match="do not form pairs"):
        pairwise_ranking_loss(torch.zeros(2, 3), torch.zeros(1, 3), ones, ones[:1])
    with pytest.raises(DataError, match="shapes must agree"):
        segment_means(torch.zeros(2, 3), ones, torch.zeros(2, 2, dtype=torch.int64), 2)
