"""One whole training step of the verifiable job, against the loop that the method was first written as.

Both score with the critic, turn values into advantages and weights, compute the weighted MTP loss of K heads, go
backward and update, on the same two random Llama models and the same samples; both end on the same loss. The
counterpart pads every sample to the maximum length, computes logits of all heads at all positions and holds them at
once, and walks token by token through the advantage recursion. Samples have lengths like those of CodeContests, scaled
to a maximum of 512 tokens. Speed is counted in useful tokens: those that are not padding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.figure import Figure
from benchmarks.gae import fastest
from wmtp_ray.config import LoRAConfig, ValueModelConfig
from wmtp_ray.config.weighting import CriticWeighting, LossConfig
from wmtp_ray.data.batch import PackedBatch, pack
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.planned import PlannedMicroBatch, PlannedStep
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.quiet import quiet_transformers
from wmtp_ray.models.scorer import join_values, score
from wmtp_ray.models.value_model import ValueModel
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.policy_objective import WeightedMTPObjective
from wmtp_ray.value_weighting.methods import build_method

MAX_LENGTH, VOCABULARY, HEADS = 512, 32_000, 4
MICRO_BATCHES, SAMPLES = 2, 4
LEARNING_RATE = 1e-4
EOS = 2
REPEATS = 3
CPU = torch.device("cpu")


def draw_samples() -> list[list[TokenizedSample]]:
    """`MICRO_BATCHES` lists of `SAMPLES` samples: about two fifths response, lengths log-normal."""
    generator = np.random.default_rng(0)
    lengths = (
        generator.lognormal(np.log(165), 0.55, (MICRO_BATCHES, SAMPLES)).clip(24, MAX_LENGTH).astype(int)
    )
    return [
        [
            TokenizedSample(
                sample_id=SAMPLES * m + s,
                token_ids=generator.integers(3, VOCABULARY, length).astype(np.int32),
                response_start=int(0.6 * length),
                truncated=False,
            )
            for s, length in enumerate(row)
        ]
        for m, row in enumerate(lengths)
    ]


class Models:
    """A policy and a critic of 6 layers, width 256, with adapters that do something."""

    def __init__(self, directory: Path) -> None:
        lora = LoRAConfig(rank=16, alpha=32)
        self.policy = MTPPolicy.from_pretrained(directory, HEADS, lora=lora, seed=1)
        self.critic = ValueModel.from_pretrained(ValueModelConfig(name=str(directory), lora=lora), seed=2)
        torch.nn.init.normal_(self.critic.head.out.weight, generator=torch.Generator().manual_seed(3))
        self.optimizer = torch.optim.AdamW(self.policy.trainable_parameters().values(), lr=LEARNING_RATE)

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.policy.trainable_parameters().values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def this_system(models: Models, samples: list[list[TokenizedSample]]) -> float:
    """Packed rows, chunked loss, one head at a time; returns the step's loss."""
    planned = [_planned(micro_batch) for micro_batch in samples]
    loaded = []
    for number, (plan, micro_batch) in enumerate(zip(planned, samples, strict=True)):
        by_id = {s.sample_id: s for s in micro_batch}
        batch = pack([[by_id[i] for i in row] for row in plan.packed_rows], pad_id=0)
        values_RT = join_values(score(models.critic, batch, CPU), batch)
        loaded.append(MicroBatch(number, plan, batch, values_RT))
    weighting, collective = CriticWeighting(ema_warmup_steps=1), Collective()
    objective = WeightedMTPObjective(
        models.policy,
        build_method(weighting, eos_token_id=EOS),
        weighting,
        LossConfig(),
        eos_token_id=EOS,
        detach_extra_heads=False,
        device=CPU,
    )
    objective.prepare(PlannedStep(0, 0, tuple(planned)), loaded, collective)
    for micro_batch in loaded:
        objective.backward(micro_batch)
    loss = objective.metrics(collective)["loss"]
    models.update()
    return float(loss)  # type: ignore[arg-type]


