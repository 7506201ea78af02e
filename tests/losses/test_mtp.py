from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from tests.losses.batches import (
    Rows,
    V,
    label_rows,
    random_logits,
    reference_loss,
    reference_targets,
)
from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.losses import (
    align_weights,
    compute_mtp_ce_loss,
    compute_mtp_ce_loss_unweighted,
    head_normalizers,
    mtp_targets,
)

ALIGNMENTS = st.sampled_from(["target", "state"])


@given(rows=label_rows(), k=st.integers(1, 9), alignment=ALIGNMENTS)
def test_targets_and_weights_equal_the_loop(rows, k, alignment):
    wanted_targets, wanted_weights = torch.full_like(rows.labels, -100), torch.zeros_like(rows.weights)
    for b, t, token in reference_targets(rows.labels, rows.segment_ids, k, alignment == "state"):
        wanted_targets[b, t] = token
        wanted_weights[b, t] = rows.weights[b, t + (k if alignment == "target" else 1)]
    targets = mtp_targets(rows.labels, rows.segment_ids, k, alignment)
    assert torch.equal(targets, wanted_targets)
    weights = align_weights(rows.weights, k, alignment, rows.segment_ids, rows.labels)
    assert torch.equal(weights, wanted_weights)
    assert torch.equal(
        align_weights(None, k, alignment, rows.segment_ids, rows.labels), (targets != -100).float()
    )


def test_worked_examples_of_the_documentation():
    labels = torch.tensor([[-100, -100, 1, 2, -100, 3, 4]])
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])
    assert mtp_targets(labels, segments, 2).tolist() == [[1, 2, -100, -100, 4, -100, -100]]
    assert mtp_targets(labels, segments, 2, "state").tolist() == [[-100, 2, -100, -100, 4, -100, -100]]
    one, weights = torch.tensor([[-100, -100, 1, 2]]), torch.tensor([[0.0, 0.0, 0.5, 0.7]])
    torch.testing.assert_close(
        align_weights(weights, 2, "target", None, one), torch.tensor([[0.5, 0.7, 0, 0]])
    )
    torch.testing.assert_close(align_weights(weights, 2, "state", None, one), torch.tensor([[0, 0.5, 0, 0]]))


def test_weights_per_position_and_head_are_taken_where_they_stand():
    labels = torch.tensor([[-100, 1, 2, 3]])
    weights = torch.arange(8.0).view(1, 4, 2) + 1
    for alignment in ("target", "state"):
        assert align_weights(weights, 1, alignment, None, labels).tolist() == [[1, 3, 5, 0]]
    assert align_weights(weights, 2, "target", None, labels).tolist() == [[2, 4, 0, 0]]
    with pytest.raises(DataError, match="K ≥ 3"):
        align_weights(weights, 3, "target", None, labels)


@given(
    rows=label_rows(),
    K=st.integers(1, 4),
    alignment=ALIGNMENTS,
    coefficients=st.one_of(st.none(), st.lists(st.floats(0.1, 2), min_size=4, max_size=4)),
)
def test_the_loss_equals_the_loop(rows, K, alignment, coefficients):
    logits = random_logits(rows, K)
    coefficients = coefficients and coefficients[:K]
    weighted, unweighted, counts = reference_loss(logits.numpy(), rows, alignment == "state", coefficients)
    mask = rows.segment_ids >= 0
    if not any(counts):
        with pytest.raises(DataError, match="no head"):
            compute_mtp_ce_loss(logits, rows.labels, mask, rows.weights, alignment, rows.segment_ids)
        return
    found = compute_mtp_ce_loss(
        logits, rows.labels, mask, rows.weights, alignment, rows.segment_ids, coefficients
    )
    assert found.count_K.tolist() == counts
    np.testing.assert_allclose(float(found.weighted), weighted, atol=1e-9, rtol=1e-9)
    np.testing.assert_allclose(float(found.unweighted), unweighted, atol=1e-9, rtol=1e-9)
    single = compute_mtp_ce_loss(
        logits.float(), rows.labels, mask, rows.weights, alignment, rows.segment_ids, coefficients
    )
    np.testing.assert_allclose(float(single.weighted), weighted, atol=1e-6, rtol=1e-6)


@given(rows=label_rows(max_segments=1))
def test_one_head_is_ordinary_cross_entropy(rows):
    assume((rows.labels[:, 1:] != -100).any())
    logits = random_logits(rows, 1)
    wanted = cross_entropy(logits[:, :-1, 0].flatten(0, 1), rows.labels[:, 1:].flatten(), ignore_index=-100)
    found = compute_mtp_ce_loss_unweighted(logits, rows.labels, None)
    torch.testing.assert_close(found, wanted)
    ones = compute_mtp_ce_loss(logits, rows.labels, None, torch.ones_like(rows.weights), "state")
    torch.testing.assert_close(ones.weighted, wanted)


