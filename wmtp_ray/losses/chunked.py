"""One head's weighted MTP loss straight from its hidden states, never holding more than one chunk of logits.

The unembedding of a 32,000-word vocabulary dominates the cost of finetuning with several heads. Here (1) only positions
with a target reach it; (2) they do so in chunks; (3) each chunk's gradient with respect to the hidden states is computed at
once, in forward, in the very buffer that held its logits (cross-entropy's gradient, softmax − one-hot, needs nothing but the
logits), so that nothing of size V survives the chunk and backward merely scales what is already there; (4) the gradient of
the unembedding is computed only if it trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wmtp_ray.errors import DataError, ModelError
from wmtp_ray.losses.mtp import IGNORE
from wmtp_ray.value_weighting.finite import require_finite

_VOCABULARY_SLICE = 8192  # rows of a low-precision unembedding that a CPU holds in float32 at a time


@dataclass(frozen=True)
class ChunkedLoss:
    """One head's loss on one micro-batch. Only `loss` carries a gradient."""

    loss: Tensor
    """Σ w·CE / normalizer, scalar float32 (float64 for float64 inputs)."""
    weighted_sum: Tensor
    """Σ w·CE, scalar float64."""
    unweighted_sum: Tensor
    """Σ CE, scalar float64."""
    count: Tensor
    """Number of targets, scalar int64."""
    ce_BT: Tensor
    """CE at each position, 0 where there is no target; float32 [B, T]."""


def chunked_mtp_loss(
    hidden: Tensor,
    unembedding_weight: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    normalizer: float | Tensor,
    chunk_size: int = 256,
) -> ChunkedLoss:
    """Σ_t w_t · CE(hidden_t · Wᵀ, target_t) / normalizer for one head, with its gradient.

    Args:
        hidden: [B, T, D] normed hidden states of head k; float32, float64, bfloat16 or float16. Low precision is accumulated in
            float32: logits, softmax and sums are never rounded to bfloat16.
        unembedding_weight: W [V, D]; its gradient is computed only if it requires one.
        targets: [B, T] int64 from `mtp_targets`, −100 where there is none.
        weights: [B, T] from `align_weights`; None = 1. Targets of weight 0 count and are measured, but cost no backward.
        normalizer: what to divide by, from `head_normalizers`: usually the number of targets of the whole step, over the
            head's share of the loss. ∞ gives loss and gradient 0.
        chunk_size: targets per chunk; peak extra memory is chunk_size · V floats.

    Returns:
        `ChunkedLoss`. Without any target the loss is 0 and still differentiable (its gradient is 0): a rank with an empty
        micro-batch has to run backward, lest collectives hang.

    Raises:
        DataError: a cross-entropy or weight that is used is NaN or infinite (names row and position); a target outside
            [0, V); shapes disagree.

    Waits for the device (the number of targets shapes the work). Differentiable once.

    Example: `chunked_mtp_loss(h, W, mtp_targets(labels, None, 2), normalizer=n).loss.backward()`, per head, one after another.
    """
    _check(hidden, unembedding_weight, targets, weights, chunk_size)
    if not float(normalizer) > 0:
        raise DataError(f"normalizer is {float(normalizer)}; it must be positive (∞ switches a head off): see head_normalizers")
    valid_BT = targets != IGNORE
    if weights is not None:
        require_finite(weights, valid_BT, "weight")
    dtype = _accumulation_dtype(hidden.dtype)
    scale = 1.0 / float(normalizer)
    flat_targets, flat_weights = targets.flatten(), None if weights is None else weights.detach().flatten().to(dtype)
    differentiate = torch.is_grad_enabled() and (hidden.requires_grad or unembedding_weight.requires_grad)
    with_weight = valid_BT if weights is None else valid_BT & (weights != 0)
    trained_N = with_weight.flatten().nonzero().squeeze(1)
    rest_M = (valid_BT & ~with_weight).flatten().nonzero().squeeze(1)
    scales_N = torch.full(trained_N.shape, scale, dtype=dtype, device=hidden.device)
    if flat_weights is not None:
        scales_N *= flat_weights[trained_N]
    ce_BT = torch.zeros(targets.shape, dtype=dtype, device=hidden.device)
    flat_hidden, flat_ce = hidden.flatten(0, 1), ce_BT.view(-1)
    if differentiate:
        loss, ce_N = _ChunkedLoss.apply(flat_hidden, unembedding_weight, trained_N, flat_targets, scales_N, chunk_size)
    else:
        ce_N, _, _ = _run_chunks(flat_hidden, unembedding_weight, trained_N, flat_targets, None, chunk_size, False, False)
        loss = (ce_N.double() * scales_N.double()).sum().to(dtype)
    with torch.no_grad():
        ce_M, _, _ = _run_chunks(flat_hidden, unembedding_weight, rest_M, flat_targets, None, chunk_size, False, False)
        flat_ce[trained_N], flat_ce[rest_M] = ce_N.detach(), ce_M
        require_finite(ce_BT, valid_BT, "cross-entropy")
        unweighted_sum = ce_BT.sum(dtype=torch.float64)
        weighted_sum = unweighted_sum if weights is None else (ce_BT.double() * torch.where(valid_BT, weights, 0.0)).sum()
    return ChunkedLoss(loss, weighted_sum, unweighted_sum, valid_BT.sum(), ce_BT)


@torch.no_grad()
def chunked_cross_entropy(
    hidden: Tensor, unembedding_weight: Tensor, targets: Tensor, *, chunk_size: int = 256
) -> Tensor:
    """CE per position without gradient, float32 [B, T], 0 where there is no target: Rho-1's scores, validation, reference losses.

    Args and errors as in `chunked_mtp_loss`.
    """
    return chunked_mtp_loss(hidden, unembedding_weight, targets, normalizer=1.0, chunk_size=chunk_size).ce_BT


class _ChunkedLoss(torch.autograd.Function):
    """Σ_n scale_n · CE_n over the listed positions; the gradient is ready when forward returns."""

    @staticmethod
    def forward(
        ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, index_N: Tensor, targets_M: Tensor, scales_N: Tensor, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        ce_N, hidden_grad_ND, weight_grad_VD = _run_chunks(
            hidden_MD, weight_VD, index_N, targets_M, scales_N, chunk_size, ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        )
        ctx.save_for_backward(index_N, hidden_grad_ND, weight_grad_VD)
        ctx.rows = hidden_MD.shape[0]
        ctx.mark_non_differentiable(ce_N)
        return (ce_N.double() * scales_N.double()).sum().to(ce_N.dtype), ce_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        index_N, hidden_grad_ND, weight_grad_VD = ctx.saved_tensors
        hidden_grad_MD = None
        if hidden_grad_ND is not None:
            hidden_grad_MD = hidden_grad_ND.new_zeros(ctx.rows, hidden_grad_ND.shape[1])
            hidden_grad_MD.index_copy_(0, index_N, hidden_grad_ND * loss_grad.to(hidden_grad_ND.dtype))
        if weight_grad_VD is not None:
            weight_grad_VD = weight_grad_VD * loss_grad.to(weight_grad_VD.dtype)
        return hidden_grad_MD, weight_grad_VD, None, None, None, None


def _run_chunks(
    hidden_MD: Tensor,
    weight_VD: Tensor,
    index_N: Tensor,
    targets_M: Tensor,
    scales_N: Tensor | None,
    chunk_size: int,
    hidden_needs_grad: bool,
    weight_needs_grad: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """CE at the listed positions and, if wanted, gradients of Σ scale·CE with respect to their hidden states and W.

    Returns ce [N], hidden gradient [N, D] (dtype of hidden), unembedding gradient [V, D] (dtype of W).
    """
    dtype = _accumulation_dtype(hidden_MD.dtype)
    N, D = index_N.numel(), hidden_MD.shape[1]
    ce_N = torch.empty(N, dtype=dtype, device=hidden_MD.device)
    hidden_grad_ND = hidden_MD.new_empty(N, D) if hidden_needs_grad else None
    weight_grad_VD = torch.zeros_like(weight_VD, dtype=dtype) if weight_needs_grad else None
    logits_CV = torch.empty(min(chunk_size, N), weight_VD.shape[0], dtype=dtype, device=hidden_MD.device)
    for start in range(0, N, chunk_size):
        part = slice(start, min(start + chunk_size, N))
        hidden_CD, targets_C1 = hidden_MD[index_N[part]], targets_M[index_N[part]].unsqueeze(1)
        exps_CV = _project(hidden_CD, weight_VD, logits_CV[: hidden_CD.shape[0]])
        exps_CV.sub_(exps_CV.amax(1, keepdim=True))
        target_logits_C1 = exps_CV.gather(1, targets_C1)
        sums_C1 = exps_CV.exp_().sum(1, keepdim=True)
        ce_N[part] = (sums_C1.log() - target_logits_C1).squeeze(1)
        if scales_N is None:
            continue
        scales_C1 = scales_N[part].unsqueeze(1)
        logit_grads_CV = exps_CV.mul_(scales_C1 / sums_C1)  # scale · softmax
        logit_grads_CV.scatter_add_(1, targets_C1, -scales_C1)  # … − scale · one-hot
        if hidden_grad_ND is not None:
            hidden_grad_ND[part] = _project_back(logit_grads_CV, weight_VD)
        if weight_grad_VD is not None:
            weight_grad_VD.addmm_(logit_grads_CV.t(), hidden_CD.to(dtype))
    return ce_N, hidden_grad_ND, None if weight_grad_VD is None else weight_grad_VD.to(weight_VD.dtype)


def _project(hidden_CD: Tensor, weight_VD: Tensor, out_CV: Tensor) -> Tensor:
    """hidden · Wᵀ into `out`, accumulated and stored in out's precision."""
    if weight_VD.dtype == hidden_CD.dtype == out_CV.dtype:
        return torch.mm(hidden_CD, weight_VD.t(), out=out_CV)
    if hidden_CD.is_cuda and weight_VD.dtype == hidden_CD.dtype:
        return torch.mm(hidden_CD, weight_VD.t(), out_dtype=out_CV.dtype, out=out_CV)
    wide_CD = hidden_CD.to(out_CV.dtype)
    for start in range(0, weight_VD.shape[0], _VOCABULARY_SLICE):
        part = slice(start, start + _VOCABULARY_SLICE)
        out_CV[:, part] = wide_CD @ weight_VD[part].to(out_CV.dtype).t()
    return out_CV


def _project_back(logit_grads_CV: Tensor, weight_VD: Tensor) -> Tensor:
    """logit gradients · W, accumulated in the gradients' precision."""
    if weight_VD.dtype == logit_grads_CV.dtype:
        return logit_grads_CV @ weight_VD
    if weight_VD.is_cuda:
        return torch.mm(logit_grads_CV.to(weight_VD.dtype), weight_VD, out_dtype=logit_grads_CV.dtype)
    out_CD = logit_grads_CV.new_zeros(logit_grads_CV.shape[0], weight_VD.shape[1])
    for start in range(0, weight_VD.shape[0], _VOCABULARY_SLICE):
        part = slice(start, start + _VOCABULARY_SLICE)
        out_CD.addmm_(logit_grads_CV[:, part], weight_VD[part].to(out_CD.dtype))
    return out_CD


def _accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _check(hidden: Tensor, weight_VD: Tensor, targets: Tensor, weights: Tensor | None, chunk_size: int) -> None:
    if hidden.dim() != 3 or hidden.shape[:2] != targets.shape or weight_VD.dim() != 2:
        raise DataError(
            f"hidden has shape {list(hidden.shape)}, targets {list(targets.shape)}, unembedding {list(weight_VD.shape)}; "
            "give [B, T, D], [B, T] and [V, D]"
        )
    if hidden.shape[2] != weight_VD.shape[1]:
        raise ModelError(f"hidden states are {hidden.shape[2]} wide, the unembedding {weight_VD.shape[1]}; they must agree")
    if weights is not None and weights.shape != targets.shape:
        raise DataError(f"weights have shape {list(weights.shape)}, targets {list(targets.shape)}; align them with align_weights")
    if chunk_size < 1:
        raise DataError(f"chunk_size is {chunk_size}; it must be at least 1")
    outside = (targets != IGNORE) & ((targets < 0) | (targets >= weight_VD.shape[0]))
    if bool(outside.any()):
        row, position = outside.nonzero()[0].tolist()
        raise DataError(
            f"target {int(targets[row, position])} at row {row}, position {position} lies outside the vocabulary of "
            f"{weight_VD.shape[0]}; the batch was tokenised for another model"
        )
