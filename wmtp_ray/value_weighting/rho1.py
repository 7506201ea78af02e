"""Rho-1: train only on the tokens whose loss exceeds a reference model's the most (Lin et al., arXiv
2404.07965).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from wmtp_ray.errors import ConfigError, DataError
from wmtp_ray.value_weighting.checks import require_finite, require_same_shape

SelectionMode = Literal["signed", "absolute", "difficult"]


def kept_targets(num_valid: int, k_percent: float) -> int:
    """⌈k_percent·n⌉, k_percent read as the decimal it is written as. Example: 30 targets at 0.1 keep 3."""
    share = Fraction(k_percent).limit_denominator(1_000_000)
    return -(-num_valid * share.numerator // share.denominator)


@torch.no_grad()
def rho1_weights(
    policy_ce: Tensor,
    reference_ce: Tensor,
    valid: Tensor,
    k_percent: float = 0.6,
    mode: SelectionMode = "signed",
) -> Tensor:
    """w ∈ {0, 1}: 1 on exactly ⌈k_percent·n_k⌉ of head k's n_k valid targets, those with the largest score.

    score = CE_policy − CE_reference ("signed"), its absolute value ("absolute"), or CE_reference alone
    ("difficult").

    Args:
        policy_ce: [B, T, K] cross-entropy of head k at position t for its target y_{t+k}.
        reference_ce: [B, T, K] the reference model's for the same target (it predicts y_{t+k} from t+k−1).
        valid: [B, T, K] bool, where head k has a target.
        k_percent: share to keep, in (0, 1]; read as the decimal it is written as, so 0.1 of 30 is 3 and not
            ⌈3.0000000000000004⌉.
        mode: see above.

    Returns:
        float32 [B, T, K]; 0 where not valid. Selection runs over the whole micro-batch, per head; ties go to
        the earlier position (rows in order, then tokens), so the result does not depend on the sort.

    Raises:
        DataError: a cross-entropy that decides is NaN or infinite; names row, position and head. Shapes
            disagree.
        ConfigError: k_percent or mode out of range.

    Waits for the device once, for the check.

    Example (one row, one head, k_percent .5): excess [.1 .9 .9 .2 .9] keeps ⌈2.5⌉ = 3: w = [0 1 1 0 1].
    """
    if not 0.0 < k_percent <= 1.0:
        raise ConfigError(f"k_percent is {k_percent}; it must lie in (0, 1]")
    if mode not in get_args(SelectionMode):
        raise ConfigError(f"mode is {mode!r}; choose one of {', '.join(get_args(SelectionMode))}")
    require_same_shape(policy_ce=policy_ce, reference_ce=reference_ce, valid=valid)
    if valid.dim() != 3:
        raise DataError(f"cross-entropies have shape {list(valid.shape)}; give [B, T, K]")
    valid_BTK = valid.bool()
    require_finite(reference_ce, valid_BTK, "reference cross-entropy")
    if mode == "difficult":
        score_BTK = reference_ce.double()
    else:
        require_finite(policy_ce, valid_BTK, "policy cross-entropy")
        score_BTK = policy_ce.double() - reference_ce.double()
        if mode == "absolute":
            score_BTK = score_BTK.abs()
    B, T, K = valid_BTK.shape
    score_NK = torch.where(valid_BTK, score_BTK, -torch.inf).reshape(B * T, K)
    order_NK = score_NK.sort(dim=0, descending=True, stable=True).indices
    counts = valid_BTK.sum(dim=(0, 1)).tolist()
    keep_K = torch.tensor([kept_targets(count, k_percent) for count in counts], device=valid.device)
    rank_N1 = torch.arange(B * T, device=valid.device).unsqueeze(1)
    kept_NK = torch.zeros(B * T, K, device=valid.device).scatter(0, order_NK, (rank_N1 < keep_K).float())
    return kept_NK.view(B, T, K)