@given(rows=label_rows(), alignment=ALIGNMENTS, K=st.integers(1, 4), padding=st.integers(0, 3))
def test_packing_padding_and_row_order_change_nothing(rows, alignment, K, padding):
    logits = random_logits(rows, K)
    parts = [
        (logits[b, m], rows.labels[b, m], rows.weights[b, m])
        for b in range(len(rows.labels))
        for m in [rows.segment_ids[b] == s for s in range(3)]
        if m.any()
    ]
    assume(any((labels[1:] != -100).any() for _, labels, _ in parts))
    T = max(len(labels) for _, labels, _ in parts) + padding
    alone = torch.full((len(parts), T, K, V), 9.0, dtype=torch.float64)
    labels, mask = torch.zeros(len(parts), T, dtype=torch.int64), torch.zeros(len(parts), T)
    weights = torch.full((len(parts), T), 5.0, dtype=torch.float64)
    for b, (x, y, w) in enumerate(reversed(parts)):
        alone[b, : len(y)], labels[b, : len(y)], weights[b, : len(y)], mask[b, : len(y)] = x, y, w, 1
    try:
        packed = compute_mtp_ce_loss(logits, rows.labels, None, rows.weights, alignment, rows.segment_ids)
    except DataError:
        with pytest.raises(DataError):
            compute_mtp_ce_loss(alone, labels, mask, weights, alignment)
        return
    single = compute_mtp_ce_loss(alone, labels, mask, weights, alignment)
    assert single.count_K.tolist() == packed.count_K.tolist()
    torch.testing.assert_close(single.weighted, packed.weighted)
    torch.testing.assert_close(single.unweighted_K, packed.unweighted_K)


@pytest.mark.parametrize("alignment", ["target", "state"])
def test_gradients_by_finite_differences(alignment):
    labels = torch.tensor([[-100, -100, 3, 1, -100, 2], [-100, 0, 4, -100, -100, -100]])
    segments = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, -1]])
    rows = Rows(labels, segments, torch.rand(2, 6, dtype=torch.float64))
    logits = random_logits(rows, 3).requires_grad_()

    def losses(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = compute_mtp_ce_loss(x, labels, None, rows.weights, alignment, segments, [1.0, 0.5, 2.0])
        return found.weighted, found.unweighted

    assert torch.autograd.gradcheck(losses, (logits,))


def test_rows_shorter_than_the_heads_reach_drop_those_heads():
    labels = torch.tensor([[-100, 1]])
    logits = torch.randn(1, 2, 4, V, dtype=torch.float64)
    found = compute_mtp_ce_loss(logits, labels, None)
    assert found.count_K.tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(found.weighted, cross_entropy(logits[0, :1, 0], labels[0, 1:]))
    with pytest.raises(DataError, match="no head with a coefficient has a valid target"):
        compute_mtp_ce_loss(logits[:, :1], labels[:, 1:], None)


def test_masked_out_rows_may_hold_anything_in_their_logits():
    labels = torch.tensor([[-100, 1, 2], [-100, -100, -100]])
    logits = torch.randn(2, 3, 2, V)
    logits[1], logits[0, 2] = math.nan, math.inf
    found = compute_mtp_ce_loss(logits, labels, None)
    assert math.isfinite(found.weighted)


def test_non_finite_logits_and_weights_are_named():
    labels = torch.tensor([[-100, 1, 2]])
    logits, weights = torch.zeros(1, 3, 2, V), torch.ones(1, 3)
    logits[0, 0, 1, 0] = math.nan
    with pytest.raises(DataError, match="cross-entropy of head 2 at row 0, position 0"):
        compute_mtp_ce_loss(logits, labels, None)
    weights[0, 2] = math.inf
    with pytest.raises(DataError, match="weight of head 1, taken at row 0, position 1"):
        compute_mtp_ce_loss(torch.zeros(1, 3, 2, V), labels, None, weights)


@given(
    counts=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5),
    coefficients=st.lists(st.floats(0, 3), min_size=3, max_size=3),
    world_size=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_steps_loss_does_not_depend_on_its_cut(counts, coefficients, world_size, seed):
    rng = np.random.default_rng(seed)
    losses = [[rng.random(n) for n in micro_batch] for micro_batch in counts]
    total_K = torch.tensor(counts).sum(0)
    counted = [k for k in range(3) if total_K[k] > 0 and coefficients[k] > 0]
    if not counted:
        with pytest.raises(DataError):
            head_normalizers(total_K, coefficients)
        return
    share = sum(coefficients[k] for k in counted)
    wanted = sum(coefficients[k] / share * np.concatenate([m[k] for m in losses]).mean() for k in counted)
    normalizer_K = head_normalizers(total_K, coefficients).tolist()
    ranks = [losses[r::world_size] for r in range(world_size)]
    per_rank = [sum(m[k].sum() / normalizer_K[k] for m in mine for k in range(3)) for mine in ranks]
    np.testing.assert_allclose(sum(per_rank), wanted, rtol=1e-9)


def test_wrong_arguments_are_refused():
    labels = torch.tensor([[-100, 1, 2]])
    with pytest.raises(ConfigError, match="heads count from 1"):
        mtp_targets(labels, None, 0)
    with pytest.raises(ConfigError, match="weight_alignment"):
        mtp_targets(labels, None, 1, "token")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="B, T, K, V"):
        compute_mtp_ce_loss(torch.zeros(1, 3, V), labels, None)
    with pytest.raises(ConfigError, match="coefficients"):
        head_normalizers(torch.tensor([1, 2]), [1.0])
    with pytest.raises(ConfigError, match="coefficients"):
        head_normalizers(torch.tensor([1, 2]), [1.0, -1.0])
