"""Samples with values of their own, laid out as micro-batches in any way; nothing is read or trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from wmtp_ray.data.batch import pack
from wmtp_ray.data.micro_batch import MicroBatch
from wmtp_ray.data.planned import PlannedMicroBatch
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.models.scorer import join_losses, join_values

EOS = 2
Layout = list[list[list[int]]]
"""Micro-batches of rows of sample numbers."""


@dataclass(frozen=True)
class Sample:
    """A tokenised sample and its scores: V at the last prompt token and each response token, losses, cells."""

    tokens: TokenizedSample
    values: np.ndarray
    losses: np.ndarray
    cells: np.ndarray


def make_samples(lengths: list[tuple[int, int]], seed: int) -> list[Sample]:
    """One sample for each (prompt, response) length; every response ends with EOS."""
    random = np.random.default_rng(seed)
    samples = []
    for number, (prompt, response) in enumerate(lengths):
        ids = random.integers(3, 50, prompt + response).astype(np.int32)
        ids[-1] = EOS
        samples.append(
            Sample(
                TokenizedSample(100 + number, ids, prompt, False),
                random.normal(size=response + (prompt > 0)).astype(np.float32),
                random.exponential(size=response).astype(np.float32),
                random.integers(0, 90, response),
            )
        )
    return samples


def lay_out(samples: list[Sample], layout: Layout, folds: int | None = None) -> list[MicroBatch]:
    """The micro-batches of one step. With `folds`, sample i was scored by critic i mod folds."""
    step = []
    for number, rows in enumerate(layout):
        batch = pack([[samples[i].tokens for i in row] for row in rows], 0)
        chosen = [samples[i] for row in rows for i in row]
        cells_RT = join_losses([s.cells + 1 for s in chosen], batch).long() - 1
        planned = PlannedMicroBatch(
            packed_rows=tuple(tuple(samples[i].tokens.sample_id for i in row) for row in rows),
            tokens=np.array([len(s.tokens.token_ids) for s in chosen]),
            targets=np.array([s.tokens.num_targets for s in chosen]),
            correct=np.array([i % 3 > 0 for row in rows for i in row]),
            pairs=np.zeros((0, 2), dtype=np.int64),
        )
        step.append(
            MicroBatch(
                number,
                planned,
                batch,
                join_values([s.values for s in chosen], batch),
                folds_S=None if folds is None else np.array([i % folds for row in rows for i in row]),
                reference_losses_RT=join_losses([s.losses for s in chosen], batch),
                token_cells_RT=cells_RT,
            )
        )
    return step


def by_sample(micro_batches: list[MicroBatch], tensors: list[Tensor]) -> dict[int, Tensor]:
    """Each sample's response part of [R, T] tensors."""
    found = {}
    for micro_batch, tensor_RT in zip(micro_batches, tensors, strict=True):
        batch, samples = micro_batch.batch, iter(micro_batch.batch.sample_ids.tolist())
        for row in range(batch.shape[0]):
            for segment in range(int(batch.segment_ids[row].max()) + 1):
                where = (batch.segment_ids[row] == segment) & batch.response_mask[row]
                found[next(samples)] = tensor_RT[row][where]
    return found


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[Sample], Layout, Layout]:
    """Samples and two ways to lay them out: other orders, rows and micro-batches."""
    lengths = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 7)), min_size=2, max_size=6))
    samples = make_samples(lengths, draw(st.integers(0, 2**31)))

    def layout() -> Layout:
        order = draw(st.permutations(range(len(samples))))
        cuts = draw(
            st.lists(st.sampled_from(["row", "batch", "same"]), min_size=len(order), max_size=len(order))
        )
        micro_batches: Layout = [[[order[0]]]]
        for number, cut in zip(order[1:], cuts[1:], strict=True):
            if cut == "batch":
                micro_batches.append([[number]])
            elif cut == "row":
                micro_batches[-1].append([number])
            else:
                micro_batches[-1][-1].append(number)
        return micro_batches

    return samples, layout(), layout()


def same(left: dict[int, Tensor], right: dict[int, Tensor]) -> None:
    """Equal weights of every sample."""
    assert left.keys() == right.keys()
    for sample in left:
        torch.testing.assert_close(left[sample], right[sample], rtol=1e-6, atol=1e-6)
