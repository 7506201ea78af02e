"""Sharding a model's decoder layers over the train workers (FSDP2), and tensors that may be sharded.

`fully_shard` of PyTorch is applied to every decoder layer, MTP heads included, and to nothing else: embedding, norm and
unembedding are read outside of any layer (the chunked loss multiplies by the unembedding itself), and a layer that is
a unit of its own gathers its parameters when it runs and sums its gradients when its own backward ends, in whatever
order the heads run. Checkpoints hold whole tensors, so a run may go on with another number of workers, or unsharded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from wmtp_ray.data.batch import IGNORED_LABEL, PackedBatch
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import Plan, PlannedMicroBatch
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.feed import Feed, FeedUse
from wmtp_ray.training.objective import TrainableModel


def shard_layers(model: TrainableModel, device_type: str) -> None:
    """Shard every decoder layer of a policy or value model over all ranks, in place. Gradients are summed over ranks,
    as `Collective.sum_gradients` sums those of what stays whole."""
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    if not isinstance(model, MTPPolicy | ValueModel):
        raise TypeError(
            f"only policies and value models have decoder layers to shard, not {type(model).__name__}"
        )
    layers = model.runner.layers + (list(model.extra_heads) if isinstance(model, MTPPolicy) else [])
    for layer in layers:
        unit: FSDPModule = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo has no multiplied sum


class EvenFeed:
    """Gives every rank as many micro-batches of a step as the rank with most has: gathering a layer takes all ranks, so
    a rank with fewer runs idle ones, without targets. Implements `Feed`."""

    def __init__(self, feed: Feed, collective: Collective) -> None:
        self._feed, self._collective = feed, collective

    def __call__(self, plan: Plan, first_step: int) -> Iterator[list[MicroBatch]]:
        for number, mine in enumerate(self._feed(plan, first_step), first_step):
            planned = len(plan.step(number).micro_batches)
            wanted = -(-planned // self._collective.world_size)
            yield [*mine, *(idle_micro_batch(planned + i) for i in range(wanted - len(mine)))]

    def use(self) -> FeedUse:
        return self._feed.use()


def idle_micro_batch(number: int) -> MicroBatch:
    """One packed row of two tokens of padding: it has no sample, so every sum over it is 0."""
    nothing = np.zeros(0, dtype=np.int32)
    planned = PlannedMicroBatch((), nothing, nothing, nothing.astype(bool), np.zeros((0, 2), dtype=np.int64))
    batch = PackedBatch(
        input_ids=torch.zeros(1, 2, dtype=torch.int64),
        position_ids=torch.arange(2)[None],
        segment_ids=torch.full((1, 2), -1),
        labels=torch.full((1, 2), IGNORED_LABEL),
        sample_ids=torch.zeros(0, dtype=torch.int64),
    )
    return MicroBatch(
        number,
        planned,
        batch,
        values_RT=torch.zeros(1, 2),
        folds_S=np.zeros(0, dtype=np.int64),
        reference_losses_RT=torch.zeros(1, 2),
        token_cells_RT=torch.full((1, 2), -1),
    )


def whole(state: Any, kept: bool) -> Any:
    """`state` (any nesting of dicts and lists) with every sharded tensor put together, one by one, in the CPU's memory.
    All ranks must call it; one for which the whole is not `kept` gets its shards back."""

    def put_together(leaf: Any) -> Any:
        if not isinstance(leaf, DTensor):
            return leaf
        full = leaf.full_tensor()
        return full.cpu() if kept else leaf

    return tree_map(put_together, state)


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole `tensor`, the same on every rank, sharded where `like` is."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def placed_like(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of `state` placed like the one of the same name, if there is one."""
    return {name: placed(tensor, like.get(name, tensor)) for name, tensor in state.items()}


def clip_gradients(parameters: Sequence[Tensor], max_norm: float, collective: Collective) -> Tensor:
    """Scale the gradients to a norm of at most `max_norm` over all parameters, sharded ones with all their shards;
    returns the norm before that."""
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    squares = {True: torch.zeros((), dtype=torch.float64), False: torch.zeros((), dtype=torch.float64)}
    local = [(isinstance(p.grad, DTensor), _local(p.grad)) for p in parameters if p.grad is not None]
    for sharded, gradient in local:
        squares[sharded] += gradient.double().square().sum().cpu()
    norm = (collective.sum(squares[True]) + squares[False]).sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0).item()
    for _, gradient in local:
        gradient.mul_(scale)
    return norm


def _local(gradient: Tensor) -> Tensor:
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient
