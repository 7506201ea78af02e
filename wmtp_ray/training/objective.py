"""What an optimizer step minimises. The trainer knows only this interface; the policy's weighted MTP loss and the
critic's ranking loss are its implementations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from wmtp_ray.data.micro_batch import MicroBatch, Need
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.held_out import HeldOutPair

Metrics = dict[str, float | list[float]]
"""Numbers by name; a histogram is a list."""


class TrainableModel(Protocol):
    """What the trainer asks of a model: an `nn.Module` that knows which of its tensors a checkpoint keeps."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...

    def trainable_parameters(self) -> dict[str, nn.Parameter]: ...

    def trainable_state_dict(self) -> dict[str, Tensor]: ...

    def load_trainable_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Objective(Protocol):
    """One job's loss over a whole optimizer step.

    A step calls, on every rank: `prepare` once (all statistics are reduced there, before any backward), `backward` for
    each of the rank's micro-batches, `metrics` once. Gradients are scaled so that their SUM over micro-batches and
    ranks is the gradient of the step's loss.
    """

    @property
    def model(self) -> TrainableModel: ...

    @property
    def needs(self) -> frozenset[Need]:
        """What micro-batches must carry beside their tokens."""
        ...

    @property
    def held_out_pairs(self) -> Sequence[HeldOutPair]:
        """Of the last `evaluate`, from all ranks; none where the objective knows no pairs."""
        ...

    def prepare(self, step: PlannedStep, mine: Sequence[MicroBatch], collective: Collective) -> None: ...

    def backward(self, micro_batch: MicroBatch) -> None: ...

    def metrics(self, collective: Collective) -> Metrics:
        """Of the step, all that `evaluate` gives among them: a misspelt `checkpoint.best_metric` is found after the
        first step."""
        ...

    def evaluate(self, micro_batches: Iterable[MicroBatch], collective: Collective) -> Metrics:
        """Metrics over held-out micro-batches, with the state of training (its EMA) and without changing it."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
