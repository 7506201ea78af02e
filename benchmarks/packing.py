"""Training on packed micro-batches against the same samples padded, counted in tokens that are not padding.

Lengths are log-normal around those of CodeContests, at most 2048 tokens. A step is a forward and a backward of a
random Llama with 2 heads and the weighted MTP objective; its padded counterparts hold one sample a row, in random
order, padded to the longest sample of the micro-batch or to 2048 tokens. All have the same loss.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import pad
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.figure import Figure
from benchmarks.gae import fastest
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.config.weighting import LossConfig, UniformWeighting
from wmtp_ray.data.batch import IGNORED_LABEL, PackedBatch, pack
from wmtp_ray.data.index import ProblemIndex
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.plan import plan_selection
from wmtp_ray.data.planned import PlannedMicroBatch, PlannedStep
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.data.sampling import select
from wmtp_ray.models.policy import MTPPolicy
from wmtp_ray.models.quiet import quiet_transformers
from wmtp_ray.training.collective import Collective
from wmtp_ray.training.policy_objective import WeightedMTPObjective
from wmtp_ray.value_weighting.methods import build_method

SAMPLES, PADDED_SAMPLES, MAX_LENGTH = 24, 6, 2048
VOCABULARY, WIDTH, LAYERS, HEADS, EOS = 4096, 128, 3, 2, 2
REPEATS = 2


def figures() -> Iterator[Figure]:
    """Useful tokens per second of a packed plan against both ways to pad."""
    index = _drawn_lengths()
    sampling = SamplingConfig(solutions="all", num_samples=SAMPLES)
    selection = select(index, "drawn", sampling)
    shape = PlanConfig(
        micro_batches_per_step=64, tokens_per_micro_batch=2 * MAX_LENGTH, row_tokens=MAX_LENGTH
    )
    (step,) = plan_selection(index, "drawn", selection, sampling, shape).steps()
    order = np.split(selection.rows[:, 0], range(PADDED_SAMPLES, SAMPLES, PADDED_SAMPLES))
    padded = PlannedStep(0, 0, tuple(_one_a_row(index, rows) for rows in order))
    objective = _objective()
    contestants = {
        "packed": (step, _micro_batches(index, step)),
        "longest": (padded, _micro_batches(index, padded)),
        "2048": (padded, _micro_batches(index, padded, MAX_LENGTH)),
    }
    losses = {name: _train(objective, *batches) for name, batches in contestants.items()}
    assert np.ptp(list(losses.values())) < 1e-4, losses
    runs = [lambda batches=batches: _train(objective, *batches) for batches in contestants.values()]
    packed, *others = (step.tokens / seconds for seconds in fastest(runs, REPEATS))
    computed = [sum(m.batch.input_ids.numel() for m in batches) for _, batches in contestants.values()]
    for name, rate, size in zip(("pad_longest", "pad_2048"), others, computed[1:], strict=True):
        yield Figure(
            f"packed_vs_{name}",
            packed / rate,
            "x useful tokens/s",
            f"padded {rate:.0f} tokens/s ({step.tokens / size:.2f} of them useful), packed {packed:.0f} "
            f"({step.tokens / computed[0]:.2f}); the same loss, to 1e-4",
            "> 1",
        )


def _drawn_lengths() -> ProblemIndex:
    rng = np.random.default_rng(0)
    prompts = np.minimum(np.exp(rng.normal(6.0, 0.5, SAMPLES)), 1500).astype(np.int32)
    tokens = np.minimum(prompts + np.exp(rng.normal(5.3, 0.8, SAMPLES)) + 5, MAX_LENGTH).astype(np.int32)
    numbers = np.arange(SAMPLES, dtype=np.int32)
    return ProblemIndex(
        problem_ids=pa.array([f"p{i}" for i in numbers]),
        split=np.zeros(SAMPLES, dtype=np.int8),
        difficulty=numbers,
        cf_rating=numbers,
        cluster=numbers,
        tags=pa.array([[]] * SAMPLES, pa.list_(pa.string())),
        row_problem=numbers,
        row_correct=np.ones(SAMPLES, dtype=bool),
        row_tokens=tokens,
        row_targets=tokens - prompts,
    )


def _one_a_row(index: ProblemIndex, rows: np.ndarray) -> PlannedMicroBatch:
    return PlannedMicroBatch(
        packed_rows=tuple((row,) for row in rows.tolist()),
        tokens=index.row_tokens[rows],
        targets=index.row_targets[rows],
        correct=index.row_correct[rows],
        pairs=np.zeros((0, 2), dtype=np.int64),
    )


def _micro_batches(index: ProblemIndex, step: PlannedStep, width: int = 0) -> list[MicroBatch]:
    """A step's micro-batches with drawn tokens, the same for a sample in every layout; rows at least `width` long."""

    def sample(row: int) -> TokenizedSample:
        length, targets = int(index.row_tokens[row]), int(index.row_targets[row])
        tokens = np.random.default_rng(row).integers(3, VOCABULARY, length).astype(np.int32)
        return TokenizedSample(row, tokens, length - targets, truncated=False)

    packed = [pack([[sample(r) for r in row] for row in m.packed_rows], EOS) for m in step.micro_batches]
    return [
        MicroBatch(n, planned, _widened(batch, width))
        for n, (planned, batch) in enumerate(zip(step.micro_batches, packed, strict=True))
    ]


def _widened(batch: PackedBatch, width: int) -> PackedBatch:
    more = (0, max(width - batch.shape[1], 0))
    return PackedBatch(
        input_ids=pad(batch.input_ids, more, value=EOS),
        position_ids=pad(batch.position_ids, more),
        segment_ids=pad(batch.segment_ids, more, value=-1),
        labels=pad(batch.labels, more, value=IGNORED_LABEL),
        sample_ids=batch.sample_ids,
    )


def _objective() -> WeightedMTPObjective:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=WIDTH // 64,
        num_key_value_heads=WIDTH // 64,
        max_position_embeddings=MAX_LENGTH,
    )
    with tempfile.TemporaryDirectory(prefix="wmtp-bench-") as folder, quiet_transformers():
        LlamaForCausalLM(config).save_pretrained(folder)
        policy = MTPPolicy(
            Path(folder),
            "drawn",
            HEADS,
            dtype="float32",
            lora=None,
            head_training="full",
            gradient_checkpointing=False,
            seed=0,
        )
    weighting = UniformWeighting()
    return WeightedMTPObjective(
        policy,
        build_method(weighting, EOS),
        weighting,
        LossConfig(),
        eos_token_id=EOS,
        detach_extra_heads=False,
        device=torch.device("cpu"),
    )


def _train(objective: WeightedMTPObjective, step: PlannedStep, batches: list[MicroBatch]) -> float:
    """Forward and backward of all micro-batches; the step's loss."""
    alone = Collective()
    objective.prepare(step, batches, alone)
    for batch in batches:
        objective.backward(batch)
    for parameter in objective.model.parameters():
        parameter.grad = None
    loss = objective.metrics(alone)["loss"]
    assert isinstance(loss, float)
    return loss
