"""Values of a frozen critic: cut from batches, keyed by what they depend on, put back exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.scenes import CPU, Scene, micro_batches, sample_alone
from wmtp_ray.data.batch import PackedBatch, pack
from wmtp_ray.data.prompt import TokenizedSample
from wmtp_ray.errors import DataError
from wmtp_ray.models.scorer import join_values, score, score_keys, segments_of, split_values


@st.composite
def layouts(draw: st.DrawFn) -> list[list[TokenizedSample]]:
    """Rows of samples of 1 to 6 tokens, with and without a prompt."""
    numbers = iter(range(100, 200))

    def sample() -> TokenizedSample:
        length = draw(st.integers(1, 6))
        ids = np.array(draw(st.lists(st.integers(3, 50), min_size=length, max_size=length)), dtype=np.int32)
        return TokenizedSample(next(numbers), ids, draw(st.integers(0, length - 1)), False)

    return [[sample() for _ in range(draw(st.integers(1, 4)))] for _ in range(draw(st.integers(1, 3)))]


def sample(ids: list[int], response_start: int, number: int = 7) -> TokenizedSample:
    return TokenizedSample(number, np.array(ids, dtype=np.int32), response_start, False)


@given(layouts(), st.integers(0, 2**32 - 1))
def test_split_and_join_are_inverse(rows: list[list[TokenizedSample]], seed: int) -> None:
    batch = pack(rows, 0)
    values_RT = torch.randn(batch.shape, generator=torch.Generator().manual_seed(seed))
    scores = split_values(values_RT, batch)
    for one, part in zip([s for row in rows for s in row], scores, strict=True):
        assert part.dtype == np.float32
        assert len(part) == one.num_targets + (one.response_start > 0)
    joined_RT = join_values(scores, batch)
    kept_RT = batch.response_mask.clone()
    for segment in segments_of(batch):
        kept_RT[segment.row, max(segment.start, segment.response_start - 1)] = True
    assert torch.equal(joined_RT, torch.where(kept_RT, values_RT, 0.0))
    for a, b in zip(split_values(joined_RT, batch), scores, strict=True):
        assert a.tobytes() == b.tobytes()


def test_worked_example() -> None:
    batch = pack([[sample([5, 6, 7, 8, 9], 2), sample([5, 6], 0)]], 0)
    scores = split_values(torch.arange(7.0)[None], batch)
    assert [s.tolist() for s in scores] == [[1, 2, 3, 4], [5, 6]]


@given(layouts())
def test_a_samples_key_does_not_depend_on_its_batch(rows: list[list[TokenizedSample]]) -> None:
    together = pack(rows, 0)
    keys = dict(zip(together.sample_ids.tolist(), score_keys(together, "critic"), strict=True))
    for one in [s for row in rows for s in row]:
        alone = dataclasses.replace(one, sample_id=1)  # nor on its number
        assert score_keys(pack([[sample([9, 9], 1), alone]], 2), "critic")[1] == keys[one.sample_id]


def test_keys_differ_with_everything_that_values_depend_on() -> None:
    samples = [
        sample([5, 6, 7, 8], 2),
        sample([5, 6, 7, 8], 1),
        sample([5, 6, 7, 8], 0),
        sample([5, 6, 7, 9], 2),
        sample([4, 6, 7, 8], 2),
        sample([5, 6, 7], 2),
    ]
    batch = pack([samples], 0)
    keys = score_keys(batch, "critic/a") + score_keys(batch, "critic/b")
    assert len(set(keys)) == 2 * len(samples)
    assert all(len(key) == 32 for key in keys)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_names_the_sample(bad: float) -> None:
    batch = pack([[sample([5, 6], 1, 11), sample([5, 6, 7, 8], 2, 42)]], 0)
    values_RT = torch.zeros(batch.shape)
    values_RT[0, 2] = bad  # the first prompt token of sample 42: nobody reads it
    split_values(values_RT, batch)
    values_RT[0, 4] = bad
    with pytest.raises(DataError, match="value of sample 42 at token 2 is not finite"):
        split_values(values_RT, batch)


def test_scores_of_packed_samples_are_those_of_single_ones(scene: Scene) -> None:
    critic = scene.critic().eval()
    batch: PackedBatch = micro_batches(scene, scene.plan().step(0))[0].batch
    assert critic.training is False
    packed = score(critic, batch, CPU)
    alone = sample_alone(batch)
    for number, scores in zip(batch.sample_ids.tolist(), packed, strict=True):
        np.testing.assert_allclose(scores, score(critic, alone[number], CPU)[0], atol=1e-5)
        assert np.ptp(scores) > 1e-3
