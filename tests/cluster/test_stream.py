"""Which rank computes what: every micro-batch of the plan once, on the same rank whenever a run starts again."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.data.stores import build_store, synthetic_problems
from wmtp_ray.cluster.stream import ShareSource, shares_of
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.plan import COLUMNS, Plan, make_plan
from wmtp_ray.data.prompt import eos_id
from wmtp_ray.value_weighting.token_classes import token_cells


def plan_of(sizes: list[int]) -> Plan:
    """A plan whose step s has sizes[s] micro-batches of one sample; store rows count up."""
    places = [(step, m) for step, size in enumerate(sizes) for m in range(size)]
    columns = {name: np.zeros(len(places), dtype) for name, dtype in COLUMNS.items()}
    columns["step"], columns["micro_batch"] = np.array(places, dtype=np.int32).reshape(-1, 2).T
    columns["row"] = np.arange(len(places))
    columns["pair"] = np.full(len(places), -1)
    return Plan(columns=columns, facts={"store": "s"})


SIZES = st.lists(st.integers(1, 7), min_size=0, max_size=6)


@given(SIZES, st.integers(1, 5), st.data())
def test_ranks_share_every_step_completely_and_evenly(
    sizes: list[int], world_size: int, data: st.DataObject
) -> None:
    plan = plan_of(sizes)
    first = data.draw(st.integers(0, len(sizes)))
    shares = [shares_of(plan, first, rank, world_size) for rank in range(world_size)]
    for rank, steps in enumerate(shares):
        assert [step for step, _ in steps] == list(range(first, len(sizes)))
        for _, mine in steps:
            assert all(number % world_size == rank for number, _ in mine)
            assert [number for number, _ in mine] == sorted(number for number, _ in mine)
    for s, step in enumerate(range(first, len(sizes))):
        parts = [mine[s][1] for mine in shares]
        together = sorted((number, planned.rows) for part in parts for number, planned in part)
        assert together == [(m, planned.rows) for m, planned in enumerate(plan.step(step).micro_batches)]
        counts = [len(part) for part in parts]
        assert max(counts) - min(counts) <= 1


@given(SIZES.filter(bool), st.integers(1, 3), st.data())
def test_a_restart_takes_up_the_same_shares(sizes: list[int], world_size: int, data: st.DataObject) -> None:
    plan = plan_of(sizes)
    first, rank = data.draw(st.integers(0, len(sizes) - 1)), data.draw(st.integers(0, world_size - 1))

    def rows(first_step: int) -> list[tuple[int, list[tuple[int, tuple[int, ...]]]]]:
        shares = shares_of(plan, first_step, rank, world_size)
        return [(step, [(number, planned.rows) for number, planned in mine]) for step, mine in shares]

    assert rows(first) == rows(0)[first:]


def test_a_step_may_leave_a_rank_with_nothing() -> None:
    plan = plan_of([2, 1])
    assert [(step, [number for number, _ in mine]) for step, mine in shares_of(plan, 0, 1, 2)] == [
        (0, [1]),
        (1, []),
    ]


def test_read_tasks_give_every_rank_its_share_of_every_step(
    tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    """The blocks of 1, 2 and 3 ranks, read here in any order, hold the batches of the plan, whatever divides."""
    store = build_store(tmp_path / "store", synthetic_problems(30), byte_tokenizer)
    shape = PlanConfig(micro_batches_per_step=5, samples_per_micro_batch=2, epochs=2, max_steps=7)
    plan = make_plan(store, SamplingConfig(solutions="pairs", num_samples=33), shape)
    assert [len(step.micro_batches) for step in plan.steps()] == [5, 5, 5, 3, 5, 5, 5]
    wanted = {
        (step.number, m): load_micro_batch(store, byte_tokenizer, planned)
        for step in plan.steps()
        for m, planned in enumerate(step.micro_batches)
    }
    for world_size, first in ((1, 0), (2, 3), (3, 0), (3, 6)):
        found = {}
        for rank in range(world_size):
            shares = shares_of(plan, first, rank, world_size)
            source = ShareSource(shares, store.path, lambda: byte_tokenizer, steps_per_read=2, cells=rank > 0)
            blocks = {n: list(task()) for n, task in reversed(list(enumerate(source.get_read_tasks(1))))}
            rows = [row for n in sorted(blocks) for block in blocks[n] for row in block.to_pylist()]
            assert [row["step"] for row in rows] == list(range(first, 7))
            for row in rows:
                share = pickle.loads(row["share"])
                assert [m.number % world_size for m in share] == [rank] * len(share)
                assert all((m.token_cells_RT is not None) == (rank > 0) for m in share)
                found |= {(row["step"], m.number): m for m in share}
        assert found.keys() == {place for place in wanted if place[0] >= first}
        for place, m in found.items():
            batch = wanted[place]
            for tensor in ("input_ids", "position_ids", "segment_ids", "labels", "sample_ids"):
                assert torch.equal(getattr(m.batch, tensor), getattr(batch, tensor))
            if m.token_cells_RT is not None:
                assert torch.equal(
                    m.token_cells_RT, token_cells(byte_tokenizer, batch, eos_id(byte_tokenizer))
                )


@pytest.mark.parametrize("rank", [0, 1])
def test_past_the_end_there_is_nothing(rank: int) -> None:
    assert shares_of(plan_of([2, 1]), 2, rank, 2) == []
    assert shares_of(plan_of([]), 0, rank, 2) == []
