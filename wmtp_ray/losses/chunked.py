"""One head's weighted MTP loss straight from its hidden states, never holding more than one chunk of logits.

The unembedding of a 32,000-word vocabulary dominates the cost of finetuning with several heads. Here (1) only
positions with a target reach it; (2) they do so in chunks; (3) each chunk's gradient with respect to the
hidden states is computed at once, in forward, in the very buffer that held its logits (cross-entropy's
gradient, softmax − one-hot, needs nothing but the logits), so that nothing of size V survives the chunk, and
backward only hands over what is already there; (4) the gradient of the unembedding is computed only if it
trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wmtp_ray.data.batch import IGNORED_LABEL
from wmtp_ray.errors import ConfigError, DataError, ModelError
from wmtp_ray.losses.unembedding import accumulation_dtype, add_outer_product, project, project_back
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape


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
    weights: Tensor | Callable[[Tensor], Tensor] | None = None,
    *,
    normalizer: float | Tensor,
    chunk_size: int = 256,
) -> ChunkedLoss:
    """Σ_t w_t · CE(hidden_t · Wᵀ, target_t) / normalizer for one head, with its gradient.

    Args:
        hidden: [B, T, D] normed hidden states of head k; float32, float64, bfloat16 or float16. Low precision
            is accumulated in float32: logits, softmax and sums are never rounded to bfloat16.
        unembedding_weight: W [V, D]; its gradient is computed only if it requires one.
        targets: [B, T] int64 from `mtp_targets`, −100 where there is none.
        weights: [B, T] from `align_weights`; None = 1. Or a function from the cross-entropies [B, T]
            (detached, 0 without target) to weights [B, T], for a method that chooses by the policy's own loss
            (Rho-1): costs one more forward through the unembedding. Targets of weight 0 are measured, but
            cost no backward.
        normalizer: what to divide by, from `head_normalizers`: usually the number of targets of the whole
            step, over the head's share of the loss. ∞ gives loss and gradient 0.
        chunk_size: targets per chunk; peak extra memory is about chunk_size · V floats.

    Returns:
        `ChunkedLoss`. Without any target the loss is 0 and still differentiable (its gradient is 0): a rank
        with an empty micro-batch has to run backward, lest collectives hang.

    Raises:
        DataError: a cross-entropy or weight that is used is NaN or infinite (names row and position); a
            target outside [0, V); shapes disagree.
        ModelError: hidden states and unembedding differ in width.
        ConfigError: chunk_size or normalizer not positive.

    Waits for the device (the number of targets shapes the work). Differentiable once.

    Example: `chunked_mtp_loss(h, W, mtp_targets(labels, None, 2), normalizer=n).loss.backward()`, per head,
    one after another.
    """
    _check(hidden, unembedding_weight, targets, normalizer, chunk_size)
    valid_BT = targets != IGNORED_LABEL
    wants = (
        (hidden.requires_grad, unembedding_weight.requires_grad)
        if torch.is_grad_enabled()
        else (False, False)
    )
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        run = _Chunks(
            hidden.detach().flatten(0, 1), unembedding_weight.detach(), targets.flatten(), chunk_size
        )
        ce_BT = torch.zeros(targets.shape, dtype=run.dtype, device=targets.device)
        ce_M = ce_BT.view(-1)
        unmeasured_BT = valid_BT
        if callable(weights):
            run.forward(_places(valid_BT), ce_M)
            require_finite(ce_BT, valid_BT, "cross-entropy")
            weights, unmeasured_BT = weights(ce_BT), torch.zeros_like(valid_BT)
        weights_BT = valid_BT.to(run.dtype)
        if weights is not None:
            require_same_shape(weights=weights, targets=targets)
            require_finite(weights, valid_BT, "weight")
            weights_BT = torch.where(valid_BT, weights, 0.0).to(run.dtype)
        scales_BT = weights_BT / float(normalizer)
        trained_BT = (scales_BT != 0) if any(wants) else torch.zeros_like(valid_BT)
        run.forward(_places(unmeasured_BT & ~trained_BT), ce_M)
        trained_N = _places(trained_BT)
        hidden_grad_ND, weight_grad_VD = run.forward_backward(trained_N, ce_M, scales_BT.flatten(), *wants)
        require_finite(ce_BT, valid_BT, "cross-entropy")
        wide_ce_BT = ce_BT.double()
        loss = (wide_ce_BT * scales_BT).sum().to(run.dtype)
        weighted_sum, unweighted_sum = (wide_ce_BT * weights_BT).sum(), wide_ce_BT.sum()
    if any(wants):
        loss = _WithGradients.apply(
            hidden, unembedding_weight, loss, trained_N, hidden_grad_ND, weight_grad_VD
        )
    return ChunkedLoss(loss, weighted_sum, unweighted_sum, valid_BT.sum(), ce_BT)


@torch.no_grad()
def chunked_cross_entropy(
    hidden: Tensor, unembedding_weight: Tensor, targets: Tensor, *, chunk_size: int = 256
) -> Tensor:
    """CE per position without gradient, float32 [B, T], 0 where there is no target: reference losses,
    validation.

    Args and errors as in `chunked_mtp_loss`.
    """
    return chunked_mtp_loss(hidden, unembedding_weight, targets, normalizer=1.0, chunk_size=chunk_size).ce_BT


class _WithGradients(torch.autograd.Function):
    """A scalar whose gradients are known already: forward returns it, backward hands them over."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_BTD: Tensor,
        weight_VD: Tensor,
        loss: Tensor,
        index_N: Tensor,
        hidden_grad_ND: Tensor | None,
        weight_grad_VD: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(index_N, hidden_grad_ND, weight_grad_VD)
        ctx.shape = hidden_BTD.shape
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: Tensor) -> tuple[Tensor | None, ...]:
        index_N, hidden_grad_ND, weight_grad_VD = ctx.saved_tensors
        # `loss.backward()` sends exactly 1; then the unembedding's gradient needs no second copy of its size.
        unit = bool(loss_grad == 1)
        hidden_grad_BTD = None
        if hidden_grad_ND is not None:
            hidden_grad_BTD = hidden_grad_ND.new_zeros(ctx.shape)
            scaled_ND = hidden_grad_ND if unit else hidden_grad_ND * loss_grad.to(hidden_grad_ND.dtype)
            hidden_grad_BTD.view(-1, ctx.shape[-1]).index_copy_(0, index_N, scaled_ND)
        if weight_grad_VD is not None and not unit:
            weight_grad_VD = weight_grad_VD * loss_grad.to(weight_grad_VD.dtype)
        return hidden_grad_BTD, weight_grad_VD, None, None, None, None


