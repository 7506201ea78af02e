"""One optimizer step of the policy's objective in this process."""

from __future__ import annotations

import torch
from torch import Tensor

from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import PlannedStep
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.objective import Metrics
from wmtp_ray.training.policy_objective import WeightedMTPObjective

ALONE = Collective()


def run_step(
    objective: WeightedMTPObjective, step: PlannedStep, batches: list[MicroBatch]
) -> tuple[Metrics, dict[str, Tensor]]:
    """The metrics and the gradients of one step."""
    objective.prepare(step, batches, ALONE)
    for batch in batches:
        objective.backward(batch)
    metrics = objective.metrics(ALONE)
    return metrics, take_gradients(objective.model)


def take_gradients(policy: MTPPolicy) -> dict[str, Tensor]:
    """The gradients by parameter (0 where there is none), which are then cleared."""
    gradients = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in policy.trainable_parameters().items()
    }
    policy.zero_grad()
    return gradients


def assert_same_gradients(left: dict[str, Tensor], right: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert left.keys() == right.keys()
    scale = max(float(g.abs().max()) for g in right.values())
    assert scale > 1e-4
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=tolerance, atol=tolerance * scale, msg=name)
