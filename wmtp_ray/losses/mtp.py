"""What each future head predicts, with which weight, and the loss's plain definition on materialised logits.

Head k (from 1) at position t predicts token t+k. Every objective takes its targets, weights and per-head
quantities from the functions here: one shift, one mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wmtp_ray.data.batch import IGNORED_LABEL, shift_left
from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape

WeightAlignment = Literal["target", "state"]


def mtp_targets(
    labels: Tensor, segment_ids: Tensor | None, k: int, weight_alignment: WeightAlignment = "target"
) -> Tensor:
    """The token that head k predicts at each position: labels_{t+k}, or −100 where there is none.

    t itself may lie in the prompt (the prompt's last positions predict the first response tokens); t+k must
    be a response token of the same packed sample. With `weight_alignment="state"`, t+1 must be one as well,
    since it lends its weight.

    Args:
        labels: [B, T] int64, unshifted, −100 off the response.
        segment_ids: [B, T] or None (one sample per row; padding has no labels).
        k: head, from 1.
        weight_alignment: "target" or "state".

    Returns:
        [B, T] int64.

    Example, k=2 (labels of two packed samples; . is −100)::

        segment  0  0  0  0 | 1  1  1
        labels   .  .  a  b | .  c  d
        target   a  b  .  . | d  .  .
        state    .  b  .  . | d  .  .       a is dropped: t+1 is still prompt there
    """
    if k < 1:
        raise ConfigError(f"head k is {k}; heads count from 1")
    if weight_alignment not in get_args(WeightAlignment):
        raise ConfigError(f"weight_alignment is {weight_alignment!r}; choose target or state")
    if segment_ids is not None:
        require_same_shape(segment_ids=segment_ids, labels=labels)
    targets_BT = shift_left(labels, k, IGNORED_LABEL)
    if segment_ids is not None:
        # Padding carries segment −1 and no labels, so equality alone suffices; −2 never occurs.
        targets_BT = targets_BT.masked_fill(shift_left(segment_ids, k, -2) != segment_ids, IGNORED_LABEL)
    if weight_alignment == "state" and k > 1:
        targets_BT = targets_BT.masked_fill(
            shift_left(labels, 1, IGNORED_LABEL) == IGNORED_LABEL, IGNORED_LABEL
        )
    return targets_BT


def align_weights(
    weights: Tensor | None,
    k: int,
    weight_alignment: WeightAlignment,
    segment_ids: Tensor | None,
    labels: Tensor,
) -> Tensor:
    """Head k's weight at each position, 0 where head k has no target.

    Args:
        weights: [B, T], indexed by the token whose advantage it is: taken from t+k ("target", the predicted
            token) or from t+1 ("state", the state's own next token). Or [B, T, K], already per position t and
            head: taken at [t, k−1] whatever the alignment. None: 1.
        k, weight_alignment, segment_ids, labels: as in `mtp_targets`, which decides where a target is valid.

    Returns:
        float [B, T], dtype of the weights.

    Raises:
        DataError: a weight that is used is NaN or infinite (names row, position, head); shapes disagree.

    Example, k=2, one sample with labels [. . a b], w = [0 0 w_a w_b]: target [w_a w_b 0 0]; state [0 w_a 0
    0].
    """
    valid_BT = mtp_targets(labels, segment_ids, k, weight_alignment) != IGNORED_LABEL
    if weights is None:
        return valid_BT.float()
    if weights.dim() == 3 and weights.shape[:2] == labels.shape and k <= weights.shape[2]:
        aligned_BT = weights[..., k - 1]
    elif weights.shape == labels.shape:
        aligned_BT = shift_left(weights, k if weight_alignment == "target" else 1, 0.0)
    else:
        raise DataError(
            f"weights have shape {list(weights.shape)}, labels {list(labels.shape)}; "
            f"give [B, T], or [B, T, K] with K ≥ {k}"
        )
    require_finite(aligned_BT, valid_BT, f"weight of head {k}, taken", segment_ids)
    return torch.where(valid_BT, aligned_BT, 0.0)


def head_normalizers(target_counts_K: Tensor, coefficients: Sequence[float] | None = None) -> Tensor:
    """D_k such that Σ_k (1/D_k) Σ_t w·CE is the step's loss L = Σ_k c_k·(1/N_k)·Σ_t w·CE / Σ_k c_k.

    Args:
        target_counts_K: N_k of the whole step: all micro-batches, all ranks. [K]
        coefficients: c_k ≥ 0; 1 by default.

    Returns:
        float64 [K]: D_k = N_k·Σc/c_k, the sum over heads that have targets; ∞ for a head that
        does not count (N_k = 0 or c_k = 0), whose term thereby vanishes.

    Raises:
        DataError: no head that counts has a target. ConfigError: coefficients negative or not one per head.

    Example: N = [10, 8, 0], c = 1 → D = [20, 16, ∞]: the mean of two heads' means.
    """
    counts_K = target_counts_K.double()
    coefficients_K = (
        torch.ones_like(counts_K) if coefficients is None else counts_K.new_tensor(list(coefficients))
    )
    if coefficients_K.shape != counts_K.shape or bool((coefficients_K < 0).any()):
        raise ConfigError(f"head coefficients are {coefficients}; give {counts_K.numel()} numbers ≥ 0")
    coefficients_K = torch.where(counts_K > 0, coefficients_K, 0.0)
    if not bool(coefficients_K.sum() > 0):
        raise DataError(
            "no head with a coefficient has a valid target in this step (targets per head: "
            f"{target_counts_K.tolist()}); raise max_length, or remove responses shorter than a head's reach"
        )
    return torch.where(coefficients_K > 0, counts_K * coefficients_K.sum() / coefficients_K, torch.inf)


@dataclass(frozen=True)
class MTPLoss:
    """Losses over all heads; scalars carry gradients."""

    weighted: Tensor
    """Σ_k c_k·(1/N_k)·Σ_t w·CE / Σ_k c_k, scalar."""
    unweighted: Tensor
    """The same with w = 1, scalar."""
    weighted_K: Tensor
    """(1/N_k)·Σ_t w·CE per head; 0 without targets."""
    unweighted_K: Tensor
    """(1/N_k)·Σ_t CE per head; 0 without targets."""
    count_K: Tensor
    """N_k, int64."""


def compute_mtp_ce_loss(
    logits: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None,
    weights: Tensor | None = None,
    weight_alignment: WeightAlignment = "target",
    segment_ids: Tensor | None = None,
    head_coefficients: Sequence[float] | None = None,
) -> MTPLoss:
    """The weighted MTP loss of one batch by its definition, on logits of all heads (Gloeckle et al., arXiv
    2404.19737).

    L = Σ_k c_k · (1/N_k) Σ_t w · CE(head_k,t , y_{t+k}) / Σ_k c_k over heads with N_k > 0. For tests, small
    vocabularies and reading; training uses `chunked_mtp_loss`, which never holds [B, T, K, V].

    Args:
        logits: [B, T, K, V], any floating dtype; computed in float32 (float64 stays).
        labels: [B, T] int64, unshifted, −100 off the response.
        attention_mask: [B, T], 0 on padding; no target there. None: no padding.
        weights: [B, T] or [B, T, K], see `align_weights`; None = 1.
        weight_alignment, segment_ids: as in `mtp_targets`. The alignment decides which targets are valid for
            the unweighted loss, too.
        head_coefficients: c_k ≥ 0; None = 1.

    Raises:
        DataError: a cross-entropy or weight that is used is not finite (names row, position, head); no valid
            target at all; shapes disagree.

    Example (K=1): equals cross_entropy(logits[:, :-1, 0], labels[:, 1:]), by its mean over targets.
    """
    if logits.dim() != 4 or logits.shape[:2] != labels.shape:
        raise DataError(
            f"logits have shape {list(logits.shape)}, labels {list(labels.shape)}; "
            "give [B, T, K, V] and [B, T]"
        )
    if attention_mask is not None:
        labels = labels.masked_fill(attention_mask == 0, IGNORED_LABEL)
    weighted, unweighted, counts = [], [], []
    for k in range(1, logits.shape[2] + 1):
        targets_BT = mtp_targets(labels, segment_ids, k, weight_alignment)
        head_logits = logits[:, :, k - 1].flatten(0, 1)
        head_logits = head_logits if head_logits.dtype == torch.float64 else head_logits.float()
        ce_BT = cross_entropy(
            head_logits, targets_BT.flatten(), ignore_index=IGNORED_LABEL, reduction="none"
        ).view(labels.shape)
        valid_BT = targets_BT != IGNORED_LABEL
        require_finite(ce_BT.detach(), valid_BT, f"cross-entropy of head {k}", segment_ids)
        count = valid_BT.sum()
        unweighted.append(ce_BT.sum() / count.clamp_min(1))
        aligned_BT = align_weights(weights, k, weight_alignment, segment_ids, labels).to(ce_BT.dtype)
        weighted.append((ce_BT * aligned_BT).sum() / count.clamp_min(1))
        counts.append(count)
    count_K = torch.stack(counts)
    shares_K = (count_K / head_normalizers(count_K, head_coefficients)).to(weighted[0].dtype)
    weighted_K, unweighted_K = torch.stack(weighted), torch.stack(unweighted)
    return MTPLoss(
        (weighted_K * shares_K).sum(), (unweighted_K * shares_K).sum(), weighted_K, unweighted_K, count_K
    )


def compute_mtp_ce_loss_unweighted(
    logits: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None,
    segment_ids: Tensor | None = None,
    head_coefficients: Sequence[float] | None = None,
) -> Tensor:
    """The plain MTP loss, a scalar: `compute_mtp_ce_loss` with every weight 1. Args and errors as there."""
    return compute_mtp_ce_loss(
        logits, labels, attention_mask, segment_ids=segment_ids, head_coefficients=head_coefficients
    ).unweighted
