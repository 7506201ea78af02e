"""What an optimizer step minimises. The trainer knows only this interface; the policy's weighted MTP loss and the
critic's ranking loss are its implementations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import nn

from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.training.batch import MicroBatch
from wmtp_ray.training.collective import Collective

Metrics = dict[str, float | list[float]]
"""Numbers by name; a histogram is a list."""


class Objective(Protocol):
    """One job's loss over a whole optimizer step.

    A step calls, on every rank: `prepare` once (all statistics are reduced there, before any backward), `backward` for
    each of the rank's micro-batches, `metrics` once. Gradients are scaled so that their SUM over micro-batches and
    ranks is the gradient of the step's loss.
    """

    model: nn.Module
    needs_values: bool
    """Whether micro-batches must carry the frozen critic's values."""

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None: ...

    def backward(self, micro_batch: MicroBatch) -> None: ...

    def metrics(self, collective: Collective) -> Metrics: ...

    def evaluate(self, micro_batches: Iterable[MicroBatch], collective: Collective) -> Metrics:
        """Metrics over held-out micro-batches, with the state of training (its EMA) and without changing it."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
