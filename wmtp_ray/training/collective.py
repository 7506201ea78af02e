"""What ranks do together: sums and barriers. The same code runs in one process without torch.distributed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from wmtp_ray.errors import InfraError, WMTPError

T = TypeVar("T")
BUCKET_BYTES = 256 * 2**20
"""What gradients are copied into on their way to the other ranks."""


class Collective:
    """The group of train workers, or a group of one where torch.distributed is not initialised."""

    def __init__(self) -> None:
        self.distributed = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self.distributed else 0
        self.world_size = dist.get_world_size() if self.distributed else 1

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` (any shape and dtype, the same on every rank) over ranks; a new tensor."""
        total = values.clone()
        if self.distributed:
            with self.peers():
                dist.all_reduce(total)
        return total

    def gather(self, value: T) -> list[T]:
        """Every rank's `value` (picklable, small), in the order of ranks."""
        if not self.distributed:
            return [value]
        values: list[T | None] = [None] * self.world_size
        with self.peers():
            dist.all_gather_object(values, value)
        return values  # pyright: ignore[reportReturnType]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every parameter's gradient by its sum over ranks; a rank without one counts as zero. Gradients of
        sharded parameters are summed already (`shard_layers`).

        Once per optimizer step, in flat buffers of at most `BUCKET_BYTES`. DistributedDataParallel is not used: its
        hooks expect one backward per forward, while each MTP head here runs its own (see `WeightedMTPObjective`).
        """
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if not self.distributed:
            return
        whole = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
        for gradients in _buckets(whole):
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            with self.peers():
                dist.all_reduce(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.distributed:
            with self.peers():
                dist.barrier()

    @contextmanager
    def peers(self) -> Iterator[None]:
        """A rank that fails takes the others' collectives with it, those of sharded layers too: what that raises inside
        becomes an `InfraError`, since it is no fault of their own. Any other error passes."""
        try:
            yield
        except Exception as error:
            if self.distributed and _is_loss_of_peer(error):
                raise InfraError(f"another train worker is gone: {error}") from error
            raise


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The gradients in order, each list of one dtype and within `BUCKET_BYTES`, unless one alone is larger."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        together = sum(one.nbytes for one in bucket) + gradient.nbytes
        if bucket and (together > BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _is_loss_of_peer(error: Exception) -> bool:
    """Whether NCCL or gloo (whose errors are plain, and name their place) lost a connection; or there is no group any
    more, which Ray Train takes away from the living as soon as it knows of a death."""
    if isinstance(error, WMTPError):
        return False
    return isinstance(error, dist.DistError) or "gloo/transport/" in str(error) or not dist.is_initialized()
