"""Critic values → advantages → whitening statistics → token weights; and Rho-1's selection.

`compute_gae_advantage` → `AdvantageSums.of`, reduced over the step → `AdvantageEMA.update_from_sums` →
`build_weights` → `mean_one_scales` per head → the weighted loss in `wmtp_ray.losses`.
"""

from wmtp_ray.value_weighting.advantage import FirstToken, compute_gae_advantage, compute_td_errors
from wmtp_ray.value_weighting.ema import AdvantageEMA, AdvantageSums
from wmtp_ray.value_weighting.rho1 import SelectionMode, rho1_weights
from wmtp_ray.value_weighting.statistics import WeightStatistics, WeightSums, weight_statistics
from wmtp_ray.value_weighting.weights import Normalize, build_weights, mean_one_scales, with_eos_weight_one

__all__ = [
    "AdvantageEMA",
    "AdvantageSums",
    "FirstToken",
    "Normalize",
    "SelectionMode",
    "WeightStatistics",
    "WeightSums",
    "build_weights",
    "compute_gae_advantage",
    "compute_td_errors",
    "mean_one_scales",
    "rho1_weights",
    "weight_statistics",
    "with_eos_weight_one",
]