def first_loop(models: Models, samples: list[list[TokenizedSample]]) -> float:
    """Padded to the maximum, all logits at once, one Python step per token of the recursion; the step's loss."""
    batches = [pack([[s] for s in micro_batch], pad_id=0) for micro_batch in samples]
    batches = [_pad(batch, MAX_LENGTH) for batch in batches]
    advantages = []
    for batch in batches:
        with torch.no_grad():
            values_BT = models.critic(batch)
        advantages.append(_token_loop(values_BT, batch.response_mask))
    on_response = torch.cat([a[b.response_mask] for a, b in zip(advantages, batches, strict=True)])
    mean, std = on_response.mean(), on_response.std(correction=0)
    count = [sum(_shifted(b.labels, k).ne(-100).sum() for b in batches) for k in range(1, HEADS + 1)]
    total = 0.0
    for batch, advantage_BT in zip(batches, advantages, strict=True):
        weights_BT = ((advantage_BT - mean) / (std + 1e-8)).exp().clamp(0.1, 3.0) * batch.response_mask
        logits_BTKV = models.policy(batch)
        loss = torch.zeros(())
        for k in range(1, HEADS + 1):
            targets_BT = _shifted(batch.labels, k)
            losses = cross_entropy(
                logits_BTKV[:, :, k - 1].flatten(0, 1), targets_BT.flatten(), reduction="none"
            )
            weighted = losses.view_as(targets_BT) * _shifted(weights_BT, k, fill=0.0)
            loss = loss + weighted.sum() / count[k - 1] / HEADS
        loss.backward()
        total += loss.item()
    models.update()
    return total


def _token_loop(values_BT: Tensor, mask_BT: Tensor, lam: float = 0.95) -> Tensor:
    """Advantages, row by row and token by token from the end; the first response token's δ is 0."""
    advantages_BT = torch.zeros_like(values_BT)
    for row in range(values_BT.shape[0]):
        following = 0.0
        tokens = mask_BT[row].nonzero().flatten().tolist()
        for t in reversed(tokens):
            delta = 0.0 if t == tokens[0] else (values_BT[row, t] - values_BT[row, t - 1]).item()
            following = delta + lam * following
            advantages_BT[row, t] = following
    return advantages_BT


def _shifted(values_BT: Tensor, by: int, fill: float = -100) -> Tensor:
    """Position t takes the value of t + by."""
    shifted_BT = torch.full_like(values_BT, fill)
    shifted_BT[:, :-by] = values_BT[:, by:]
    return shifted_BT


def _pad(batch: PackedBatch, length: int) -> PackedBatch:
    """The batch with `length` tokens in every row."""
    extra = length - batch.shape[1]

    def pad(tensor: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, extra), value=value)

    return PackedBatch(
        pad(batch.input_ids, 0),
        pad(batch.position_ids, 0),
        pad(batch.segment_ids, -1),
        pad(batch.labels, -100),
        batch.sample_ids,
    )


def _planned(samples: list[TokenizedSample]) -> PlannedMicroBatch:
    """First-fit decreasing into rows of `MAX_LENGTH` tokens, as the plan does."""
    rows: list[list[TokenizedSample]] = []
    for sample in sorted(samples, key=lambda s: -len(s.token_ids)):
        fits = (r for r in rows if sum(len(s.token_ids) for s in [*r, sample]) <= MAX_LENGTH)
        row = next(fits, None)
        if row is None:
            rows.append([sample])
        else:
            row.append(sample)
    order = [s for row in rows for s in row]
    return PlannedMicroBatch(
        packed_rows=tuple(tuple(s.sample_id for s in row) for row in rows),
        tokens=np.array([len(s.token_ids) for s in order], dtype=np.int32),
        targets=np.array([s.num_targets for s in order], dtype=np.int32),
        correct=np.ones(len(order), dtype=bool),
        pairs=np.zeros((0, 2), dtype=np.int64),
    )


def figures() -> Iterator[Figure]:
    """Useful tokens per second of both; first, that they compute the same."""
    samples = draw_samples()
    tokens = sum(len(s.token_ids) for micro_batch in samples for s in micro_batch)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    with tempfile.TemporaryDirectory() as directory:
        torch.manual_seed(0)
        with quiet_transformers():
            LlamaForCausalLM(config).save_pretrained(directory)
        ours, theirs = Models(Path(directory)), Models(Path(directory))
    difference = abs(this_system(ours, samples) / first_loop(theirs, samples) - 1)
    yield Figure(
        "verifiable_step_loss_difference", difference, "relative", "the same step by the loop", "<= 1e-5"
    )
    contestants = [lambda: this_system(ours, samples), lambda: first_loop(theirs, samples)]
    seconds, loop_seconds = fastest(contestants, REPEATS)
    yield Figure(
        "verifiable_step_vs_seed_loop",
        loop_seconds / seconds,
        "x useful tokens/s",
        f"loop {tokens / loop_seconds:.0f} tokens/s, ours {tokens / seconds:.0f} tokens/s; "
        f"{tokens} of {MICRO_BATCHES * SAMPLES * MAX_LENGTH} tokens useful",
        ">= 3",
    )
