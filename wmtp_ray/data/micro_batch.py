"""One micro-batch as training holds it: what was planned, the packed tokens, and what was scored for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.plan import PlannedMicroBatch

Need = Literal["values", "reference_losses", "token_cells"]
"""What an objective must know of each token, fetched ahead into the `MicroBatch`. `values`: the frozen critic's.
`reference_losses`: a frozen model's cross-entropy. `token_cells`: class and place of the token in its program."""


@dataclass(frozen=True)
class MicroBatch:
    """`number` counts within the step. What was scored is None where the objective needs none of it."""

    number: int
    planned: PlannedMicroBatch
    batch: PackedBatch
    values_RT: Tensor | None = None
    """The frozen critic's values, float32, exact on response tokens and on each segment's last prompt token and 0
    elsewhere; of several critics each sample's own one, or their mean on held-out problems."""
    folds_S: np.ndarray | None = None
    """[S] int64, which of several cross-fitted critics scored each sample."""
    fold_values_FRT: Tensor | None = None
    """[F, R, T]: the values of every cross-fitted critic, on problems that none of them trained on."""
    reference_losses_RT: Tensor | None = None
    """The frozen reference model's cross-entropy of each response token, float32, 0 elsewhere."""
    token_cells_RT: Tensor | None = None
    """Class and place of each response token (`wmtp_ray.value_weighting.token_classes`), int64, -1 elsewhere."""
