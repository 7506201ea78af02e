"""What is logged of a step's token weights: statistics, the histogram, and the weight of the end-of-sequence token."""

from __future__ import annotations

import torch
from torch import Tensor

from wmtp_ray.training.collective import Collective
from wmtp_ray.training.objective import Metrics
from wmtp_ray.value_weighting import WeightSums

HISTOGRAM_BINS = 30
HISTOGRAM_TOP = 3.0


class WeightReport:
    """Collects the weights of one rank's micro-batches; `metrics` adds up the ranks."""

    def __init__(self, bounds: tuple[float, float]) -> None:
        """`bounds`: the clip bounds whose shares are reported."""
        self._bounds = bounds
        self._all, self._eos = WeightSums(), WeightSums()
        self._histogram = torch.zeros(HISTOGRAM_BINS, dtype=torch.float64)

    def add(self, weights: Tensor, mask: Tensor, is_eos: Tensor) -> None:
        """Take in weights of one micro-batch: by token [R, T], or by position and head; all three of one shape."""
        self._all += WeightSums.of(weights, mask, *self._bounds)
        self._eos += WeightSums.of(weights, is_eos, *self._bounds)
        shown = weights[mask].float().clamp(max=HISTOGRAM_TOP)
        self._histogram += torch.histc(shown, HISTOGRAM_BINS, 0, HISTOGRAM_TOP)

    def metrics(self, collective: Collective) -> Metrics:
        """Over all ranks: mean, std, min, max, shares at the bounds, normalised entropy, effective sample size, the
        mean weight of EOS, and counts in 30 equal bins over [0, 3] (what lies above is in the last)."""
        parts = collective.gather((self._all, self._eos))
        whole = sum((everything for everything, _ in parts), WeightSums()).statistics()
        eos = sum((eos for _, eos in parts), WeightSums()).statistics()
        metrics: Metrics = {
            "weight_mean": whole.mean,
            "weight_std": whole.std,
            "weight_min": whole.min,
            "weight_max": whole.max,
            "weight_share_at_min": whole.share_at_min,
            "weight_share_at_max": whole.share_at_max,
            "weight_entropy": whole.entropy,
            "weight_ess": whole.effective_sample_size,
            "weight_histogram": collective.sum(self._histogram).tolist(),
        }
        if eos.count:
            metrics["weight_eos"] = eos.mean
        return metrics
