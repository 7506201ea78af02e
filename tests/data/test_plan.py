"""The plan: every sample once an epoch, pairs together, budgets kept, the same on any number of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tests.data.indices import random_index
from tests.data.stores import build_store, synthetic_problems
from wmtp_ray.config.data import PlanConfig, SamplingConfig
from wmtp_ray.data.batch import IGNORED_LABEL, pack
from wmtp_ray.data.evenness import rank_kernel
from wmtp_ray.data.index import ProblemIndex
from wmtp_ray.data.loading import load_micro_batch
from wmtp_ray.data.plan import Plan, empty_plan, make_plan, plan_selection
from wmtp_ray.data.planned import PlannedMicroBatch
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.data.sampling import Selection, select
from wmtp_ray.errors import ConfigError, DataError, StorageError
from wmtp_ray.losses.mtp import WeightAlignment, mtp_targets

PROPERTY = settings(deadline=None, max_examples=60)
LONGEST = 60

plan_configs = st.builds(
    lambda m, n, tokens, row, epochs, steps: PlanConfig(
        micro_batches_per_step=m,
        samples_per_micro_batch=n,
        tokens_per_micro_batch=tokens if n is None else None,
        row_tokens=row,
        epochs=epochs,
        max_steps=steps,
    ),
    st.integers(1, 5),
    st.none() | st.integers(1, 6),
    st.integers(4 * LONGEST, 500),
    st.none() | st.integers(LONGEST, 2 * LONGEST),
    st.sampled_from([0.3, 1.0, 1.5, 2.0]),
    st.none() | st.integers(1, 3),
)


def drawn(seed: int, paired: bool, num_samples: int = 40) -> tuple[ProblemIndex, SamplingConfig, Selection]:
    index = random_index(6, 160, seed, LONGEST)
    config = SamplingConfig(
        solutions="pairs" if paired else "correct", num_samples=num_samples, allow_fewer=True
    )
    return index, config, select(index, "f", config)


def segment_count(plan: Plan) -> int:
    return sum(len(m.rows) for step in plan.steps() for m in step.micro_batches)


@PROPERTY
@given(st.integers(0, 50), st.booleans(), plan_configs)
def test_every_sample_once_an_epoch_within_budgets(seed: int, paired: bool, config: PlanConfig):
    index, sampling, selection = drawn(seed, paired)
    plan = plan_selection(index, "f", selection, sampling, config)
    used: dict[int, Counter] = {}
    for number, step in enumerate(plan.steps()):
        assert step.number == number
        assert 1 <= len(step.micro_batches) <= config.micro_batches_per_step
        for m in step.micro_batches:
            samples = m.pairs if paired else m.rows
            if config.samples_per_micro_batch is not None:
                assert len(samples) <= config.samples_per_micro_batch
            rows, tokens = m.shape
            assert tokens <= plan.facts["row_tokens"]
            assert config.tokens_per_micro_batch is None or rows * tokens <= config.tokens_per_micro_batch
            assert m.tokens.tolist() == index.row_tokens[list(m.rows)].tolist()
            assert m.targets.tolist() == index.row_targets[list(m.rows)].tolist()
            assert m.correct.tolist() == index.row_correct[list(m.rows)].tolist()
            got = [tuple(m.rows[i] for i in pair) for pair in m.pairs] if paired else [(r,) for r in m.rows]
            used.setdefault(step.epoch, Counter()).update(got)
            assert not paired or sorted(m.pairs.ravel().tolist()) == list(range(len(m.rows)))
    everything = {tuple(rows) for rows in selection.rows.tolist()}
    for epoch, counter in used.items():
        assert set(counter) <= everything and set(counter.values()) <= {1}
        if config.max_steps is None:
            share = min(1.0, config.epochs - epoch)
            assert len(counter) == np.ceil(round(share * len(selection), 6))
    if config.max_steps is not None:
        assert plan.num_steps <= config.max_steps
    assert plan.useful_tokens == sum(step.tokens for step in plan.steps())


@PROPERTY
@given(st.integers(0, 50), plan_configs)
def test_full_steps_have_the_same_number_of_samples(seed: int, config: PlanConfig):
    if config.samples_per_micro_batch is None:
        return
    index, sampling, selection = drawn(seed, paired=False)
    plan = plan_selection(index, "f", selection, sampling, config)
    last_of_epoch = {step.epoch: step.number for step in plan.steps()}
    for step in plan.steps():
        counts = [len(m.rows) for m in step.micro_batches]
        if step.number not in last_of_epoch.values():
            assert counts == [config.samples_per_micro_batch] * config.micro_batches_per_step
        assert max(counts) - min(counts) <= 1


@PROPERTY
@given(st.integers(0, 50), st.booleans(), plan_configs)
def test_waste_is_what_its_definition_says(seed: int, paired: bool, config: PlanConfig):
    index, sampling, selection = drawn(seed, paired)
    plan = plan_selection(index, "f", selection, sampling, config)
    for world_size in (1, 2, 3):
        waited = 0
        for step in plan.steps():
            shapes = [m.shape for m in step.micro_batches]
            waited += max(sum(r * t for r, t in shapes[rank::world_size]) for rank in range(world_size))
        assert plan.waste(world_size) == pytest.approx(1 - plan.useful_tokens / (world_size * waited))


def test_a_longer_plan_begins_with_the_shorter_one():
    index, sampling, selection = drawn(0, paired=True)
    config = PlanConfig(micro_batches_per_step=2, samples_per_micro_batch=3, epochs=2)
    long = plan_selection(index, "f", selection, sampling, config)
    short = plan_selection(index, "f", selection, sampling, config.model_copy(update={"max_steps": 3}))
    for mine, theirs in zip(short.steps(), long.steps(), strict=False):
        assert [m.packed_rows for m in mine.micro_batches] == [m.packed_rows for m in theirs.micro_batches]
    epochs = [
        [m.rows for step in long.steps() if step.epoch == e for m in step.micro_batches] for e in (0, 1)
    ]
    assert epochs[0] != epochs[1]


def test_steps_are_not_sorted_by_length():
    """Length-aware, yet every step has its share of long and short samples."""
    index = random_index(50, 20_000, longest=200)
    sampling = SamplingConfig(solutions="all")
    selection = select(index, "f", sampling)
    config = PlanConfig(micro_batches_per_step=4, tokens_per_micro_batch=2000, row_tokens=500)
    plan = plan_selection(index, "f", selection, sampling, config)
    means = [np.concatenate([m.tokens for m in step.micro_batches]).mean() for step in plan.steps()][:-2]
    lengths = index.row_tokens[selection.rows]
    expected = lengths.std() / np.sqrt(len(selection) / plan.num_steps)
    assert np.std(means) < 1.5 * expected
    assert plan.waste() < 0.02


def test_even_plans_serve_any_number_of_ranks():
    """Waste of 1 to n ranks, whole micro-batches within the budget, and still no step of long or short samples only."""
    index = random_index(50, 6000, longest=200)
    sampling = SamplingConfig(solutions="all")
    selection = select(index, "f", sampling)
    lengths = index.row_tokens[selection.rows]
    for micro_batches, ranks, rows in ((14, 4, 1), (24, 8, 1), (14, 4, 2)):
        config = PlanConfig(
            micro_batches_per_step=micro_batches,
            tokens_per_micro_batch=2000,
            row_tokens=2000 // rows,
            even_for_workers=ranks,
        )
        plan = plan_selection(index, "f", selection, sampling, config)
        equal = plan_selection(
            index, "f", selection, sampling, config.model_copy(update={"even_for_workers": None})
        )
        worst, worst_equal = (max(p.waste(w) for w in range(1, ranks + 1)) for p in (plan, equal))
        assert worst < (0.03 if rows == 1 else 0.07) and worst < worst_equal
        shapes = [m.shape for step in plan.steps() for m in step.micro_batches]
        assert max(r * t for r, t in shapes) <= 2000
        assert sorted(plan.columns["row"].tolist()) == sorted(selection.rows[:, 0].tolist())
        means = [np.concatenate([m.tokens for m in step.micro_batches]).mean() for step in plan.steps()][:-2]
        assert np.std(means) < 1.5 * lengths.std() / np.sqrt(len(selection) / plan.num_steps)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 50), st.booleans(), st.integers(1, 3), st.integers(0, 3), st.sampled_from([None, 130]))
def test_even_plans_lose_nothing(seed: int, paired: bool, ranks: int, more: int, row_tokens: int | None):
    index, sampling, selection = drawn(seed, paired)
    config = PlanConfig(
        micro_batches_per_step=3 * ranks + more,
        tokens_per_micro_batch=260,
        row_tokens=row_tokens,
        even_for_workers=ranks,
    )
    plan = plan_selection(index, "f", selection, sampling, config)
    assert sorted(plan.columns["row"].tolist()) == sorted(selection.rows.ravel().tolist())
    for step in plan.steps():
        for m in step.micro_batches:
            assert m.shape[0] * m.shape[1] <= 260 and m.shape[1] <= plan.facts["row_tokens"]
            assert not paired or sorted(m.pairs.ravel().tolist()) == list(range(len(m.rows)))


def test_the_smallest_even_shape():
    """1 + 2x + 2x^2 + x^3 vanishes at the second and third roots of unity: nothing is gained by any exchange."""
    kernel = rank_kernel(4, 3) - np.eye(4, dtype=np.int64)
    even, equal = np.array([1, 2, 2, 1]), np.array([2, 1, 1, 2])
    assert even @ kernel @ even < equal @ kernel @ equal
    for ranks in (2, 3):
        assert len({int(even[rank::ranks].sum()) for rank in range(ranks)}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples_per_micro_batch": 2}, "needs tokens_per_micro_batch"),
        ({"tokens_per_micro_batch": 500, "micro_batches_per_step": 8}, "micro_batches_per_step >= 9"),
        ({"tokens_per_micro_batch": 500, "epochs": float("inf")}, "finite"),
    ],
)
def test_contradictions_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        PlanConfig(**{"micro_batches_per_step": 9, "even_for_workers": 3, **change})


def test_a_curriculum_in_the_plan():
    index = random_index(40, 2000)
    sampling = SamplingConfig.model_validate(
        {
            "solutions": "pairs",
            "num_samples": 100,
            "difficulty_bins": {"low": (0, 9), "high": (10, 30)},
            "difficulty_weights": {"low": 1, "high": 0},
            "curriculum": [{"from_epoch": 2, "difficulty_weights": {"low": 1, "high": 3}}],
        }
    )
    selection = select(index, "f", sampling)
    config = PlanConfig(epochs=3, micro_batches_per_step=2, samples_per_micro_batch=5)
    plan = plan_selection(index, "f", selection, sampling, config)
    c = plan.columns
    hard = index.difficulty[index.row_problem[c["row"]]] >= 10
    assert [int(hard[c["epoch"] == e].sum()) // 2 for e in range(3)] == [0, 0, 75]
    assert np.bincount(c["epoch"]).tolist() == [200, 200, 200]
    assert [stage["from_epoch"] for stage in plan.facts["curriculum"]] == [0, 2]
    reports = [stage.report.line() for stage in selection.stages]
    assert plan.sampling_lines() == [f"from epoch {e}: {r}" for e, r in zip((0, 2), reports, strict=True)]
    assert "low: 100 of" in reports[0] and "low: 25 of" in reports[1]
    pairs = {(p, bool(k)): row for p, k, row in zip(c["pair"], c["correct"], c["row"], strict=True)}
    assert all(index.row_problem[pairs[p, True]] == index.row_problem[pairs[p, False]] for p, _ in pairs)


def test_the_same_plan_in_any_process():
    """The fingerprint itself, also under another hash seed: no machine may find another plan unnoticed."""
    code = (
        "from tests.data.test_plan import *;"
        "i=random_index(9,300);s=SamplingConfig(solutions='pairs');"
        "c=PlanConfig(micro_batches_per_step=6,tokens_per_micro_batch=400,even_for_workers=2);"
        "print(plan_selection(i,'f',select(i,'f',s),s,c).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "6ca30329de6ecd12d6a3143f3c7f4c22b9a4acc00399bac7a37a6f03abe32cd7"


def test_a_torn_cluster_is_refused(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    store = build_store(tmp_path / "s", synthetic_problems(10), byte_tokenizer)
    assert store.index.torn_cluster() is None
    held_out = int(np.flatnonzero(~store.index.in_split("train"))[0])
    cluster = store.index.cluster.copy()
    cluster[held_out] = 0
    store.__dict__["index"] = replace(store.index, cluster=cluster)
    with pytest.raises(DataError, match=f"near-duplicate problems 'p0' and 'p{held_out}'"):
        make_plan(
            store,
            SamplingConfig(solutions="all"),
            PlanConfig(micro_batches_per_step=1, samples_per_micro_batch=1),
        )


def test_save_and_load(tmp_path: Path):
    index, sampling, selection = drawn(1, paired=True)
    plan = plan_selection(
        index, "f", selection, sampling, PlanConfig(micro_batches_per_step=2, samples_per_micro_batch=3)
    )
    plan.save(tmp_path / "plan.parquet")
    again = Plan.load(tmp_path / "plan.parquet")
    assert again.fingerprint == plan.fingerprint
    assert again.facts == plan.facts
    assert again.num_steps == plan.num_steps
    content = (tmp_path / "plan.parquet").read_bytes()
    (tmp_path / "plan.parquet").write_bytes(content[:-20])
    with pytest.raises(StorageError, match="fresh run"):
        Plan.load(tmp_path / "plan.parquet")
    with pytest.raises(StorageError, match="fresh run"):
        Plan.load(tmp_path / "none.parquet")
    changed = Plan(columns={**plan.columns, "row": plan.columns["row"][::-1]}, facts=plan.facts)
    assert changed.fingerprint != plan.fingerprint


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=4),
    st.integers(1, 8),
    st.sampled_from(["target", "state"]),
)
def test_head_targets_by_counting(lengths: list[tuple[int, int]], head: int, alignment: str):
    """Count the (t, t + k) by hand: both in one sample, t + k (and for `state` t + 1) in the response."""
    planned = PlannedMicroBatch(
        packed_rows=(tuple(range(len(lengths))),),
        tokens=np.array([p + n for p, n in lengths], dtype=np.int32),
        targets=np.array([n for _, n in lengths], dtype=np.int32),
        correct=np.ones(len(lengths), dtype=bool),
        pairs=np.zeros((0, 2), dtype=np.int64),
    )
    counted = sum(
        1
        for p, n in lengths
        for t in range(p + n)
        if p <= t + head < p + n and (alignment == "target" or t + 1 >= p)
    )
    assert planned.head_targets(head, alignment) == counted  # type: ignore[arg-type]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 50), st.integers(1, 5), st.sampled_from(["target", "state"]))
def test_head_targets_are_those_of_the_loss(seed: int, head: int, alignment: WeightAlignment):
    """What the plan counts from lengths is what the loss finds in the packed batch."""
    index, sampling, selection = drawn(seed, paired=False)
    config = PlanConfig(micro_batches_per_step=2, samples_per_micro_batch=5, row_tokens=2 * LONGEST)
    for step in plan_selection(index, "f", selection, sampling, config).steps():
        for planned in step.micro_batches:
            samples = iter(zip(planned.rows, planned.tokens, planned.targets, strict=True))
            rows = [
                [
                    TokenizedSample(row, np.full(tokens, 7, dtype=np.int32), int(tokens - targets), False)
                    for row, tokens, targets in (next(samples) for _ in packed_row)
                ]
                for packed_row in planned.packed_rows
            ]
            batch = pack(rows, pad_id=0)
            found = mtp_targets(batch.labels, batch.segment_ids, head, alignment) != IGNORED_LABEL
            assert planned.head_targets(head, alignment) == found.sum()


def test_too_small_budgets_are_refused():
    index, sampling, selection = drawn(0, paired=True)
    with pytest.raises(ConfigError, match=r"row_tokens = 10"):
        plan_selection(
            index,
            "f",
            selection,
            sampling,
            PlanConfig(micro_batches_per_step=1, samples_per_micro_batch=1, row_tokens=10),
        )
    longest = int(index.row_tokens[selection.rows].max())
    with pytest.raises(ConfigError, match="longest pair"):
        plan_selection(
            index,
            "f",
            selection,
            sampling,
            PlanConfig(micro_batches_per_step=1, tokens_per_micro_batch=longest),
        )
    with pytest.raises(ValueError, match="exactly one"):
        PlanConfig(micro_batches_per_step=1)
    with pytest.raises(ValueError, match="lower it"):
        PlanConfig(micro_batches_per_step=1, tokens_per_micro_batch=10, row_tokens=11)


def test_load_micro_batch(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    store = build_store(tmp_path / "s", synthetic_problems(20), byte_tokenizer, max_length=300)
    plan = make_plan(
        store,
        SamplingConfig(solutions="pairs", num_samples=10),
        PlanConfig(micro_batches_per_step=2, samples_per_micro_batch=3, row_tokens=700),
    )
    for step in plan.steps():
        for planned in step.micro_batches:
            batch = load_micro_batch(store, byte_tokenizer, planned)
            assert batch.shape == planned.shape
            assert batch.sample_ids.tolist() == list(planned.rows)
            assert batch.response_mask.sum() == planned.targets.sum()
            lengths = [
                int((batch.segment_ids[r] == s).sum())
                for r, packed_row in enumerate(planned.packed_rows)
                for s in range(len(packed_row))
            ]
            assert lengths == planned.tokens.tolist()
            correct = [row.is_correct for row in store.read(planned.rows)]
            assert all(correct[a] and not correct[b] for a, b in planned.pairs)
            assert torch.equal(batch.labels[batch.response_mask], batch.input_ids[batch.response_mask])


def test_another_store_is_refused(tmp_path: Path, byte_tokenizer: PreTrainedTokenizerFast):
    store = build_store(tmp_path / "a", synthetic_problems(20), byte_tokenizer)
    other = build_store(tmp_path / "b", synthetic_problems(20, seed=1), byte_tokenizer)
    plan = make_plan(
        store,
        SamplingConfig(solutions="all"),
        PlanConfig(micro_batches_per_step=2, samples_per_micro_batch=3),
    )
    plan.check_store(store)
    with pytest.raises(DataError, match="made for store"):
        plan.check_store(other)
    with pytest.raises(DataError, match="the plan says"):
        for step in plan.steps():
            for planned in step.micro_batches:
                load_micro_batch(other, byte_tokenizer, planned)
    assert empty_plan(store).num_steps == 0
    assert empty_plan(store).waste() == 0
