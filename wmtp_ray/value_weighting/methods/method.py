"""What a way of weighting is: one class, which says what it needs to know per token and turns that into weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from wmtp_ray.data.micro_batch import MicroBatch, Need

Total = Callable[[Tensor], Tensor]
"""Sums a tensor over all ranks. Every rank must call it equally often, with tensors of one shape."""


class WeightingMethod(ABC):
    """From what is known about each token to its weight.

    `step` is called once per optimizer step on every rank, before any backward; `weigh` gives the weights of one
    micro-batch with the statistics as they stand (validation, reports). Results must depend on the step's samples
    only: statistics go through `total`, randomness is keyed by sample (`wmtp_ray.data.keyed`).
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    bounds: tuple[float, float] = (0.0, float("inf"))
    """Clip bounds of the weights, for the logged shares."""

    def step(self, mine: Sequence[MicroBatch], total: Total) -> list[Tensor]:
        """Weights of this rank's micro-batches of one step, once the whole step's statistics are taken in."""
        return [self.weigh(micro_batch) for micro_batch in mine]

    @abstractmethod
    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        """Weights by predicted token [R, T] (or by position and head [R, T, K]), float32, 0 off the response."""

    def signal(self, micro_batch: MicroBatch) -> Tensor | None:
        """What the weights are made from, per token [R, T] (the advantage); None where there is nothing."""
        return None

    def statistics(self) -> dict[str, float]:
        """Numbers of the method's own for the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of its statistics, plain numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict()` exactly."""
        assert not state, f"{type(self).__name__} keeps no statistics"


class LossSelection(WeightingMethod):
    """A method that chooses by the policy's own losses, so that weights exist only once a head has run.

    It weighs one head of one micro-batch at a time, between that head's forward and its backward. With `over_step`
    the objective instead measures all losses of the step in a forward of its own and calls `select_step`.
    """

    over_step: bool = False

    @abstractmethod
    def select(self, k: int, losses_RT: Tensor, valid_RT: Tensor, micro_batch: MicroBatch) -> Tensor:
        """Weights [R, T] of head k at the position that predicts, from its losses there."""

    @abstractmethod
    def select_step(
        self, k: int, losses: list[Tensor], valid: list[Tensor], mine: Sequence[MicroBatch], gather: Any
    ) -> list[Tensor]:
        """`select` over all micro-batches of the step; `gather` collects a value from every rank."""

    @abstractmethod
    def weight_sum(self, num_valid: int) -> int:
        """The sum of weights that `select` will give, known before the losses are."""

    def weigh(self, micro_batch: MicroBatch) -> Tensor:
        raise AssertionError("weights of a selection by loss exist per head only")
