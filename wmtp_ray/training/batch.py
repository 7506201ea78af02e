"""One micro-batch as training holds it: what was planned, the packed tokens, and what was scored for them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.plan import PlannedMicroBatch


@dataclass(frozen=True)
class MicroBatch:
    """`number` counts within the step. `values_RT` are the frozen critic's values, float32, exact on response tokens
    and on each segment's last prompt token and 0 elsewhere; None where the objective needs none."""

    number: int
    planned: PlannedMicroBatch
    batch: PackedBatch
    values_RT: Tensor | None = None
