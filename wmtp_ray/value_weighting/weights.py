"""From advantages to token weights: whiten, exponentiate, clip, normalise.

w = clip(exp(A_norm/β), lo, hi) · mask.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape

Normalize = Literal["none", "mean_one"]


@torch.no_grad()
def build_weights(
    td_errors: Tensor,
    loss_mask: Tensor,
    beta: float = 1.0,
    min_weight: float = 0.1,
    max_weight: float = 3.0,
    external_mean: float | None = None,
    external_std: float | None = None,
    normalize: Normalize = "none",
) -> Tensor:
    """Advantage-weighted regression weights: A_norm = (A − μ)/(σ + 1e−8); w = clip(exp(A_norm/β), min, max) ·
    mask.

    The exponential form is that of AWR (Peng et al., arXiv 1910.00177), with whitened advantages.

    Args:
        td_errors: A, [B, T] (or any shape equal to the mask's): advantages or TD errors, any floating dtype.
        loss_mask: same shape, non-zero on response tokens.
        beta: temperature β > 0.
        min_weight, max_weight: clip bounds, 0 ≤ min ≤ max.
        external_mean, external_std: μ and σ of the EMA, both or neither. Neither: masked mean and unbiased
            standard deviation of these advantages, and w = mask if fewer than two tokens are valid.
        normalize: "mean_one" then divides by the mean weight over the mask, so that the weights average 1.
            (For a loss with several heads over a step of several micro-batches use `mean_one_scales`
            instead.)

    Returns:
        float32, shape of `td_errors`, 0 off the mask, never NaN.

    Raises:
        DataError: an advantage on the mask is NaN or infinite; names row and position. Shapes disagree.
        ConfigError: a parameter out of range, or only one of mean and std given.

    Waits for the device once, for the check.

    Example (β=1, μ=0, σ=1): A = [0, ln 2, 5] gives w = [1, 2, 3 (clipped)], and with "mean_one" [.5, 1, 1.5].
    """
    _check_parameters(beta, min_weight, max_weight, external_mean, external_std, normalize)
    require_same_shape(td_errors=td_errors, loss_mask=loss_mask)
    mask = loss_mask.bool()
    require_finite(td_errors, mask, "advantage")
    advantages = torch.where(mask, td_errors, 0.0).double()
    count = mask.sum()
    if external_mean is None or external_std is None:
        mean = advantages.sum() / count.clamp_min(1)
        deviations = torch.where(mask, advantages - mean, 0.0)
        std = (deviations.square().sum() / (count - 1).clamp_min(1)).sqrt()
        whitened = deviations / (std + 1e-8)
        weights = torch.where(count > 1, (whitened / beta).exp().clamp(min_weight, max_weight), 1.0)
    else:
        whitened = (advantages - external_mean) / (external_std + 1e-8)
        weights = (whitened / beta).exp().clamp(min_weight, max_weight)
    weights = torch.where(mask, weights, 0.0)
    if normalize == "mean_one":
        total = weights.sum()
        weights = weights * torch.where(total > 0, count / total, 1.0)
    return weights.float()


def mean_one_scales(weight_sums_K: Tensor, target_counts_K: Tensor) -> Tensor:
    """N_k/Σ_k per head: what to multiply head k's weights with so that they average 1 over the whole step.

    Args:
        weight_sums_K: Σ_k = Σ w over head k's valid targets, reduced over all micro-batches and ranks. [K]
        target_counts_K: N_k, likewise reduced. [K]

    Returns:
        float64 [K]; 1 for a head without targets.

    Raises:
        DataError: a head has targets but its weights sum to 0 or to something non-finite; names the head.

    Example: sums [260, 0], counts [200, 0] → [.769…, 1].
    """
    sums_K, counts_K = weight_sums_K.double(), target_counts_K.double()
    used_K = counts_K > 0
    unusable = used_K & ~((sums_K > 0) & sums_K.isfinite())
    if bool(unusable.any()):
        head = int(unusable.nonzero()[0])
        raise DataError(
            f"the weights of head {head + 1} sum to {float(sums_K[head])} over {int(counts_K[head])} targets "
            "and cannot be scaled to mean one; use normalize: none, or a positive lower clip bound"
        )
    return torch.where(used_K, counts_K / sums_K, 1.0)


def with_eos_weight_one(weights_BT: Tensor, labels_BT: Tensor, eos_token_id: int) -> Tensor:
    """`eos_weight: one`: weight 1 on EOS targets, so that a comparison does not measure who learnt to stop.

    Args and result are [B, T], indexed by the token itself (not by the position that predicts it). A
    selection per position and head ([B, T, K], Rho-1) has no such weight and is refused.

    Example: weights [.3 2. 1.7], labels [5 6 eos] → [.3 2. 1.].
    """
    require_same_shape(weights=weights_BT, labels=labels_BT)
    return torch.where(labels_BT == eos_token_id, 1.0, weights_BT)


def _check_parameters(
    beta: float,
    min_weight: float,
    max_weight: float,
    external_mean: float | None,
    external_std: float | None,
    normalize: Normalize,
) -> None:
    if not 0.0 < beta < float("inf"):
        raise ConfigError(f"beta (β) is {beta}; it must be positive and finite")
    if not 0.0 <= min_weight <= max_weight < float("inf"):
        raise ConfigError(
            f"clip bounds are [{min_weight}, {max_weight}]; give 0 ≤ min_weight ≤ max_weight < ∞"
        )
    if normalize not in ("none", "mean_one"):
        raise ConfigError(f"normalize is {normalize!r}; choose none or mean_one")
    if (external_mean is None) != (external_std is None):
        raise ConfigError(
            "give external_mean and external_std together (the EMA's), or neither (this batch's own)"
        )
    if external_mean is not None and not abs(external_mean) < float("inf"):
        raise ConfigError(f"external_mean is {external_mean}; it must be finite")
    if external_std is not None and not 0.0 <= external_std < float("inf"):
        raise ConfigError(f"external_std is {external_std}; it must be finite and not negative")
