"""Values of a frozen critic as facts: the same code scores for training, for the HTTP service and for reports.

A sample's scores are one float32 vector: the value at its last prompt token (absent where the response starts the
sequence), then one value per response token. Example: prompt of 2, response of 3 gives [V_1, V_2, V_3, V_4].
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from wmtp_ray.data.batch import PackedBatch
from wmtp_ray.data.segments import segments_of
from wmtp_ray.errors import DataError
from wmtp_ray.losses import chunked_cross_entropy, mtp_targets
from wmtp_ray.models.heap import give_back_freed_memory
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.value_model import ValueModel


def split_values(values_RT: Tensor, batch: PackedBatch) -> list[np.ndarray]:
    """Each sample's scores; `DataError` names the sample and position of a value that is not finite."""
    samples = []
    for sample_id, segment in zip(batch.sample_ids.tolist(), segments_of(batch), strict=True):
        scores = values_RT[segment.row, segment.scored].numpy().astype(np.float32)
        if not np.isfinite(scores).all():
            position = int(np.flatnonzero(~np.isfinite(scores))[0]) + segment.scored.start - segment.start
            raise DataError(
                f"the critic's value of sample {sample_id} at token {position} is not finite; "
                "check the critic's checkpoint and dtype"
            )
        samples.append(scores)
    return samples


def join_values(samples: list[np.ndarray], batch: PackedBatch) -> Tensor:
    """[R, T] float32 with each sample's scores in place and 0 elsewhere: the inverse of `split_values`."""
    values_RT = torch.zeros(batch.shape, dtype=torch.float32)
    for scores, segment in zip(samples, segments_of(batch), strict=True):
        values_RT[segment.row, segment.scored] = torch.from_numpy(np.array(scores, dtype=np.float32))
    return values_RT


def join_losses(samples: list[np.ndarray], batch: PackedBatch) -> Tensor:
    """[R, T] float32 with one number per response token of each sample in place, 0 elsewhere."""
    losses_RT = torch.zeros(batch.shape, dtype=torch.float32)
    for losses, segment in zip(samples, segments_of(batch), strict=True):
        losses_RT[segment.row, segment.response] = torch.from_numpy(np.array(losses, dtype=np.float32))
    return losses_RT


def score_keys(batch: PackedBatch, scorer: str) -> list[bytes]:
    """What each sample's scores depend on, hashed (32 bytes): `scorer` (critic fingerprint, backend, dtype,
    attention implementation), the token ids and where the response starts."""
    keys = []
    for segment in segments_of(batch):
        digest = hashlib.sha256(scorer.encode())
        digest.update((segment.response_start - segment.start).to_bytes(4, "little"))
        digest.update(
            batch.input_ids[segment.row, segment.start : segment.end].numpy().astype("<i4").tobytes()
        )
        keys.append(digest.digest())
    return keys


@torch.no_grad()
def next_token_losses(policy: MTPPolicy, batch: PackedBatch, device: torch.device) -> list[np.ndarray]:
    """Cross-entropy of each sample's response tokens by head 1, each predicted from the token before; 0 for a first
    token that nothing precedes. `DataError` names a sample whose loss is not finite."""
    on_device = batch.to(device)
    hidden_RTD = policy.head(1, *policy.trunk(on_device))
    targets_RT = mtp_targets(on_device.labels, on_device.segment_ids, 1)
    at_position_RT = chunked_cross_entropy(hidden_RTD, policy.unembedding, targets_RT)
    losses_RT = torch.nn.functional.pad(at_position_RT[:, :-1], (1, 0)).float().cpu()
    del hidden_RTD
    if device.type == "cpu":
        give_back_freed_memory()
    samples = []
    for sample_id, segment in zip(batch.sample_ids.tolist(), segments_of(batch), strict=True):
        losses = losses_RT[segment.row, segment.response].numpy().astype(np.float32)
        if not np.isfinite(losses).all():
            raise DataError(
                f"the loss of sample {sample_id} is not finite; check the model's checkpoint and dtype"
            )
        samples.append(losses)
    return samples


@torch.no_grad()
def score(model: ValueModel, batch: PackedBatch, device: torch.device) -> list[np.ndarray]:
    """One forward pass of the frozen critic over a batch."""
    values_RT = model(batch.to(device)).float().cpu()
    if device.type == "cpu":
        give_back_freed_memory()
    return split_values(values_RT, batch)
