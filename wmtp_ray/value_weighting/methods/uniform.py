"""Every response token weighs 1: plain multi-token prediction, and with one head plain next-token training."""

from __future__ import annotations

from torch import Tensor

from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.value_weighting.methods.method import WeightingMethod


class Uniform(WeightingMethod):
    """Needs nothing."""

    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        return micro_batch.batch.response_mask.float()
