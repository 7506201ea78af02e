from __future__ import annotations

import math
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.losses.batches import Rows, V, label_rows
from wmtp_ray.errors import ConfigError, DataError, ModelError
from wmtp_ray.losses import (
    align_weights,
    chunked_cross_entropy,
    chunked_mtp_loss,
    compute_mtp_ce_loss,
    head_normalizers,
    mtp_targets,
    unembedding,
)
from wmtp_ray.value_weighting import rho1_weights

D = 5


def random_model(rows: Rows, K: int, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Hidden states of K heads and an unembedding, all with gradients."""
    generator = torch.Generator().manual_seed(3)
    hidden = [torch.randn(*rows.labels.shape, D, generator=generator, dtype=torch.float64) for _ in range(K)]
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64)
    return [h.to(dtype).requires_grad_() for h in hidden], weight.to(dtype).requires_grad_()


def chunked_over_heads(
    hidden: list[Tensor], weight: Tensor, rows: Rows, alignment: str, normalizer_K: Tensor, chunk_size: int
) -> Tensor:
    """The policy's loop: one head after another."""
    losses = []
    for k, h in enumerate(hidden, start=1):
        targets = mtp_targets(rows.labels, rows.segment_ids, k, alignment)
        aligned = align_weights(rows.weights, k, alignment, rows.segment_ids, rows.labels)
        found = chunked_mtp_loss(
            h, weight, targets, aligned, normalizer=normalizer_K[k - 1], chunk_size=chunk_size
        )
        losses.append(found.loss)
    return torch.stack(losses).sum()


@given(
    rows=label_rows(),
    K=st.integers(1, 4),
    alignment=st.sampled_from(["target", "state"]),
    chunk_size=st.sampled_from([1, 2, 3, 256]),
    zeros=st.booleans(),
)
def test_loss_and_gradients_equal_the_definition(rows, K, alignment, chunk_size, zeros):
    if zeros:
        rows = Rows(rows.labels, rows.segment_ids, torch.where(rows.weights > 1.5, rows.weights, 0.0))
    hidden, weight = random_model(rows, K)
    logits = torch.stack(hidden, dim=2) @ weight.t()
    try:
        wanted = compute_mtp_ce_loss(logits, rows.labels, None, rows.weights, alignment, rows.segment_ids)
    except DataError:
        return
    normalizer_K = head_normalizers(wanted.count_K)
    found = chunked_over_heads(hidden, weight, rows, alignment, normalizer_K, chunk_size)
    torch.testing.assert_close(found, wanted.weighted, atol=1e-12, rtol=1e-12)
    wanted_grads = torch.autograd.grad(wanted.weighted, [*hidden, weight])
    for found_grad, wanted_grad in zip(
        torch.autograd.grad(found, [*hidden, weight]), wanted_grads, strict=True
    ):
        torch.testing.assert_close(found_grad, wanted_grad, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("chunk_size", [2, 256])
def test_gradients_by_finite_differences(chunk_size):
    targets = torch.tensor([[3, -100, 0, 6], [-100, 2, 2, -100]])
    weights = torch.tensor([[0.5, 9.0, 1.5, 0.0], [9.0, 3.0, 0.1, 9.0]], dtype=torch.float64)
    hidden = torch.randn(2, 4, D, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(V, D, dtype=torch.float64, requires_grad=True)

    def loss(h: Tensor, w: Tensor) -> Tensor:
        return chunked_mtp_loss(h, w, targets, weights, normalizer=2.5, chunk_size=chunk_size).loss

    assert torch.autograd.gradcheck(loss, (hidden, weight))
    assert torch.autograd.gradcheck(loss, (hidden, weight.detach()))
    assert torch.autograd.gradcheck(loss, (hidden.detach(), weight))


def large_batch(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(2, 40, 64, generator=generator).to(dtype)
    weight = (0.3 * torch.randn(9000, 64, generator=generator)).to(dtype)
    targets = torch.randint(0, 9000, (2, 40), generator=generator)
    targets[:, :15] = -100
    return hidden, weight, targets, torch.rand(2, 40, generator=generator) * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_is_accumulated_in_float32(dtype):
    hidden, weight, targets, weights = large_batch(dtype)
    exact_hidden, exact_weight = hidden.double().requires_grad_(), weight.double().requires_grad_()
    wanted = chunked_mtp_loss(exact_hidden, exact_weight, targets, weights, normalizer=50.0)
    wanted.loss.backward()
    hidden.requires_grad_()
    weight.requires_grad_()
    found = chunked_mtp_loss(hidden, weight, targets, weights, normalizer=50.0, chunk_size=16)
    found.loss.backward()
    assert found.loss.dtype == found.ce_BT.dtype == torch.float32
    torch.testing.assert_close(found.loss.double(), wanted.loss, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.ce_BT.double(), wanted.ce_BT, atol=5e-6, rtol=1e-6)
    assert hidden.grad is not None and weight.grad is not None
    assert hidden.grad.dtype == weight.grad.dtype == dtype
    # A gradient is rounded once, when it is handed over; float32's, not at all beyond its own precision.
    relative = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    smallest = 1e-7 if dtype != torch.float16 else 1e-6
    torch.testing.assert_close(hidden.grad.double(), exact_hidden.grad, atol=smallest, rtol=relative)
    torch.testing.assert_close(weight.grad.double(), exact_weight.grad, atol=smallest, rtol=relative)


def test_autocast_around_the_loss_does_not_lower_its_precision():
    hidden, weight, targets, _ = large_batch(torch.float32)
    wanted = chunked_mtp_loss(hidden, weight, targets, normalizer=1.0).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = chunked_mtp_loss(hidden, weight, targets, normalizer=1.0).loss
    assert torch.equal(found, wanted)


def test_sums_counts_and_cross_entropies_are_reported():
    hidden, weight, targets, weights = large_batch(torch.float32)
    found = chunked_mtp_loss(hidden, weight, targets, weights, normalizer=7.0, chunk_size=13)
    ce = torch.nn.functional.cross_entropy(
        (hidden @ weight.t()).flatten(0, 1), targets.flatten(), reduction="none"
    )
    torch.testing.assert_close(found.ce_BT.flatten(), ce, atol=1e-5, rtol=1e-6)
    assert int(found.count) == 50
    torch.testing.assert_close(float(found.unweighted_sum), float(ce.double().sum()), rtol=1e-6, atol=0)
    weighted = float((ce.double() * weights.flatten()).sum())
    torch.testing.assert_close(float(found.weighted_sum), weighted, rtol=1e-6, atol=0)
    torch.testing.assert_close(float(found.loss), weighted / 7, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        chunked_cross_entropy(hidden, weight, targets), found.ce_BT, atol=5e-6, rtol=1e-6
    )


def test_weights_may_be_chosen_by_the_cross_entropies():
    hidden, weight, targets, _ = large_batch(torch.float32)
    hidden.requires_grad_()
    valid = (targets != -100).unsqueeze(-1)

    def choose(ce_BT: Tensor) -> Tensor:
        return rho1_weights(ce_BT.unsqueeze(-1), torch.zeros(2, 40, 1), valid)[..., 0]

    found = chunked_mtp_loss(hidden, weight, targets, choose, normalizer=30.0, chunk_size=16)
    chosen = choose(chunked_cross_entropy(hidden, weight, targets))
    assert int(chosen.sum()) == 30
    wanted = chunked_mtp_loss(hidden, weight, targets, chosen, normalizer=30.0, chunk_size=16)
    torch.testing.assert_close(found.loss, wanted.loss)
    (found_grad,), (wanted_grad,) = (torch.autograd.grad(x.loss, hidden) for x in (found, wanted))
    torch.testing.assert_close(found_grad, wanted_grad)
    assert not found_grad[(chosen == 0)].any()
    torch.testing.assert_close(found.unweighted_sum, wanted.unweighted_sum)


def test_no_target_at_all_is_differentiable_and_zero():
    hidden = torch.randn(1, 3, D, requires_grad=True)
    weight = torch.randn(V, D, requires_grad=True)
    for targets, normalizer in [(torch.full((1, 3), -100), 4.0), (torch.tensor([[1, 2, 3]]), math.inf)]:
        found = chunked_mtp_loss(hidden, weight, targets, normalizer=normalizer)
        gradients = torch.autograd.grad(found.loss, [hidden, weight])
        assert found.loss.item() == 0.0
        assert not any(g.any() for g in gradients)
        assert int(found.count) == int((targets >= 0).sum())


def test_only_what_trains_gets_a_gradient_and_no_grad_needs_none():
    hidden, weight, targets, weights = large_batch(torch.float32)
    found = chunked_mtp_loss(hidden.requires_grad_(), weight, targets, weights, normalizer=2.0)
    (2 * found.loss).backward()
    assert weight.grad is None and hidden.grad is not None
    with torch.no_grad():
        assert not chunked_mtp_loss(hidden, weight, targets, weights, normalizer=2.0).loss.requires_grad


def test_at_most_one_chunk_of_logits_and_only_targets_reach_the_unembedding(monkeypatch):
    hidden, weight, targets, _ = large_batch(torch.float32)
    rows: list[int] = []
    alive: list[weakref.ref[Tensor]] = []

    def spy(hidden_CD: Tensor, weight_VD: Tensor) -> Tensor:
        assert not any(earlier() is not None for earlier in alive)
        logits_CV = unembedding.project(hidden_CD, weight_VD)
        rows.append(hidden_CD.shape[0])
        alive.append(weakref.ref(logits_CV))
        return logits_CV

    monkeypatch.setattr("wmtp_ray.losses.chunked.project", spy)
    for trains in (True, False):
        rows.clear()
        hidden.requires_grad_(trains)
        chunked_mtp_loss(hidden, weight, targets, normalizer=1.0, chunk_size=16)
        assert rows == [16, 16, 16, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_and_without_onednn_the_products_agree_to_float32(dtype, monkeypatch):
    hidden, weight, targets, weights = large_batch(dtype)
    hidden.requires_grad_()
    weight.requires_grad_()

    def run() -> tuple[Tensor, ...]:
        found = chunked_mtp_loss(hidden, weight, targets, weights, normalizer=50.0)
        return found.ce_BT, *torch.autograd.grad(found.loss, [hidden, weight])

    ours = run()
    monkeypatch.setattr(unembedding, "_has_onednn_product", lambda: False)
    for found, wanted in zip(ours, run(), strict=True):
        torch.testing.assert_close(found, wanted, atol=5e-6, rtol=2 * torch.finfo(found.dtype).eps)


def test_non_finite_input_is_named():
    hidden, weight, targets, weights = large_batch(torch.float32)
    weights[0, 0] = math.nan
    chunked_mtp_loss(hidden, weight, targets, weights, normalizer=1.0)
    weights[1, 20] = math.nan
    with pytest.raises(DataError, match="weight at row 1, position 20"):
        chunked_mtp_loss(hidden, weight, targets, weights, normalizer=1.0)
    hidden[0, 0] = math.nan
    chunked_mtp_loss(hidden, weight, targets, normalizer=1.0)
    hidden[0, 30, 3] = math.inf
    with pytest.raises(DataError, match="cross-entropy at row 0, position 30"):
        chunked_mtp_loss(hidden, weight, targets, normalizer=1.0)


def test_wrong_arguments_are_refused():
    hidden, weight, targets, _ = large_batch(torch.float32)
    targets[1, 33] = 9000
    with pytest.raises(DataError, match="target 9000 at row 1, position 33"):
        chunked_mtp_loss(hidden, weight, targets, normalizer=1.0)
    targets[1, 33] = 0
    for normalizer in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="normalizer"):
            chunked_mtp_loss(hidden, weight, targets, normalizer=normalizer)
    with pytest.raises(ConfigError, match="chunk_size"):
        chunked_mtp_loss(hidden, weight, targets, normalizer=1.0, chunk_size=0)
    with pytest.raises(ModelError, match="wide"):
        chunked_mtp_loss(hidden, weight[:, :-1], targets, normalizer=1.0)
    with pytest.raises(DataError, match="give"):
        chunked_mtp_loss(hidden[0], weight, targets, normalizer=1.0)
    with pytest.raises(DataError, match="shapes must agree"):
        chunked_mtp_loss(hidden, weight, targets, torch.ones(2, 3), normalizer=1.0)