class _Chunks:
    """Runs listed positions (N of M = B·T) through the unembedding; a chunk's logits die before the next
    one's.
    """

    def __init__(self, hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, chunk_size: int) -> None:
        self._hidden_MD, self._weight_VD, self._targets_M = hidden_MD, weight_VD, targets_M
        self._chunk_size = chunk_size
        self.dtype = accumulation_dtype(hidden_MD.dtype)

    def forward(self, index_N: Tensor, ce_M: Tensor) -> None:
        """Write the CE of the listed positions into `ce_M`."""
        for index_C in self._split(index_N):
            self._cross_entropy(index_C, ce_M)

    def forward_backward(
        self,
        index_N: Tensor,
        ce_M: Tensor,
        scales_M: Tensor,
        hidden_needs_grad: bool,
        weight_needs_grad: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Write CE; return gradients of Σ scale·CE: hidden [N, D] (dtype of hidden), W [V, D] (dtype of
        W).
        """
        N, D = index_N.numel(), self._hidden_MD.shape[1]
        hidden_grad_ND = self._hidden_MD.new_empty(N, D) if hidden_needs_grad else None
        weight_grad_VD = torch.zeros_like(self._weight_VD, dtype=self.dtype) if weight_needs_grad else None
        start = 0
        for index_C in self._split(index_N):
            part = slice(start, start + index_C.numel())
            start = part.stop
            softmax_CV, scales_C1 = self._scaled_softmax(index_C, ce_M, scales_M)
            hidden_CD, targets_C = self._hidden_MD[index_C].to(self.dtype), self._targets_M[index_C]
            # (softmax − one-hot) times a matrix: the one-hot's single row is taken off after the product,
            # because a float32 sum of many small terms that also holds one large term loses a digit.
            if hidden_grad_ND is not None:
                grads_CD = project_back(softmax_CV, self._weight_VD)
                target_rows_CD = self._weight_VD[targets_C].to(self.dtype)
                hidden_grad_ND[part] = grads_CD.addcmul_(target_rows_CD, scales_C1, value=-1)
            if weight_grad_VD is not None:
                add_outer_product(weight_grad_VD, softmax_CV, hidden_CD)
                weight_grad_VD.index_put_((targets_C,), -scales_C1 * hidden_CD, accumulate=True)
            del softmax_CV  # or two chunks would be alive during the next product
        return hidden_grad_ND, None if weight_grad_VD is None else weight_grad_VD.to(self._weight_VD.dtype)

    def _split(self, index_N: Tensor) -> tuple[Tensor, ...]:
        return index_N.split(self._chunk_size) if index_N.numel() else ()

    def _cross_entropy(self, index_C: Tensor, ce_M: Tensor) -> tuple[Tensor, Tensor]:
        """Write CE; return exp(logit − max), in the buffer that held the logits, and its row sums."""
        logits_CV = project(self._hidden_MD[index_C], self._weight_VD)
        logits_CV -= logits_CV.amax(1, keepdim=True)
        target_logits_C = logits_CV.gather(1, self._targets_M[index_C].unsqueeze(1)).squeeze(1)
        sums_C1 = logits_CV.exp_().sum(1, keepdim=True)
        ce_M[index_C] = sums_C1.squeeze(1).log() - target_logits_C
        return logits_CV, sums_C1

    def _scaled_softmax(self, index_C: Tensor, ce_M: Tensor, scales_M: Tensor) -> tuple[Tensor, Tensor]:
        """Write CE; return scale · softmax, in the buffer that held the logits, and the scales."""
        exps_CV, sums_C1 = self._cross_entropy(index_C, ce_M)
        scales_C1 = scales_M[index_C].unsqueeze(1)
        exps_CV *= scales_C1 / sums_C1
        return exps_CV, scales_C1


def _places(chosen_BT: Tensor) -> Tensor:
    """Flat indices of the chosen positions, in order."""
    return chosen_BT.flatten().nonzero().squeeze(1)


def _check(
    hidden: Tensor, weight_VD: Tensor, targets: Tensor, normalizer: float | Tensor, chunk_size: int
) -> None:
    if hidden.dim() != 3 or hidden.shape[:2] != targets.shape or weight_VD.dim() != 2:
        raise DataError(
            f"hidden has shape {list(hidden.shape)}, targets {list(targets.shape)}, the unembedding "
            f"{list(weight_VD.shape)}; give [B, T, D], [B, T] and [V, D]"
        )
    if hidden.shape[2] != weight_VD.shape[1]:
        raise ModelError(f"hidden states are {hidden.shape[2]} wide, the unembedding {weight_VD.shape[1]}")
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is {chunk_size}; it must be at least 1")
    if not float(normalizer) > 0:
        raise ConfigError(f"normalizer is {float(normalizer)}; it must be positive, see head_normalizers")
    outside = (targets != IGNORED_LABEL) & ((targets < 0) | (targets >= weight_VD.shape[0]))
    if bool(outside.any()):
        row, position = outside.nonzero()[0].tolist()
        raise DataError(
            f"target {int(targets[row, position])} at row {row}, position {position} is outside the "
            f"vocabulary of {weight_VD.shape[0]}; the batch was tokenised for another model"
        )
